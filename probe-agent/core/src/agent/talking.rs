//! What is said to the schedulers, and what is heard from them.

use picket_wire::control::{FromAgent, Hello, Refusal, Renew, Schedule, ToAgent, Welcome};
use picket_wire::envelope::{SCHEMA_MAX, SCHEMA_MIN};
use picket_wire::evidence::{Evidence, EvidenceBatch};
use picket_wire::id::{MemberId, Seq};
use picket_wire::lane::rollup::{RollupBatch, ShardRollup};
use picket_wire::limits::{EVIDENCE_BATCH_MAX, ROLLUP_CHECKS_MAX};
use picket_wire::time::{Span, Timestamp};

use crate::agent::Agent;
use crate::agent::effect::Effect;
use crate::agent::input::Resume;
use crate::outbox::{Batch, EVIDENCE_WAIT, Gathering, Lane, Progress, ROLLUP_WAIT};
use crate::rollup::Telling;

/// Length of the lease until a leader says otherwise; the design's default profile.
const LEASE_DEFAULT: Span = Span::from_secs(9);
/// Renewals per lease: two may be lost.
const RENEWALS: u64 = 3;
/// Evidence that may wait for the disk: every record of 64 full batches. Beyond it a change of
/// mind is put off to the next probe, which finds it again.
const WAITING_MAX: usize = 64 * EVIDENCE_BATCH_MAX;
/// Checks whose counts are told in one step: more would hold up what is due.
const TELL_MAX: usize = ROLLUP_CHECKS_MAX;
/// Windows that a scheduler may ask for: shorter ones are noise, longer ones would not fit the
/// counters of a check that runs every second.
const WINDOW_MIN: Span = Span::from_secs(1);
const WINDOW_MAX: Span = Span::from_secs(3_600);

/// Both lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    evidence: Gathering<Evidence>,
    evidence_progress: Progress,
    rollup: Gathering<ShardRollup>,
    rollup_progress: Progress,
    /// Unacked bytes on disk, as the shell last said.
    pub(super) spool_bytes: u64,
}

/// The leader's grant; informs, and stops nothing.
#[derive(Debug)]
pub(super) struct Lease {
    ttl: Span,
    renew_at: Timestamp,
}

impl Default for Lease {
    fn default() -> Self {
        Self {
            ttl: LEASE_DEFAULT,
            renew_at: Timestamp::MIN,
        }
    }
}

impl Lease {
    /// The next renewal is not later than this.
    pub(super) fn renew_by(&mut self, at: Timestamp) {
        self.renew_at = self.renew_at.min(at);
    }
}

impl Lanes {
    pub(super) const fn new(resume: &Resume) -> Self {
        Self {
            evidence: Gathering::new(EVIDENCE_WAIT),
            evidence_progress: Progress::new(resume.evidence),
            rollup: Gathering::new(ROLLUP_WAIT),
            rollup_progress: Progress::new(resume.rollup),
            spool_bytes: 0,
        }
    }

    /// Takes a record; returns the number of the batch that it will be in, or nothing when too
    /// many wait already.
    pub(super) fn say(&mut self, evidence: Evidence, now: Timestamp) -> Option<Seq> {
        let before = self.evidence.len();
        if before >= WAITING_MAX {
            return None;
        }
        self.evidence.add(evidence, now);
        let batches = u64::try_from(before / EVIDENCE_BATCH_MAX).unwrap_or(u64::MAX);
        Some(Seq(self.evidence_progress.tail().0 + 1 + batches))
    }

    /// Takes a rollup, in pieces that fit a batch.
    fn tell(&mut self, mut rollup: ShardRollup, now: Timestamp) {
        while rollup.checks.len() > ROLLUP_CHECKS_MAX {
            let rest = rollup.checks.split_off(ROLLUP_CHECKS_MAX);
            let checks = std::mem::replace(&mut rollup.checks, rest);
            let (slot, epoch) = (rollup.slot, rollup.epoch);
            let (window, covered) = (rollup.window, rollup.covered);
            self.rollup.add(
                ShardRollup {
                    slot,
                    epoch,
                    window,
                    covered,
                    checks,
                },
                now,
            );
        }
        self.rollup.add(rollup, now);
    }

    pub(super) const fn progress_mut(&mut self, lane: Lane) -> &mut Progress {
        match lane {
            Lane::Evidence => &mut self.evidence_progress,
            Lane::Rollup => &mut self.rollup_progress,
        }
    }

