//! Incidents with the testimony behind their verdicts.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::instant::Instant;
use crate::fact::Counted;
use crate::id::{AgentId, EndpointId, IncidentId, NotificationGroupId, OrderId, SiteId};
use crate::name::Name;
use crate::outcome::Phases;
use crate::reason::Reason;
use crate::state::{State, Verdict};

/// An incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Incident {
    /// Its id.
    pub id: IncidentId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its site.
    pub site: SiteId,
    /// Its address.
    pub url: String,
    /// What it is, or was when it ended.
    pub state: State,
    /// The first failure.
    pub started_at: Instant,
    /// When the verdict was reached.
    pub decided_at: Option<Instant>,
    /// The first success that ended it.
    pub ended_at: Option<Instant>,
    /// The verdict.
    pub verdict: Option<Verdict>,
    /// The reason of the first failure.
    pub reason: Reason,
    /// The group it was told in.
    pub group: Option<NotificationGroupId>,
    /// Trace id of the probe that opened it, hexadecimal.
    pub trace_id: Option<String>,
}

/// An incident and everything that was said about it: why the verdict is what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IncidentExplained {
    /// The incident.
    pub incident: Incident,
    /// The rule that was applied, in a sentence.
    pub rule: String,
    /// What each agent said, in order.
    pub testimony: Vec<Testimony>,
}

/// What one agent said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Testimony {
    /// Who.
    pub agent: AgentId,
    /// From which region.
    pub region: Name,
    /// From which network.
    pub network: Name,
    /// The order it answered; absent for the owner's own word.
    pub order: Option<OrderId>,
    /// Whether it counted.
    pub counted: Counted,
    /// When the probe started.
    pub at: Instant,
    /// Whether it was ok in the end.
    pub ok: bool,
    /// Why the first try was not ok.
    pub reason: Option<Reason>,
    /// Why the immediate retry was not ok, where one was made.
    pub retry_reason: Option<Reason>,
    /// Status of the last try, 0 without a response.
    pub http_status: u16,
    /// The address that was dialled.
    #[schema(value_type = Option<String>)]
    pub remote: Option<IpAddr>,
    /// Phase timings of the last try.
    pub phases: Phases,
    /// What the operating system or the peer said.
    pub detail: String,
}
