//! Virtual time, obedient probes, a disk and a scheduler that can be switched off.

use std::collections::{BTreeMap, BTreeSet};

use picket_agent_core::{Agent, Attempt, Batch, Effect, Input, Lane, Limits, Resume, Settings};
use picket_wire::assignment::Assigned;
use picket_wire::check::http::HttpSpec;
use picket_wire::check::{Cadence, CheckKind, CheckSpec};
use picket_wire::control::{Beliefs, FromAgent, ToAgent, Welcome};
use picket_wire::evidence::Evidence;
use picket_wire::id::{
    AgentId, BlobHash, CatalogueVersion, CheckId, EndpointId, Epoch, GroupId, Incarnation,
    MemberId, Seq, ShardId, ShardSlot, SiteId, Slot,
};
use picket_wire::lane::live::LiveSecond;
use picket_wire::lane::rollup::ShardRollup;
use picket_wire::outcome::{Phases, Probe};
use picket_wire::reason::Reason;
use picket_wire::time::{Span, Timestamp};

pub(crate) const START: Timestamp = Timestamp(1_760_000_000_000);
pub(crate) const LEADER: MemberId = MemberId(1);
pub(crate) const OTHER: MemberId = MemberId(2);

/// One probe that the core asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) check: CheckId,
    pub(crate) due: Timestamp,
    pub(crate) at: Timestamp,
    pub(crate) attempt: Attempt,
}

pub(crate) struct World {
    pub(crate) agent: Agent,
    /// The term of the last `Welcome`; each is a new one.
    pub(crate) term: u64,
    pub(crate) now: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Input>,
    next: u64,
    pub(crate) asked: Vec<Asked>,
    pub(crate) batches: Vec<Batch>,
    pub(crate) sent: Vec<(MemberId, Lane, Seq)>,
    pub(crate) said: Vec<(MemberId, FromAgent)>,
    pub(crate) live: Vec<LiveSecond>,
    pub(crate) persisted: Vec<Assigned>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) blobs: BTreeMap<BlobHash, Vec<CheckSpec>>,
    /// What fails now, and how.
    pub(crate) failing: BTreeMap<CheckId, Reason>,
    /// What fails once and is ok at the second try.
    pub(crate) hiccups: BTreeSet<CheckId>,
    pub(crate) latency: Span,
    /// How long a probe takes that fails.
    pub(crate) dead_latency: Span,
    pub(crate) disk: bool,
    pub(crate) acking: bool,
}

pub(crate) fn settings() -> Settings {
    Settings {
        agent: AgentId(7),
        incarnation: Incarnation(1),
        build: "test".to_owned(),
        members: vec![LEADER, OTHER],
        seed: 42,
        limits: Limits::default(),
    }
}

pub(crate) fn slot(shard: u32) -> ShardSlot {
    ShardSlot {
        group: GroupId(1),
        shard: ShardId(shard),
        slot: Slot(0),
    }
}

pub(crate) fn check(id: u64, secs: u32) -> CheckSpec {
    CheckSpec {
        id: CheckId(id),
        endpoint: EndpointId(id + 1_000_000),
        site: SiteId(1),
        cadence: Cadence::from_secs(secs).unwrap(),
        timeout: Span::from_secs(10),
        kind: CheckKind::Http(HttpSpec::plain(
            false,
            format!("h{id}.test"),
            80,
            "/".to_owned(),
        )),
    }
}

pub(crate) fn checks(ids: std::ops::Range<u64>, secs: u32) -> Vec<CheckSpec> {
    ids.map(|id| check(id, secs)).collect()
}

impl World {
    pub(crate) fn new() -> Self {
        Self::resuming(&Resume::default(), START)
    }

    pub(crate) fn resuming(resume: &Resume, now: Timestamp) -> Self {
        Self {
            agent: Agent::new(settings(), resume, now),
            term: 0,
            now,
            queue: BTreeMap::new(),
            next: 0,
            asked: Vec::new(),
            batches: Vec::new(),
            sent: Vec::new(),
            said: Vec::new(),
            live: Vec::new(),
            persisted: Vec::new(),
            effects: Vec::new(),
            blobs: BTreeMap::new(),
            failing: BTreeMap::new(),
            hiccups: BTreeSet::new(),
            latency: Span(50),
            dead_latency: Span(50),
            disk: true,
            acking: true,
        }
    }

