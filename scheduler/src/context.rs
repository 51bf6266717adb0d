//! What the parts of a member share: handles only, each cheap to clone, state in none of them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use picket_rt::clock::Clock;
use picket_rt::stop::Stop;
use picket_rt::telemetry::Metrics;
use picket_storage::pg::Pg;
use picket_wire::id::MemberId;

use crate::blobs::Blobs;
use crate::config::Config;
use crate::gateway::live::LiveTable;
use crate::gateway::sessions::Sessions;
use crate::leases::LeaderView;
use crate::replica::ReplicaHandle;

/// What the parts of a member share.
#[derive(Clone)]
pub struct Context {
    /// This member.
    pub member: MemberId,
    /// Its settings.
    pub config: Arc<Config>,
    /// Time.
    pub clock: Clock,
    /// The replicated state, and proposals to change it.
    pub replica: ReplicaHandle,
    /// Postgres, which may be away.
    pub pg: Pg,
    /// Catalogue blobs, here or at a peer.
    pub blobs: Blobs,
    /// What agents saw last; fed on the leader only.
    pub live: LiveTable,
    /// The agents connected to this member.
    pub sessions: Sessions,
    /// Leases; empty unless this member leads.
    pub leader_view: LeaderView,
    /// Where the mesh is.
    pub mesh: MeshInfo,
    /// The process's metrics; `None` where a test composes a member without telemetry.
    pub metrics: Option<Metrics>,
    /// The whole process's stop.
    pub stop: Stop,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("member", &self.member)
            .field("mesh", &self.mesh)
            .finish_non_exhaustive()
    }
}

/// Where the mesh is.
#[derive(Debug, Clone)]
pub struct MeshInfo {
    /// The address this member listens on.
    pub listen: SocketAddr,
    /// All configured members and their addresses.
    pub members: Vec<(MemberId, String)>,
    /// SHA-256 of the CA's certificate, which join tokens carry.
    pub ca_fingerprint: [u8; 32],
}
