//! An agent's process around its core: probes, connections, a disk; and ways to die.

use std::collections::BTreeMap;

use picket_agent_core::{Agent, Attempt, Batch, Effect, Input, Lane, Limits, Settings, Ticket};
use picket_wire::check::CheckSpec;
use picket_wire::control::FromAgent;
use picket_wire::id::{AgentId, BlobHash, Incarnation, MemberId, Seq};
use picket_wire::outcome::{Phases, Probe};
use picket_wire::reason::Reason;
use picket_wire::time::{Span, Timestamp};

use crate::sim::coverage::Met;
use crate::sim::disk::Disk;
use crate::sim::env::Env;
use crate::sim::event::{AgentEvent, Boot, Downlink, Event, Uplink};
use crate::sim::net::{Conn, DIAL_TIMEOUT};
use crate::sim::rng::Rng;
use crate::sim::scenario::{MEMBERS, Place};
use crate::sim::targets::Finding;
use crate::sim::trace::{Node, Note};

/// How long the disk cache takes to give a blob.
const CACHE: Span = Span(3);
/// How long an agent needs to see that a connection is closed by the other side.
pub(crate) const CLOSE_SEEN: Span = Span(100);

/// Whether the agent's own network works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    Clear,
    /// Nothing can be reached until then.
    Blind(Timestamp),
}

/// An agent.
#[derive(Debug)]
pub(crate) struct SimAgent {
    pub(crate) place: Place,
    rng: Rng,
    boot: u32,
    incarnation: Incarnation,
    /// `None` while it is dead.
    pub(crate) core: Option<Box<Agent>>,
    pub(crate) disk: Disk,
    wake_at: Option<Timestamp>,
    pub(crate) sight: Sight,
    /// Its connections, as far as it knows.
    conns: BTreeMap<MemberId, Conn>,
}

impl SimAgent {
    /// An agent that was just admitted, and is started.
    pub(crate) fn new(env: &mut Env, place: Place) -> Self {
        let rng = Rng::new(env.scenario.seed, "agent", u64::from(place.agent.0));
        let mut agent = Self {
            place,
            rng,
            boot: 0,
            incarnation: Incarnation(1),
            core: None,
            disk: Disk::default(),
            wake_at: None,
            sight: Sight::Clear,
            conns: BTreeMap::new(),
        };
        agent.start(env);
        agent
    }

    pub(crate) const fn id(&self) -> AgentId {
        self.place.agent
    }

    pub(crate) const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// This process.
    pub(crate) const fn boot(&self) -> Boot<AgentId> {
        Boot {
            of: self.place.agent,
            number: self.boot,
        }
    }

    /// Whether `boot` is the process that runs now.
    pub(crate) const fn is(&self, boot: Boot<AgentId>) -> bool {
        self.core.is_some() && boot.number == self.boot
    }

    /// Starts the process with what its disk has.
    pub(crate) fn start(&mut self, env: &mut Env) {
        let resume = self.disk.resume();
        let waits = resume.evidence.tail > resume.evidence.acked
            || resume.rollup.tail > resume.rollup.acked;
        env.coverage
            .met_times(Met::SpoolReplayed, u64::from(waits && self.boot > 0));
        let settings = Settings {
            agent: self.id(),
            incarnation: self.incarnation,
            build: "simulated".to_owned(),
            members: MEMBERS.to_vec(),
            seed: self.rng.draw(),
            limits: Limits::default(),
        };
        self.core = Some(Box::new(Agent::new(settings, &resume, self.clock(env))));
        self.wake_at = None;
        let assigned = self.disk.assigned.clone();
        self.step(env, Input::Resumed(assigned));
        if self.sight != Sight::Clear {
            self.step(env, Input::ReferenceHealth(false));
        }
    }

    /// The process dies.
    pub(crate) fn crash(&mut self, env: &mut Env) {
        self.core = None;
        self.boot += 1;
        env.met(Met::AgentCrashed);
        let lost = self.disk.spool(Lane::Evidence).crash() + self.disk.spool(Lane::Rollup).crash();
        env.coverage.met_times(Met::SpoolTailLost, lost as u64);
        self.conns.clear();
    }

    /// The disk is gone with everything on it; it was admitted again.
    pub(crate) fn be_reborn(&mut self, env: &mut Env, incarnation: Incarnation) {
        self.disk = Disk::default();
        self.incarnation = incarnation;
        env.met(Met::Readmitted);
        self.start(env);
    }

    fn plan_at(&self, env: &mut Env, at: Timestamp, event: AgentEvent) {
        env.queue.plan(at, Event::Agent(self.boot(), event));
    }

