//! Consensus: the replicated log, the machine above it, and the only place that names openraft.
//!
//! openraft runs on a runtime of its own, so that no load of the gateway or the API can delay a
//! heartbeat. What leaves this module are commands' replies, a view of the machine, and a handful of
//! plain figures; the move to another version of openraft, or to another library, ends here.

mod codec;
mod log;
mod machine;
mod network;
mod types;

#[cfg(test)]
mod suite;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, TryLockError};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use openraft::error::{ClientWriteError, InitializeError, RaftError};
use openraft::{BasicNode, Config, ServerState, SnapshotPolicy};
use picket_scheduler_core::reply::Reply;
use picket_storage::raft_log::OpenRaftLogError;
use picket_wire::id::MemberId;
use picket_wire::peer::RaftMessage;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

use self::log::LogStore;
pub(crate) use self::machine::Replica;
use self::machine::StateMachine;
pub use self::machine::{Applied, RestoreReplicaError};
pub(crate) use self::network::{
    ServeError, SnapshotHead, read_index_reply, read_index_request, snapshot_head,
};
use self::types::{Outcome, Proposal, Raft};
use crate::config::RaftSettings;
use crate::peers::Peers;

/// Logs between two snapshots. An entry of a storm is some 100 KB, a calm one some 100 B: replay
/// of 20,000 takes seconds at worst, and a snapshot of some 10 MB every 20,000 is no load.
const SNAPSHOT_EVERY: u64 = 20_000;
/// Logs kept behind a snapshot, so that a member that was away for a moment needs no snapshot.
const KEEP_BEHIND_SNAPSHOT: u64 = 1_000;
/// Most entries in one append; the log reader bounds their bytes.
const APPEND_ENTRIES_MAX: u64 = 300;
/// How long a snapshot may take to send and install: 10 MB at 10 Mbit/s.
const INSTALL_TIMEOUT_MS: u64 = 10_000;
/// Behind by more than this a follower gets the snapshot instead of the log. Must exceed
/// [`SNAPSHOT_EVERY`], or the snapshot itself would be too old to help.
const LAG_THRESHOLD: u64 = 2 * SNAPSHOT_EVERY;
/// Largest snapshot that is accepted from another member: 65,536 shards and a million open
/// verdicts are some 200 MB.
pub(crate) const SNAPSHOT_MAX_BYTES: u64 = 1 << 30;

/// Why consensus could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartConsensusError {
    /// The settings contradict one another.
    #[error("raft settings: {0}")]
    Settings(String),
    /// Two processes would write the same log.
    #[error("another process uses `{}`", .0.display())]
    InUse(PathBuf),
    /// The directory cannot be used.
    #[error("use `{}`", .dir.display())]
    Directory {
        /// Which.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The log cannot be opened.
    #[error("open the Raft log in {dir}")]
    Log {
        /// Where.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: OpenRaftLogError,
    },
    /// The machine cannot be restored.
    #[error("restore the machine")]
    Machine(#[from] RestoreReplicaError),
    /// Entries between the snapshot and the log are missing: the snapshot was lost or damaged.
    #[error(
        "the snapshot reaches {snapshot:?} but the log begins after {purged}; remove this member \
         from the cluster and let it join anew with an empty directory"
    )]
    SnapshotBehindLog {
        /// The last index in the snapshot.
        snapshot: Option<u64>,
        /// The last index purged from the log.
        purged: u64,
    },
    /// The runtime's threads cannot be started.
    #[error("start the consensus runtime")]
    Runtime(#[source] io::Error),
    /// openraft refused to start.
    #[error("start raft: {0}")]
    Raft(String),
}

/// Why a write was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WriteError {
    /// This member does not lead; the entry is certainly not applied.
    #[error("this member does not lead")]
    NotLeader(Option<MemberId>),
    /// openraft stopped before it said what became of the entry.
    #[error("raft stopped before the entry was applied")]
    Stopped,
}

/// Where a member stands, for people and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftStatus {
    /// Current term.
    pub term: u64,
    /// Who leads, as far as this member knows.
    pub leader: Option<MemberId>,
    /// `leader`, `follower`, `candidate`, `learner` or `stopped`.
    pub state: &'static str,
    /// Index of the last entry in the log.
    pub last_log: Option<u64>,
    /// Index of the last entry applied.
    pub applied: Option<u64>,
    /// Index of the last entry in the newest snapshot.
    pub snapshot: Option<u64>,
    /// For a leader: milliseconds since a quorum last answered.
    pub quorum_ack_ms: Option<u64>,
}

/// A handle on this member's part in consensus.
#[derive(Clone)]
pub(crate) struct Consensus {
    raft: Raft,
    log: LogStore,
    replica: Replica,
    me: MemberId,
    runtime: Arc<OwnRuntime>,
}

