//! What the core wants done. The shell does it in this order.

use std::sync::Arc;

use picket_wire::assignment::Assigned;
use picket_wire::check::CheckSpec;
use picket_wire::control::{FromAgent, Refusal};
use picket_wire::evidence::TraceContext;
use picket_wire::id::{BlobHash, MemberId, Seq};
use picket_wire::lane::live::LiveSecond;
use picket_wire::time::Timestamp;

use crate::Attempt;
use crate::agent::input::Ticket;
use crate::outbox::{Batch, BeyondTail, Lane};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Probe; answer with [`crate::Input::Probed`].
    Probe {
        /// Goes into the answer.
        ticket: Ticket,
        /// What to probe.
        spec: Arc<CheckSpec>,
        /// When it was due.
        due: Timestamp,
        /// Why it is probed.
        attempt: Attempt,
        /// The trace to continue.
        trace: Option<TraceContext>,
        /// Whether the schedulers believe that it fails: one more failure is then no news.
        believed_failing: bool,
    },
    /// Connect to a member and open the control stream; answer with [`crate::Input::Connected`]
    /// or [`crate::Input::Disconnected`].
    Dial(MemberId),
    /// Close the connection; answer with [`crate::Input::Disconnected`].
    HangUp(MemberId, Refusal),
    /// Say this on the control stream.
    Say(MemberId, FromAgent),
    /// Write a batch to the spool and sync; answer with [`crate::Input::Spooled`].
    Spool(Batch),
    /// Send a batch that the spool holds, on a stream of its own.
    Send {
        /// To whom.
        member: MemberId,
        /// Which lane.
        lane: Lane,
        /// Which batch.
        seq: Seq,
    },
    /// Send what a second came to, on a stream of its own, or drop it when the connection is
    /// behind.
    Live(MemberId, LiveSecond),
    /// The scheduler holds everything up to this: the spool need not.
    Forget {
        /// Which lane.
        lane: Lane,
        /// Up to and including this batch.
        through: Seq,
    },
    /// Get blobs: from the disk cache, else from this member; answer with
    /// [`crate::Input::Fetched`], or not at all.
    Fetch {
        /// Whom to ask, when somebody leads.
        member: Option<MemberId>,
        /// What to get.
        blobs: Vec<BlobHash>,
    },
    /// Remember the assignment for a restart, and only the blobs in it.
    Persist(Vec<Assigned>),
    /// A lane cannot go on with this spool; probing does.
    Stuck(Lane, BeyondTail),
}
