//! The live lane: what became of the probes that were due in one second, in half a byte each.
//!
//! Both sides hold the same schedule ([`LiveOrder`]), so a result says neither whose it is nor
//! when it was due: a run is a stretch of ring positions. What was skipped or failed is a list of
//! exceptions. What is left is the latency, coded as the difference from what both sides expect
//! of the check and remember as one byte.
//!
//! The lane may lose seconds. Each second therefore carries a checksum of the remembered bytes it
//! builds on: a reader that lacks one finds out, refuses the second and asks for a reset
//! ([`crate::control::ToAgent::ResetLive`]). After a reset both sides remember nothing but a
//! constant, which makes the next differences absolute values. Eras number the resets, so that
//! it does not matter whether the first second after one arrives.

mod bits;
mod frame;
mod order;

pub use crate::lane::live::order::LiveOrder;

use crate::check::Cadence;
use crate::lane::live::bits::{read_rice, write_rice};
use crate::latency::{BUCKETS, bucket};
use crate::limits::INTERVALS_SECS;
use crate::reason::Reason;
use crate::time::Timestamp;
use crate::varint::{unzigzag, zigzag};

/// What one second of an agent's schedule came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSecond {
    /// The schedule that gives positions their meaning.
    pub generation: u32,
    /// How often the expectations were reset within the generation.
    pub era: u32,
    /// The second in which the probes were due; whole seconds from 1970 to 2106.
    pub second: Timestamp,
    /// CRC32C of the expectations that this second builds on.
    pub memory: u32,
    /// One run per cadence that had something due, in ascending order.
    pub runs: Vec<LiveRun>,
}

/// A stretch of one cadence's ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRun {
    /// The ring.
    pub cadence: Cadence,
    /// First position that was due.
    pub first: u32,
    /// Positions that were due from there on.
    pub due: u32,
    /// Those that did not run or have not ended: ascending, counted from `first`.
    pub skipped: Vec<u32>,
    /// Those that were not ok, and why: ascending, counted from `first`.
    pub failed: Vec<(u32, Reason)>,
    /// Rice parameter of `residuals`, at most [`bits::RICE_MAX`].
    pub rice: u8,
    /// Differences of latency buckets of all the others.
    pub residuals: Vec<u8>,
}

/// What became of one probe that was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveOutcome {
    /// It was ok; total latency as a bucket of [`crate::latency`].
    Ok(u8),
    /// It was not ok.
    Failed(Reason),
    /// It did not run, or has not ended.
    Skipped,
}

/// One cadence's share of a second, as the agent knows it and as the leader learns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveDue<'a> {
    /// The ring.
    pub cadence: Cadence,
    /// First position that was due.
    pub first: u32,
    /// What became of it and of those behind it.
    pub outcomes: &'a [LiveOutcome],
}

/// One result as the leader learns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveResult {
    /// The ring.
    pub cadence: Cadence,
    /// The position in it; [`LiveOrder::at`] tells the check.
    pub position: u32,
    /// What became of the probe.
    pub outcome: LiveOutcome,
}

/// A second that cannot be understood here and now. The lane is lossy: nothing is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    /// It belongs to another schedule, whose announcement is late or was replaced.
    #[error("schedule {expected} is known, the second is of {got}")]
    Generation {
        /// What this side knows.
        expected: u32,
        /// What the second is of.
        got: u32,
    },
    /// It was sent before a reset that has been seen.
    #[error("era {got} is over, {current} has begun")]
    Era {
        /// The era of this side.
        current: u32,
        /// The era of the second.
        got: u32,
    },
    /// A second was lost before: answer with a reset.
    #[error("the two sides expect different latencies; a second was lost")]
    Desync,
    /// It contradicts the schedule or itself.
    #[error("{0}")]
    Malformed(&'static str),
}

/// Stands for “no latency yet” in place of a bucket.
const UNKNOWN: u8 = u8::MAX;
/// What an unknown latency is compared with: 50 ms, the middle of what sites answer in.
const UNKNOWN_EXPECTED: u8 = bucket(50_000);
/// How much of a surprise is learnt, as a divisor, and how many buckets at most.
///
/// Following the last latency all the way doubles its noise, and a spike then costs twice. On
/// synthetic sites (tests/live.rs; noise of 5, 15 and 30 %) a residual takes 0.30, 0.47 and 0.58
/// bytes that way, and 0.27, 0.42 and 0.52 with these two.
const LEARN_DIVISOR: u8 = 3;
const LEARN_MAX: u8 = 3;

/// What is expected of each position of each ring, as a bucket.
#[derive(Debug, Clone)]
struct Memory {
    rings: Vec<Vec<u8>>,
}

