//! What was decided, from the members' log to the rows that people are shown.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use picket_load::real::disk::Diary;
use picket_scheduler_core::invariant::history::History;
use picket_scheduler_core::machine::{Entry, Machine};
use picket_wire::evidence::Role;
use picket_wire::fact::{Fact, FactBody};
use picket_wire::id::FactSeq;
use picket_wire::lane::rollup::{CheckRollup, ShardRollup};
use picket_wire::time::Interval;

use super::super::stories::ON_ITS_WAY_MS;
use super::super::{Outage, Truth};
use super::stored::{Changed, Lasted, Said, Stored};

/// The log, applied by a machine that never died, gives facts; those up to the cursor are in
/// Postgres, each in a row of its own, and nothing else is. Returns how many there are.
pub(super) fn are_stored_once(log: &[Entry], stored: &Stored) -> anyhow::Result<usize> {
    let facts = decided(log)?;
    let last = facts.last().context("something was decided")?.seq;
    ensure!(
        stored.cursor <= last,
        "the cursor is at {}, but only {last} was decided",
        stored.cursor
    );
    let projected: Vec<&Fact> = facts
        .iter()
        .filter(|fact| fact.seq <= stored.cursor)
        .collect();
    let mut transitions = BTreeMap::new();
    let mut testimony = BTreeMap::new();
    let mut incidents = BTreeMap::new();
    for fact in &projected {
        match &fact.body {
            FactBody::Transition(_) => transitions.extend(changed(fact)),
            FactBody::Testimony(_) => testimony.extend(said(fact)),
            FactBody::Incident(incident) => {
                let lasted = Lasted {
                    endpoint: incident.check.endpoint.0.cast_signed(),
                    started_at: incident.started_at.0,
                    ended_at: incident.ended_at.map(|at| at.0),
                };
                incidents.insert(incident.id.0.cast_signed(), lasted);
            }
            FactBody::Group(_) | FactBody::Agent(_) | FactBody::Assigned(_) => {}
        }
    }
    same("transitions", &transitions, &stored.transitions)?;
    same("testimony", &testimony, &stored.testimony)?;
    same("incidents", &incidents, &stored.incidents)?;
    ensure!(
        facts.iter().skip(projected.len()).all(is_audit),
        "decided, and never written: {:?}",
        facts
            .iter()
            .skip(projected.len())
            .find(|fact| !is_audit(fact))
    );
    Ok(projected.len())
}

/// The mesh was quiet before it stopped; what can still be decided then is who owns what.
fn is_audit(fact: &Fact) -> bool {
    matches!(fact.body, FactBody::Agent(_) | FactBody::Assigned(_))
}

/// Every fact of the log, and that they tell a story that can be.
fn decided(log: &[Entry]) -> anyhow::Result<Vec<Fact>> {
    let mut machine = Machine::new();
    let mut facts = Vec::new();
    for entry in log {
        machine.apply(entry, &mut facts);
    }
    let mut history = History::new();
    for fact in &facts {
        let told = history.observe(fact);
        ensure!(told.is_ok(), "{fact:?}: {told:?}");
    }
    Ok(facts)
}

fn changed(fact: &Fact) -> Option<(FactSeq, Changed)> {
    let FactBody::Transition(transition) = &fact.body else {
        return None;
    };
    let changed = Changed {
        endpoint: transition.check.endpoint.0.cast_signed(),
        from: transition.from.code(),
        to: transition.to.code(),
        at: transition.at.0,
    };
    Some((fact.seq, changed))
}

fn said(fact: &Fact) -> Option<(FactSeq, Said)> {
    let FactBody::Testimony(testimony) = &fact.body else {
        return None;
    };
    let said = Said {
        incident: testimony.incident.0.cast_signed(),
        agent: testimony.agent.0.cast_signed(),
        check: testimony.evidence.check.check.0.cast_signed(),
        probe_at: testimony.evidence.probe.at.0,
        voted: testimony.order.is_some(),
        ok: testimony.evidence.is_ok(),
    };
    Some((fact.seq, said))
}

fn same<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    what: &str,
    decided: &BTreeMap<K, V>,
    stored: &BTreeMap<K, V>,
) -> anyhow::Result<()> {
    let lost: Vec<_> = decided
        .iter()
        .filter(|(key, _)| !stored.contains_key(key))
        .collect();
    ensure!(lost.is_empty(), "{what} decided and not stored: {lost:?}");
    let other: Vec<_> = stored
        .iter()
        .filter(|(key, value)| decided.get(key) != Some(value))
        .collect();
    ensure!(
        other.is_empty(),
        "{what} stored and not so decided: {other:?}"
    );
    Ok(())
}

