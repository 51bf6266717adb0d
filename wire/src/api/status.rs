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
    /// Probes of the last minute; absent on a member that does not lead.
    pub last_minute: Option<LastMinute>,
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

/// What the live lane told in the last minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastMinute {
    /// Probes due.
    pub due: u64,
    /// Probes that ran.
    pub ran: u64,
    /// Probes that were not ok.
    pub not_ok: u64,
    /// Median lateness.
    pub lateness_p50_ms: u64,
    /// 99th percentile of lateness.
    pub lateness_p99_ms: u64,
    /// Largest lateness.
    pub lateness_max_ms: u64,
}