impl Memory {
    fn new(sizes: &RingSizes) -> Self {
        Self {
            rings: sizes
                .iter()
                .map(|&size| vec![UNKNOWN; size as usize])
                .collect(),
        }
    }

    fn forget(&mut self) {
        self.rings.iter_mut().for_each(|ring| ring.fill(UNKNOWN));
    }

    fn stretch(&mut self, cadence: Cadence, first: u32, due: usize) -> Option<&mut [u8]> {
        let ring = self.rings.get_mut(class(cadence))?;
        ring.get_mut(first as usize..)?.get_mut(..due)
    }
}

/// Checks in each cadence's ring, in the order of [`INTERVALS_SECS`].
pub type RingSizes = [u32; INTERVALS_SECS.len()];

/// The index of a cadence in [`INTERVALS_SECS`]; past its end for one that is not valid.
fn class(cadence: Cadence) -> usize {
    INTERVALS_SECS
        .iter()
        .take_while(|&&secs| secs != cadence.secs())
        .count()
}

/// The agent's side of the lane.
#[derive(Debug, Clone)]
pub struct LiveEncoder {
    generation: u32,
    era: u32,
    memory: Memory,
    scratch: Vec<u16>,
}

impl LiveEncoder {
    /// The lane of a schedule whose rings have these sizes.
    #[must_use]
    pub fn new(generation: u32, sizes: &RingSizes) -> Self {
        Self {
            generation,
            era: 0,
            memory: Memory::new(sizes),
            scratch: Vec::new(),
        }
    }

    /// Begins a new era: the leader lost its place, or there is a new leader.
    pub fn reset(&mut self) {
        self.era = self.era.saturating_add(1);
        self.memory.forget();
    }

    /// Codes one second.
    ///
    /// # Panics
    /// When `dues` is not in ascending order of cadence or reaches beyond a ring: both come from
    /// the same schedule as the sizes.
    #[must_use]
    pub fn second(&mut self, second: Timestamp, dues: &[LiveDue<'_>]) -> LiveSecond {
        assert!(
            dues.is_sorted_by(|a, b| a.cadence < b.cadence),
            "one run per cadence, ascending"
        );
        let mut memory = 0;
        let runs = dues.iter().map(|due| self.run(due, &mut memory)).collect();
        let (generation, era) = (self.generation, self.era);
        LiveSecond {
            generation,
            era,
            second,
            memory,
            runs,
        }
    }

    fn run(&mut self, due: &LiveDue<'_>, memory: &mut u32) -> LiveRun {
        let LiveDue {
            cadence,
            first,
            outcomes,
        } = *due;
        let known = self
            .memory
            .stretch(cadence, first, outcomes.len())
            .expect("what is due lies within its ring");
        *memory = crc32c::crc32c_append(*memory, known);
        let (mut skipped, mut failed) = (Vec::new(), Vec::new());
        self.scratch.clear();
        for ((offset, outcome), known) in (0..).zip(outcomes).zip(known) {
            match *outcome {
                LiveOutcome::Ok(latency) => {
                    let latency = latency.min(BUCKETS - 1);
                    self.scratch.push(residual(*known, latency));
                    *known = learn(*known, latency);
                }
                LiveOutcome::Failed(reason) => failed.push((offset, reason)),
                LiveOutcome::Skipped => skipped.push(offset),
            }
        }
        let (rice, residuals) = write_rice(&self.scratch);
        let due = u32::try_from(outcomes.len()).expect("no longer than a ring");
        LiveRun {
            cadence,
            first,
            due,
            skipped,
            failed,
            rice,
            residuals,
        }
    }
}

/// The leader's side of the lane.
#[derive(Debug, Clone)]
pub struct LiveDecoder {
    generation: u32,
    era: u32,
    memory: Memory,
    scratch: Vec<u16>,
}

impl LiveDecoder {
    /// The lane of a schedule whose rings have these sizes.
    #[must_use]
    pub fn new(generation: u32, sizes: &RingSizes) -> Self {
        Self {
            generation,
            era: 0,
            memory: Memory::new(sizes),
            scratch: Vec::new(),
        }
    }

    /// Decodes one second and shows each result, cadence by cadence in ring order.
    ///
    /// # Errors
    /// When the second cannot be understood; then nothing was shown and nothing is remembered of
    /// it. Answer [`LiveError::Desync`] with a reset.
    pub fn second(
        &mut self,
        second: &LiveSecond,
        mut show: impl FnMut(LiveResult),
    ) -> Result<(), LiveError> {
        self.enter(second)?;
        self.verify(second)?;
        self.read_column(second)?;
        let mut residuals = std::mem::take(&mut self.scratch);
        let mut next = residuals.iter().copied();
        for run in &second.runs {
            self.apply(run, &mut next, &mut show);
        }
        residuals.clear();
        self.scratch = residuals;
        Ok(())
    }

