//! The loop that owns the core, and what it does about each effect.
//!
//! One task owns the core and all handles; probes, connections and disks are tasks and threads of
//! their own that send it news. Its stop: the core tells what it knows, the disk takes it, the
//! connections close. A kill at any other moment loses at most counts of the open window.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use picket_agent_core::{Agent, Effect, Input, Limits, Settings};
use picket_rt::build_info;
use picket_rt::chain;
use picket_rt::clock::Clock;
use picket_rt::identity::{Identity, IdentityError, Peer};
use picket_rt::quic::BindError;
use picket_rt::stop::Stop;
use picket_rt::task::{Policy, TaskSet};
use picket_rt::telemetry::{Telemetry, serve_metrics_unix};
use picket_storage::UnsealError;
use picket_storage::spool::AgentState;
use picket_wire::check::CheckSpec;
use picket_wire::control::FromAgent;
use picket_wire::id::{AgentId, BlobHash, MemberId};
use picket_wire::time::{Span, Timestamp};
use tokio::sync::mpsc;

use crate::cache::{self, Cache, CacheOrder};
use crate::check::{Prober, ProberSettings, ProberSetupError};
use crate::config::{Config, ConfigError, LimitSettings};
use crate::prober::{Job, Probers};
use crate::reference;
use crate::spool::{SpoolError, SpoolOrder, Spools};
use crate::telemetry::{self, AckTimes};
use crate::uplink::{Sockets, Uplink};

