//! The one shape of an error: RFC 9457 `application/problem+json`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Stable name of the problem, for programs.
    pub code: String,
    /// What is wrong, for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this very request, and what was expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Which field or parameter, when it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}