    fn enter(&mut self, second: &LiveSecond) -> Result<(), LiveError> {
        if second.generation != self.generation {
            let (expected, got) = (self.generation, second.generation);
            return Err(LiveError::Generation { expected, got });
        }
        if second.era < self.era {
            return Err(LiveError::Era {
                current: self.era,
                got: second.era,
            });
        }
        if second.era > self.era {
            self.era = second.era;
            self.memory.forget();
        }
        Ok(())
    }

    fn verify(&mut self, second: &LiveSecond) -> Result<(), LiveError> {
        let mut memory = 0;
        for run in &second.runs {
            let known = self
                .memory
                .stretch(run.cadence, run.first, run.due as usize)
                .ok_or(LiveError::Malformed("a run reaches beyond its ring"))?;
            memory = crc32c::crc32c_append(memory, known);
        }
        if memory == second.memory {
            Ok(())
        } else {
            Err(LiveError::Desync)
        }
    }

    /// Decodes all residuals and checks that they lead to existing buckets, before anything is
    /// remembered: afterwards nothing can fail.
    fn read_column(&mut self, second: &LiveSecond) -> Result<(), LiveError> {
        self.scratch.clear();
        for run in &second.runs {
            let begin = self.scratch.len();
            let count = run
                .latencies()
                .ok_or(LiveError::Malformed("exceptions exceed a run"))?;
            read_rice(run.rice, &run.residuals, count, &mut self.scratch)
                .map_err(LiveError::Malformed)?;
            let known = self
                .memory
                .stretch(run.cadence, run.first, run.due as usize);
            let known = known.ok_or(LiveError::Malformed("a run reaches beyond its ring"))?;
            let mut residuals = self.scratch.iter().skip(begin);
            let exists = run.walk().zip(known.iter()).all(|(exception, &known)| {
                exception.is_some()
                    || residuals
                        .next()
                        .is_some_and(|&r| latency(known, r).is_some())
            });
            if !exists {
                return Err(LiveError::Malformed("a latency that does not exist"));
            }
        }
        Ok(())
    }

    fn apply(
        &mut self,
        run: &LiveRun,
        residuals: &mut impl Iterator<Item = u16>,
        show: &mut impl FnMut(LiveResult),
    ) {
        let cadence = run.cadence;
        let known = self
            .memory
            .stretch(cadence, run.first, run.due as usize)
            .expect("verified before");
        for ((position, exception), known) in (run.first..).zip(run.walk()).zip(known) {
            let outcome = exception.unwrap_or_else(|| {
                let residual = residuals.next().expect("the column was read whole");
                let latency = latency(*known, residual).expect("read before");
                *known = learn(*known, latency);
                LiveOutcome::Ok(latency)
            });
            show(LiveResult {
                cadence,
                position,
                outcome,
            });
        }
    }
}

impl LiveRun {
    /// Positions that have a latency; `None` when there are more exceptions than positions.
    fn latencies(&self) -> Option<usize> {
        (self.due as usize)
            .checked_sub(self.skipped.len())?
            .checked_sub(self.failed.len())
    }

    /// The exception at each position, if it is one.
    fn walk(&self) -> impl Iterator<Item = Option<LiveOutcome>> {
        let mut skipped = self.skipped.iter().copied().peekable();
        let mut failed = self.failed.iter().copied().peekable();
        (0..self.due).map(move |offset| {
            if skipped.next_if_eq(&offset).is_some() {
                return Some(LiveOutcome::Skipped);
            }
            let failed = failed.next_if(|&(at, _)| at == offset);
            failed.map(|(_, reason)| LiveOutcome::Failed(reason))
        })
    }
}

/// The latency that a residual is counted from.
const fn expected(known: u8) -> u8 {
    if known == UNKNOWN {
        UNKNOWN_EXPECTED
    } else {
        known
    }
}

/// What to expect after `latency`.
fn learn(known: u8, latency: u8) -> u8 {
    let surprise = known.abs_diff(latency);
    if known == UNKNOWN {
        return latency;
    }
    if surprise <= 1 {
        return known;
    }
    let step = (surprise / LEARN_DIVISOR).clamp(1, LEARN_MAX);
    if latency > known {
        known + step
    } else {
        known - step
    }
}

fn residual(known: u8, latency: u8) -> u16 {
    u16::try_from(zigzag(i64::from(latency) - i64::from(expected(known))))
        .expect("the difference of two bytes takes nine bits")
}

/// The latency that lies `residual` from the expected one, if there is such a bucket.
fn latency(known: u8, residual: u16) -> Option<u8> {
    let latency = i64::from(expected(known)) + unzigzag(residual.into());
    u8::try_from(latency)
        .ok()
        .filter(|&latency| latency < BUCKETS)
}
