//! `picket-load bench`: what one check, one result, one record costs.
//!
//! Each figure stands beside a reference that is measured in the same run, round by round in turn,
//! because an absolute number of a busy machine says little. What is compared and why is in
//! `docs/performance.md`.

mod cluster;
mod cpu;
mod evidence;
mod live;
mod origin;
mod probe;
mod report;
mod scratch;
mod speaker;
mod transitions;

use std::future::Future;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::bench::report::Report;
use crate::bench::scratch::Scratch;

/// Measures what one check, one result, one record costs.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Measure only this; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<Bench>,
    /// Rounds of which the median is told.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// A tenth of the work per round: to see that everything runs, not how fast.
    #[arg(long)]
    quick: bool,
    /// How to print the report.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
    /// Where the members and Postgres keep their files: a disk, not memory.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Serve what the probes are aimed at; the bench starts itself so.
    #[arg(long, hide = true)]
    serve_origin: bool,
}

/// What can be measured; one variant is one function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// Processor time of a plain HTTP check.
    Http,
    /// Processor time of an HTTPS check, full and resumed.
    Https,
    /// Bytes and processor time of a result on the live lane.
    Live,
    /// Evidence records through the replicated log.
    Evidence,
    /// Transitions into Postgres.
    Transitions,
}

/// How the report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// How much is done.
#[derive(Debug, Clone)]
struct Effort {
    rounds: u16,
    quick: bool,
    dir: PathBuf,
}

impl Effort {
    /// `full`, or a tenth of it when only the way matters.
    const fn of(&self, full: u32) -> u32 {
        if self.quick { full / 10 } else { full }
    }

    /// A directory that goes with what is measured in it.
    fn scratch(&self, name: &str) -> anyhow::Result<Scratch> {
        Scratch::new(&self.dir, name)
    }
}

/// Measures and prints.
///
/// # Errors
/// When something that is measured does not work.
pub async fn run(args: BenchArgs) -> anyhow::Result<()> {
    if args.serve_origin {
        return on_own_thread(origin::serve).await;
    }
    let effort = Effort {
        rounds: args.rounds,
        quick: args.quick,
        dir: args.dir.clone(),
    };
    let mut report = Report::new(args.rounds);
    for &bench in Bench::value_variants() {
        if args.only.is_empty() || args.only.contains(&bench) {
            let name = bench
                .to_possible_value()
                .map(|value| value.get_name().to_owned());
            let figures = bench.measure(effort.clone()).await;
            report
                .figures
                .extend(figures.with_context(|| format!("bench {}", name.unwrap_or_default()))?);
        }
    }
    match args.output {
        Output::Table => report.print_table(),
        Output::Json => report.print_json(),
    }
    .context("print the report")
}

impl Bench {
    async fn measure(self, effort: Effort) -> anyhow::Result<Vec<report::Figure>> {
        match self {
            Self::Http => on_own_thread(move || probe::plain(effort)).await,
            Self::Https => on_own_thread(move || probe::secured(effort)).await,
            Self::Live => tokio::task::spawn_blocking(move || live::measure(&effort)).await?,
            Self::Evidence => evidence::measure(&effort).await,
            Self::Transitions => transitions::measure(&effort).await,
        }
    }
}

/// Runs `work` on a runtime of one thread, as every contender of a comparison runs.
async fn on_own_thread<T, F>(work: impl FnOnce() -> F + Send + 'static) -> anyhow::Result<T>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>>,
{
    let run = move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build()?.block_on(work())
    };
    tokio::task::spawn_blocking(run).await?
}
