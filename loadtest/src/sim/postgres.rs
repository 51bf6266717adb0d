//! A model of Postgres: transactions that are done whole or not at all, and a server that goes
//! away in the middle of one.
//!
//! It keeps what the real writers keep: the projector's cursor in the transaction of its rows, and
//! the rollup lanes' watermarks in the transaction of the rollups.

use std::collections::BTreeMap;

use picket_wire::fact::Fact;
use picket_wire::id::{AgentId, FactSeq, Incarnation, MemberId, Seq};
use picket_wire::lane::rollup::RollupBatch;
use picket_wire::time::Span;

use crate::sim::coverage::Met;
use crate::sim::env::Env;
use crate::sim::event::{Boot, Event, MemberEvent, Outcome};
use crate::sim::rng::Rng;
use crate::sim::trace::{Node, Note};

/// What a transaction writes.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    Facts(Vec<Fact>),
    Rollups(Vec<RollupBatch>),
}

/// A transaction under way, and who waits for it.
#[derive(Debug)]
struct Transaction {
    member: Boot<MemberId>,
    term: u64,
    work: Work,
}

/// What is committed, and whether anybody answers who asks.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    away: bool,
    cursor: FactSeq,
    lanes: BTreeMap<(AgentId, Incarnation), Seq>,
}

impl Rows {
    /// The projector's cursor, if anybody answers.
    pub(crate) fn cursor(&self) -> Option<FactSeq> {
        (!self.away).then_some(self.cursor)
    }

    /// How far a rollup lane is durable, if anybody answers.
    pub(crate) fn watermark(&self, agent: AgentId, incarnation: Incarnation) -> Option<Seq> {
        let lane = self
            .lanes
            .get(&(agent, incarnation))
            .copied()
            .unwrap_or_default();
        (!self.away).then_some(lane)
    }
}

/// The server.
#[derive(Debug)]
pub(crate) struct Postgres {
    rng: Rng,
    under_way: BTreeMap<u64, Transaction>,
    last: u64,
}

impl Postgres {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed, "postgres", 0),
            under_way: BTreeMap::new(),
            last: 0,
        }
    }

    /// Begins a transaction; its outcome comes as [`MemberEvent::Answer`].
    pub(crate) fn begin(&mut self, env: &mut Env, member: Boot<MemberId>, term: u64, work: Work) {
        let way = (Node::Member(member.of), Node::Postgres);
        let cut = env.net.cut_until(way.0, way.1, env.now).is_some();
        let transaction = Transaction { member, term, work };
        if env.rows.away || cut {
            let outcome = failed(&transaction.work);
            let wait = self.rng.span(Span(5), Span(500));
            return env.plan_in(
                wait,
                Event::Member(member, MemberEvent::Answer(term, outcome)),
            );
        }
        self.last += 1;
        self.under_way.insert(self.last, transaction);
        let wait = self.rng.span(Span(1), Span(60));
        env.plan_in(wait, Event::Commit(self.last));
    }

    /// A transaction commits, unless the server went away before.
    pub(crate) fn commit(&mut self, env: &mut Env, number: u64) {
        let Some(transaction) = self.under_way.remove(&number) else {
            return;
        };
        let outcome = write(env, &transaction.work);
        answer(env, &transaction, outcome, self.rng.span(Span(1), Span(10)));
    }

    /// The server goes away; of what was under way nobody knows whether it was done.
    pub(crate) fn go_away(&mut self, env: &mut Env) {
        env.rows.away = true;
        env.met(Met::PostgresAway);
        for transaction in std::mem::take(&mut self.under_way).into_values() {
            env.met(Met::CommitUnknown);
            if self.rng.chance(500) {
                write(env, &transaction.work);
            }
            let wait = self.rng.span(Span(1), Span(2_000));
            answer(env, &transaction, failed(&transaction.work), wait);
        }
    }
}

/// The server is back.
pub(crate) const fn come_back(env: &mut Env) {
    env.rows.away = false;
}

fn write(env: &mut Env, work: &Work) -> Outcome {
    match work {
        Work::Facts(facts) => write_facts(env, facts),
        Work::Rollups(batches) => write_rollups(env, batches),
    }
}

fn write_facts(env: &mut Env, facts: &[Fact]) -> Outcome {
    for fact in facts {
        if fact.seq <= env.rows.cursor {
            env.met(Met::FactsRepeated);
            continue;
        }
        env.oracles.recovery.projected(env.rows.cursor, fact);
        env.rows.cursor = fact.seq;
    }
    let cursor = env.rows.cursor;
    env.note(Note::Stored {
        what: "facts",
        up_to: cursor.0,
    });
    Outcome::Projected
}

fn write_rollups(env: &mut Env, batches: &[RollupBatch]) -> Outcome {
    let mut acks: BTreeMap<(AgentId, Incarnation), (Seq, bool)> = BTreeMap::new();
    for batch in batches {
        let lane = (batch.agent, batch.incarnation);
        let mut watermark = env.rows.lanes.get(&lane).copied().unwrap_or_default();
        if batch.seq == watermark.next() {
            watermark.advance_to(batch.seq);
            env.oracles.delivery.stored(batch);
            env.note(Note::Stored {
                what: "rollups",
                up_to: batch.seq.0,
            });
        } else if batch.seq <= watermark {
            env.met(Met::RollupsRepeated);
        }
        env.rows.lanes.insert(lane, watermark);
        let gap = batch.seq > watermark;
        let ack = acks.entry(lane).or_default();
        *ack = (watermark, ack.1 || gap);
    }
    let acks = acks
        .into_iter()
        .map(|((agent, incarnation), (seq, gap))| (agent, incarnation, seq, gap));
    Outcome::Stored(acks.collect())
}

const fn failed(work: &Work) -> Outcome {
    Outcome::Failed {
        rollups: matches!(work, Work::Rollups(_)),
    }
}

fn answer(env: &mut Env, transaction: &Transaction, outcome: Outcome, wait: Span) {
    let Transaction { member, term, .. } = *transaction;
    env.plan_in(
        wait,
        Event::Member(member, MemberEvent::Answer(term, outcome)),
    );
}
