//! `picket-load sim`: whole meshes in virtual time, each out of one seed.
//!
//! The very cores that run in production are driven by an event heap: three members, a handful of
//! agents, the sites they watch, a model of Postgres, and everything that goes wrong between
//! them. A seed and a commit reproduce a run exactly; every seed runs twice, and a difference
//! between the two is a failure like any other. Start reading at `world`, then `scenario`.
//!
//! Not here: real sockets, real disks, real Raft (the tests of the packages that have them).

mod agent;
pub(crate) mod coverage;
mod disk;
mod env;
mod event;
mod fault;
mod gateway;
mod history;
mod leader;
pub(crate) mod member;
mod net;
mod operator;
mod postgres;
mod queue;
pub(crate) mod raft;
mod report;
pub mod rng;
mod scenario;
mod targets;
mod trace;
pub(crate) mod world;

use std::num::NonZeroU64;

use clap::{Args, ValueEnum};
use picket_scheduler_core::machine::Faults;

pub use crate::sim::report::{Failure, Summary};
use crate::sim::world::Ended;

/// Simulates meshes and checks what must be true of them.
#[derive(Debug, Clone, Args)]
pub struct SimArgs {
    /// How many seeds to run, one after the other.
    #[arg(long, value_name = "N", default_value = "100")]
    pub seeds: NonZeroU64,
    /// The first seed.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub seed: u64,
    /// Print everything that happens; with one seed only.
    #[arg(long)]
    pub trace: bool,
    /// Switch a bug on, to see that it is found.
    #[arg(long, value_name = "BUG")]
    pub fault: Option<Planted>,
    /// Threads; one seed runs on one.
    #[arg(long, value_name = "N", default_value = "2")]
    pub threads: NonZeroU64,
}

/// A bug that can be switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Planted {
    /// The leader acknowledges evidence when it is appended, not when it is committed.
    AckBeforeDurable,
    /// The batch that was just applied is taken for a new one.
    DedupeOffByOne,
    /// Evidence under an old epoch counts.
    EpochGe,
}

impl Planted {
    const fn faults(bug: Option<Self>) -> Faults {
        let none = Faults {
            ack_before_durable: false,
            dedupe_off_by_one: false,
            epoch_ge: false,
        };
        match bug {
            None => none,
            Some(Self::AckBeforeDurable) => Faults {
                ack_before_durable: true,
                ..none
            },
            Some(Self::DedupeOffByOne) => Faults {
                dedupe_off_by_one: true,
                ..none
            },
            Some(Self::EpochGe) => Faults {
                epoch_ge: true,
                ..none
            },
        }
    }

    /// As on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeDurable => "ack_before_durable",
            Self::DedupeOffByOne => "dedupe_off_by_one",
            Self::EpochGe => "epoch_ge",
        }
    }
}

/// Runs the seeds and prints what came of them.
///
/// # Errors
/// When a seed failed.
pub fn run(args: &SimArgs) -> anyhow::Result<()> {
    if args.trace && args.seeds.get() == 1 {
        drop(world::run(args.seed, Planted::faults(args.fault), true));
    }
    let seeds: Vec<u64> = (args.seed..args.seed.saturating_add(args.seeds.get())).collect();
    let summary = report::run_all(&seeds, args.threads.get(), args.fault);
    report::print(&summary);
    match summary.failures().len() {
        0 => Ok(()),
        failed => anyhow::bail!("{failed} of {} seeds failed", seeds.len()),
    }
}

/// Runs one seed, twice.
///
/// # Errors
/// With the first thing that must be true and was not, or with the difference between the runs.
pub fn check(seed: u64, bug: Option<Planted>) -> Result<(), Box<Failure>> {
    run_twice(seed, bug).map(drop)
}

fn run_twice(seed: u64, bug: Option<Planted>) -> Result<Ended, Box<Failure>> {
    let first = world::run(seed, Planted::faults(bug), false);
    if first.violation.is_some() {
        return Err(Box::new(Failure::of(first, bug)));
    }
    let second = world::run(seed, Planted::faults(bug), false);
    if first.hash == second.hash && first.events == second.events {
        Ok(first)
    } else {
        Err(Box::new(Failure::differs(first, &second, bug)))
    }
}
