//! SLA figures by interval arithmetic over transitions.
//!
//! Uptime is `1 − |Down \ Maintenance| / |window \ (Maintenance ∪ Paused ∪ Unknown)|`. Each instant
//! of the window has exactly one of six kinds, so the figures add up to the window to the
//! millisecond, and the figures of adjoining windows add up to those of the whole.
//!
//! Where several kinds claim an instant, the first of these has it: maintenance (it was announced
//! that it does not count), paused, unknown (nobody watched, or nobody could decide), down,
//! degraded, up. `Down` comes from transitions alone, and a transition says nothing about time
//! that nobody watched.

use picket_wire::state::State;
use picket_wire::time::{Interval, Span, Timestamp};

use crate::interval_set::IntervalSet;

/// Version of the accounting rule in this file; changes when a figure could.
pub const RULE_VERSION: u32 = 1;

/// One part of the denominator: parts per million.
const PPM: u128 = 1_000_000;

/// How the time of a window is accounted for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Length of the window: the sum of the other six.
    pub window_ms: u64,
    /// It was up; warnings and undecided suspicions count as up.
    pub up_ms: u64,
    /// It was down.
    pub down_ms: u64,
    /// It was down from some regions only; counts as up.
    pub degraded_ms: u64,
    /// Nobody watched or nobody could decide.
    pub unknown_ms: u64,
    /// Announced maintenance.
    pub maintenance_ms: u64,
    /// Paused on request.
    pub paused_ms: u64,
    /// Every stretch that left the denominator, and why, in order.
    pub excluded: Vec<Excluded>,
    /// Every stretch that counted as down, in order.
    pub down: Vec<Interval>,
}

impl Account {
    /// `(up + degraded) / (up + degraded + down)` in parts per million, rounded down; `None` when
    /// nothing counts.
    #[must_use]
    pub fn uptime_ppm(&self) -> Option<u32> {
        let good = u128::from(self.up_ms) + u128::from(self.degraded_ms);
        let counted = good + u128::from(self.down_ms);
        let ppm = (good * PPM).checked_div(counted)?;
        u32::try_from(ppm).ok()
    }

    /// Adds the account of another window or another endpoint. Stretches are appended.
    pub fn add(&mut self, other: &Self) {
        self.window_ms += other.window_ms;
        self.up_ms += other.up_ms;
        self.down_ms += other.down_ms;
        self.degraded_ms += other.degraded_ms;
        self.unknown_ms += other.unknown_ms;
        self.maintenance_ms += other.maintenance_ms;
        self.paused_ms += other.paused_ms;
        self.excluded.extend_from_slice(&other.excluded);
        self.down.extend_from_slice(&other.down);
    }
}

/// A stretch that left the denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excluded {
    /// When.
    pub interval: Interval,
    /// Why.
    pub why: Exclusion,
}

/// Why time does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exclusion {
    /// No agent watched.
    NotObserved,
    /// Agents watched and could not decide.
    Undecided,
    /// Announced maintenance.
    Maintenance,
    /// Paused on request.
    Paused,
}

/// Accounts for the time of `window`.
///
/// `timeline` has the endpoint's transitions as `(from when on, state)`, in the order in which
/// they were stated; of several at one instant the last holds. Before the first it was up, since
/// plainly up is what the machine has nothing to say about. Instants before the window are
/// welcome: the caller need not cut.
#[must_use]
pub fn account(
    window: Interval,
    timeline: &[(Timestamp, State)],
    covered: &IntervalSet,
    maintenance: &IntervalSet,
) -> Account {
    let mut account = Account {
        window_ms: window.len().0,
        ..Account::default()
    };
    let announced = maintenance.intersection(&window.into());
    account.maintenance_ms = announced.len().0;
    account.exclude(&announced, Exclusion::Maintenance);
    let counts = announced.complement(window);
    for (stretch, state) in stretches(window, timeline) {
        let left = counts.intersection(&stretch.into());
        account.stretch(&left, state, covered);
    }
    account
        .excluded
        .sort_unstable_by_key(|excluded| excluded.interval);
    account
}

