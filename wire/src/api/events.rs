//! The stream of events: what the machine decided, in order, resumable.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::instant::Instant;
use crate::id::{EndpointId, FactSeq, IncidentId, SiteId};
use crate::reason::Reason;
use crate::state::State;

/// A change of an endpoint's state. In the stream, the SSE `id` is the fact's number: reconnecting
/// with `Last-Event-ID` (or `?after=`) continues without a gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// The fact's number.
    pub fact: FactSeq,
    /// When it was decided.
    pub decided_at: Instant,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its site.
    pub site: SiteId,
    /// Its address.
    pub url: String,
    /// The state it left.
    pub from: State,
    /// The state it entered.
    pub to: State,
    /// From when on.
    pub at: Instant,
    /// Why, when it is not ok.
    pub reason: Option<Reason>,
    /// The incident it belongs to.
    pub incident: Option<IncidentId>,
}