/// News that may wait: what connections and disks have to say. They wait when the loop is behind.
const NEWS: usize = 256;
/// Inputs taken at once before time is looked at again.
const AT_ONCE: usize = 256;
/// How often counts are published.
const PUBLISH: Span = Span::from_secs(1);
/// Open files that are not probes: sockets, spools, blobs.
const FILES_RESERVED: u32 = 128;

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It was never enrolled.
    #[error("not enrolled; run `picket-agent enrol --config FILE --token-file FILE` first")]
    NotEnrolled,
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Who it is cannot be read.
    #[error("read the agent's state")]
    State(#[from] UnsealError),
    /// Its certificate cannot be used.
    #[error("read the agent's identity")]
    Identity(#[from] IdentityError),
    /// Certificate and state are of different agents.
    #[error("the certificate is {certificate}'s, the state {state}'s; enrol again")]
    Mixed {
        /// Whose certificate it is.
        certificate: Peer,
        /// Whose state it is.
        state: AgentId,
    },
    /// Spools cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Targets cannot be probed.
    #[error(transparent)]
    Prober(#[from] ProberSetupError),
    /// Schedulers cannot be dialled.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// What reaches the loop besides finished probes.
#[derive(Debug)]
pub(crate) enum News {
    /// Goes to the core as it is.
    Input(Input),
    /// The cache had a blob.
    Fetched(BlobHash, Vec<CheckSpec>),
    /// The cache lacks blobs.
    Missing(MemberId, Vec<BlobHash>),
    /// A member sent a blob.
    Blob(BlobHash, Vec<u8>, Vec<CheckSpec>),
}

/// Runs an enrolled agent until `stop`.
///
/// # Errors
/// When it cannot start. What fails later is logged, counted and waited out.
pub async fn run(config: Config, stop: Stop, tasks: TaskSet) -> Result<(), RunError> {
    let (running, first) = Running::start(&config, &stop, &tasks)?;
    running.run(first, &stop).await;
    Ok(())
}

/// The loop's state.
struct Running {
    core: Agent,
    clock: Clock,
    tasks: TaskSet,
    probers: Probers,
    probed: mpsc::Receiver<Input>,
    news: mpsc::Receiver<News>,
    /// For those who are started later.
    tell: mpsc::Sender<News>,
    sockets: Sockets,
    addresses: BTreeMap<MemberId, String>,
    uplinks: BTreeMap<MemberId, Uplink>,
    spool: mpsc::Sender<SpoolOrder>,
    spool_bytes: u64,
    cache: Cache,
    ack_times: AckTimes,
    publish_at: Timestamp,
}

impl Running {
    fn start(
        config: &Config,
        stop: &Stop,
        tasks: &TaskSet,
    ) -> Result<(Self, Vec<Input>), RunError> {
        let dir = &config.data_dir;
        let (state, identity) = enrolled(dir)?;
        let members = cache::load_members(dir).ok_or(RunError::NotEnrolled)?;
        let spools = Spools::open(dir, state.agent, state.incarnation, &config.limits)?;
        let resume = spools.resume()?;
        let clock = Clock::system();
        let settings = settings(state, &members, limits(config));
        tracing::info!(agent = %state.agent, unacked = resume.said.len(), "starting");
        let prober = Arc::new(prober(config, &clock)?);
        let sockets = Sockets::open(&identity)?;
        let (tell, news) = mpsc::channel(NEWS);
        // Room for every probe and every vote, so that a probe that ended never waits.
        let room = usize::try_from(settings.limits.in_flight)
            .unwrap_or(NEWS)
            .saturating_mul(2);
        let (done, probed) = mpsc::channel(room);
        if !config.references.is_empty() {
            let references = config.references.clone();
            let (clock, tell, stop) = (clock.clone(), tell.clone(), stop.clone());
            let watch = reference::watch(references, prober.clone(), clock, tell, stop);
            tasks.spawn("reference", Policy::BestEffort, watch);
        }
        let first = vec![
            Input::SpoolBytes(spools.bytes()),
            Input::Resumed(cache::load_assigned(dir)),
        ];
        let running = Self {
            core: Agent::new(settings, &resume, clock.now()),
            sockets,
            addresses: members.into_iter().collect(),
            uplinks: BTreeMap::new(),
            spool_bytes: spools.bytes(),
            spool: spools.start(tasks, tell.clone()),
            cache: Cache::start(tasks, dir, tell.clone()),
            probers: Probers::new(tasks.clone(), stop.clone(), prober, done),
            publish_at: clock.now(),
            ack_times: AckTimes::default(),
            tasks: tasks.clone(),
            clock,
            probed,
            news,
            tell,
        };
        Ok((running, first))
    }

    async fn run(mut self, first: Vec<Input>, stop: &Stop) {
        let (mut inputs, mut effects) = (first, Vec::new());
        loop {
            for input in inputs.drain(..) {
                self.core.step(self.clock.now(), input, &mut effects);
            }
            self.perform(&mut effects).await;
            self.publish();
            let wake = self.core.deadline().min(self.publish_at);
            tokio::select! {
                biased;
                () = stop.requested() => break,
                Some(item) = self.news.recv() => inputs.extend(self.sort(item)),
                Some(input) = self.probed.recv() => inputs.push(input),
                () = self.clock.sleep_until(wake) => inputs.push(Input::Tick),
            }
            self.gather(&mut inputs);
        }
        self.core
            .step(self.clock.now(), Input::Leaving, &mut effects);
        self.perform(&mut effects).await;
        self.uplinks.clear();
        self.sockets.close().await;
    }

    /// Takes what else has come, so that one step of time serves many inputs.
    fn gather(&mut self, inputs: &mut Vec<Input>) {
        while inputs.len() < AT_ONCE
            && let Ok(item) = self.news.try_recv()
        {
            inputs.extend(self.sort(item));
        }
        while inputs.len() < 2 * AT_ONCE
            && let Ok(input) = self.probed.try_recv()
        {
            inputs.push(input);
        }
    }

    /// What of the news concerns the core.
    fn sort(&mut self, item: News) -> Option<Input> {
        match item {
            News::Input(input) => {
                match &input {
                    Input::SpoolBytes(bytes) => self.spool_bytes = *bytes,
                    Input::Disconnected(member) => drop(self.uplinks.remove(member)),
                    _ => {}
                }
                Some(input)
            }
            News::Fetched(blob, checks) => Some(Input::Fetched(blob, checks)),
            News::Blob(blob, bytes, checks) => {
                self.cache.order(CacheOrder::Keep(blob, bytes));
                Some(Input::Fetched(blob, checks))
            }
            News::Missing(member, blobs) => {
                self.say(member, FromAgent::WantBlobs(blobs));
                None
            }
        }
    }

    async fn perform(&mut self, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Probe {
                    ticket,
                    spec,
                    due,
                    attempt,
                    trace,
                    believed_failing,
                } => {
                    self.probers.start(Job {
                        ticket,
                        spec,
                        due,
                        attempt,
                        trace,
                        believed_failing,
                    });
                }
                Effect::Dial(member) => self.dial(member),
                Effect::HangUp(member, refusal) => {
                    tracing::warn!(%member, %refusal, "refused");
                    self.uplinks.remove(&member);
                }
                Effect::Say(member, message) => self.say(member, message),
                Effect::Spool(batch) => {
                    self.ack_times
                        .made(batch.lane(), batch.seq(), self.clock.now());
                    self.spool(SpoolOrder::Write(batch)).await;
                }
                Effect::Send { member, lane, seq } => {
                    if let Some(to) = self.uplinks.get(&member).map(|uplink| uplink.lane(lane)) {
                        self.spool(SpoolOrder::Read { lane, seq, to }).await;
                    }
                }
                Effect::Live(member, second) => {
                    if let Some(uplink) = self.uplinks.get(&member) {
                        uplink.live(&second);
                    }
                }
                Effect::Forget { lane, through } => {
                    self.ack_times.acked(lane, through, self.clock.now());
                    self.spool(SpoolOrder::Forget(lane, through)).await;
                }
                Effect::Fetch { member, blobs } => {
                    self.cache.order(CacheOrder::Fetch(member, blobs))
                }
                Effect::Persist(assigned) => self.cache.order(CacheOrder::Persist(assigned)),
                Effect::Stuck(lane, why) => {
                    tracing::error!(lane = lane.name(), error = %chain(&why), "the lane cannot go on");
                }
            }
        }
    }

    fn dial(&mut self, member: MemberId) {
        let address = self.addresses.get(&member).cloned().unwrap_or_default();
        let uplink = Uplink::dial(
            &self.tasks,
            &self.sockets,
            member,
            address,
            self.tell.clone(),
        );
        self.uplinks.insert(member, uplink);
    }

    fn say(&self, member: MemberId, message: FromAgent) {
        if let Some(uplink) = self.uplinks.get(&member) {
            uplink.say(message);
        }
    }

    /// The core lets so few orders be open that this does not wait; should it, the thread gets on
    /// without the loop, because what it has to tell fits the queue of news.
    async fn spool(&self, order: SpoolOrder) {
        if self.spool.send(order).await.is_err() {
            tracing::debug!("the spool has ended");
        }
    }

    fn publish(&mut self) {
        let now = self.clock.now();
        if now >= self.publish_at {
            telemetry::publish(&self.core, self.spool_bytes, now);
            self.publish_at = now + PUBLISH;
        }
    }
}

/// Who the agent is.
fn enrolled(dir: &Path) -> Result<(AgentState, Identity), RunError> {
    let state = AgentState::load(dir)?.ok_or(RunError::NotEnrolled)?;
    let identity = Identity::load(dir)?;
    let certificate = identity.peer();
    if certificate != Peer::Agent(state.agent) {
        return Err(RunError::Mixed {
            certificate,
            state: state.agent,
        });
    }
    Ok((state, identity))
}

fn settings(state: AgentState, members: &[(MemberId, String)], limits: Limits) -> Settings {
    let AgentState { agent, incarnation } = state;
    let mut seed = [0; 8];
    if getrandom::fill(&mut seed).is_err() {
        // Without randomness agents still differ from each other.
        seed = u64::from(agent.0).to_le_bytes();
    }
    Settings {
        agent,
        incarnation,
        build: build_info::describe("picket-agent"),
        members: members.iter().map(|(member, _)| *member).collect(),
        seed: u64::from_le_bytes(seed),
        limits,
    }
}

fn prober(config: &Config, clock: &Clock) -> Result<Prober, RunError> {
    let settings = ProberSettings {
        source_addresses: config.source_addresses.clone(),
        resolvers: config.resolvers.clone(),
        trust_anchors: config.anchors()?,
        allow: config.allow_ranges.iter().map(|range| range.0).collect(),
        ..ProberSettings::new(clock.clone())
    };
    Ok(Prober::new(settings)?)
}

/// What is set, or less where fewer files may be open.
fn limits(config: &Config) -> Limits {
    let LimitSettings {
        in_flight,
        per_destination,
        ..
    } = config.limits;
    // With the reserve for votes a sixteenth more than the limit may be in flight.
    let room = open_files_max().map(|files| files.saturating_sub(FILES_RESERVED) / 17 * 16);
    let fitting = room.map_or(in_flight, |room| in_flight.min(room.max(1)));
    if fitting < in_flight {
        tracing::warn!(
            wanted = in_flight,
            fitting,
            "the limit on open files allows fewer probes"
        );
    }
    Limits {
        in_flight: fitting,
        per_destination,
    }
}

/// The soft limit on open files, as Linux tells it.
fn open_files_max() -> Option<u32> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Serves metrics when a socket is set. Their failure is no reason to stop probing.
pub fn serve_metrics(config: &Config, telemetry: &Telemetry, stop: &Stop, tasks: &TaskSet) {
    let (metrics, stop) = (telemetry.metrics(), stop.clone());
    let path = config.metrics_socket.clone();
    tasks.spawn("metrics", Policy::BestEffort, async move {
        let Some(path) = path else {
            return metrics.upkeep(stop).await;
        };
        if let Err(error) = serve_metrics_unix(path, metrics, stop).await {
            tracing::error!(error = %chain(&error), "no metrics");
        }
    });
}
