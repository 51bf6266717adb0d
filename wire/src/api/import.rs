//! Import of URLs, row by row.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::check::http::{Handshake, Method};

/// One row: an endpoint to watch. Only `url` is required.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRow {
    /// Line in the user's file, for the answer; 0 when there is none.
    #[serde(default)]
    pub line: u64,
    /// `http` or `https` URL without credentials.
    pub url: String,
    /// Site it belongs to, created when new; the URL's host when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Probe interval in seconds, one of the allowed; 300 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_s: Option<u32>,
    /// Probe timeout in milliseconds; 10,000 or the interval, whichever is less, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Request method; GET when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// Lowest status that is ok; 200 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_min: Option<u16>,
    /// Highest status that is ok; 399 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_max: Option<u16>,
    /// Text that the body must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_contains: Option<String>,
    /// How TLS connections are made; `full` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<Handshake>,
    /// Labels, to filter by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

/// Rows in one request, at most [`ROWS_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// The rows.
    pub rows: Vec<ImportRow>,
}

/// Most rows in one request.
pub const ROWS_MAX: usize = 10_000;
/// Largest request body: 10,000 rows of a long URL each.
pub const BODY_MAX_BYTES: usize = 32 * 1024 * 1024;

/// What became of the rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportReply {
    /// Endpoints that are new.
    pub created: u64,
    /// Endpoints that existed and were changed.
    pub changed: u64,
    /// Endpoints that existed just so.
    pub unchanged: u64,
    /// Rows that a later row of the same request overruled.
    pub repeated: u64,
    /// Rows that were refused; all others are imported.
    pub rejected: Vec<RejectedRow>,
}

/// A row that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RejectedRow {
    /// Its line in the user's file.
    pub line: u64,
    /// The field that is wrong.
    pub field: String,
    /// What was expected and what was found.
    pub reason: String,
}
