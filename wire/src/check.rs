//! What is probed, how and how often.

pub mod http;

use rkyv::{Archive, Deserialize, Serialize};

use crate::check::http::HttpSpec;
use crate::id::{CheckId, EndpointId, SiteId};
use crate::limits::{INTERVALS_SECS, TIMEOUT_MAX, TIMEOUT_MIN};
use crate::time::Span;

/// A check that breaks a rule; names the field and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The interval is not one of the few that exist.
    #[error("interval: expected one of {INTERVALS_SECS:?} seconds, got {0}")]
    Interval(u32),
    /// The timeout is out of range or longer than the interval allows.
    #[error("timeout: expected {TIMEOUT_MIN} to {TIMEOUT_MAX}, got {0}")]
    Timeout(Span),
    /// The URL does not parse or is not http or https.
    #[error("url: {0}")]
    Url(String),
    /// Another field of the kind.
    #[error("{field}: expected {expected}, got `{got}`")]
    Field {
        /// Which field.
        field: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What was given, cut short.
        got: String,
    },
}

/// One of the intervals in [`INTERVALS_SECS`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize,
)]
pub struct Cadence(u32);

impl Cadence {
    /// The cadence of `secs` seconds.
    ///
    /// # Errors
    /// When no such interval exists.
    pub fn from_secs(secs: u32) -> Result<Self, SpecError> {
        if INTERVALS_SECS.contains(&secs) {
            Ok(Self(secs))
        } else {
            Err(SpecError::Interval(secs))
        }
    }

    /// Its length in seconds.
    #[must_use]
    pub const fn secs(self) -> u32 {
        self.0
    }

    /// Its length.
    #[must_use]
    pub const fn span(self) -> Span {
        Span::from_secs(self.0 as u64)
    }

    /// Whether the value, which may come from an archive, is one of the allowed.
    #[must_use]
    pub fn is_valid(self) -> bool {
        INTERVALS_SECS.contains(&self.0)
    }
}

/// One kind of probe of one endpoint, with options and interval: the unit that is scheduled.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct CheckSpec {
    /// The check.
    pub id: CheckId,
    /// The endpoint it looks at.
    pub endpoint: EndpointId,
    /// The site that endpoint belongs to.
    pub site: SiteId,
    /// How often.
    pub cadence: Cadence,
    /// How long one probe may take, retry not included.
    pub timeout: Span,
    /// What to do and what to expect.
    pub kind: CheckKind,
}

impl CheckSpec {
    /// Checks what an archive cannot: ranges.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<(), SpecError> {
        if !self.cadence.is_valid() {
            return Err(SpecError::Interval(self.cadence.0));
        }
        if self.timeout < TIMEOUT_MIN || self.timeout > TIMEOUT_MAX {
            return Err(SpecError::Timeout(self.timeout));
        }
        match &self.kind {
            CheckKind::Http(http) => http.validate(),
        }
    }
}

/// The kinds of check; one variant is one file in `check/` here and one in the agent.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum CheckKind {
    /// HTTP or HTTPS.
    Http(HttpSpec),
}

impl CheckKind {
    /// The file stem, the metric label and the value in Postgres.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
        }
    }
}
