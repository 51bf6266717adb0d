//! The harness: members that can be killed without notice and started again.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use picket_rt::stop::Stop;
use picket_scheduler::config::{
    ApiSettings, BlobCacheSettings, ClusterSettings, Config, MemberAddress, MeshSettings,
    PostgresSettings, RaftSettings,
};
use picket_scheduler::context::Context;
use picket_scheduler::node::{Node, StartError};
use picket_scheduler::{StartConsensusError, setup};
use picket_wire::id::MemberId;
use picket_wire::name::Name;
use tokio::runtime::Runtime;

/// How long anything may take before a test gives up: many elections on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("picket-it-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A cluster of members, of which some may be down.
pub(crate) struct Cluster {
    members: Vec<Member>,
    addresses: Vec<SocketAddr>,
    /// Where the test itself and its agents run: it outlives every member.
    outside: Runtime,
    /// Held to the end: its drop removes the members' files.
    _scratch: Scratch,
}

struct Member {
    config: Config,
    running: Option<Running>,
}

struct Running {
    runtime: Runtime,
    node: Node,
}

impl Cluster {
    /// A new cluster of `size` members, all running, with somebody leading and the first state
    /// written.
    pub(crate) fn start(size: u64) -> Self {
        let scratch = Scratch::new();
        let ca = scratch.0.join("ca");
        setup::create_authority(&ca).unwrap();
        setup::create_admin_token(&scratch.0.join("admin.sha256")).unwrap();
        let addresses: Vec<_> = free_addresses(size);
        let ids = (1..=size).map(MemberId);
        let members = ids.map(|id| {
            let identity = scratch.0.join(format!("identity-{id}"));
            setup::issue_member(&ca, id, &["127.0.0.1".to_owned()], &identity).unwrap();
            Member {
                config: config(&scratch.0, id, &addresses),
                running: None,
            }
        });
        let members = members.collect();
        let mut cluster = Self {
            members,
            addresses,
            outside: runtime(),
            _scratch: scratch,
        };
        (1..=size).for_each(|id| cluster.run(MemberId(id)));
        cluster.leader();
        cluster.eventually("the first state is written", |cluster| {
            cluster
                .contexts()
                .all(|context| context.replica.read(|state| state.settings.is_some()))
        });
        cluster
    }

    /// Starts a member that is down.
    pub(crate) fn run(&mut self, id: MemberId) {
        let member = self.member_mut(id);
        assert!(member.running.is_none(), "{id} runs already");
        let runtime = runtime();
        let node = runtime.block_on(start(&member.config));
        member.running = Some(Running { runtime, node });
    }

    /// Takes a member away between two instructions: nothing is flushed, nobody is told.
    pub(crate) fn kill(&mut self, id: MemberId) {
        let running = self.member_mut(id).running.take().expect("it runs");
        drop(running.node);
        running.runtime.shutdown_background();
    }

    /// Stops a member in order.
    pub(crate) fn stop(&mut self, id: MemberId) {
        let Running { runtime, node } = self.member_mut(id).running.take().expect("it runs");
        node.context().stop.request();
        runtime
            .block_on(node.finish())
            .expect("the stop is orderly");
        runtime.shutdown_background();
    }

    /// Runs `future` outside of all members.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let bounded = async {
            tokio::time::timeout(PATIENCE, future)
                .await
                .expect("it takes too long")
        };
        self.outside.block_on(bounded)
    }

    /// Writes a snapshot on a member and waits until it is there.
    pub(crate) fn snapshot(&self, id: MemberId) {
        let running = self.members[index(id)].running.as_ref().expect("it runs");
        let before = running.node.context().replica.raft().snapshot;
        running.runtime.block_on(running.node.snapshot_now());
        self.eventually("a snapshot is written", |cluster| {
            cluster.context(id).replica.raft().snapshot > before
        });
    }

    /// The context of a member that is up.
    pub(crate) fn context(&self, id: MemberId) -> &Arc<Context> {
        self.members[index(id)]
            .running
            .as_ref()
            .expect("it runs")
            .node
            .context()
    }

    /// The contexts of all members that are up.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = &Arc<Context>> {
        self.members
            .iter()
            .filter_map(|member| Some(member.running.as_ref()?.node.context()))
    }

    /// Waits until one member leads, has caught up and all that are up agree on it.
    pub(crate) fn leader(&self) -> MemberId {
        let mut leader = None;
        self.eventually("one member leads", |cluster| {
            leader = cluster
                .contexts()
                .find(|context| context.leader_view.leads())
                .map(|context| context.member);
            leader.is_some()
                && cluster
                    .contexts()
                    .all(|context| context.replica.leader() == leader)
        });
        leader.expect("somebody leads")
    }

    /// Where a member listens.
    pub(crate) fn address(&self, id: MemberId) -> SocketAddr {
        self.addresses[index(id)]
    }

    /// Waits until `holds`; says what did not come and how the members stand otherwise.
    #[track_caller]
    pub(crate) fn eventually(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let started = Instant::now();
        while !holds(self) {
            if started.elapsed() > PATIENCE {
                let stand: Vec<_> = self
                    .contexts()
                    .map(|c| (c.member, c.replica.raft()))
                    .collect();
                panic!("{what}: not within {PATIENCE:?}; {stand:#?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn member_mut(&mut self, id: MemberId) -> &mut Member {
        &mut self.members[index(id)]
    }
}

/// Starts a node; one that was just killed may hold its directory for another moment.
async fn start(config: &Config) -> Node {
    let started = Instant::now();
    loop {
        match Node::start(config.clone(), None, Stop::new()).await {
            Ok(node) => return node,
            Err(error) if started.elapsed() > PATIENCE => panic!("{}", picket_rt::chain(&error)),
            Err(StartError::Consensus(StartConsensusError::InUse(_)) | StartError::Bind(_)) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("{}", picket_rt::chain(&error)),
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn index(id: MemberId) -> usize {
    usize::try_from(id.0).unwrap() - 1
}

fn free_addresses(count: u64) -> Vec<SocketAddr> {
    // All sockets are open at once, so that no port is given twice.
    let sockets: Vec<_> = (0..count)
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    sockets
        .iter()
        .map(|socket| socket.local_addr().unwrap())
        .collect()
}

fn config(scratch: &Path, member: MemberId, addresses: &[SocketAddr]) -> Config {
    let members = (1..).map(MemberId).zip(addresses);
    let members = members.map(|(id, address)| MemberAddress {
        id,
        address: address.to_string(),
    });
    Config {
        member,
        data_dir: scratch.join(format!("data-{member}")),
        mesh: MeshSettings {
            listen: addresses[index(member)],
            members: members.collect(),
            identity: scratch.join(format!("identity-{member}")),
            authority: scratch.join("ca"),
            bootstrap: member == MemberId(1),
        },
        cluster: Some(ClusterSettings {
            name: Name::parse("test").unwrap(),
            shards: 16,
            window_secs: 300,
            lease_secs: 3,
            confirm_secs: 2,
            voters: 1,
            group_wait_secs: 1,
            admin_token_hash: scratch.join("admin.sha256"),
        }),
        raft: RaftSettings::default(),
        postgres: PostgresSettings {
            url: "host=/nowhere user=nobody dbname=none".to_owned(),
            pool: 2,
        },
        api: ApiSettings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            certificate: None,
            key: None,
        },
        blobs: BlobCacheSettings {
            memory_mib: 64,
            disk_mib: 64,
        },
        telemetry: picket_rt::telemetry::TelemetrySettings::default(),
    }
}
