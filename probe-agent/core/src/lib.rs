//! What the agent decides: when to probe, what to believe, what to say and to whom.
//!
//! Comes in: the time, what schedulers said, what probes found, what the disk holds ([`Input`]).
//! Goes out: what the shell must do, in order ([`Effect`]). Never here: sockets, clocks, files,
//! randomness but the seed that is passed in. The simulator drives this very crate.
//!
//! Start reading at [`agent`]; the clockwork itself is [`ring`] and [`due`].

#![warn(
    clippy::iter_over_hash_type,
    clippy::float_arithmetic,
    clippy::wildcard_enum_match_arm
)]

pub mod admission;
pub mod agent;
pub mod belief;
pub mod due;
pub mod link;
pub mod live;
pub mod outbox;
pub mod ring;
pub mod rollup;
pub mod stats;
pub mod table;

pub use agent::Agent;
pub use agent::effect::Effect;
pub use agent::input::{Input, Limits, Resume, Said, Settings, Ticket};
pub use outbox::{Batch, Lane, LaneMarks};
pub use stats::{Skip, Stats};

/// Why a check is probed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attempt {
    /// It is due.
    Scheduled,
    /// The try just before failed: on a fresh connection.
    Retry,
    /// The schedulers asked for a second opinion.
    Vote,
}

impl Attempt {
    /// Its word in telemetry.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Retry => "retry",
            Self::Vote => "vote",
        }
    }
}