    /// Something happens to this process.
    pub(crate) fn happen(&mut self, env: &mut Env, event: AgentEvent) {
        match event {
            AgentEvent::Wake(at) => self.wake(env, at),
            AgentEvent::Input(input) => self.step(env, input),
            AgentEvent::Synced(lane, seq) => self.synced(env, lane, seq),
            AgentEvent::Persisted(assigned) => self.disk.assigned = assigned,
            AgentEvent::HungUp(member, conn) => self.disconnected(env, member, conn),
        }
    }

    /// Its wall clock.
    pub(crate) const fn clock(&self, env: &Env) -> Timestamp {
        Timestamp(env.now.0 + self.place.skew_ms)
    }

    /// The core takes an input, and the process does what it asks for.
    pub(crate) fn step(&mut self, env: &mut Env, input: Input) {
        let now = self.clock(env);
        let Some(core) = &mut self.core else { return };
        let mut effects = Vec::new();
        core.step(now, input, &mut effects);
        let deadline = Timestamp(core.deadline().0.saturating_sub(self.place.skew_ms)).max(env.now);
        for effect in effects {
            self.perform(env, effect);
        }
        if self.wake_at.is_none_or(|at| deadline < at || at < env.now) {
            self.wake_at = Some(deadline);
            self.plan_at(env, deadline, AgentEvent::Wake(deadline));
        }
    }

    fn wake(&mut self, env: &mut Env, at: Timestamp) {
        if self.wake_at == Some(at) {
            self.wake_at = None;
            self.step(env, Input::Tick);
        }
    }

    fn perform(&mut self, env: &mut Env, effect: Effect) {
        match effect {
            Effect::Probe {
                ticket,
                spec,
                due,
                attempt,
                ..
            } => self.probe(env, ticket, &spec, due, attempt),
            Effect::Dial(member) => self.dial(env, member),
            Effect::HangUp(member, _) => self.hang_up(env, member),
            Effect::Say(member, message) => self.say(env, member, message),
            Effect::Spool(batch) => self.spool(env, batch),
            Effect::Send { member, lane, seq } => self.send(env, member, lane, seq),
            Effect::Forget { lane, through } => self.forget(env, lane, through),
            Effect::Fetch { member, blobs } => self.fetch(env, member, blobs),
            Effect::Persist(assigned) => {
                let wait = self.sync_time(env);
                self.plan_at(env, env.now + wait, AgentEvent::Persisted(assigned));
            }
            // Disposable, and of no consequence for anything that is decided.
            Effect::Live(..) => {}
            Effect::Stuck(lane, why) => {
                let detail = format!("{} {}: {why}", self.id(), lane.name());
                env.oracles.delivery.stuck(detail);
            }
        }
    }

    fn probe(
        &mut self,
        env: &mut Env,
        ticket: Ticket,
        spec: &CheckSpec,
        due: Timestamp,
        attempt: Attempt,
    ) {
        let at = self.clock(env);
        let finding = match self.sight {
            Sight::Blind(until) if env.now < until => Finding {
                reason: Some(Reason::ConnectTimeout),
                took: spec.timeout,
                remote: None,
            },
            Sight::Clear | Sight::Blind(_) => env.targets.probe(
                spec.id,
                &self.place.region,
                env.now,
                spec.timeout,
                &mut self.rng,
            ),
        };
        let took_us = u32::try_from(finding.took.0 * 1_000).unwrap_or(u32::MAX);
        let lateness = if attempt == Attempt::Scheduled {
            at.since(due)
        } else {
            Span::ZERO
        };
        let probe = Probe {
            at,
            lateness,
            reason: finding.reason,
            phases: Phases {
                total_us: took_us,
                ..Phases::default()
            },
            http_status: 0,
            remote: finding.remote,
            certificate_expires: None,
            detail: String::new(),
        };
        let (agent, check, ok) = (self.id(), spec.id, probe.is_ok());
        env.note(Note::Probed { agent, check, ok });
        if self.core.as_ref().is_some_and(|core| !core.is_healthy()) && !ok {
            env.met(Met::BlindProbe);
        }
        let input = Input::Probed {
            ticket,
            probe,
            trace: None,
        };
        self.plan_at(env, env.now + finding.took, AgentEvent::Input(input));
    }

    fn dial(&mut self, env: &mut Env, member: MemberId) {
        let (from, to) = (Node::Agent(self.id()), Node::Member(member));
        let cut = env.net.cut_until(from, to, env.now).is_some();
        let way = env.net.delay(from, to) + env.net.delay(to, from);
        if cut {
            self.plan_at(
                env,
                env.now + DIAL_TIMEOUT,
                AgentEvent::HungUp(member, None),
            );
        } else {
            env.plan_in(way, Event::Dialled(self.boot(), member));
        }
    }

    /// A connection stands.
    pub(crate) fn connected(&mut self, env: &mut Env, conn: Conn) {
        self.conns.insert(conn.member, conn);
        self.step(env, Input::Connected(conn.member));
    }

