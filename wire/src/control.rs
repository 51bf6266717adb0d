//! The control stream between agent and scheduler, and enrolment.
//!
//! An agent opens one bidirectional stream to every member and speaks first. Messages on it are
//! complete statements of the present (a whole digest, a cumulative ack), so a lost connection
//! loses nothing. Only the leader grants, assigns and acknowledges; another member says who leads.

#![allow(
    missing_docs,
    reason = "rkyv's derive writes resolvers whose fields have no documentation; ours have"
)]

use rkyv::{Archive, Deserialize, Serialize};

use crate::assignment::Assigned;
use crate::check::CheckSpec;
use crate::evidence::TraceContext;
use crate::id::{AgentId, BlobHash, CheckId, Incarnation, MemberId, OrderId, Seq, ShardSlot};
use crate::name::Name;
use crate::time::{Span, Timestamp};

/// What an agent says.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum FromAgent {
    /// The first message of a stream.
    Hello(Hello),
    /// Renews the lease; sent every third of its length.
    Renew(Renew),
    /// Asks for blobs it lacks, at most [`crate::limits::BLOBS_WANTED_MAX`].
    WantBlobs(Vec<BlobHash>),
    /// What its ring holds now; gives live batches their meaning.
    Schedule(Schedule),
}

/// Who speaks and what it still has.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Hello {
    /// The agent, as in its certificate.
    pub agent: AgentId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Lowest schema it can read.
    pub schema_min: u16,
    /// Highest schema it can read.
    pub schema_max: u16,
    /// Its build, for people.
    pub build: String,
    /// Last sequence number in its evidence spool.
    pub evidence_tail: Seq,
    /// Last sequence number in its rollup spool.
    pub rollup_tail: Seq,
}

/// A renewal, with what the leader wants to know of its sender.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Renew {
    /// The sender's wall clock when it sent this.
    pub sent_at: Timestamp,
    /// Whether its reference checks are ok.
    pub healthy: bool,
    /// Spooled bytes that wait for an ack.
    pub spool_bytes: u64,
}

/// The slots in an agent's ring; both sides derive the same order of checks from it.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Schedule {
    /// Names this schedule in live batches; grows with each change within a connection.
    pub generation: u32,
    /// What the ring holds, sorted by slot.
    pub held: Vec<Assigned>,
}

/// What a scheduler member says.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum ToAgent {
    /// Answers `Hello` when the member leads.
    Welcome(Welcome),
    /// Answers anything when the member does not lead; later messages follow when it does.
    NotLeader {
        /// Who leads, as far as this member knows.
        leader: Option<MemberId>,
    },
    /// Grants the lease from the moment the renewal was sent.
    Lease {
        /// The renewal this answers.
        renewed_at: Timestamp,
        /// How long it lasts.
        ttl: Span,
    },
    /// Everything assigned to the agent, every five seconds and at each change.
    Digest(Vec<Assigned>),
    /// For newly assigned slots, and again whenever it differs: the checks that the machine
    /// believes are failing. The agent speaks up where its own probes say otherwise.
    Beliefs(Beliefs),
    /// Durable up to and including these.
    Acks {
        /// Evidence: committed by Raft.
        evidence: Seq,
        /// Rollups: committed by Postgres.
        rollup: Seq,
    },
    /// Probe now and vote.
    Probe(ProbeOrder),
    /// The live lane's decoder lost its place: send absolute values next.
    ResetLive,
    /// The connection will be closed; says why.
    Refused(Refusal),
}

/// The answer to `Hello` of the member that leads.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Welcome {
    /// Who speaks.
    pub member: MemberId,
    /// The Raft term in which it leads. One that leads in an earlier term than another has not
    /// heard yet that it leads no more.
    pub term: u64,
    /// Its wall clock, for a rough look at the agent's.
    pub now: Timestamp,
    /// Length of a rollup window.
    pub window: Span,
    /// Durable so far in this incarnation's evidence lane; send what comes after.
    pub evidence: Seq,
    /// Durable so far in this incarnation's rollup lane.
    pub rollup: Seq,
}

