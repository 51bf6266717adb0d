//! Both lanes, from what agents wrote to what was made of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use picket_load::real::disk::Diary;
use picket_scheduler_core::command::Command;
use picket_scheduler_core::interval_set::IntervalSet;
use picket_scheduler_core::machine::Entry;
use picket_wire::check::Cadence;
use picket_wire::dispersal::phase_ms;
use picket_wire::evidence::EvidenceBatch;
use picket_wire::id::{AgentId, CheckId, Epoch, Incarnation, Seq, ShardSlot};
use picket_wire::lane::rollup::ShardRollup;
use picket_wire::time::{Interval, Span, Timestamp};

use super::super::{EVERY_S, Truth};
use super::stored::Stored;

/// What is not told yet when an agent dies: the window of five seconds, the tenth of it by which
/// telling is spread, and the probes in flight, which are refused or answered at once here.
const UNTOLD: Span = Span::from_secs(7);
/// From the start of a process to its first probe: it opens its spools and finds its blobs.
const STARTING: Span = Span::from_secs(3);

/// One piece of a window, as one owner saw it: what must be there once.
type Piece = (AgentId, ShardSlot, Epoch, Timestamp, Interval);

/// What an agent holds for taken is below the watermark; everything up to the watermark is stored,
/// as it was said and once, and nothing else is. Returns how much that is.
pub(super) fn rollups_are_stored_once(diaries: &[Diary], stored: &Stored) -> anyhow::Result<usize> {
    let mut said: BTreeMap<Piece, &ShardRollup> = BTreeMap::new();
    for diary in diaries {
        let Diary {
            agent,
            incarnation,
            rollup,
            ..
        } = diary;
        let watermark = stored.watermarks.get(&(*agent, *incarnation));
        let watermark = *watermark.with_context(|| format!("{agent} has no watermark"))?;
        ensure!(
            rollup.acked <= watermark,
            "{agent} was told that {} is durable, but it is {watermark}",
            rollup.acked
        );
        ensure!(rollup.acked > Seq(0), "{agent} was never told anything");
        for (_, batch) in rollup.batches.range(..=watermark) {
            for shard in &batch.shards {
                let twice = said.insert(piece(*agent, shard), shard);
                ensure!(twice.is_none(), "{agent} itself said it twice: {shard:?}");
            }
        }
        let last = rollup
            .batches
            .keys()
            .next_back()
            .copied()
            .unwrap_or_default();
        ensure!(
            watermark <= last,
            "{agent} never said {watermark}, only {last}"
        );
    }
    let mut there: BTreeMap<Piece, &ShardRollup> = BTreeMap::new();
    for (agent, shard) in &stored.rollups {
        let twice = there.insert(piece(*agent, shard), shard);
        ensure!(twice.is_none(), "stored twice: {shard:?}");
    }
    let lost: Vec<_> = said
        .iter()
        .filter(|(at, _)| !there.contains_key(at))
        .collect();
    ensure!(
        lost.is_empty(),
        "{} acked windows are not stored: {lost:?}",
        lost.len()
    );
    let invented: Vec<_> = there
        .iter()
        .filter(|(at, _)| !said.contains_key(at))
        .collect();
    ensure!(invented.is_empty(), "nobody said {invented:?}");
    ensure!(said == there, "what is stored is not what was said");
    Ok(there.len())
}

fn piece(agent: AgentId, shard: &ShardRollup) -> Piece {
    (agent, shard.slot, shard.epoch, shard.window, shard.covered)
}

/// A check is due at fixed instants, so what a stretch must count is known without looking: once
/// per interval, whoever owned it, however often it was sent. No agent covers an instant twice.
pub(super) fn counts_are_exact(stored: &Stored) -> anyhow::Result<()> {
    let cadence = Cadence::from_secs(EVERY_S)?;
    let mut due: BTreeMap<CheckId, u64> = BTreeMap::new();
    let mut expected: BTreeMap<CheckId, u64> = BTreeMap::new();
    let mut covered: BTreeMap<(AgentId, ShardSlot), IntervalSet> = BTreeMap::new();
    for (agent, shard) in &stored.rollups {
        let mine = covered.entry((*agent, shard.slot)).or_default();
        let length = mine.len() + shard.covered.len();
        mine.insert(shard.covered);
        ensure!(
            mine.len() == length,
            "{agent} covers an instant twice: {shard:?}"
        );
        let checks = stored
            .checks
            .get(&shard.slot.shard)
            .context("a shard has checks")?;
        for check in checks {
            *expected.entry(*check).or_default() += instants(*check, cadence, shard.covered);
        }
        for check in &shard.checks {
            ensure!(
                checks.contains(&check.check),
                "{shard:?} counts a strange check"
            );
            *due.entry(check.check).or_default() += u64::from(check.due);
        }
    }
    expected.retain(|_, n| *n > 0);
    ensure!(due == expected, "due: {}", differences(&due, &expected));
    Ok(())
}