    fn disconnected(&mut self, env: &mut Env, member: MemberId, conn: Option<Conn>) {
        if let Some(conn) = conn {
            if self.conns.get(&member) != Some(&conn) {
                return;
            }
            self.conns.remove(&member);
            env.net.drop_conn(conn);
        }
        self.step(env, Input::Disconnected(member));
    }

    fn hang_up(&mut self, env: &mut Env, member: MemberId) {
        if let Some(&conn) = self.conns.get(&member) {
            env.net.drop_conn(conn);
            env.plan_in(CLOSE_SEEN, Event::SessionLost(conn));
            self.plan_at(
                env,
                env.now + Span(1),
                AgentEvent::HungUp(member, Some(conn)),
            );
        }
    }

    fn say(&mut self, env: &mut Env, member: MemberId, message: FromAgent) {
        let Some(&conn) = self.conns.get(&member) else {
            return;
        };
        let certain = matches!(message, FromAgent::Hello(_));
        if certain || !env.net.loses(Node::Agent(self.id()), Node::Member(member)) {
            env.send_up(conn, &Uplink::Control(message));
        }
    }

    fn sync_time(&mut self, env: &Env) -> Span {
        self.rng.span(Span(1), env.scenario.sync_max)
    }

    fn spool(&mut self, env: &mut Env, batch: Batch) {
        let (lane, seq) = (batch.lane(), batch.seq());
        let takes = self.sync_time(env);
        let at = self.disk.spool(lane).write(batch, env.now, takes);
        self.plan_at(env, at, AgentEvent::Synced(lane, seq));
    }

    fn synced(&mut self, env: &mut Env, lane: Lane, seq: Seq) {
        for batch in self.disk.spool(lane).synced(seq) {
            env.oracles.delivery.spooled(batch, env.now);
        }
        env.note(Note::Spooled {
            agent: self.id(),
            lane: lane.into(),
            seq: seq.0,
        });
        self.step(env, Input::Spooled { lane, seq });
    }

    fn send(&mut self, env: &mut Env, member: MemberId, lane: Lane, seq: Seq) {
        let Some(&conn) = self.conns.get(&member) else {
            return;
        };
        match self.disk.spool(lane).read(seq) {
            Some(Batch::Evidence(batch)) => env.send_up(conn, &Uplink::Evidence(batch.clone())),
            Some(Batch::Rollup(batch)) => env.send_up(conn, &Uplink::Rollup(batch.clone())),
            None => {}
        }
    }

    fn forget(&mut self, env: &mut Env, lane: Lane, through: Seq) {
        let agent = self.id();
        env.note(Note::Acked {
            agent,
            lane: lane.into(),
            seq: through.0,
        });
        env.oracles
            .delivery
            .acked(agent, self.incarnation, lane, through);
        self.disk.spool(lane).forget(through);
    }

    fn fetch(&mut self, env: &mut Env, member: Option<MemberId>, blobs: Vec<BlobHash>) {
        let (here, missing): (Vec<_>, Vec<_>) = blobs
            .into_iter()
            .partition(|blob| self.disk.blobs.contains(blob));
        for blob in here {
            self.plan_fetched(env, CACHE, blob);
        }
        if let Some(member) = member.filter(|_| !missing.is_empty()) {
            self.say(env, member, FromAgent::WantBlobs(missing));
        }
    }

    fn plan_fetched(&self, env: &mut Env, wait: Span, blob: BlobHash) {
        if let Some(checks) = env.blobs.get(&blob).cloned() {
            let input = Input::Fetched(blob, checks);
            self.plan_at(env, env.now + wait, AgentEvent::Input(input));
        }
    }

    /// A member sent something.
    pub(crate) fn receive(&mut self, env: &mut Env, conn: Conn, message: Downlink) {
        if self.conns.get(&conn.member) != Some(&conn) {
            return;
        }
        match message {
            Downlink::Control(message) => {
                let (to, from) = (Node::Agent(self.id()), Node::Member(conn.member));
                env.note(Note::Heard {
                    to,
                    from,
                    what: word(&message),
                });
                self.step(env, Input::Heard(conn.member, message));
            }
            Downlink::Blob(blob) => {
                self.disk.blobs.insert(blob);
                self.plan_fetched(env, Span(0), blob);
            }
        }
    }
}

const fn word(message: &picket_wire::control::ToAgent) -> &'static str {
    use picket_wire::control::ToAgent as T;
    match message {
        T::Welcome(_) => "welcome",
        T::NotLeader { .. } => "not leader",
        T::Lease { .. } => "lease",
        T::Digest(_) => "digest",
        T::Beliefs(_) => "beliefs",
        T::Acks { .. } => "acks",
        T::Probe(_) => "order",
        T::ResetLive => "reset live",
        T::Refused(_) => "refused",
    }
}