    /// The clock was set to `now`.
    pub(super) fn retime(&mut self, now: Timestamp) {
        self.evidence.retime(now);
        self.rollup.retime(now);
        self.evidence_progress.retime(now);
        self.rollup_progress.retime(now);
    }

    fn deadline(&self, sending: bool) -> Option<Timestamp> {
        let gathering = |progress: &Progress, at| if progress.may_write() { at } else { None };
        let resend = |progress: &Progress| sending.then_some(progress.deadline());
        let all = [
            gathering(&self.evidence_progress, self.evidence.deadline()),
            gathering(&self.rollup_progress, self.rollup.deadline()),
            resend(&self.evidence_progress),
            resend(&self.rollup_progress),
        ];
        all.into_iter().flatten().min()
    }
}

impl Agent {
    /// Everything that time or earlier inputs made ready to be said.
    pub(super) fn talk(&mut self, effects: &mut Vec<Effect>) {
        self.gather_rollups();
        self.write_evidence(false, effects);
        self.write_rollups(false, effects);
        if let Some(leader) = self.links.leader() {
            self.send(leader, effects);
            self.renew(leader, effects);
            self.tell_live(leader, effects);
        } else {
            self.live.interrupt();
        }
        while let Some(member) = self.links.take_dial(self.now) {
            effects.push(Effect::Dial(member));
        }
    }

