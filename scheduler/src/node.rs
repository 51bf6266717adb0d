//! One scheduler member, put together: the only composer, and the owner of the ordered stop.
//!
//! Stop: refuse new connections and requests; end what the leader does; finish consensus and close
//! the log; close the mesh; close the caches. Each stage has a deadline, and what misses it is named.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use picket_rt::clock::Clock;
use picket_rt::identity::{Authority, Identity, IdentityError};
use picket_rt::quic::{BindError, CloseCode, Mesh};
use picket_rt::stop::Stop;
use picket_rt::task::{Policy, TaskFailure, TaskSet};
use picket_rt::telemetry::Metrics;
use picket_storage::blob::{BlobSettings, BlobStore, OpenBlobsError};
use picket_storage::pg::rollup::RollupStore;
use picket_storage::pg::{Pg, PgError, PgSettings};

use crate::blobs::{self, Blobs};
use crate::bootstrap::{self, BootstrapError};
use crate::config::Config;
use crate::consensus::{Consensus, StartConsensusError};
use crate::context::{Context, MeshInfo};
use crate::gateway::live::LiveTable;
use crate::gateway::sessions::Sessions;
use crate::gateway::{EvidenceInbox, Gateway, run_batcher};
use crate::leases::LeaderView;
use crate::peers::Peers;
use crate::project::rollups::{RollupInbox, run_writer};
use crate::replica::ReplicaHandle;
use crate::{api, leadership, project};

/// How long each stage of the stop may take. Requests and sessions end at once; duties may have a
/// transaction or a webhook under way.
const FRONT_ENDS: Duration = Duration::from_secs(3);
const DUTIES_END: Duration = Duration::from_secs(6);
const CONSENSUS_ENDS: Duration = Duration::from_secs(5);

const MIB: usize = 1024 * 1024;

