//! Maintenance windows: time that does not count, announced before or after the fact.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::instant::Instant;
use crate::id::{EndpointId, MaintenanceId, SiteId};

/// What a window covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// Everything.
    All,
    /// One site.
    Site(SiteId),
    /// One endpoint.
    Endpoint(EndpointId),
}

/// A maintenance window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Maintenance {
    /// Its id.
    pub id: MaintenanceId,
    /// What it covers.
    pub selector: Selector,
    /// Its first instant.
    pub from: Instant,
    /// The first instant after it.
    pub until: Instant,
    /// Why, for people.
    pub note: String,
}

/// Announces a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceRequest {
    /// What it covers.
    pub selector: Selector,
    /// Its first instant.
    pub from: Instant,
    /// The first instant after it.
    pub until: Instant,
    /// Why, for people.
    #[serde(default)]
    pub note: String,
}
