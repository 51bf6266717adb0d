//! A scheduler member: its log, its machine, its snapshots, and the agents connected to it.
//!
//! Mirrors what the member's process does around the cores: entries are applied once they are
//! committed, at the member's own pace; replies go to whoever waits for them; a restarted member
//! is its newest snapshot and the log behind it.

mod consensus;

use std::collections::BTreeMap;
use std::rc::Rc;

use picket_scheduler_core::reply::Reply;
use picket_scheduler_core::{Command, Entry, Machine};
use picket_wire::control::ToAgent;
use picket_wire::id::{AgentId, Incarnation, MemberId, Seq};
use picket_wire::time::{Span, Timestamp};

use crate::sim::coverage::Met;
use crate::sim::env::Env;
use crate::sim::event::{Boot, Downlink, Event, MemberEvent, OpId};
use crate::sim::leader::Term;
use crate::sim::net::Conn;
use crate::sim::raft::{Logged, Place, Raft};
use crate::sim::rng::Rng;
use crate::sim::trace::{Node, Note};

/// Entries applied in one go.
const APPLY_MAX: u64 = 64;
/// Machines are compared at every so many entries, and snapshots made at such places only.
pub(crate) const COMPARED_EVERY: u64 = 8;

/// The whole machine as of some place in the log.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) at: Place,
    pub(crate) state: Rc<Vec<u8>>,
}

/// A connected agent, as the member sees it.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) conn: Conn,
    pub(crate) incarnation: Incarnation,
    pub(crate) healthy: bool,
    /// When it last renewed, by the member's clock.
    pub(crate) heard_at: Timestamp,
    /// What was acknowledged: evidence, rollups.
    pub(crate) acks: (Seq, Seq),
}

/// Who waits for what an entry does.
#[derive(Debug, Clone)]
pub(crate) enum Waiter {
    Evidence(Vec<(AgentId, Incarnation)>),
    Moves,
    Expiry,
    Nobody,
    Operator(OpId),
}

/// An entry that somebody waits for.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) term: u64,
    pub(crate) since: Timestamp,
    pub(crate) waiter: Waiter,
}

/// A member.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: MemberId,
    pub(crate) rng: Rng,
    skew_ms: i64,
    boot: u32,
    pub(crate) up: bool,
    pub(crate) raft: Raft,
    snapshot: Snapshot,
    pub(crate) machine: Machine,
    applied: u64,
    applying: bool,
    pub(crate) leader: Option<MemberId>,
    heard_at: Timestamp,
    pub(crate) sessions: BTreeMap<AgentId, Session>,
    /// The entry with which its term begins: once it is applied, its duties begin.
    begins_at: Option<u64>,
    pub(crate) term: Option<Box<Term>>,
    pub(crate) waiting: BTreeMap<u64, Waiting>,
    /// Grows with everything that placement depends on.
    pub(crate) placement: u64,
}

impl Member {
    /// A member that has applied the entries that created the cluster.
    pub(crate) fn new(env: &Env, id: MemberId, first: &[Rc<Logged>]) -> Self {
        let mut rng = Rng::new(env.scenario.seed, "member", id.0);
        let snapshot = Snapshot {
            at: (0, 0),
            state: Rc::new(Machine::new().snapshot()),
        };
        Self {
            id,
            skew_ms: rng.between(0, 100).cast_signed() - 50,
            rng,
            boot: 0,
            up: true,
            raft: Raft::new(first),
            snapshot,
            machine: Machine::with_faults(env.planted),
            applied: 0,
            applying: false,
            leader: None,
            heard_at: env.now,
            sessions: BTreeMap::new(),
            begins_at: None,
            term: None,
            waiting: BTreeMap::new(),
            placement: 0,
        }
    }

    /// This process.
    pub(crate) const fn boot(&self) -> Boot<MemberId> {
        Boot {
            of: self.id,
            number: self.boot,
        }
    }

    /// Whether `boot` is the process that runs now.
    pub(crate) const fn is(&self, boot: Boot<MemberId>) -> bool {
        self.up && boot.number == self.boot
    }

    /// Its wall clock.
    pub(crate) const fn clock(&self, env: &Env) -> Timestamp {
        Timestamp(env.now.0 + self.skew_ms)
    }

    /// Plans something for this process.
    pub(crate) fn plan(&self, env: &mut Env, wait: Span, event: MemberEvent) {
        env.plan_in(wait, Event::Member(self.boot(), event));
    }

    /// Something happens to this process.
    pub(crate) fn happen(&mut self, env: &mut Env, event: MemberEvent) {
        match event {
            MemberEvent::LogSynced(place) => self.synced(env, place),
            MemberEvent::Heartbeat(term) => self.beat(env, term),
            MemberEvent::Apply => self.apply(env),
            MemberEvent::Flush => self.flush(env),
            MemberEvent::Duty(term) => self.on_duty(env, term),
            MemberEvent::Answer(term, outcome) => self.answered(env, term, outcome),
        }
    }

