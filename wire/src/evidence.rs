//! The evidence lane: a check changed its mind, or a vote that was asked for.

#![allow(
    missing_docs,
    reason = "rkyv's derive writes resolvers whose fields have no documentation; ours have"
)]

use rkyv::{Archive, Deserialize, Serialize};

use crate::id::{
    AgentId, CheckId, EndpointId, Epoch, Incarnation, OrderId, Seq, ShardSlot, SiteId,
};
use crate::outcome::Probe;

/// Where a trace began, so that one trace follows a failing check from probe to incident (W3C
/// trace context without its text form).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct TraceContext {
    /// Trace id.
    pub trace: [u8; 16],
    /// Span id of the probe.
    pub span: [u8; 8],
}

/// Which check, on behalf of whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Archive, Serialize, Deserialize)]
pub struct CheckRef {
    /// The check.
    pub check: CheckId,
    /// Its endpoint.
    pub endpoint: EndpointId,
    /// Its site.
    pub site: SiteId,
}

/// One record of the evidence lane.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Evidence {
    /// Which check.
    pub check: CheckRef,
    /// What the probe found. For a change of mind: the first that found it.
    pub probe: Probe,
    /// The immediate second try on a fresh connection, when one was made.
    pub retry: Option<Probe>,
    /// Whether this agent's own reference checks were ok; an unhealthy vantage has no vote.
    pub vantage_healthy: bool,
    /// In what role the agent speaks.
    pub role: Role,
    /// Where the trace of this probe began.
    pub trace: Option<TraceContext>,
}

impl Evidence {
    /// What the agent believes after the retry, if there was one.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.retry.as_ref().unwrap_or(&self.probe).is_ok()
    }
}

/// In what role an agent speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Role {
    /// As owner of the check's shard slot: it changed its mind.
    Owner {
        /// Which slot.
        slot: ShardSlot,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// As a vantage that was asked to confirm.
    Voter {
        /// By which order.
        order: OrderId,
    },
}

/// Consecutive records of one incarnation's evidence lane: the unit that is spooled, sent, acked.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct EvidenceBatch {
    /// Who speaks; the gateway refuses a batch whose agent is not the certificate's.
    pub agent: AgentId,
    /// In which incarnation.
    pub incarnation: Incarnation,
    /// Its place in the lane.
    pub seq: Seq,
    /// What it says, at most [`crate::limits::EVIDENCE_BATCH_MAX`] records.
    pub records: Vec<Evidence>,
}