/// What the machine believes of some slots.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Archive, Serialize, Deserialize)]
pub struct Beliefs {
    /// The slots this speaks of, completely.
    pub slots: Vec<ShardSlot>,
    /// The checks in them that have an open incident.
    pub failing: Vec<CheckId>,
}

/// Probe this now, once with a retry, and vote.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ProbeOrder {
    /// Which order; goes into the vote.
    pub order: OrderId,
    /// What to probe; the agent need not own it.
    pub check: CheckSpec,
    /// The vote is of no use after this long.
    pub within: Span,
    /// The trace to continue.
    pub trace: Option<TraceContext>,
}

/// Why a connection or a batch was refused.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The sender's schemas and ours do not overlap.
    #[error(
        "schema {theirs_min}..={theirs_max} is not understood here; expected {ours_min}..={ours_max}"
    )]
    Schema {
        /// Lowest the sender reads.
        theirs_min: u16,
        /// Highest the sender reads.
        theirs_max: u16,
        /// Lowest we read.
        ours_min: u16,
        /// Highest we read.
        ours_max: u16,
    },
    /// The certificate counts no more, or the agent is unknown.
    #[error("agent {0} is not admitted")]
    NotAdmitted(AgentId),
    /// A newer incarnation has been admitted.
    #[error("incarnation {theirs} is over; {current} is current")]
    OldIncarnation {
        /// The sender's.
        theirs: Incarnation,
        /// The admitted one.
        current: Incarnation,
    },
    /// The agent in the message is not the certificate's.
    #[error("the certificate is {certificate}'s, the message says {message}")]
    Impostor {
        /// Whose certificate it is.
        certificate: AgentId,
        /// Who the message says it is.
        message: AgentId,
    },
    /// The same agent connected again; the newer connection stays.
    #[error("replaced by a newer connection of the same agent")]
    Replaced,
    /// A sequence number is missing before this one: send again from `expected`.
    #[error("gap in the lane: expected {expected}, got {got}")]
    Gap {
        /// What should have come.
        expected: Seq,
        /// What came.
        got: Seq,
    },
    /// The message broke a rule.
    #[error("malformed: {0}")]
    Malformed(String),
}

/// The one thing a peer without a certificate may say.
#[derive(Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The join token's secret part; sent only after the CA was checked against its fingerprint.
    pub token: String,
    /// PKCS#10 request, DER; only its public key is used.
    pub csr: Vec<u8>,
    /// Name for people, unique.
    pub name: Name,
    /// Region.
    pub region: Name,
    /// Zone inside the region.
    pub zone: Name,
    /// ASN or provider.
    pub network: Name,
}

impl std::fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            token: _,
            csr,
            name,
            region,
            zone,
            network,
        } = self;
        f.debug_struct("EnrolRequest")
            .field("token", &"…")
            .field("csr_bytes", &csr.len())
            .field("name", name)
            .field("region", region)
            .field("zone", zone)
            .field("network", network)
            .finish()
    }
}

/// The answer to an enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum EnrolReply {
    /// Welcome to the mesh.
    Admitted(Admission),
    /// No; says why.
    Refused(EnrolRefusal),
    /// Ask the leader.
    NotLeader {
        /// Its mesh address, as far as known.
        leader: Option<String>,
    },
}

/// What an admitted agent needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Admission {
    /// Its id.
    pub agent: AgentId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// The CA's certificate, DER.
    pub ca: Vec<u8>,
    /// Mesh addresses of all members.
    pub members: Vec<(MemberId, String)>,
}

/// Why an enrolment was refused.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize, thiserror::Error)]
pub enum EnrolRefusal {
    /// No such token, or a wrong secret.
    #[error("the join token is unknown; ask for a new one with `picket agent token`")]
    UnknownToken,
    /// The token was used.
    #[error("the join token was used before; ask for a new one with `picket agent token`")]
    UsedToken,
    /// The token's time is over.
    #[error("the join token has expired; ask for a new one with `picket agent token`")]
    ExpiredToken,
    /// The token is for another region.
    #[error("the join token is for region {0}")]
    WrongRegion(Name),
    /// The request is not a proper PKCS#10 request.
    #[error("the certificate request is malformed: {0}")]
    BadRequest(String),
}
