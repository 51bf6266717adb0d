//! The `picket-agent` command: enrol once, then run.

mod args;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use picket_agent::config::Config;
use picket_agent::{agent, enrol};
use picket_rt::stop::Stop;
use picket_rt::task::TaskSet;
use picket_rt::telemetry;

use crate::args::{Args, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the tasks may take to end once the process was asked to.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    match obey(Args::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nowhere is left to report that standard error is closed.
            drop(writeln!(std::io::stderr(), "picket-agent: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn obey(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Enrol { config, token_file } => {
            let config = Config::load(&config)?;
            let _telemetry =
                telemetry::init("picket-agent", config.name.as_str(), &config.telemetry)?;
            enrol::enrol(&config, &enrol::read_token(&token_file)?).await?;
            Ok(())
        }
        Command::Run {
            config,
            exit_with_parent,
        } => {
            let stop = Stop::new();
            if exit_with_parent {
                stop.listen_for_parent().context("watch standard input")?;
            }
            run(Config::load(&config)?, stop).await
        }
    }
}

async fn run(config: Config, stop: Stop) -> anyhow::Result<()> {
    let telemetry = telemetry::init("picket-agent", config.name.as_str(), &config.telemetry)?;
    stop.listen_for_signals().context("listen for signals")?;
    let tasks = TaskSet::new(stop.clone());
    agent::serve_metrics(&config, &telemetry, &stop, &tasks);
    let ran = agent::run(config, stop.clone(), tasks.clone()).await;
    stop.request();
    let joined = tasks.join_all(STOP_DEADLINE).await;
    ran?;
    if let Some(failure) = tasks.first_failure() {
        return Err(failure.into());
    }
    joined.map_err(|names| anyhow::anyhow!("still running: {}", names.join(", ")))
}
