//! What only the leader does, driven by the very cores: leases, placement, digests, confirmation,
//! the projector, rollups.
//!
//! Begins when the member has applied everything decided before its term, keeps nothing that it
//! cannot rebuild, and ends with the first sign that somebody else leads. The pace is one look
//! every tenth of a second; what the process does at once, this does within that.

use std::collections::BTreeSet;

use picket_scheduler_core::command::{
    AdvanceCursor, AssignShards, Command, ExpireOrders, PointCatalogue, Pointed,
};
use picket_scheduler_core::confirm::{Driver, Effect, Heard, vantages};
use picket_scheduler_core::digest::{Digests, ROUND};
use picket_scheduler_core::lease::LeaseBook;
use picket_scheduler_core::placement::{Problem, plan};
use picket_scheduler_core::state::Consumer;
use picket_wire::control::{ProbeOrder, ToAgent};
use picket_wire::evidence::EvidenceBatch;
use picket_wire::id::{AgentId, FactSeq, OrderId};
use picket_wire::time::{Span, Timestamp};

use crate::sim::coverage::Met;
use crate::sim::env::Env;
use crate::sim::event::{Event, MemberEvent, Outcome};
use crate::sim::history::Rollups;
use crate::sim::member::{Member, Waiter};
use crate::sim::postgres::Work;
use crate::sim::trace::Note;

/// How often the duties are looked at.
const EVERY: Span = Span(100);
/// How often placement is planned when nothing seems to have changed.
const PLAN_EVERY: Span = Span::from_secs(1);
/// How often delivery has passed what it was told.
const DELIVER_EVERY: Span = Span::from_secs(3);
/// Whoever proposed something asks again after this long without an answer.
const PATIENCE: Span = Span::from_secs(5);
/// Moves in one plan that only even out the load.
const BUDGET: usize = 4;
/// Facts in one transaction: few, so that a run has many.
const FACTS_MAX: usize = 16;

/// The memory of a term.
#[derive(Debug)]
pub(crate) struct Term {
    pub(crate) number: u64,
    pub(crate) book: LeaseBook,
    driver: Driver,
    digests: Digests,
    /// Evidence that waits for the next entry.
    pub(crate) evidence: Vec<EvidenceBatch>,
    pub(crate) rollups: Rollups,
    pub(crate) planning: bool,
    pub(crate) expiring: bool,
    /// What placement was planned for, and when it is planned again.
    planned: (u64, Timestamp),
    round_at: Timestamp,
    deliver_at: Timestamp,
    projecting: bool,
    project_at: Timestamp,
}

impl Member {
    /// Everything decided before this term is applied: the duties begin.
    pub(crate) fn begin_term(&mut self, env: &mut Env) {
        let number = self.raft.term();
        let now = self.clock(env);
        let state = self.machine.state();
        let connected = |agent| self.sessions.contains_key(&agent);
        let book = LeaseBook::new_leader(state, connected, now);
        self.term = Some(Box::new(Term {
            number,
            book,
            driver: Driver::new(now),
            digests: Digests::default(),
            evidence: Vec::new(),
            rollups: Rollups::default(),
            planning: false,
            expiring: false,
            planned: (0, env.now),
            round_at: env.now + ROUND,
            deliver_at: env.now + DELIVER_EVERY,
            projecting: false,
            project_at: env.now,
        }));
        env.note(Note::Leads {
            member: self.id,
            term: number,
        });
        let agents: Vec<_> = self.sessions.keys().copied().collect();
        agents
            .into_iter()
            .for_each(|agent| self.tell_position(env, agent));
        self.plan_duty(env, number);
    }

    fn plan_duty(&self, env: &mut Env, term: u64) {
        self.plan(env, EVERY, MemberEvent::Duty(term));
    }

    /// Looks at every duty, if the term still lasts.
    pub(crate) fn on_duty(&mut self, env: &mut Env, number: u64) {
        let Some(mut term) = self.term.take_if(|term| term.number == number) else {
            return;
        };
        self.give_up_waiting(env, &mut term);
        self.confirm(env, &mut term);
        self.place(env, &mut term);
        self.tell(env, &mut term);
        self.project(env, &mut term);
        self.deliver(env, &mut term);
        if let Some(batches) = term.rollups.next_group(env.now) {
            begin(env, self, number, Work::Rollups(batches));
        }
        let behind = term.rollups.take_behind();
        self.term = Some(term);
        behind
            .into_iter()
            .for_each(|agent| self.tell_position(env, agent));
        self.plan_duty(env, number);
    }

    /// Proposals that nobody answered are given up; whoever sent evidence sends it again.
    fn give_up_waiting(&mut self, env: &mut Env, term: &mut Term) {
        let old = |since: Timestamp| env.now.since(since) > PATIENCE;
        let late: Vec<_> = self
            .waiting
            .iter()
            .filter(|(_, w)| old(w.since))
            .map(|(&index, _)| index)
            .collect();
        for index in late {
            match self.waiting.remove(&index).map(|waiting| waiting.waiter) {
                Some(Waiter::Evidence(senders)) => {
                    let agents = senders.into_iter().map(|(agent, _)| agent);
                    term.rollups.behind.extend(agents);
                }
                Some(Waiter::Moves) => term.planning = false,
                Some(Waiter::Expiry) => term.expiring = false,
                Some(Waiter::Nobody | Waiter::Operator(_)) | None => {}
            }
        }
    }