impl fmt::Debug for Consensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consensus")
            .field("member", &self.me)
            .finish_non_exhaustive()
    }
}

impl Consensus {
    /// Opens what is on disk under `dir` and starts to take part.
    pub(crate) async fn start(
        settings: &RaftSettings,
        me: MemberId,
        dir: &Path,
        peers: Peers,
    ) -> Result<Self, StartConsensusError> {
        let config = config_of(settings)?;
        let lock = lock(dir)?;
        let log_dir = dir.join("log");
        let log = LogStore::open(&log_dir, lock).map_err(|source| StartConsensusError::Log {
            dir: log_dir,
            source,
        })?;
        let machine = StateMachine::open(&dir.join("snapshots"))?;
        check_snapshot_meets_log(&log, &machine).await?;
        let replica = machine.replica();
        let runtime = OwnRuntime::start()?;
        let network = network::Network { peers };
        let starting = Raft::new(me.0, config, network, log.clone(), machine);
        let raft = runtime
            .run(starting)
            .await
            .map_err(|e| StartConsensusError::Raft(e.to_string()))?;
        Ok(Self {
            raft,
            log,
            replica,
            me,
            runtime: Arc::new(runtime),
        })
    }

    /// Forms the cluster when this member has never heard of one. A no-op otherwise.
    pub(crate) async fn bootstrap(
        &self,
        members: &[(MemberId, String)],
    ) -> Result<(), StartConsensusError> {
        let nodes: BTreeMap<u64, BasicNode> = members
            .iter()
            .map(|(id, address)| (id.0, BasicNode::new(address)))
            .collect();
        match self.raft.initialize(nodes).await {
            Ok(()) => {
                tracing::info!(members = members.len(), "a new cluster was formed");
                Ok(())
            }
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(StartConsensusError::Raft(error.to_string())),
        }
    }

    /// Hands an encoded entry to the log. Entries handed over one after the other are applied in
    /// that order; the returned future waits for the reply.
    pub(crate) async fn submit(
        &self,
        entry: Vec<u8>,
    ) -> Result<impl Future<Output = Result<Reply, WriteError>> + Send + use<>, WriteError> {
        let proposal = Proposal(Bytes::from(entry));
        let reply = self
            .raft
            .client_write_ff(proposal)
            .await
            .map_err(|_fatal| WriteError::Stopped)?;
        Ok(async move {
            match reply.await {
                Ok(Ok(written)) => {
                    let Outcome(reply) = written.data;
                    Ok(reply.expect("a proposal is a normal entry and those have replies"))
                }
                Ok(Err(ClientWriteError::ForwardToLeader(forward))) => {
                    Err(WriteError::NotLeader(forward.leader_id.map(MemberId)))
                }
                Ok(Err(ClientWriteError::ChangeMembershipError(_))) | Err(_) => {
                    Err(WriteError::Stopped)
                }
            }
        })
    }

    /// The index up to which a read must have applied to see every write acknowledged before now.
    /// Only the leader can tell, and only while a quorum still follows it.
    pub(crate) async fn read_index(&self) -> Result<Option<u64>, ServeError> {
        let (index, _applied) = self
            .raft
            .get_read_log_id()
            .await
            .map_err(|_error| ServeError::NotLeader)?;
        Ok(index.map(|id| id.index))
    }

    /// Answers another member's message.
    pub(crate) async fn serve(&self, message: RaftMessage) -> Result<Vec<u8>, ServeError> {
        network::serve(&self.raft, message).await
    }

    /// Installs a snapshot that another member sent.
    pub(crate) async fn install(
        &self,
        head: SnapshotHead,
        data: Bytes,
    ) -> Result<Vec<u8>, ServeError> {
        network::install(&self.raft, head, data).await
    }

    /// The local machine.
    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Who leads, as a level to wait on.
    pub(crate) fn leadership(&self) -> Leadership {
        let patience_ms = 2 * self.raft.config().election_timeout_max;
        Leadership {
            metrics: self.raft.metrics(),
            me: self.me,
            patience_ms,
            seen: None,
        }
    }

    /// Where this member stands.
    pub(crate) fn status(&self) -> RaftStatus {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        RaftStatus {
            term: metrics.current_term,
            leader: metrics.current_leader.map(MemberId),
            state: state_name(metrics.state, metrics.running_state.is_err()),
            last_log: metrics.last_log_index,
            applied: metrics.last_applied.map(|id| id.index),
            snapshot: metrics.snapshot.map(|id| id.index),
            quorum_ack_ms: metrics.millis_since_quorum_ack,
        }
    }

    /// Writes a snapshot now, whatever the policy says.
    pub(crate) async fn snapshot_now(&self) {
        drop(self.raft.trigger().snapshot().await);
    }

    /// Stops taking part, flushes the log and closes it.
    pub(crate) async fn stop(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "raft ended with a panic");
        }
        self.log.close().await;
        self.runtime.stop();
    }
}

