//! What one probe found.

use std::net::IpAddr;

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::DETAIL_MAX_BYTES;
use crate::reason::Reason;
use crate::time::{Span, Timestamp};

/// How long each phase took, in microseconds; zero where the phase did not happen.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
pub struct Phases {
    /// Resolving the name.
    pub dns_us: u32,
    /// Connecting (TCP).
    pub connect_us: u32,
    /// The TLS handshake.
    pub tls_us: u32,
    /// From the request's last byte to the response's first.
    pub ttfb_us: u32,
    /// From the start to the end of the probe.
    pub total_us: u32,
}

/// One execution of a check, judged.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Probe {
    /// When it started, by the agent's wall clock.
    pub at: Timestamp,
    /// How much later than due it started.
    pub lateness: Span,
    /// Why it was not ok; `None` is ok.
    pub reason: Option<Reason>,
    /// Phase timings.
    pub phases: Phases,
    /// The HTTP status, 0 when no response came.
    pub http_status: u16,
    /// The address that was dialled, when one was.
    pub remote: Option<IpAddr>,
    /// When the leaf certificate expires, when one was seen.
    pub certificate_expires: Option<Timestamp>,
    /// Bounded diagnostic text: what the operating system or the peer said.
    pub detail: String,
}

impl Probe {
    /// Whether the probe found what was expected.
    #[must_use]
    pub const fn is_ok(&self) -> bool {
        self.reason.is_none()
    }
}

/// As much of `text` as a probe's `detail` may hold.
#[must_use]
pub fn bounded_detail(text: &str) -> String {
    text.get(..text.floor_char_boundary(DETAIL_MAX_BYTES))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_detail_is_cut_between_characters() {
        assert_eq!(bounded_detail("connection refused"), "connection refused");
        let long = "é".repeat(DETAIL_MAX_BYTES);
        assert_eq!(
            bounded_detail(&format!("x{long}")).len(),
            DETAIL_MAX_BYTES - 1
        );
    }
}
