//! What the agent thinks of a check, and when it has something to say.
//!
//! An owner speaks only when its own probes disagree with what the schedulers believe: what it
//! told them last, or what they told it. That is level-triggered: a statement that could not be
//! made now is made by the next probe that disagrees, so nothing has to be remembered for it.
//!
//! Not here: the schedulers' own verdicts (`picket-scheduler-core::verdict`).

use picket_wire::outcome::Probe;
use picket_wire::reason::{Reason, ReasonClass};

/// What a check is, as one side sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// Up. What nobody spoke of yet counts as up: a check without an incident is.
    Up,
    /// Failing.
    Failing,
    /// Nobody knows: this agent may not look.
    Blocked,
}

impl Seen {
    /// What a probe found.
    #[must_use]
    pub fn of(probe: &Probe) -> Self {
        match probe.reason.map(Reason::class) {
            None => Self::Up,
            Some(ReasonClass::Blocked) => Self::Blocked,
            Some(
                ReasonClass::Dns
                | ReasonClass::Connect
                | ReasonClass::Tls
                | ReasonClass::Http
                | ReasonClass::Body,
            ) => Self::Failing,
        }
    }

    /// What the schedulers believe when they say that a check fails, or that it does not. They do
    /// not say whether it fails or may not be looked at; what was believed before tells.
    #[must_use]
    pub const fn heard(self, failing: bool) -> Self {
        match (failing, self) {
            (false, _) => Self::Up,
            (true, Self::Up) => Self::Failing,
            (true, Self::Failing | Self::Blocked) => self,
        }
    }
}

/// How its last probe went: what admission wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// It was ok and quick, or there was none.
    Brisk,
    /// It failed, or took long: likely to hold its place for long again.
    Heavy,
}

/// Whether a probe of the check is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Busy {
    /// None.
    Idle,
    /// One, perhaps in its retry.
    Probing,
}

/// Three bytes per check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mind {
    /// What the schedulers believe, as far as the agent knows.
    pub told: Seen,
    /// How the last probe went.
    pub pace: Pace,
    /// Whether one is under way.
    pub busy: Busy,
}

impl Mind {
    /// Of a check that was never probed here.
    pub const NEW: Self = Self {
        told: Seen::Up,
        pace: Pace::Brisk,
        busy: Busy::Idle,
    };
}

/// What came of the tries so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// One was ok.
    Ok,
    /// The first failed.
    FailedOnce,
    /// Both failed.
    FailedTwice,
    /// This agent may not look.
    Blocked,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conclusion {
    /// Try once more, at once.
    Retry,
    /// As believed; say nothing.
    Silent,
    /// Not as believed; say so.
    Speak(Seen),
}

/// The table. A check that is believed to fail is not tried twice: its failure is no news.
#[must_use]
pub const fn conclude(told: Seen, tried: Tried) -> Conclusion {
    use Conclusion::{Retry, Silent, Speak};
    match (told, tried) {
        (Seen::Up, Tried::Ok)
        | (Seen::Failing, Tried::FailedOnce | Tried::FailedTwice)
        | (Seen::Blocked, Tried::Blocked) => Silent,
        (Seen::Up | Seen::Blocked, Tried::FailedOnce) => Retry,
        (Seen::Up | Seen::Blocked, Tried::FailedTwice) => Speak(Seen::Failing),
        (Seen::Failing | Seen::Blocked, Tried::Ok) => Speak(Seen::Up),
        (Seen::Up | Seen::Failing, Tried::Blocked) => Speak(Seen::Blocked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs tries through the table as the agent does; returns what was said.
    fn say(outcomes: &[Tried]) -> Vec<Seen> {
        let (mut told, mut said, mut outcomes) = (Seen::Up, Vec::new(), outcomes.iter());
        while let Some(&first) = outcomes.next() {
            let mut conclusion = conclude(told, first);
            if conclusion == Conclusion::Retry {
                let second = match outcomes.next() {
                    Some(Tried::FailedOnce) => Tried::FailedTwice,
                    other => other.copied().unwrap_or(Tried::Ok),
                };
                conclusion = conclude(told, second);
            }
            if let Conclusion::Speak(seen) = conclusion {
                said.push(seen);
                told = seen;
            }
        }
        said
    }

    const UP: Tried = Tried::Ok;
    const DOWN: Tried = Tried::FailedOnce;

    #[test]
    fn a_hiccup_is_not_news() {
        assert_eq!(say(&[UP, DOWN, UP, UP]), []);
    }

    #[test]
    fn a_failure_and_a_recovery_are_one_statement_each() {
        let outcomes = [UP, DOWN, DOWN, DOWN, DOWN, UP, UP];
        assert_eq!(say(&outcomes), [Seen::Failing, Seen::Up]);
    }

    #[test]
    fn what_may_not_be_looked_at_is_said_once() {
        let outcomes = [UP, Tried::Blocked, Tried::Blocked, DOWN, DOWN, DOWN];
        assert_eq!(say(&outcomes), [Seen::Blocked, Seen::Failing]);
    }

    #[test]
    fn what_is_heard_does_not_turn_one_trouble_into_another() {
        assert_eq!(Seen::Blocked.heard(true), Seen::Blocked);
        assert_eq!(Seen::Up.heard(true), Seen::Failing);
        assert_eq!(Seen::Failing.heard(false), Seen::Up);
    }

    proptest! {
        #[test]
        fn nothing_is_said_twice(
            outcomes in proptest::collection::vec(prop_oneof![Just(UP), Just(DOWN), Just(Tried::Blocked)], 0..60),
        ) {
            let said = say(&outcomes);
            prop_assert!(said.first() != Some(&Seen::Up));
            prop_assert!(said.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}
