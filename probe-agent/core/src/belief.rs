//! What the agent thinks of a check, and when it has something to say.
//!
//! An owner speaks only when its own probes disagree with what the schedulers believe: what it
//! told them last, or what they told it. That is level-triggered: a statement that could not be
//! made now is made by the next probe that disagrees, so nothing has to be remembered for it.
//!
//! Not here: the schedulers' own verdicts (`picket-scheduler-core::verdict`).

/// What a check is, as one side sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// Up. What nobody spoke of yet counts as up: a check without an incident is.
    Up,
    /// Failing.
    Failing,
}

impl Seen {
    /// How an outcome reads as a belief.
    #[must_use]
    pub const fn of(ok: bool) -> Self {
        if ok { Self::Up } else { Self::Failing }
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

/// What came of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// The first try was ok.
    FirstOk,
    /// The first try was not.
    FirstFailed,
    /// The second try was ok: a hiccup.
    RetryOk,
    /// The second try failed too.
    RetryFailed,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conclusion {
    /// Try once more, at once.
    Retry,
    /// As believed; say nothing.
    Silent(Seen),
    /// Not as believed; say so.
    Speak(Seen),
}

/// The table. A check that is believed to fail is not tried twice: its failure is no news.
#[must_use]
pub const fn conclude(told: Seen, tried: Tried) -> Conclusion {
    use Conclusion::{Retry, Silent, Speak};
    use Seen::{Failing, Up};
    match (told, tried) {
        (Up, Tried::FirstOk | Tried::RetryOk) => Silent(Up),
        (Up, Tried::FirstFailed) => Retry,
        (Up, Tried::RetryFailed) => Speak(Failing),
        (Failing, Tried::FirstFailed | Tried::RetryFailed) => Silent(Failing),
        (Failing, Tried::FirstOk | Tried::RetryOk) => Speak(Up),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs tries through the table as the agent does; returns what was said.
    fn say(outcomes: &[bool]) -> Vec<Seen> {
        let (mut told, mut said, mut outcomes) = (Seen::Up, Vec::new(), outcomes.iter());
        while let Some(&ok) = outcomes.next() {
            let first = if ok {
                Tried::FirstOk
            } else {
                Tried::FirstFailed
            };
            let mut conclusion = conclude(told, first);
            if conclusion == Conclusion::Retry {
                let retry = outcomes.next().copied().unwrap_or(true);
                conclusion = conclude(
                    told,
                    if retry {
                        Tried::RetryOk
                    } else {
                        Tried::RetryFailed
                    },
                );
            }
            if let Conclusion::Speak(seen) = conclusion {
                said.push(seen);
                told = seen;
            }
        }
        said
    }

    #[test]
    fn a_hiccup_is_not_news() {
        assert_eq!(say(&[true, false, true, true]), []);
    }

    #[test]
    fn a_failure_and_a_recovery_are_one_statement_each() {
        let outcomes = [true, false, false, false, false, true, true];
        assert_eq!(say(&outcomes), [Seen::Failing, Seen::Up]);
    }

    proptest! {
        #[test]
        fn statements_alternate(outcomes in proptest::collection::vec(any::<bool>(), 0..60)) {
            let said = say(&outcomes);
            let expected = [Seen::Failing, Seen::Up].into_iter().cycle();
            prop_assert!(said.iter().copied().eq(expected.take(said.len())));
        }
    }
}