    /// A world in which the leader has welcomed the agent.
    pub(crate) fn welcomed() -> Self {
        let mut world = Self::new();
        world.welcome(LEADER, 0, 0);
        world
    }

    pub(crate) fn welcome(&mut self, member: MemberId, evidence: u64, rollup: u64) {
        self.input(Input::Connected(member));
        self.term += 1;
        let welcome = Welcome {
            member,
            term: self.term,
            now: self.now,
            window: Span::from_secs(300),
            evidence: Seq(evidence),
            rollup: Seq(rollup),
        };
        self.hear(member, ToAgent::Welcome(welcome));
    }

    pub(crate) fn hear(&mut self, member: MemberId, message: ToAgent) {
        self.input(Input::Heard(member, message));
    }

    /// Puts a blob where it can be fetched; returns the line of a digest for it.
    pub(crate) fn publish(
        &mut self,
        shard: u32,
        epoch: u32,
        version: u64,
        checks: Vec<CheckSpec>,
    ) -> Assigned {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&shard.to_le_bytes());
        hash[4..12].copy_from_slice(&version.to_le_bytes());
        let blob = BlobHash(hash);
        self.blobs.insert(blob, checks);
        let version = CatalogueVersion(version);
        Assigned {
            slot: slot(shard),
            epoch: Epoch(epoch),
            version,
            blob,
        }
    }

    pub(crate) fn digest(&mut self, assigned: &[Assigned]) {
        self.hear(LEADER, ToAgent::Digest(assigned.to_vec()));
    }

    /// Assigns one shard with these checks and lets it settle.
    pub(crate) fn assign(&mut self, checks: Vec<CheckSpec>) -> Assigned {
        let line = self.publish(0, 1, 1, checks);
        self.digest(&[line]);
        self.run_for(Span(30));
        line
    }

    pub(crate) fn believe(&mut self, shards: &[u32], failing: &[u64]) {
        let slots = shards.iter().map(|shard| slot(*shard)).collect();
        let failing = failing.iter().map(|id| CheckId(*id)).collect();
        self.hear(LEADER, ToAgent::Beliefs(Beliefs { slots, failing }));
    }

    pub(crate) fn fail(&mut self, id: u64) {
        self.failing.insert(CheckId(id), Reason::ConnectRefused);
    }

    pub(crate) fn heal(&mut self, id: u64) {
        self.failing.remove(&CheckId(id));
    }

    pub(crate) fn run_for(&mut self, span: Span) {
        self.run_until(self.now + span);
    }

    /// Lets the world go on; every step that the core asks for is made, in time.
    pub(crate) fn run_until(&mut self, end: Timestamp) {
        let mut steps = 0_u64;
        loop {
            let queued = self
                .queue
                .first_key_value()
                .map_or(Timestamp::MAX, |((at, _), _)| *at);
            let at = queued.min(self.agent.deadline());
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            let input = if queued <= self.now {
                self.queue
                    .pop_first()
                    .map_or(Input::Tick, |(_, input)| input)
            } else {
                Input::Tick
            };
            self.input(input);
            steps += 1;
            assert!(
                steps < 10_000_000,
                "the core asks for steps without end at {:?}",
                self.now
            );
        }
        self.now = end;
    }

    /// One step at the present time.
    pub(crate) fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.agent.step(self.now, input, &mut effects);
        for effect in effects {
            self.perform(effect);
        }
    }

    /// Nothing is stepped for this long: the process was stopped, or the machine.
    pub(crate) fn stall(&mut self, span: Span) {
        self.now = self.now + span;
        let late: Vec<_> = std::mem::take(&mut self.queue).into_iter().collect();
        for ((at, order), input) in late {
            self.queue.insert((at.max(self.now), order), input);
        }
    }

    fn later(&mut self, wait: Span, input: Input) {
        self.queue.insert((self.now + wait, self.next), input);
        self.next += 1;
    }

    fn perform(&mut self, effect: Effect) {
        match effect.clone() {
            Effect::Probe {
                ticket,
                spec,
                due,
                attempt,
                ..
            } => {
                self.asked.push(Asked {
                    check: spec.id,
                    due,
                    at: self.now,
                    attempt,
                });
                let probe = self.probe(spec.id, due, attempt);
                let latency = if probe.is_ok() {
                    self.latency
                } else {
                    self.dead_latency
                };
                self.later(
                    latency,
                    Input::Probed {
                        ticket,
                        probe,
                        trace: None,
                    },
                );
            }
            Effect::Spool(batch) => {
                let (lane, seq) = (batch.lane(), batch.seq());
                self.batches.push(batch);
                if self.disk {
                    self.later(Span(1), Input::Spooled { lane, seq });
                }
            }
            Effect::Send { member, lane, seq } => {
                self.sent.push((member, lane, seq));
                if self.acking {
                    self.ack(lane, seq);
                }
            }
            Effect::Fetch { blobs, .. } => {
                for blob in blobs {
                    if let Some(checks) = self.blobs.get(&blob).cloned() {
                        self.later(Span(5), Input::Fetched(blob, checks));
                    }
                }
            }
            Effect::Say(member, message) => self.said.push((member, message)),
            Effect::Persist(assigned) => self.persisted = assigned,
            Effect::Live(_, second) => self.live.push(second),
            Effect::Dial(_) | Effect::HangUp(..) | Effect::Forget { .. } | Effect::Stuck(..) => {}
        }
        self.effects.push(effect);
    }

    fn ack(&mut self, lane: Lane, seq: Seq) {
        let (mut evidence, mut rollup) = (Seq(0), Seq(0));
        match lane {
            Lane::Evidence => evidence = seq,
            Lane::Rollup => rollup = seq,
        }
        self.later(
            Span(3),
            Input::Heard(LEADER, ToAgent::Acks { evidence, rollup }),
        );
    }

    fn probe(&self, check: CheckId, due: Timestamp, attempt: Attempt) -> Probe {
        let hiccup = attempt != Attempt::Retry && self.hiccups.contains(&check);
        let reason = self.failing.get(&check).copied();
        let reason = reason.or_else(|| hiccup.then_some(Reason::ConnectionReset));
        let us = u32::try_from(self.latency.0 * 1_000).unwrap();
        Probe {
            at: self.now,
            lateness: self.now.since(due),
            reason,
            phases: Phases {
                total_us: us,
                ..Phases::default()
            },
            http_status: 0,
            remote: None,
            certificate_expires: None,
            detail: String::new(),
        }
    }

    /// Everything that was said about checks, in the order of the lane.
    pub(crate) fn evidence(&self) -> Vec<&Evidence> {
        let batches = self.batches.iter().filter_map(|batch| match batch {
            Batch::Evidence(batch) => Some(&batch.records),
            Batch::Rollup(_) => None,
        });
        batches.flatten().collect()
    }

    /// `(check, ok)` of all evidence.
    pub(crate) fn statements(&self) -> Vec<(u64, bool)> {
        self.evidence()
            .iter()
            .map(|evidence| (evidence.check.check.0, evidence.is_ok()))
            .collect()
    }

    pub(crate) fn rollups(&self) -> Vec<&ShardRollup> {
        let batches = self.batches.iter().filter_map(|batch| match batch {
            Batch::Rollup(batch) => Some(&batch.shards),
            Batch::Evidence(_) => None,
        });
        batches.flatten().collect()
    }

    /// Sequence numbers of the batches that were made in a lane, in order.
    pub(crate) fn seqs(&self, lane: Lane) -> Vec<u64> {
        let of = |batch: &&Batch| batch.lane() == lane;
        self.batches
            .iter()
            .filter(of)
            .map(|batch| batch.seq().0)
            .collect()
    }

    /// What was sent to whom in a lane.
    pub(crate) fn sends(&self, lane: Lane) -> Vec<(MemberId, u64)> {
        let of = self.sent.iter().filter(|(_, of, _)| *of == lane);
        of.map(|(member, _, seq)| (*member, seq.0)).collect()
    }

    pub(crate) fn scheduled(&self) -> Vec<&Asked> {
        self.asked
            .iter()
            .filter(|asked| asked.attempt == Attempt::Scheduled)
            .collect()
    }
}
