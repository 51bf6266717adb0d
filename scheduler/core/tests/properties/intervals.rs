//! Interval sets and SLA figures against sets of single milliseconds.

use std::collections::BTreeSet;

use picket_scheduler_core::interval_set::IntervalSet;
use picket_scheduler_core::sla::{Account, Exclusion, account};
use picket_wire::state::State;
use picket_wire::time::{Interval, Timestamp};
use proptest::prelude::*;

/// Instants of the twin: few, so that stretches touch, overlap and contain each other often.
const END: i64 = 60;

fn interval() -> impl Strategy<Value = Interval> {
    (0..END, 0..END).prop_map(|(from, until)| Interval::new(Timestamp(from), Timestamp(until)))
}

fn intervals() -> impl Strategy<Value = Vec<Interval>> {
    prop::collection::vec(interval(), 0..6)
}

fn twin(intervals: &[Interval]) -> BTreeSet<i64> {
    let inside = |t: &i64| {
        intervals
            .iter()
            .any(|interval| interval.contains(Timestamp(*t)))
    };
    (0..END).filter(inside).collect()
}

fn members(set: &IntervalSet) -> BTreeSet<i64> {
    twin(set.intervals())
}

fn is_canonical(set: &IntervalSet) -> bool {
    set.intervals().iter().all(|interval| !interval.is_empty())
        && set
            .intervals()
            .windows(2)
            .all(|pair| pair[0].until < pair[1].from)
}

fn timeline() -> impl Strategy<Value = Vec<(Timestamp, State)>> {
    let state = prop::sample::select(State::ALL);
    prop::collection::vec((0..END, state), 0..8).prop_map(|mut all| {
        all.sort_by_key(|&(at, _)| at);
        all.into_iter()
            .map(|(at, state)| (Timestamp(at), state))
            .collect()
    })
}

/// The rule, one millisecond at a time.
fn naive(
    window: Interval,
    timeline: &[(Timestamp, State)],
    covered: &[Interval],
    maintenance: &[Interval],
) -> Account {
    let (covered, maintenance) = (twin(covered), twin(maintenance));
    let mut account = Account::default();
    for t in window.from.0..window.until.0 {
        let state = timeline
            .iter()
            .rev()
            .find(|(at, _)| at.0 <= t)
            .map_or(State::Up, |&(_, s)| s);
        account.window_ms += 1;
        let kind = match state {
            _ if maintenance.contains(&t) => &mut account.maintenance_ms,
            State::Paused => &mut account.paused_ms,
            _ if !covered.contains(&t) => &mut account.unknown_ms,
            State::Unknown => &mut account.unknown_ms,
            State::Maintenance => &mut account.maintenance_ms,
            State::Down => &mut account.down_ms,
            State::Degraded => &mut account.degraded_ms,
            State::Up | State::Warning | State::SeemsDown => &mut account.up_ms,
        };
        *kind += 1;
    }
    account
}

fn figures(account: &Account) -> [u64; 7] {
    let Account {
        window_ms,
        up_ms,
        down_ms,
        degraded_ms,
        ..
    } = *account;
    let Account {
        unknown_ms,
        maintenance_ms,
        paused_ms,
        ..
    } = *account;
    [
        window_ms,
        up_ms,
        down_ms,
        degraded_ms,
        unknown_ms,
        maintenance_ms,
        paused_ms,
    ]
}

proptest! {
    #![proptest_config(crate::config(256))]

    #[test]
    fn set_algebra_agrees_with_single_milliseconds(a in intervals(), b in intervals(), whole in interval()) {
        let (x, y): (IntervalSet, IntervalSet) =
            (a.iter().copied().collect(), b.iter().copied().collect());
        let (m, n) = (twin(&a), twin(&b));
        prop_assert_eq!(members(&x), m.clone());
        prop_assert_eq!(members(&x.union(&y)), &m | &n);
        prop_assert_eq!(members(&x.intersection(&y)), &m & &n);
        prop_assert_eq!(members(&x.difference(&y)), &m - &n);
        prop_assert_eq!(members(&x.complement(whole)), &twin(&[whole]) - &m);
        let length = u64::try_from(m.len()).unwrap();
        prop_assert_eq!(x.len().0, length);
        for set in [&x, &x.union(&y), &x.intersection(&y), &x.difference(&y), &x.complement(whole)] {
            prop_assert!(is_canonical(set), "{:?}", set);
        }
        for t in 0..END {
            prop_assert_eq!(x.contains(Timestamp(t)), m.contains(&t));
        }
    }

    #[test]
    fn inserting_one_by_one_gives_the_same_set(a in intervals()) {
        let mut one_by_one = IntervalSet::default();
        a.iter().for_each(|&interval| one_by_one.insert(interval));
        prop_assert_eq!(one_by_one, a.into_iter().collect::<IntervalSet>());
    }

    #[test]
    fn figures_agree_with_single_milliseconds_and_add_up(
        window in interval(),
        timeline in timeline(),
        covered in intervals(),
        maintenance in intervals(),
        cut in 0..END,
    ) {
        let (watched, announced): (IntervalSet, IntervalSet) =
            (covered.iter().copied().collect(), maintenance.iter().copied().collect());
        let whole = account(window, &timeline, &watched, &announced);
        prop_assert_eq!(figures(&whole), figures(&naive(window, &timeline, &covered, &maintenance)));
        let [length, parts @ ..] = figures(&whole);
        prop_assert_eq!(length, parts.iter().sum::<u64>());

        let cut = Timestamp(cut).clamp(window.from, window.until.max(window.from));
        let mut halves = account(Interval::new(window.from, cut), &timeline, &watched, &announced);
        halves.add(&account(Interval::new(cut, window.until), &timeline, &watched, &announced));
        prop_assert_eq!(figures(&halves), figures(&whole));
        prop_assert_eq!(halves.uptime_ppm(), whole.uptime_ppm());
    }

    #[test]
    fn what_was_excluded_and_what_was_down_is_told_exactly(
        window in interval(),
        timeline in timeline(),
        covered in intervals(),
        maintenance in intervals(),
    ) {
        let (watched, announced): (IntervalSet, IntervalSet) =
            (covered.into_iter().collect(), maintenance.into_iter().collect());
        let account = account(window, &timeline, &watched, &announced);
        let of = |wanted: &[Exclusion]| -> u64 {
            let told = account.excluded.iter().filter(|excluded| wanted.contains(&excluded.why));
            told.map(|excluded| excluded.interval.len().0).sum()
        };
        prop_assert_eq!(of(&[Exclusion::Maintenance]), account.maintenance_ms);
        prop_assert_eq!(of(&[Exclusion::Paused]), account.paused_ms);
        prop_assert_eq!(of(&[Exclusion::NotObserved, Exclusion::Undecided]), account.unknown_ms);
        prop_assert_eq!(account.down.iter().map(|d| d.len().0).sum::<u64>(), account.down_ms);
        prop_assert!(account.excluded.windows(2).all(|pair| pair[0].interval.until <= pair[1].interval.from));
    }
}
