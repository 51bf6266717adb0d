//! The state of an endpoint from its checks, and of a site from its endpoints: the worst.
//!
//! `Down` is worse than `SeemsDown`, `Degraded`, `Unknown`, `Warning`, `Up`. What is paused or in
//! maintenance counts only when everything is: one part that is looked at says more than one that
//! is not.

use picket_wire::state::State;

/// From best to worst. A part that nobody looks at never hides one that somebody does.
const BADNESS: [State; 8] = [
    State::Paused,
    State::Maintenance,
    State::Up,
    State::Warning,
    State::Unknown,
    State::Degraded,
    State::SeemsDown,
    State::Down,
];

/// The state of a site from the states of its endpoints; `Unknown` when it has none.
#[must_use]
pub fn site(endpoints: impl IntoIterator<Item = State>) -> State {
    worst(endpoints)
}

/// The state of an endpoint from the states of its checks; `Unknown` when it has none.
#[must_use]
pub fn endpoint(checks: impl IntoIterator<Item = State>) -> State {
    worst(checks)
}

fn worst(parts: impl IntoIterator<Item = State>) -> State {
    parts
        .into_iter()
        .max_by_key(|&state| badness(state))
        .unwrap_or(State::Unknown)
}

fn badness(state: State) -> usize {
    BADNESS
        .iter()
        .position(|&known| known == state)
        .unwrap_or(BADNESS.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_place() {
        assert!(
            State::ALL
                .iter()
                .all(|&state| badness(state) < BADNESS.len())
        );
    }

    #[test]
    fn the_worst_part_decides_and_absence_only_when_nothing_else_is_there() {
        use State::{Degraded, Down, Maintenance, Paused, SeemsDown, Unknown, Up, Warning};
        let cases: [(&[State], State); 9] = [
            (&[], Unknown),
            (&[Up, Up], Up),
            (&[Up, Warning], Warning),
            (&[Warning, Unknown], Unknown),
            (&[Unknown, Degraded], Degraded),
            (&[Degraded, SeemsDown], SeemsDown),
            (&[Up, Down, SeemsDown], Down),
            (&[Paused, Up, Maintenance], Up),
            (&[Paused, Maintenance], Maintenance),
        ];
        for (parts, whole) in cases {
            assert_eq!(worst(parts.iter().copied()), whole, "{parts:?}");
        }
    }
}
