//! What the vantages together say about a check: a table over counted words and votes.
//!
//! No single observer decides. The owner's word opens a question; distinct healthy vantages
//! (region and network) answer it; where another vantage exists at all, two must agree before a
//! check is down. Which vantages exist is what the machine has admitted and not drained or
//! revoked. Who of them is alive is the leader's knowledge and never decides anything: it only
//! ends the waiting early.

pub mod table;
pub(crate) mod tally;

/// What the owner says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The check fails.
    Fails,
    /// The check fails, but the owner's own reference checks fail too: it has no vote.
    FailsUnheard,
    /// The check is ok again.
    Recovered,
}

/// How many distinct healthy vantages besides the owner say something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count {
    /// None.
    None,
    /// One.
    One,
    /// Two or more.
    Several,
}

impl Count {
    /// Every count.
    pub const ALL: [Self; 3] = [Self::None, Self::One, Self::Several];

    /// The count of `n`.
    #[must_use]
    pub const fn of(n: usize) -> Self {
        match n {
            0 => Self::None,
            1 => Self::One,
            _ => Self::Several,
        }
    }
}

/// Everything a decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inputs {
    /// What the owner says.
    pub owner: Owner,
    /// Other vantages that see it fail.
    pub down: Count,
    /// Other vantages that see it ok.
    pub up: Count,
    /// Whether all votes that are wanted have come, or none is waited for any more.
    pub ended: bool,
    /// Whether no other vantage exists.
    pub alone: bool,
}

/// What the vantages together say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing yet.
    Wait,
    /// It is down.
    Down,
    /// It is down for some and up for others.
    Regional,
    /// Only the owner sees it fail.
    FalseAlarm,
    /// Too few spoke to say anything.
    Unknown,
    /// The owner sees it ok again, and so does a second vantage.
    Up,
    /// The owner sees it ok again, and nobody else spoke.
    UpUnheard,
    /// The owner sees it ok again, one other vantage still sees it fail.
    Contradicted,
    /// The owner sees it ok again, several others still see it fail.
    StillDown,
}

/// What the vantages together say, and which row of the table says so.
#[must_use]
pub fn decide(inputs: Inputs) -> (Decision, &'static str) {
    let row = table::ROWS.iter().find(|row| row.matches(inputs));
    let row = row.expect("a test proves that the table has a row for every input");
    (row.decision(), row.label())
}
