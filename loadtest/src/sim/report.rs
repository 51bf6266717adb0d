//! Many seeds on a few threads, and what people are told about them.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use picket_rt::build_info;
use picket_wire::time::Span;

use crate::oracle::Violation;
use crate::sim::coverage::{Coverage, Met};
use crate::sim::world::Ended;
use crate::sim::{Planted, run_twice};

/// From so many seeds on, a situation that was never met is worth a word.
const ENOUGH_SEEDS: usize = 200;
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// Failures that are printed whole.
const PRINTED: usize = 3;

/// A seed that failed, with what it takes to understand it and to run it again.
#[derive(Debug)]
pub struct Failure {
    seed: u64,
    oracle: &'static str,
    detail: String,
    tail: Vec<String>,
    bug: Option<Planted>,
}

impl Failure {
    /// Which oracle complained.
    #[must_use]
    pub const fn oracle(&self) -> &'static str {
        self.oracle
    }

    pub(crate) fn of(ended: Ended, bug: Option<Planted>) -> Self {
        let nothing = || Violation::new("nothing", "no violation".to_owned());
        let Violation { oracle, detail } = ended.violation.unwrap_or_else(nothing);
        Self {
            seed: ended.seed,
            oracle,
            detail,
            tail: ended.tail,
            bug,
        }
    }

    pub(crate) fn differs(first: Ended, second: &Ended, bug: Option<Planted>) -> Self {
        let detail = format!(
            "two runs differ: {} events with hash {:016x}, {} events with hash {:016x}",
            first.events, first.hash, second.events, second.hash
        );
        Self {
            seed: first.seed,
            oracle: "determinism",
            detail,
            tail: first.tail,
            bug,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            oracle,
            detail,
            tail,
            bug,
        } = self;
        for line in tail {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "seed {seed} breaks {oracle}: {detail}")?;
        writeln!(f, "by {}; again with", build_info::describe("picket-load"))?;
        write!(f, "  picket-load sim --seeds 1 --seed {seed}")?;
        match bug {
            Some(bug) => write!(f, " --fault {} --trace", bug.name()),
            None => write!(f, " --trace"),
        }
    }
}

/// What came of many seeds.
#[derive(Debug, Default)]
pub struct Summary {
    seeds: usize,
    failures: Vec<Failure>,
    events: u64,
    simulated: u64,
    coverage: Coverage,
    took: Duration,
}

impl Summary {
    fn add(&mut self, result: Result<Ended, Box<Failure>>) {
        self.seeds += 1;
        match result {
            Ok(ended) => {
                self.events += ended.events;
                self.simulated += ended.simulated.0;
                self.coverage.add(&ended.coverage);
            }
            Err(failure) => self.failures.push(*failure),
        }
    }

    /// How many seeds were run.
    #[must_use]
    pub const fn seeds(&self) -> usize {
        self.seeds
    }

    /// Those that failed, by seed.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Situations that were never met, when there were enough seeds to expect them.
    #[must_use]
    pub fn never_met(&self) -> Vec<&'static str> {
        let never = Met::ALL
            .iter()
            .filter(|met| self.coverage.count(**met) == 0);
        if self.seeds < ENOUGH_SEEDS {
            Vec::new()
        } else {
            never.map(|met| met.name()).collect()
        }
    }
}

/// Runs seeds on a few threads.
pub(crate) fn run_all(seeds: &[u64], threads: u64, bug: Option<Planted>) -> Summary {
    let started = Instant::now();
    let next = AtomicUsize::new(0);
    let summary = Mutex::new(Summary::default());
    let progress = Progress::new(seeds.len(), started);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = run_twice(seed, bug);
                    let mut summary = summary
                        .lock()
                        .expect("no thread panics while it holds the summary");
                    summary.add(result);
                    progress.tell(&summary);
                }
            });
        }
    });
    let mut summary = summary
        .into_inner()
        .expect("no thread panics while it holds the summary");
    summary.failures.sort_by_key(|failure| failure.seed);
    summary.took = started.elapsed();
    summary
}

/// A line on standard error for whoever waits.
struct Progress {
    seeds: usize,
    started: Instant,
    told: Mutex<Instant>,
}

impl Progress {
    fn new(seeds: usize, started: Instant) -> Self {
        Self {
            seeds,
            started,
            told: Mutex::new(started),
        }
    }

    fn tell(&self, summary: &Summary) {
        let mut told = self.told.lock().expect("no thread panics while it tells");
        if told.elapsed() < TELL_EVERY || !std::io::stderr().is_terminal() {
            return;
        }
        *told = Instant::now();
        let each = self.started.elapsed() / u32::try_from(summary.seeds.max(1)).unwrap_or(u32::MAX);
        let left = each * u32::try_from(self.seeds - summary.seeds).unwrap_or(u32::MAX);
        let failed = summary.failures.len();
        let line = format!(
            "{} of {} seeds, {failed} failed, {} s left",
            summary.seeds,
            self.seeds,
            left.as_secs()
        );
        // Nobody may be reading; the run goes on all the same.
        drop(writeln!(std::io::stderr(), "{line}"));
    }
}

/// Prints failures and figures.
#[expect(clippy::print_stdout, reason = "the report is the output")]
pub(crate) fn print(summary: &Summary) {
    for failure in summary.failures.iter().take(PRINTED) {
        println!("{failure}\n");
    }
    for failure in summary.failures.iter().skip(PRINTED) {
        println!("seed {} breaks {}", failure.seed, failure.oracle);
    }
    let seconds = summary.took.as_millis().max(1);
    let rate = u128::from(summary.events) * 2_000 / seconds;
    println!("seeds                {:>12}", summary.seeds);
    println!("failed               {:>12}", summary.failures.len());
    println!(
        "simulated            {:>12}",
        Span(summary.simulated).to_string()
    );
    println!("events               {:>12}", summary.events);
    println!("events per second    {rate:>12}   (every seed runs twice)");
    println!("took                 {:>10} ms", summary.took.as_millis());
    println!();
    for met in Met::ALL {
        println!("{:>12}  {}", summary.coverage.count(*met), met.name());
    }
    for never in summary.never_met() {
        println!("never met in {} seeds: {never}", summary.seeds);
    }
}