    pub(super) fn talk_deadline(&self) -> Option<Timestamp> {
        let leads = self.links.leader().is_some();
        let renew = leads.then_some(self.lease.renew_at.min(self.live.deadline()));
        [self.lanes.deadline(leads), renew, self.links.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// A connection stands: say who we are.
    pub(super) fn greet(&mut self, member: MemberId, effects: &mut Vec<Effect>) {
        if !self.links.connected_to(member) {
            return;
        }
        let hello = Hello {
            agent: self.settings.agent,
            incarnation: self.settings.incarnation,
            schema_min: SCHEMA_MIN,
            schema_max: SCHEMA_MAX,
            build: self.settings.build.clone(),
            evidence_tail: self.lanes.evidence_progress.durable(),
            rollup_tail: self.lanes.rollup_progress.durable(),
        };
        effects.push(Effect::Say(member, FromAgent::Hello(hello)));
    }

    pub(super) fn hear(&mut self, member: MemberId, message: ToAgent, effects: &mut Vec<Effect>) {
        if !self.links.is_open(member) {
            return;
        }
        if let ToAgent::Refused(refusal) = message {
            return self.refused(member, refusal, effects);
        }
        self.links.heard(member);
        match message {
            ToAgent::Welcome(welcome) => self.welcome(member, &welcome, effects),
            ToAgent::NotLeader { .. } => {
                self.links.leads_not(member);
            }
            // What follows is the leader's to say; a former leader may still be talking.
            _ if self.links.leader() != Some(member) => {}
            ToAgent::Lease { renewed_at, ttl } => {
                self.lease.ttl = ttl.max(Span(RENEWALS));
                self.stats.lease_until = Some(renewed_at + ttl);
            }
            ToAgent::Digest(assigned) => self.assign(assigned),
            ToAgent::Beliefs(beliefs) => self.believe(beliefs),
            ToAgent::Acks { evidence, rollup } => {
                self.acked(Lane::Evidence, evidence, effects);
                self.acked(Lane::Rollup, rollup, effects);
            }
            ToAgent::Probe(order) => self.order(order, effects),
            ToAgent::ResetLive => self.live.reset(),
            ToAgent::Refused(_) => {}
        }
    }

    fn welcome(&mut self, member: MemberId, welcome: &Welcome, effects: &mut Vec<Effect>) {
        if !self.links.leads(member, welcome.term) {
            return;
        }
        self.live.interrupt();
        self.lease.renew_at = self.now;
        self.ask_anew();
        let window = welcome.window;
        if window != self.rollups.window() && (WINDOW_MIN..=WINDOW_MAX).contains(&window) {
            self.rollups.set_window(window);
            self.new_parts(Telling::AtOnce);
        }
        self.lanes.evidence_progress.rewind();
        self.lanes.rollup_progress.rewind();
        self.acked(Lane::Evidence, welcome.evidence, effects);
        self.acked(Lane::Rollup, welcome.rollup, effects);
    }

    fn refused(&mut self, member: MemberId, refusal: Refusal, effects: &mut Vec<Effect>) {
        match refusal {
            // The watermark in the next `Welcome` mends a gap, and a member that lags behind
            // will have heard of a new agent soon.
            Refusal::Gap { .. } | Refusal::Malformed(_) | Refusal::NotAdmitted(_) => {
                self.links.leads_not(member);
            }
            Refusal::Schema { .. }
            | Refusal::OldIncarnation { .. }
            | Refusal::Impostor { .. }
            | Refusal::Replaced => self.links.refused(member),
        }
        effects.push(Effect::HangUp(member, refusal));
    }

    fn acked(&mut self, lane: Lane, seq: Seq, effects: &mut Vec<Effect>) {
        match self.lanes.progress_mut(lane).ack(seq, self.now) {
            Ok(false) => {}
            Ok(true) => {
                if lane == Lane::Evidence {
                    self.spoken.acked(seq);
                }
                effects.push(Effect::Forget { lane, through: seq });
            }
            Err(beyond) => effects.push(Effect::Stuck(lane, beyond)),
        }
    }

    fn renew(&mut self, leader: MemberId, effects: &mut Vec<Effect>) {
        if self.now < self.lease.renew_at {
            return;
        }
        self.lease.renew_at = self.now + Span((self.lease.ttl.0 / RENEWALS).max(1));
        let spool_bytes = self.lanes.spool_bytes;
        let renew = Renew {
            sent_at: self.now,
            healthy: self.healthy,
            spool_bytes,
        };
        effects.push(Effect::Say(leader, FromAgent::Renew(renew)));
    }

    fn send(&mut self, member: MemberId, effects: &mut Vec<Effect>) {
        for lane in Lane::ALL {
            while let Some(seq) = self.lanes.progress_mut(lane).next_to_send(self.now) {
                effects.push(Effect::Send { member, lane, seq });
            }
        }
    }

    fn tell_live(&mut self, leader: MemberId, effects: &mut Vec<Effect>) {
        if let Some(generation) = self.live.announce(self.now, &self.rings, &self.table) {
            let held = self.table.assigned().copied().collect();
            let schedule = Schedule { generation, held };
            effects.push(Effect::Say(leader, FromAgent::Schedule(schedule)));
        }
        while let Some(second) = self.live.take(self.now) {
            effects.push(Effect::Live(leader, second));
        }
    }

    fn gather_rollups(&mut self) {
        let mut told = 0;
        while told < TELL_MAX
            && let Some(rollup) = self.rollups.take_told(self.now)
        {
            told += rollup.checks.len();
            self.lanes.tell(rollup, self.now);
        }
    }

    fn write_evidence(&mut self, all: bool, effects: &mut Vec<Effect>) {
        let Lanes {
            evidence,
            evidence_progress: progress,
            ..
        } = &mut self.lanes;
        while (all || progress.may_write())
            && let Some(records) = if all {
                evidence.take_now()
            } else {
                evidence.take(self.now)
            }
        {
            let (agent, incarnation) = (self.settings.agent, self.settings.incarnation);
            let batch = EvidenceBatch {
                agent,
                incarnation,
                seq: progress.number(),
                records,
            };
            effects.push(Effect::Spool(Batch::Evidence(batch)));
        }
    }

    fn write_rollups(&mut self, all: bool, effects: &mut Vec<Effect>) {
        let Lanes {
            rollup,
            rollup_progress: progress,
            ..
        } = &mut self.lanes;
        while (all || progress.may_write())
            && let Some(shards) = if all {
                rollup.take_now()
            } else {
                rollup.take(self.now)
            }
        {
            let (agent, incarnation) = (self.settings.agent, self.settings.incarnation);
            let batch = RollupBatch {
                agent,
                incarnation,
                seq: progress.number(),
                shards,
            };
            effects.push(Effect::Spool(Batch::Rollup(batch)));
        }
    }

    /// The process ends: everything known goes to the disk.
    pub(super) fn leave(&mut self, effects: &mut Vec<Effect>) {
        let held: Vec<_> = self.table.assigned().map(|line| line.slot).collect();
        self.drop_slots(&held);
        for rollup in self.rollups.take_all_closed() {
            self.lanes.tell(rollup, self.now);
        }
        self.write_evidence(true, effects);
        self.write_rollups(true, effects);
    }
}