/// Who leads, as seen by this member.
#[derive(Debug)]
pub(crate) struct Leadership {
    metrics: watch::Receiver<openraft::RaftMetrics<u64, BasicNode>>,
    me: MemberId,
    /// A leader that no quorum has answered for this long has probably been replaced unseen.
    patience_ms: u64,
    seen: Option<LeaderNow>,
}

/// One look at [`Leadership`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaderNow {
    /// Who leads.
    pub(crate) leader: Option<MemberId>,
    /// The term, when it is this member.
    pub(crate) my_term: Option<u64>,
    /// openraft has failed; the process must end.
    pub(crate) failed: bool,
}

impl Leadership {
    /// Who leads now.
    pub(crate) fn now(&mut self) -> LeaderNow {
        let metrics = self.metrics.borrow_and_update();
        let followed = metrics
            .millis_since_quorum_ack
            .is_none_or(|ms| ms <= self.patience_ms);
        let elected =
            metrics.state == ServerState::Leader && metrics.current_leader == Some(self.me.0);
        let leads = elected && followed;
        let now = LeaderNow {
            leader: metrics.current_leader.map(MemberId),
            my_term: leads.then_some(metrics.current_term),
            failed: metrics.running_state.is_err(),
        };
        drop(metrics);
        self.seen = Some(now);
        now
    }

    /// Returns once [`Self::now`] says something else than at its last call, with what it says;
    /// `None` once it never will. Safe to cancel.
    pub(crate) async fn changed(&mut self) -> Option<LeaderNow> {
        loop {
            let seen = self.seen;
            let now = self.now();
            if seen != Some(now) {
                return Some(now);
            }
            self.metrics.changed().await.ok()?;
        }
    }
}

fn state_name(state: ServerState, failed: bool) -> &'static str {
    match state {
        _ if failed => "stopped",
        ServerState::Leader => "leader",
        ServerState::Follower => "follower",
        ServerState::Candidate => "candidate",
        ServerState::Learner => "learner",
        ServerState::Shutdown => "stopped",
    }
}

fn config_of(settings: &RaftSettings) -> Result<Arc<Config>, StartConsensusError> {
    let config = Config {
        cluster_name: "picket".to_owned(),
        heartbeat_interval: settings.heartbeat_ms,
        election_timeout_min: settings.election_min_ms,
        election_timeout_max: settings.election_max_ms,
        install_snapshot_timeout: INSTALL_TIMEOUT_MS,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
        max_in_snapshot_log_to_keep: KEEP_BEHIND_SNAPSHOT,
        max_payload_entries: APPEND_ENTRIES_MAX,
        replication_lag_threshold: LAG_THRESHOLD,
        ..Config::default()
    };
    config
        .validate()
        .map(Arc::new)
        .map_err(|error| StartConsensusError::Settings(error.to_string()))
}

/// Takes the directory for this process; given back when the log's thread ends, however it ends.
fn lock(dir: &Path) -> Result<File, StartConsensusError> {
    let unusable = |source| StartConsensusError::Directory {
        dir: dir.to_owned(),
        source,
    };
    std::fs::create_dir_all(dir).map_err(unusable)?;
    let file = File::create(dir.join("lock")).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartConsensusError::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

/// A log that was purged beyond the newest readable snapshot cannot rebuild the machine.
async fn check_snapshot_meets_log(
    log: &LogStore,
    machine: &StateMachine,
) -> Result<(), StartConsensusError> {
    let purged = log
        .purged()
        .await
        .map_err(|e| StartConsensusError::Raft(e.to_string()))?;
    let snapshot = machine.restored();
    match purged {
        Some(purged) if snapshot < Some(purged) => Err(StartConsensusError::SnapshotBehindLog {
            snapshot: snapshot.map(|id| id.index),
            purged: purged.index,
        }),
        _ => Ok(()),
    }
}

/// openraft's own threads. Two of them: the core must go on while a snapshot is serialised.
#[derive(Debug)]
struct OwnRuntime(std::sync::Mutex<Option<Runtime>>);

impl OwnRuntime {
    fn start() -> Result<Self, StartConsensusError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("raft")
            .enable_all()
            .build()
            .map_err(StartConsensusError::Runtime)?;
        Ok(Self(std::sync::Mutex::new(Some(runtime))))
    }

    async fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        let (done, result) = oneshot::channel();
        if let Some(runtime) = &*self.slot() {
            runtime.spawn(async move { drop(done.send(future.await)) });
        }
        result
            .await
            .expect("the runtime is not stopped before it has started")
    }

    fn stop(&self) {
        if let Some(runtime) = self.slot().take() {
            // Waiting for the threads blocks, which an async caller must not do.
            runtime.shutdown_background();
        }
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Runtime>> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        self.stop();
    }
}
