//! `picket-load`: one subcommand per module.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use picket_load::{bench, farm, sim};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Loads and tests a Picket mesh.
#[derive(Debug, Parser)]
#[command(name = "picket-load", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// One variant is one module.
#[derive(Debug, Subcommand)]
enum Command {
    Bench(bench::BenchArgs),
    Farm(farm::FarmArgs),
    Sim(sim::SimArgs),
}

fn main() -> ExitCode {
    match obey(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nowhere is left to report that standard error is closed.
            drop(writeln!(std::io::stderr(), "picket-load: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn obey(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        match command {
            Command::Bench(args) => bench::run(args).await,
            Command::Farm(args) => farm::run(args).await,
            Command::Sim(args) => sim::run(&args),
        }
    });
    // Nothing is left to wait for: every task has ended or missed its deadline.
    runtime.shutdown_background();
    result
}