/// An incident begins with the first failure that its owner told, to the millisecond.
pub(super) fn incidents_begin_with_testimony(stored: &Stored) -> anyhow::Result<()> {
    let mut first: BTreeMap<i64, i64> = BTreeMap::new();
    for said in stored
        .testimony
        .values()
        .filter(|said| !said.voted && !said.ok)
    {
        let at = first.entry(said.incident).or_insert(said.probe_at);
        *at = said.probe_at.min(*at);
    }
    for (id, incident) in &stored.incidents {
        ensure!(
            first.get(id) == Some(&incident.started_at),
            "incident {id} begins at {}, its owner first said {:?}: {:?}",
            incident.started_at,
            first.get(id),
            stored
                .testimony
                .values()
                .filter(|said| said.incident == *id)
                .collect::<Vec<_>>()
        );
    }
    Ok(())
}

/// The two lanes tell of the same world: where a window within an outage was counted and every probe
/// in it failed, its owner said so, and there is an incident about it. Returns how many such windows
/// there were.
pub(super) fn what_was_counted_as_failing_was_told(
    stored: &Stored,
    truth: &Truth,
) -> anyhow::Result<usize> {
    let mut told: BTreeMap<i64, Vec<Lasted>> = BTreeMap::new();
    for incident in stored.incidents.values() {
        told.entry(incident.endpoint).or_default().push(*incident);
    }
    let mut failing = 0;
    for (agent, shard) in &stored.rollups {
        let Interval { from, until } = shard.covered;
        let within = |outage: &&Outage| outage.down <= from && until <= outage.up;
        // An owner that was cut off until it was replaced is not heeded when it comes back.
        let replaced =
            |(_, next): &(_, ShardRollup)| next.slot == shard.slot && next.epoch > shard.epoch;
        let Some(outage) = truth.outages.iter().find(within) else {
            continue;
        };
        if stored.rollups.iter().any(replaced) {
            continue;
        }
        let went_away = |check: &&CheckRollup| {
            let url = stored.urls.get(&check.endpoint.0.cast_signed());
            url.is_some_and(|url| url.starts_with(&truth.frail))
        };
        let ran = shard.checks.iter().filter(|check| check.ran > 0);
        for check in ran.filter(went_away) {
            ensure!(check.ok == 0, "{agent} was answered by nobody: {check:?}");
            // What is due at the end of a window may begin a little after it. Where others were
            // asked when all was well again, the incident is a false alarm that lasts no time.
            let begins_by = until.0 + i64::from(check.lateness_max_ms);
            let endpoint = check.endpoint.0.cast_signed();
            let tells = |incident: &Lasted| {
                incident.started_at <= begins_by
                    && (incident.started_at >= outage.down.0 - ON_ITS_WAY_MS
                        || incident.ended_at.is_none_or(|at| at > from.0))
            };
            ensure!(
                told.get(&endpoint)
                    .is_some_and(|incidents| incidents.iter().any(tells)),
                "{agent} counted {check:?} in {:?}, and incidents are {:?}",
                shard.covered,
                told.get(&endpoint)
            );
            failing += 1;
        }
    }
    ensure!(failing > 0, "no failing window was counted");
    Ok(failing)
}

/// Who says what about which probe, and whether as a voter.
type Words = (i32, i64, i64, bool);

/// A record of evidence is testimony at most once, also where it came twice, and nothing is
/// testimony that no agent wrote. The machine has no part in this account.
pub(super) fn testimony_is_what_was_found(
    diaries: &[Diary],
    stored: &Stored,
) -> anyhow::Result<()> {
    let mut found: BTreeMap<Words, u32> = BTreeMap::new();
    for diary in diaries {
        let batches = diary.evidence.batches.values();
        for evidence in batches.flat_map(|batch| &batch.records) {
            let words = (
                diary.agent.0.cast_signed(),
                evidence.check.check.0.cast_signed(),
                evidence.probe.at.0,
                matches!(evidence.role, Role::Voter { .. }),
            );
            *found.entry(words).or_default() += 1;
        }
    }
    for said in stored.testimony.values() {
        let left = found.get_mut(&(said.agent, said.check, said.probe_at, said.voted));
        let left = left.filter(|left| **left > 0);
        *left.with_context(|| format!("nobody wrote it, or it is there twice: {said:?}"))? -= 1;
    }
    Ok(())
}
