//! Three scheduler members in this process: real QUIC on loopback, real files, real flushes.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use picket_rt::stop::Stop;
use picket_rt::telemetry::TelemetrySettings;
use picket_scheduler::config::{
    ApiSettings, BlobCacheSettings, ClusterSettings, Config, MemberAddress, MeshSettings,
    PostgresSettings, RaftSettings,
};
use picket_scheduler::context::Context;
use picket_scheduler::node::Node;
use picket_scheduler::setup;
use picket_wire::id::MemberId;
use picket_wire::name::Name;
use tokio::time::{Instant, sleep};

/// Members.
const SIZE: u64 = 3;
/// Shards: few, so that every agent has some.
const SHARDS: u32 = 16;
/// How long an election, a state or an assignment may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often somebody looks whether it is there.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The members.
pub(super) struct Cluster {
    nodes: Vec<Node>,
    stop: Stop,
}

impl Cluster {
    /// Starts the members, with their files under `dir`, and waits until one leads.
    pub(super) async fn start(dir: &Path) -> anyhow::Result<Self> {
        let (ca, token) = (dir.join("ca"), dir.join("admin.sha256"));
        setup::create_authority(&ca)?;
        setup::create_admin_token(&token)?;
        let addresses = free_addresses()?;
        let stop = Stop::new();
        let mut nodes = Vec::new();
        for id in (1..=SIZE).map(MemberId) {
            let identity = dir.join(format!("identity-{id}"));
            setup::issue_member(&ca, id, &["127.0.0.1".to_owned()], &identity)?;
            nodes.push(Node::start(config(dir, id, &addresses)?, None, stop.clone()).await?);
        }
        let cluster = Self { nodes, stop };
        cluster.leader().await?;
        Ok(cluster)
    }

    /// The member that leads and knows the cluster's settings.
    pub(super) async fn leader(&self) -> anyhow::Result<&Arc<Context>> {
        eventually("one member leads", || {
            let leads = |context: &&Arc<Context>| {
                context.leader_view.leads()
                    && context.replica.read(|state| state.settings.is_some())
            };
            self.nodes.iter().map(Node::context).find(leads)
        })
        .await
    }

    /// Stops all members in order.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.stop.request();
        for node in self.nodes {
            node.finish().await?;
        }
        Ok(())
    }
}

/// Waits until `look` finds what it looks for.
pub(super) async fn eventually<T>(
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {PATIENCE:?}");
        }
        sleep(LOOK_EVERY).await;
    }
}

fn free_addresses() -> anyhow::Result<Vec<(MemberId, SocketAddr)>> {
    // All sockets are open at once, so that no port is given twice.
    let sockets: Vec<UdpSocket> = (0..SIZE)
        .map(|_| UdpSocket::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    let address = |(id, socket): (u64, &UdpSocket)| Ok((MemberId(id), socket.local_addr()?));
    (1..).zip(&sockets).map(address).collect()
}

fn config(
    dir: &Path,
    member: MemberId,
    addresses: &[(MemberId, SocketAddr)],
) -> anyhow::Result<Config> {
    let member_address = |&(id, address): &(MemberId, SocketAddr)| MemberAddress {
        id,
        address: address.to_string(),
    };
    let own = addresses.iter().find(|(id, _)| *id == member);
    Ok(Config {
        member,
        data_dir: dir.join(format!("data-{member}")),
        mesh: MeshSettings {
            listen: own.context("every member has an address")?.1,
            members: addresses.iter().map(member_address).collect(),
            identity: dir.join(format!("identity-{member}")),
            authority: dir.join("ca"),
            bootstrap: member == MemberId(1),
        },
        cluster: Some(ClusterSettings {
            name: Name::parse("bench")?,
            shards: SHARDS,
            window_secs: 300,
            // Longer than the bench: nobody renews, and nobody is asked for votes that count.
            lease_secs: 300,
            confirm_secs: 300,
            voters: 2,
            group_wait_secs: 5,
            admin_token_hash: dir.join("admin.sha256"),
        }),
        raft: RaftSettings::default(),
        // Nobody listens there: what the log carries is measured, not what Postgres stores.
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
        telemetry: TelemetrySettings::default(),
    })
}