    /// Sees that a connection is gone.
    pub(crate) fn lose(&mut self, conn: Conn) {
        if self
            .sessions
            .get(&conn.agent)
            .is_some_and(|session| session.conn == conn)
        {
            self.sessions.remove(&conn.agent);
        }
    }

    /// Begins to run: applies what it has, waits for a leader.
    pub(crate) fn start(&mut self, env: &mut Env) {
        self.after_raft(env);
        self.plan_election(env);
    }

    /// Applies what is committed.
    fn apply(&mut self, env: &mut Env) {
        self.applying = false;
        let last = self.raft.commit().min(self.applied + APPLY_MAX);
        let placement = self.placement;
        while self.applied < last {
            let index = self.applied + 1;
            let Some(logged) = self.raft.log().get(index).cloned() else {
                break;
            };
            env.oracles.recovery.applies(self.id, index, &logged);
            self.applied = index;
            let reply = logged.entry.as_ref().map(|entry| self.apply_one(entry));
            self.compare(env, index, logged.term);
            if let Some(waiting) = self.waiting.remove(&index) {
                self.conclude(env, waiting, logged.term, reply);
            }
            if self.begins_at == Some(index) {
                self.begins_at = None;
                self.begin_term(env);
            }
        }
        if self.placement != placement {
            self.check_admissions(env);
        }
        self.after_raft(env);
    }

    fn apply_one(&mut self, entry: &Entry) -> Reply {
        use Command as C;
        self.placement += u64::from(matches!(
            entry.command,
            C::AssignShards(_)
                | C::PointCatalogue(_)
                | C::AdmitAgent(_)
                | C::DrainAgent(_)
                | C::RevokeAgent(_)
        ));
        self.machine.apply(entry, &mut Vec::new())
    }

    fn compare(&mut self, env: &mut Env, index: u64, term: u64) {
        if !index.is_multiple_of(COMPARED_EVERY) {
            return;
        }
        let hash = self.machine.hash();
        env.oracles.recovery.compare(self.id, index, hash);
        let state = u64::from_le_bytes([
            hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7],
        ]);
        env.note(Note::Applied {
            member: self.id,
            index,
            state,
        });
        if index - self.snapshot.at.0 >= env.scenario.snapshot_every {
            self.snapshot = Snapshot {
                at: (index, term),
                state: Rc::new(self.machine.snapshot()),
            };
            self.raft.purge(index - self.rng.below(COMPARED_EVERY));
        }
    }

    /// The last place that is applied.
    pub(crate) const fn applied(&self) -> u64 {
        self.applied
    }

    /// The process dies.
    pub(crate) fn crash(&mut self, env: &mut Env) {
        let pending = self.raft.log().last().0 > self.raft.commit();
        if self.raft.leads() {
            env.met(Met::LeaderCrashed);
            env.coverage
                .met_times(Met::CrashBeforeCommit, u64::from(pending));
        }
        self.up = false;
        self.boot += 1;
        let kept = self.rng.below(3);
        let lost = self.raft.crash(kept, self.snapshot.at.0);
        env.coverage
            .met_times(Met::LogTailLost, u64::from(lost > 0));
        self.sessions.clear();
        (self.term, self.begins_at, self.leader) = (None, None, None);
        self.waiting.clear();
    }

    /// It is started again.
    pub(crate) fn restart(&mut self, env: &mut Env) {
        self.up = true;
        self.heard_at = env.now;
        env.met(Met::MemberRestarted);
        self.rebuild(env);
        self.start(env);
    }

    fn rebuild(&mut self, env: &mut Env) {
        let Snapshot { at, state } = &self.snapshot;
        match Machine::restore(state) {
            Ok(machine) => {
                env.oracles.recovery.compare(self.id, at.0, machine.hash());
                self.machine = machine.and_faults(env.planted);
                self.applied = at.0;
                self.placement += 1;
            }
            Err(error) => env
                .oracles
                .recovery
                .failed(format!("{} at {}: {error}", self.id, at.0)),
        }
        self.applying = false;
    }

    /// Says something to an agent; `false` when it is not connected, or its queue is full.
    pub(crate) fn say(&self, env: &mut Env, agent: AgentId, message: ToAgent) -> bool {
        let Some(session) = self.sessions.get(&agent) else {
            return false;
        };
        let certain = matches!(
            message,
            ToAgent::Welcome(_) | ToAgent::NotLeader { .. } | ToAgent::Refused(_)
        );
        if !certain && env.net.loses(Node::Member(self.id), Node::Agent(agent)) {
            return false;
        }
        env.send_down(session.conn, &Downlink::Control(message));
        true
    }
}