    fn confirm(&mut self, env: &mut Env, term: &mut Term) {
        let now = self.clock(env);
        let state = self.machine.state();
        let connected = self.sessions.iter().map(|(&agent, session)| Heard {
            agent,
            at: session.heard_at,
            healthy: session.healthy,
        });
        let vantages = vantages(state, &term.book.live(now), connected, now);
        for effect in term.driver.step(now, state, &vantages) {
            match effect {
                Effect::Ask { order, agents } => {
                    for agent in self.ask(env, order, agents) {
                        term.driver.unreached(order, agent);
                    }
                }
                Effect::Expire(_) if term.expiring => {}
                Effect::Expire(orders) => {
                    env.coverage
                        .met_times(Met::OrderExpired, orders.len() as u64);
                    term.expiring = true;
                    self.propose(
                        env,
                        Command::ExpireOrders(ExpireOrders { orders }),
                        Waiter::Expiry,
                    );
                }
            }
        }
    }

    /// Asks agents; returns those who were not reached.
    fn ask(&mut self, env: &mut Env, id: OrderId, mut agents: Vec<AgentId>) -> Vec<AgentId> {
        let state = self.machine.state();
        let Some(order) = state.orders.get(&id) else {
            return Vec::new();
        };
        let (group, shard, check) = (order.group, order.shard, order.check.check);
        let Some(&pointer) = state.catalogue.get(&(group, shard)) else {
            return Vec::new();
        };
        let Some(checks) = env.blobs.get(&pointer.blob) else {
            return agents;
        };
        let Some(check) = checks.iter().find(|spec| spec.id == check).cloned() else {
            env.met(Met::OrphanClosed);
            let pointers = vec![Pointed::again(group, shard, pointer, vec![check])];
            let command = Command::PointCatalogue(PointCatalogue { pointers });
            self.propose(env, command, Waiter::Nobody);
            return Vec::new();
        };
        let within = order.deadline.since(self.clock(env));
        agents.retain(|&agent| {
            let order = ProbeOrder {
                order: id,
                check: check.clone(),
                within,
                trace: None,
            };
            !self.say(env, agent, ToAgent::Probe(order))
        });
        agents
    }

    /// Tells everybody what is news to them, or in a round everything.
    fn tell(&self, env: &mut Env, term: &mut Term) {
        let round = env.now >= term.round_at;
        if round {
            term.round_at = env.now + ROUND;
        }
        let digests = &mut term.digests;
        digests.retain(|agent| self.sessions.contains_key(&agent));
        for (&agent, session) in &self.sessions {
            let news = digests.news(self.machine.state(), agent, session.conn.number, round);
            let Some((messages, sent)) = news else {
                continue;
            };
            let mut messages = messages.into_iter();
            if messages.all(|message| self.say(env, agent, message)) {
                digests.sent(sent);
            }
        }
    }

    fn place(&mut self, env: &mut Env, term: &mut Term) {
        let (seen, again_at) = term.planned;
        if term.planning || (seen == self.placement && env.now < again_at) {
            return;
        }
        term.planned = (self.placement, env.now + PLAN_EVERY);
        let now = self.clock(env);
        let (live, frozen) = (term.book.live(now), term.book.frozen(now));
        env.coverage
            .met_times(Met::RegionFrozen, frozen.len() as u64);
        let moves = plan(&Problem::of(self.machine.state(), &live, &frozen, BUDGET));
        if !moves.is_empty() {
            term.planning = true;
            self.propose(
                env,
                Command::AssignShards(AssignShards { moves }),
                Waiter::Moves,
            );
        }
    }

    fn project(&mut self, env: &mut Env, term: &mut Term) {
        if term.projecting || env.now < term.project_at {
            return;
        }
        let Some(cursor) = env.rows.cursor() else {
            return;
        };
        let state = self.machine.state();
        let facts: Vec<_> = state.facts_after(cursor).take(FACTS_MAX).cloned().collect();
        if facts.is_empty() {
            let known = state.cursor(Consumer::Projector);
            if cursor > known && cursor <= state.last_ids.fact {
                self.advance(env, Consumer::Projector, cursor);
            }
            term.project_at = env.now + Span(300);
            return;
        }
        term.projecting = true;
        begin(env, self, term.number, Work::Facts(facts));
    }

    /// Delivery is not simulated: it has passed everything that is stated, from time to time.
    fn deliver(&mut self, env: &mut Env, term: &mut Term) {
        if env.now < term.deliver_at {
            return;
        }
        term.deliver_at = env.now + DELIVER_EVERY;
        let state = self.machine.state();
        let last = state.last_ids.fact;
        if last > state.cursor(Consumer::Delivery) {
            self.advance(env, Consumer::Delivery, last);
        }
    }

    fn advance(&mut self, env: &mut Env, consumer: Consumer, to: FactSeq) {
        self.propose(
            env,
            Command::AdvanceCursor(AdvanceCursor { consumer, to }),
            Waiter::Nobody,
        );
    }

    /// A transaction of this term ended.
    pub(crate) fn answered(&mut self, env: &mut Env, number: u64, outcome: Outcome) {
        let Some(term) = self.term.as_mut().filter(|term| term.number == number) else {
            return;
        };
        match outcome {
            Outcome::Projected => term.projecting = false,
            Outcome::Failed { rollups: false } => {
                term.projecting = false;
                term.project_at = env.now + Span::from_secs(1);
            }
            Outcome::Failed { rollups: true } => term.rollups.failed(env.now),
            Outcome::Stored(acks) => {
                term.rollups.stored(&acks);
                for (agent, incarnation, seq, gap) in acks {
                    self.ack_rollup(env, agent, incarnation, seq);
                    if gap {
                        self.tell_position(env, agent);
                    }
                }
            }
        }
    }
}

fn begin(env: &mut Env, member: &Member, term: u64, work: Work) {
    env.plan_in(
        Span(1),
        Event::Begin {
            member: member.boot(),
            term,
            work,
        },
    );
}

/// Agents that are told where their lanes stand.
pub(crate) type Behind = BTreeSet<AgentId>;
