//! The rows of the verdict: for every input exactly one.

use crate::verdict::{Count, Decision, Inputs, Owner};

/// One row: the inputs it is about, what follows, and why in a few words.
#[derive(Debug)]
pub struct Row {
    owner: Owner,
    down: &'static [Count],
    up: &'static [Count],
    ended: Option<bool>,
    alone: Option<bool>,
    decision: Decision,
    label: &'static str,
}

impl Row {
    /// What follows.
    #[must_use]
    pub const fn decision(&self) -> Decision {
        self.decision
    }

    /// Why, for logs and `explain`.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        self.label
    }

    /// Whether this row is about `inputs`.
    #[must_use]
    pub fn matches(&self, inputs: Inputs) -> bool {
        self.owner == inputs.owner
            && self.down.contains(&inputs.down)
            && self.up.contains(&inputs.up)
            && self.ended.is_none_or(|ended| ended == inputs.ended)
            && self.alone.is_none_or(|alone| alone == inputs.alone)
    }
}

const NONE: &[Count] = &[Count::None];
const SOME: &[Count] = &[Count::One, Count::Several];
const AT_MOST_ONE: &[Count] = &[Count::None, Count::One];
const ONE: &[Count] = &[Count::One];
const SEVERAL: &[Count] = &[Count::Several];
const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);
const ANY: Option<bool> = None;

/// The table.
#[rustfmt::skip]
pub const ROWS: &[Row] = {
    use Decision as D;
    use Owner::{Fails, FailsUnheard, Recovered};
    &[
        row(Fails, NONE, NONE, NO, ANY, D::Wait, "votes are awaited"),
        row(Fails, SOME, NONE, NO, ANY, D::Wait, "a vantage agrees, more are awaited"),
        row(Fails, NONE, SOME, NO, ANY, D::Wait, "a vantage disagrees, more are awaited"),
        row(Fails, SOME, SOME, ANY, ANY, D::Regional, "vantages disagree"),
        row(Fails, SOME, NONE, YES, ANY, D::Down, "another vantage agrees"),
        row(Fails, NONE, SOME, YES, ANY, D::FalseAlarm, "nobody else sees it"),
        row(Fails, NONE, NONE, YES, NO, D::Unknown, "nobody else spoke"),
        row(Fails, NONE, NONE, YES, YES, D::Down, "no other vantage exists"),

        row(FailsUnheard, NONE, NONE, NO, ANY, D::Wait, "votes are awaited"),
        row(FailsUnheard, SOME, NONE, NO, ANY, D::Wait, "a vantage agrees, more are awaited"),
        row(FailsUnheard, NONE, SOME, NO, ANY, D::Wait, "a vantage disagrees, more are awaited"),
        row(FailsUnheard, SOME, SOME, ANY, ANY, D::Regional, "vantages disagree"),
        row(FailsUnheard, SEVERAL, NONE, YES, ANY, D::Down, "two other vantages agree"),
        row(FailsUnheard, NONE, SOME, YES, ANY, D::FalseAlarm, "nobody else sees it"),
        row(FailsUnheard, AT_MOST_ONE, NONE, YES, ANY, D::Unknown, "too few healthy vantages spoke"),

        row(Recovered, NONE, NONE, NO, ANY, D::Wait, "votes are awaited"),
        row(Recovered, SOME, NONE, NO, ANY, D::Wait, "a vantage still fails, more are awaited"),
        row(Recovered, NONE, SOME, NO, ANY, D::Wait, "a vantage agrees, more are awaited"),
        row(Recovered, SOME, SOME, ANY, ANY, D::Regional, "vantages disagree"),
        row(Recovered, NONE, SOME, YES, ANY, D::Up, "a second vantage sees it up"),
        row(Recovered, SEVERAL, NONE, YES, ANY, D::StillDown, "the others still see it fail"),
        row(Recovered, ONE, NONE, YES, ANY, D::Contradicted, "one vantage still sees it fail"),
        row(Recovered, NONE, NONE, YES, ANY, D::UpUnheard, "nobody else spoke, the owner's word ends it"),
    ]
};

const fn row(
    owner: Owner,
    down: &'static [Count],
    up: &'static [Count],
    ended: Option<bool>,
    alone: Option<bool>,
    decision: Decision,
    label: &'static str,
) -> Row {
    Row {
        owner,
        down,
        up,
        ended,
        alone,
        decision,
        label,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::decide;

    fn every_input() -> impl Iterator<Item = Inputs> {
        let owners = [Owner::Fails, Owner::FailsUnheard, Owner::Recovered];
        let flags = [(false, false), (false, true), (true, false), (true, true)];
        owners.into_iter().flat_map(move |owner| {
            Count::ALL.into_iter().flat_map(move |down| {
                Count::ALL.into_iter().flat_map(move |up| {
                    flags.map(|(ended, alone)| Inputs {
                        owner,
                        down,
                        up,
                        ended,
                        alone,
                    })
                })
            })
        })
    }

    #[test]
    fn every_input_has_exactly_one_row() {
        assert_eq!(every_input().count(), 108);
        for inputs in every_input() {
            let rows = ROWS.iter().filter(|row| row.matches(inputs)).count();
            assert_eq!(rows, 1, "{inputs:?}");
        }
    }

    /// The rules of the verdict in the words of the design, one by one, over every input.
    #[test]
    fn the_table_keeps_the_rules() {
        for inputs in every_input() {
            let (decision, label) = decide(inputs);
            let Inputs {
                owner,
                down,
                up,
                ended,
                alone,
            } = inputs;
            let heard = usize::from(owner == Owner::Fails) + down as usize;
            match decision {
                Decision::Down => {
                    assert!(
                        heard >= 2 || (alone && owner == Owner::Fails),
                        "{label}: {inputs:?}"
                    );
                    assert_eq!(up, Count::None, "{label}: {inputs:?}");
                }
                Decision::FalseAlarm => assert!(down == Count::None && up > Count::None),
                Decision::Regional => assert!(down > Count::None && up > Count::None),
                Decision::Unknown => assert!(heard < 2 && up == Count::None),
                Decision::Up => assert!(owner == Owner::Recovered && up > Count::None),
                Decision::UpUnheard => {
                    assert!(owner == Owner::Recovered && down == Count::None && up == Count::None);
                }
                Decision::Contradicted => assert_eq!((owner, down), (Owner::Recovered, Count::One)),
                Decision::StillDown => {
                    assert_eq!((owner, down), (Owner::Recovered, Count::Several));
                }
                Decision::Wait => assert!(!ended, "{label}: {inputs:?}"),
            }
            assert!(
                !ended || decision != Decision::Wait,
                "the end decides: {inputs:?}"
            );
        }
    }
}
