//! What the agent counts about itself, for metrics and for the simulator's oracles.

use picket_wire::time::Timestamp;

/// Why a probe that was due did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skip {
    /// The agent itself was late by more than a second: running it would make a burst.
    Stall,
    /// The probe before it still ran.
    Overrun,
    /// All places are taken.
    Full,
    /// The places that slow and failing checks may take are taken.
    Heavy,
    /// Too many probes to the same destination are under way.
    Destination,
    /// It failed while this agent's own reference checks failed, or this agent lacked means.
    Blind,
    /// This agent may not probe the address.
    Blocked,
}

impl Skip {
    /// Every reason, in the order of its index.
    pub const ALL: [Self; 7] = [
        Self::Stall,
        Self::Overrun,
        Self::Full,
        Self::Heavy,
        Self::Destination,
        Self::Blind,
        Self::Blocked,
    ];

    /// The metric label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stall => "stall",
            Self::Overrun => "overrun",
            Self::Full => "full",
            Self::Heavy => "heavy",
            Self::Destination => "destination",
            Self::Blind => "blind",
            Self::Blocked => "blocked",
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// Counts since the start; they only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Probes that were due.
    pub due: u64,
    /// Probes of own checks that were started, retries not counted.
    pub started: u64,
    /// Own checks that were probed to a conclusion.
    pub concluded: u64,
    /// Due probes that lie in a gap of more than ten seconds, which no rollup covers.
    pub gap: u64,
    /// Evidence records of own checks.
    pub changes_of_mind: u64,
    /// Votes cast.
    pub votes: u64,
    /// Orders that were not carried out: too late, too many, repeated.
    pub orders_dropped: u64,
    /// Changes of mind that were put off because too much evidence waits for the disk.
    pub put_off: u64,
    /// End of the lease, when one was granted.
    pub lease_until: Option<Timestamp>,
    /// Due probes that did not run.
    pub skipped: Skips,
}

/// Counts by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skips([u64; Skip::ALL.len()]);

impl Skips {
    /// How many due probes did not run for this reason.
    #[must_use]
    pub const fn of(&self, why: Skip) -> u64 {
        self.0[why.index()]
    }

    pub(crate) const fn add(&mut self, why: Skip) {
        self.0[why.index()] += 1;
    }
}
