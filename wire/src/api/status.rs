//! The state of the mesh on one screen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::instant::Instant;
use crate::id::MemberId;

/// The mesh as the answering member sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeshStatus {
    /// The cluster's name.
    pub cluster: String,
    /// When this was put together.
    pub now: Instant,
    /// The member that answered.
    pub answered_by: MemberId,
    /// The member that leads, as far as known.
    pub leader: Option<MemberId>,
    /// Raft term.
    pub term: u64,
    /// Last applied log index.
    pub applied: u64,
    /// All members.
    pub members: Vec<Member>,
    /// Agents by region.
    pub regions: Vec<Region>,
    /// Endpoints by state, from Postgres; absent while it is away.
    pub endpoints: Option<BTreeMap<String, u64>>,
    /// Open incidents.
    pub open_incidents: u64,
    /// Confirmations under way.
    pub open_orders: u64,
    /// Checks in the catalogue the agents are pointed at.
    pub checks: u64,
    /// Checks in shard slots that no agent owns.
    pub unowned_checks: u64,
    /// How late probes started; absent while nobody leads.
    pub lateness: Option<Lateness>,
    /// Facts not yet consumed, by consumer.
    pub lag: BTreeMap<String, u64>,
    /// Whether Postgres answered just now.
    pub postgres: bool,
}

/// A scheduler member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its mesh address.
    pub address: String,
    /// Whether it votes.
    pub voter: bool,
}

/// The agents of one region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Agents that are neither revoked nor drained.
    pub agents: u32,
    /// Of these, those with a lease.
    pub leased: u32,
    /// Whether its shards stay where they are because too many leases were lost at once.
    pub frozen: bool,
    /// Checks its agents own.
    pub checks: u64,
}

/// How late probes started since this leader leads: per check and rollup window, the latest of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lateness {
    /// Windows of checks that were counted.
    pub count: u64,
    /// Median.
    pub p50_ms: u32,
    /// 99th percentile.
    pub p99_ms: u32,
    /// Largest.
    pub max_ms: u32,
}
