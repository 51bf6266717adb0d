//! Endpoints: one address of a site, its check, its state, and why it is probed where it is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::instant::Instant;
use crate::fact::AssignCause;
use crate::id::{AgentId, CheckId, EndpointId, GroupId, IncidentId, ShardId, SiteId};
use crate::name::Name;
use crate::state::State;

/// An endpoint with its check and present state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// The site it belongs to.
    pub site: SiteId,
    /// That site's name.
    pub site_name: String,
    /// Its check.
    pub check: CheckId,
    /// The kind of check, `http`.
    pub kind: String,
    /// Its address.
    pub url: String,
    /// How often it is probed.
    pub every_s: u32,
    /// How long a probe may take.
    pub timeout_ms: u64,
    /// Labels given at import.
    pub labels: Vec<String>,
    /// Its state.
    pub state: State,
    /// Since when.
    pub since: Option<Instant>,
    /// The open incident, if there is one.
    pub incident: Option<IncidentId>,
    /// When it was last probed, as far as the leader has heard.
    pub last_probe: Option<Instant>,
    /// Total latency of that probe.
    pub last_latency_us: Option<u32>,
}

/// Why an endpoint is probed where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AssignmentExplained {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its placement group.
    pub group: GroupId,
    /// Its shard: the hash of its id, modulo the cluster's number of shards.
    pub shard: ShardId,
    /// Version of the shard's catalogue that agents are pointed at.
    pub catalogue_version: u64,
    /// One entry per slot.
    pub slots: Vec<SlotExplained>,
}

/// The owner of one slot, and why it and no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotExplained {
    /// Which slot.
    pub slot: u8,
    /// The region it prefers.
    pub preferred_region: Option<Name>,
    /// Its owner.
    pub agent: Option<AgentId>,
    /// The warm standby.
    pub standby: Option<AgentId>,
    /// The epoch of its ownership.
    pub epoch: u32,
    /// Why it was last moved.
    pub cause: Option<AssignCause>,
    /// Every agent that was considered, best first.
    pub candidates: Vec<Candidate>,
}

/// An agent that could own a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Candidate {
    /// Which agent.
    pub agent: AgentId,
    /// Its region.
    pub region: Name,
    /// Whether it holds a lease and is neither drained nor revoked.
    pub eligible: bool,
    /// Its rendezvous rank for this slot, 1 is best.
    pub rank: u32,
}