/// Why a member could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its certificate or the authority cannot be read.
    #[error("load `{}`", .dir.display())]
    Identity {
        /// From where.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: IdentityError,
    },
    /// The mesh's socket cannot be opened.
    #[error("listen on the mesh")]
    Bind(#[from] BindError),
    /// The system does not say which address the mesh listens on.
    #[error("learn the mesh's address")]
    Address(#[source] std::io::Error),
    /// The blob cache cannot be opened.
    #[error("open the blob cache")]
    Blobs(#[from] OpenBlobsError),
    /// The connection string of Postgres does not parse or names no host.
    #[error("`postgres.url`")]
    Postgres(#[from] PgError),
    /// Consensus cannot start.
    #[error("start consensus")]
    Consensus(#[from] StartConsensusError),
    /// The cluster cannot be formed.
    #[error("form the cluster")]
    Bootstrap(#[from] BootstrapError),
}

/// How a member ended that was not asked to, or did not end in order.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// A task ended that the member cannot be without.
    #[error(transparent)]
    Task(#[from] TaskFailure),
    /// Tasks did not end in time.
    #[error("still running after their deadline: {0:?}")]
    Late(Vec<&'static str>),
}

/// A running member.
#[derive(Debug)]
pub struct Node {
    context: Arc<Context>,
    consensus: Consensus,
    mesh: Mesh,
    /// Everything that takes in work from outside, or hands it on.
    front: TaskSet,
    /// What the leader does.
    duties: TaskSet,
    duties_stop: Stop,
    /// Lines to other members, which consensus needs to the end.
    lines: TaskSet,
    lines_stop: Stop,
    stop: Stop,
}

impl Node {
    /// Starts a member. It stops when `stop` is requested or a part that it needs has ended; call
    /// [`Self::finish`] to wait for that.
    ///
    /// # Errors
    /// When a file, a socket or a setting is not as it must be. Postgres and other members may be
    /// away.
    pub async fn start(
        config: Config,
        metrics: Option<Metrics>,
        stop: Stop,
    ) -> Result<Self, StartError> {
        let parts = Parts::open(&config).await?;
        let Parts {
            mesh,
            listen,
            authority,
            peers,
            consensus,
            blobs,
            pg,
        } = parts;
        let clock = Clock::system();
        let replica = ReplicaHandle::new(
            consensus.clone(),
            peers.clone(),
            clock.clone(),
            config.member,
        );
        let mesh_info = MeshInfo {
            listen,
            members: config.members(),
            ca_fingerprint: authority.fingerprint(),
        };
        let context = Arc::new(Context {
            member: config.member,
            config: Arc::new(config),
            clock,
            replica,
            pg,
            blobs,
            live: LiveTable::default(),
            sessions: Sessions::default(),
            leader_view: LeaderView::default(),
            mesh: mesh_info,
            metrics,
            stop: stop.clone(),
        });
        let set = || TaskSet::new(stop.clone());
        let (duties_stop, lines_stop) = (Stop::new(), Stop::new());
        let (front, duties, lines) = (set(), set(), set());
        let node = Self {
            context,
            consensus,
            mesh,
            front,
            duties,
            duties_stop,
            lines,
            lines_stop,
            stop,
        };
        peers.keep_up(&node.mesh, &node.lines, &node.lines_stop);
        node.form_cluster().await?;
        node.spawn_front(authority);
        node.spawn_duties();
        Ok(node)
    }

    /// What the parts of this member share.
    #[must_use]
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Writes a snapshot now; for tests and for an operator who is about to copy the directory.
    pub async fn snapshot_now(&self) {
        self.consensus.snapshot_now().await;
    }

    /// Waits until the member is asked to stop or can no longer go on, then stops it in order.
    ///
    /// # Errors
    /// When a part ended that the member needs, or tasks did not end in time.
    pub async fn finish(self) -> Result<(), StopError> {
        self.stop.requested().await;
        let mut late = Vec::new();
        late.extend(
            self.front
                .join_all(FRONT_ENDS)
                .await
                .err()
                .into_iter()
                .flatten(),
        );
        self.duties_stop.request();
        late.extend(
            self.duties
                .join_all(DUTIES_END)
                .await
                .err()
                .into_iter()
                .flatten(),
        );
        if tokio::time::timeout(CONSENSUS_ENDS, self.consensus.stop())
            .await
            .is_err()
        {
            late.push("consensus");
        }
        self.lines_stop.request();
        self.mesh.close(CloseCode::Stopping).await;
        late.extend(
            self.lines
                .join_all(FRONT_ENDS)
                .await
                .err()
                .into_iter()
                .flatten(),
        );
        self.context.blobs.close().await;
        let failures = [&self.front, &self.duties, &self.lines]
            .into_iter()
            .find_map(TaskSet::first_failure);
        match failures {
            Some(failure) => Err(failure.into()),
            None if late.is_empty() => Ok(()),
            None => Err(StopError::Late(late)),
        }
    }

    /// Forms a new cluster, when this member is told to and has never heard of one.
    async fn form_cluster(&self) -> Result<(), StartError> {
        let config = &self.context.config;
        let (true, Some(cluster)) = (config.mesh.bootstrap, &config.cluster) else {
            return Ok(());
        };
        let first = bootstrap::FirstState::read(cluster)?;
        self.consensus.bootstrap(&config.members()).await?;
        let (context, stop) = (Arc::clone(&self.context), self.stop.clone());
        self.front.spawn(
            "bootstrap",
            Policy::Essential,
            bootstrap::run(context, first, stop),
        );
        Ok(())
    }

    fn spawn_front(&self, authority: Authority) {
        let context = &self.context;
        let stop = &self.stop;
        let (evidence, evidence_inbox) = EvidenceInbox::new();
        let (rollups, rollup_inbox) = RollupInbox::new(RollupStore::new(context.pg.clone()));
        let sessions = || context.sessions.clone();
        let batcher = run_batcher(
            context.replica.clone(),
            sessions(),
            evidence_inbox,
            stop.clone(),
        );
        self.front.spawn("evidence", Policy::Essential, batcher);
        let writer = run_writer(rollups.clone(), sessions(), rollup_inbox, stop.clone());
        self.front.spawn("rollups", Policy::Essential, writer);
        let migrate = project::migrate(context.pg.clone(), stop.clone());
        self.front.spawn("migrate", Policy::Essential, migrate);
        let keep = blobs::keep(context.blobs.clone(), context.replica.clone(), stop.clone());
        self.front.spawn("blobs", Policy::Essential, keep);
        let gauges = leadership::run_gauges(Arc::clone(context), stop.clone());
        self.front.spawn("gauges", Policy::Essential, gauges);
        let consensus = self.consensus.clone();
        let gateway = Gateway::new(Arc::clone(context), consensus, evidence, rollups, authority);
        let listen = gateway.listen(self.mesh.clone(), self.front.clone(), stop.clone());
        self.front.spawn("gateway", Policy::Essential, listen);
        let serve = api::serve(Arc::clone(context), stop.clone());
        self.front.spawn("api", Policy::Essential, async move {
            if let Err(error) = serve.await {
                tracing::error!(error = %picket_rt::chain(&error), "the API has ended");
            }
        });
    }

    fn spawn_duties(&self) {
        let lead = leadership::run(Arc::clone(&self.context), self.duties_stop.clone());
        self.duties.spawn("leadership", Policy::Essential, lead);
    }
}

/// What is opened before anything runs.
struct Parts {
    mesh: Mesh,
    listen: SocketAddr,
    authority: Authority,
    peers: Peers,
    consensus: Consensus,
    blobs: Blobs,
    pg: Pg,
}

impl Parts {
    async fn open(config: &Config) -> Result<Self, StartError> {
        let settings = &config.mesh;
        let unread = |dir: &PathBuf, source| StartError::Identity {
            dir: dir.clone(),
            source,
        };
        let identity =
            Identity::load(&settings.identity).map_err(|e| unread(&settings.identity, e))?;
        let authority =
            Authority::load(&settings.authority).map_err(|e| unread(&settings.authority, e))?;
        let pg = Pg::connect(&PgSettings {
            pool: config.postgres.pool,
            ..PgSettings::new(&config.postgres.url)
        })?;
        let mesh = Mesh::bind(settings.listen, &identity)?;
        let listen = mesh.local_addr().map_err(StartError::Address)?;
        let peers = Peers::new(config.member, &config.members());
        let store = BlobStore::open(BlobSettings {
            dir: config.data_dir.join("blobs"),
            memory_bytes: config.blobs.memory_mib * MIB,
            disk_bytes: config.blobs.disk_mib * MIB,
        });
        let blobs = Blobs::new(store.await?, peers.clone());
        let raft_dir = config.data_dir.join("raft");
        let consensus =
            Consensus::start(&config.raft, config.member, &raft_dir, peers.clone()).await?;
        Ok(Self {
            mesh,
            listen,
            authority,
            peers,
            consensus,
            blobs,
            pg,
        })
    }
}