impl Account {
    /// Accounts for time outside maintenance in which the state was `state`.
    fn stretch(&mut self, time: &IntervalSet, state: State, covered: &IntervalSet) {
        if state == State::Paused {
            self.paused_ms += time.len().0;
            self.exclude(time, Exclusion::Paused);
            return;
        }
        let watched = time.intersection(covered);
        let unseen = time.difference(covered);
        self.unknown_ms += unseen.len().0;
        self.exclude(&unseen, Exclusion::NotObserved);
        let Span(ms) = watched.len();
        match state {
            State::Up | State::Warning | State::SeemsDown => self.up_ms += ms,
            State::Degraded => self.degraded_ms += ms,
            State::Down => {
                self.down_ms += ms;
                self.down.extend_from_slice(watched.intervals());
            }
            State::Maintenance => {
                self.maintenance_ms += ms;
                self.exclude(&watched, Exclusion::Maintenance);
            }
            State::Unknown => {
                self.unknown_ms += ms;
                self.exclude(&watched, Exclusion::Undecided);
            }
            State::Paused => unreachable!("paused time was accounted for before coverage"),
        }
    }

    fn exclude(&mut self, time: &IntervalSet, why: Exclusion) {
        let stretches = time.intervals().iter();
        self.excluded
            .extend(stretches.map(|&interval| Excluded { interval, why }));
    }
}

/// The window, cut where the state changes.
fn stretches(window: Interval, timeline: &[(Timestamp, State)]) -> Vec<(Interval, State)> {
    let mut stretches = Vec::new();
    let mut from = window.from;
    let mut state = State::Up;
    for &(at, next) in timeline {
        let until = at.min(window.until);
        let stretch = Interval::new(from, until);
        if !stretch.is_empty() {
            stretches.push((stretch, state));
        }
        from = from.max(until);
        state = next;
    }
    let rest = Interval::new(from, window.until);
    if !rest.is_empty() {
        stretches.push((rest, state));
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: i64, until: i64) -> Interval {
        Interval::new(Timestamp(from), Timestamp(until))
    }

    fn set(intervals: &[(i64, i64)]) -> IntervalSet {
        intervals
            .iter()
            .map(|&(from, until)| span(from, until))
            .collect()
    }

    const OUTAGE: &[(Timestamp, State)] = &[
        (Timestamp(100), State::SeemsDown),
        (Timestamp(100), State::Down),
        (Timestamp(300), State::Up),
    ];

    #[test]
    fn an_outage_counts_from_its_first_failure() {
        let account = account(span(0, 1_000), OUTAGE, &set(&[(0, 1_000)]), &set(&[]));
        assert_eq!((account.down_ms, account.up_ms), (200, 800));
        assert_eq!(account.uptime_ppm(), Some(800_000));
        assert_eq!(account.down, [span(100, 300)]);
    }

    #[test]
    fn a_silent_agent_never_reads_as_up() {
        let account = account(span(0, 1_000), &[], &set(&[]), &set(&[]));
        assert_eq!((account.unknown_ms, account.uptime_ppm()), (1_000, None));
        let all = Excluded {
            interval: span(0, 1_000),
            why: Exclusion::NotObserved,
        };
        assert_eq!(account.excluded, [all]);
    }

    #[test]
    fn maintenance_and_absence_leave_the_denominator() {
        let covered = set(&[(0, 250), (400, 1_000)]);
        let account = account(span(0, 1_000), OUTAGE, &covered, &set(&[(200, 220)]));
        assert_eq!(account.maintenance_ms, 20);
        assert_eq!(account.unknown_ms, 150);
        assert_eq!(account.down_ms, 100 + 30);
        assert_eq!(account.down, [span(100, 200), span(220, 250)]);
        assert_eq!(account.up_ms, 100 + 600);
        let whys: Vec<_> = account
            .excluded
            .iter()
            .map(|e| (e.interval, e.why))
            .collect();
        assert_eq!(
            whys,
            [
                (span(200, 220), Exclusion::Maintenance),
                (span(250, 300), Exclusion::NotObserved),
                (span(300, 400), Exclusion::NotObserved),
            ]
        );
    }

    #[test]
    fn a_false_alarm_costs_nothing() {
        let timeline = [
            (Timestamp(100), State::SeemsDown),
            (Timestamp(100), State::Up),
        ];
        let account = account(span(0, 1_000), &timeline, &set(&[(0, 1_000)]), &set(&[]));
        assert_eq!(account.up_ms, 1_000);
    }
}
