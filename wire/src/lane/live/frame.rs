//! A live second as bytes.
//!
//! | field | form |
//! |---|---|
//! | generation, era | variable-length integers |
//! | second | Unix seconds, variable length |
//! | memory | 4 bytes |
//! | runs | count, then per run: |
//! | – cadence | index in [`INTERVALS_SECS`], one byte, ascending |
//! | – first, due | variable length |
//! | – skipped | count, then gaps |
//! | – failed | count, then gap and reason each |
//! | – Rice parameter | one byte |
//! | – residuals | length in bytes, then the column |
//!
//! A gap is the distance from the position after the previous one.

use crate::check::Cadence;
use crate::codec::{Breach, DecodeError, Message, rule};
use crate::envelope::Kind;
use crate::lane::live::bits::RICE_MAX;
use crate::lane::live::{LiveRun, LiveSecond, class};
use crate::limits::INTERVALS_SECS;
use crate::reason::Reason;
use crate::time::Timestamp;
use crate::varint::{Reader, put};

impl Message for LiveSecond {
    const KIND: Kind = Kind::Live;

    fn write(&self, out: &mut Vec<u8>) {
        put(out, self.generation.into());
        put(out, self.era.into());
        put(
            out,
            u64::try_from(self.second.0.div_euclid(1_000)).unwrap_or(0),
        );
        out.extend_from_slice(&self.memory.to_le_bytes());
        put(out, self.runs.len() as u64);
        self.runs.iter().for_each(|run| write_run(out, run));
    }

    fn read(payload: &[u8]) -> Result<Self, DecodeError> {
        read(&mut Reader::new(payload)).map_err(DecodeError::Columns)
    }

    fn check(&self) -> Result<(), Breach> {
        let second = self.second.0;
        let whole = second % 1_000 == 0 && (0..=i64::from(u32::MAX) * 1_000).contains(&second);
        rule("second", "a whole second from 1970 to 2106", whole)?;
        let ascending = self.runs.is_sorted_by(|a, b| a.cadence < b.cadence);
        rule("runs", "one per cadence, ascending", ascending)?;
        self.runs.iter().try_for_each(check_run)
    }
}

fn check_run(run: &LiveRun) -> Result<(), Breach> {
    let LiveRun {
        cadence,
        first,
        due,
        skipped,
        failed,
        rice,
        residuals,
    } = run;
    rule("cadence", "an interval that exists", cadence.is_valid())?;
    rule("rice", "at most 7", *rice <= RICE_MAX)?;
    rule(
        "due",
        "a ring of fewer than 2^32 checks",
        first.checked_add(*due).is_some(),
    )?;
    let offsets = skipped.is_sorted_by(|a, b| a < b) && failed.is_sorted_by(|a, b| a.0 < b.0);
    rule("exceptions", "strictly ascending order", offsets)?;
    let last = skipped.last().max(failed.last().map(|(at, _)| at));
    rule(
        "exceptions",
        "positions within the run",
        last.is_none_or(|last| last < due),
    )?;
    let both = failed
        .iter()
        .any(|(at, _)| skipped.binary_search(at).is_ok());
    rule("exceptions", "positions skipped or failed, not both", !both)?;
    let values = (*due as usize).saturating_sub(skipped.len() + failed.len());
    rule(
        "residuals",
        "a bit or more for each value",
        values <= residuals.len().saturating_mul(8),
    )
}

fn write_run(out: &mut Vec<u8>, run: &LiveRun) {
    out.push(u8::try_from(class(run.cadence)).expect("there are few intervals"));
    put(out, run.first.into());
    put(out, run.due.into());
    put(out, run.skipped.len() as u64);
    let mut next = 0;
    for &offset in &run.skipped {
        put_gap(out, &mut next, offset);
    }
    put(out, run.failed.len() as u64);
    next = 0;
    for &(offset, reason) in &run.failed {
        put_gap(out, &mut next, offset);
        out.push(reason.code());
    }
    out.push(run.rice);
    put(out, run.residuals.len() as u64);
    out.extend_from_slice(&run.residuals);
}

fn put_gap(out: &mut Vec<u8>, next: &mut u32, offset: u32) {
    put(out, offset.saturating_sub(*next).into());
    *next = offset.saturating_add(1);
}

fn read(reader: &mut Reader<'_>) -> Result<LiveSecond, &'static str> {
    let generation = reader.u32()?;
    let era = reader.u32()?;
    let second = Timestamp(i64::from(reader.u32()?) * 1_000);
    let memory = u32::from_le_bytes(reader.array()?);
    let count = reader.count()?;
    if count > INTERVALS_SECS.len() {
        return Err("more runs than intervals exist");
    }
    let runs = (0..count)
        .map(|_| read_run(reader))
        .collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(LiveSecond {
        generation,
        era,
        second,
        memory,
        runs,
    })
}

fn read_run(reader: &mut Reader<'_>) -> Result<LiveRun, &'static str> {
    let class = usize::from(reader.byte()?);
    let secs = INTERVALS_SECS.get(class).ok_or("no such interval")?;
    let cadence = Cadence::from_secs(*secs).map_err(|_| "no such interval")?;
    let first = reader.u32()?;
    let due = reader.u32()?;
    let count = reader.count()?;
    let mut next = 0;
    let skipped = (0..count)
        .map(|_| read_gap(reader, &mut next))
        .collect::<Result<_, _>>()?;
    let count = reader.count()?;
    next = 0;
    let failed = (0..count)
        .map(|_| read_failed(reader, &mut next))
        .collect::<Result<_, _>>()?;
    let rice = reader.byte()?;
    let length = reader.count()?;
    let residuals = reader.bytes(length)?.to_vec();
    Ok(LiveRun {
        cadence,
        first,
        due,
        skipped,
        failed,
        rice,
        residuals,
    })
}

fn read_failed(reader: &mut Reader<'_>, next: &mut u32) -> Result<(u32, Reason), &'static str> {
    let offset = read_gap(reader, next)?;
    let reason = Reason::from_code(reader.byte()?).ok_or("no such reason")?;
    Ok((offset, reason))
}

fn read_gap(reader: &mut Reader<'_>, next: &mut u32) -> Result<u32, &'static str> {
    let offset = next.checked_add(reader.u32()?).ok_or(OVERFLOW)?;
    *next = offset.checked_add(1).ok_or(OVERFLOW)?;
    Ok(offset)
}

const OVERFLOW: &str = "a position beyond any ring";
