//! Bodies of the HTTP API, `/api/v1`: what the CLI, the UI and scripts read and write.
//!
//! Field names are snake case, instants RFC 3339 in UTC with milliseconds, durations integers
//! with their unit in the name. Unknown fields in requests are refused.

pub mod agents;
pub mod endpoints;
pub mod events;
pub mod import;
pub mod incidents;
pub mod instant;
pub mod maintenance;
pub mod problem;
pub mod sites;
pub mod sla;
pub mod status;
pub mod webhooks;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Pass as `cursor` to get what follows; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Most items on one page.
pub const PAGE_MAX: u32 = 1_000;
/// Items on a page when the request does not say.
pub const PAGE_DEFAULT: u32 = 100;