fn differences(due: &BTreeMap<CheckId, u64>, expected: &BTreeMap<CheckId, u64>) -> String {
    let checks: BTreeSet<_> = due.keys().chain(expected.keys()).collect();
    let lines = checks.into_iter().filter_map(|check| {
        let pair = (due.get(check), expected.get(check));
        (pair.0 != pair.1).then(|| format!("{check} {:?} of {:?}", pair.0, pair.1))
    });
    lines.collect::<Vec<_>>().join(", ")
}

/// How many of a check's instants lie in a stretch.
fn instants(check: CheckId, cadence: Cadence, stretch: Interval) -> u64 {
    let every = i64::from(cadence.secs()) * 1_000;
    let phase = i64::from(phase_ms(check, cadence));
    let before = |at: Timestamp| (at.0 - phase + every - 1).div_euclid(every);
    (before(stretch.until) - before(stretch.from)).cast_unsigned()
}

/// Figures for people are made of the coverage table: it is the union of what was counted, and where
/// it has a hole, the owner was dead.
pub(super) fn coverage_is_what_was_counted(stored: &Stored, truth: &Truth) -> anyhow::Result<()> {
    let mut counted: BTreeMap<ShardSlot, IntervalSet> = BTreeMap::new();
    for (_, shard) in &stored.rollups {
        counted.entry(shard.slot).or_default().insert(shard.covered);
    }
    ensure!(
        counted == stored.coverage,
        "the coverage is not what was counted: {counted:?}, {:?}",
        stored.coverage
    );
    let mut excused = IntervalSet::default();
    for killed in truth
        .killed
        .iter()
        .filter(|killed| killed.part.starts_with("agent"))
    {
        excused.insert(Interval::new(
            Timestamp(killed.at.0 - UNTOLD.0.cast_signed()),
            killed.back + STARTING,
        ));
    }
    for (slot, covered) in counted {
        // A slot that moves is watched by nobody for a moment; figures bridge up to an interval.
        let covered = covered.bridged(Span::from_secs(EVERY_S.into()));
        for pair in covered.intervals().windows(2) {
            let hole = Interval::new(pair[0].until, pair[1].from);
            let mut holes = IntervalSet::default();
            holes.insert(hole);
            ensure!(
                holes.difference(&excused).is_empty(),
                "{slot:?} was not covered in {hole:?}, when nobody was dead: {:?}",
                truth.killed
            );
        }
    }
    Ok(())
}

/// Every batch that an agent holds for taken is in the log of a majority as it was written, and has
/// its effect there once: where it first follows the batch before. Returns how many records that is.
pub(super) fn evidence_is_logged_once(diaries: &[Diary], log: &[Entry]) -> anyhow::Result<usize> {
    let mut taken: BTreeMap<(AgentId, Incarnation), Vec<&EvidenceBatch>> = BTreeMap::new();
    for entry in log {
        let Command::IngestEvidence(ingest) = &entry.command else {
            continue;
        };
        for batch in &ingest.batches {
            let lane = taken.entry((batch.agent, batch.incarnation)).or_default();
            if batch.seq.0 == lane.len() as u64 + 1 {
                lane.push(batch);
            }
        }
    }
    let mut records = 0;
    for diary in diaries {
        let Diary {
            agent, evidence, ..
        } = diary;
        let lane = taken
            .remove(&(*agent, diary.incarnation))
            .unwrap_or_default();
        let last = evidence
            .batches
            .keys()
            .next_back()
            .copied()
            .unwrap_or_default();
        ensure!(
            evidence.acked == last,
            "{agent} still waits for the acks after {}, up to {last}",
            evidence.acked
        );
        ensure!(
            evidence.acked.0 <= lane.len() as u64,
            "{agent} was told that {} is taken, but the log has {}",
            evidence.acked,
            lane.len()
        );
        let written: Vec<&EvidenceBatch> = evidence.batches.values().collect();
        ensure!(lane == written, "the log of {agent} is not what it wrote");
        records += lane.iter().map(|batch| batch.records.len()).sum::<usize>();
    }
    ensure!(taken.is_empty(), "nobody wrote {:?}", taken.keys());
    Ok(records)
}
