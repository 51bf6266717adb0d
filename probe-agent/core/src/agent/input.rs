//! What the core is told: settings once, inputs as they come.

use picket_wire::assignment::Assigned;
use picket_wire::check::CheckSpec;
use picket_wire::control::ToAgent;
use picket_wire::evidence::TraceContext;
use picket_wire::id::{AgentId, BlobHash, CheckId, Epoch, Incarnation, MemberId, Seq, ShardSlot};
use picket_wire::outcome::Probe;

use crate::belief::Seen;
use crate::outbox::{Lane, LaneMarks};

/// Names a probe that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Who the agent is and what it may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its id, as in its certificate.
    pub agent: AgentId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its build, for people.
    pub build: String,
    /// The scheduler members.
    pub members: Vec<MemberId>,
    /// Spreads its dialling in time; any number that differs between agents.
    pub seed: u64,
    /// What it may use.
    pub limits: Limits,
}

/// What the agent may use at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Probes in flight.
    pub in_flight: u32,
    /// Probes in flight to one host and port.
    pub per_destination: u32,
}

impl Default for Limits {
    /// Ten thousand checks a second of which a tenth are dead at ten seconds each hold some
    /// 8,000 places; one destination hardly ever needs more than a few.
    fn default() -> Self {
        Self {
            in_flight: 8_192,
            per_destination: 128,
        }
    }
}

/// What the disk remembers from before a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resume {
    /// The evidence spool.
    pub evidence: LaneMarks,
    /// The rollup spool.
    pub rollup: LaneMarks,
    /// What the unacked evidence says, oldest first: the schedulers will hear it, so it is what
    /// they will believe.
    pub said: Vec<Said>,
}

/// One statement that an owner made before a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// As owner of which slot.
    pub slot: ShardSlot,
    /// Under which epoch.
    pub epoch: Epoch,
    /// About which check.
    pub check: CheckId,
    /// What it is.
    pub seen: Seen,
    /// In which batch, which is not acked yet.
    pub seq: Seq,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Nothing: the deadline came.
    Tick,
    /// A connection that was dialled stands, control stream included.
    Connected(MemberId),
    /// A connection ended, or could not be made.
    Disconnected(MemberId),
    /// A member said something on its control stream.
    Heard(MemberId, ToAgent),
    /// The assignment from before a restart: probe it until somebody says otherwise.
    Resumed(Vec<Assigned>),
    /// The checks of a blob that was asked for; comes in answer to [`crate::Effect::Fetch`].
    Fetched(BlobHash, Vec<CheckSpec>),
    /// A probe ended.
    Probed {
        /// Which.
        ticket: Ticket,
        /// What it found.
        probe: Probe,
        /// Its trace, when it has one.
        trace: Option<TraceContext>,
    },
    /// The spool holds everything up to this, synced.
    Spooled {
        /// Which lane.
        lane: Lane,
        /// Up to and including this batch.
        seq: Seq,
    },
    /// How many bytes of unacked batches the spools hold.
    SpoolBytes(u64),
    /// Whether the agent's own reference checks are ok.
    ReferenceHealth(bool),
    /// The process will end: tell everything that can be told.
    Leaving,
}
