//! What the scheduler's command line can do.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};
use picket_rt::files::{PRIVATE, replace};
use picket_rt::stop::Stop;
use picket_rt::{build_info, telemetry};
use picket_scheduler::config::Config;
use picket_scheduler::node::Node;
use picket_scheduler::setup;
use picket_storage::pg::private::{Fsync, PrivatePostgres};
use picket_wire::id::MemberId;

/// A scheduler member of Picket, the distributed site monitor.
#[derive(Debug, Parser)]
#[command(name = "picket-scheduler", version = build_info::VERSION)]
pub(crate) struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run a member until SIGTERM or SIGINT.
    Run {
        /// Settings file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Stop when standard input ends, as it does when the parent goes away.
        #[arg(long)]
        exit_with_parent: bool,
    },
    /// Make up the first administrator's token: prints it once and writes its hash where the
    /// settings expect it.
    Init {
        /// Settings file of the member that forms the cluster.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Run a private Postgres for development, on a Unix socket only, until SIGTERM or SIGINT.
    Postgres {
        /// Where it lives; made first if need be.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// File that gets its connection string once it answers.
        #[arg(long, value_name = "FILE")]
        url_file: PathBuf,
        /// Stop when standard input ends, as it does when the parent goes away.
        #[arg(long)]
        exit_with_parent: bool,
    },
    /// The mesh's certificate authority.
    #[command(subcommand)]
    Ca(Ca),
}

#[derive(Debug, Subcommand)]
enum Ca {
    /// Create it; prints its fingerprint.
    Init {
        /// Where; must not exist.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Issue a member's certificate and key.
    IssueMember {
        /// The authority's directory.
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// The member, such as `mem_1`.
        #[arg(long)]
        member: MemberId,
        /// A host name or address of the member; may be given several times.
        #[arg(long = "name")]
        names: Vec<String>,
        /// Where the certificate and key go.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

impl Cli {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::Run {
                config,
                exit_with_parent,
            } => run(&config, exit_with_parent),
            Action::Init { config } => {
                let config = Config::load(&config)?;
                let cluster = config.cluster.context(
                    "`[cluster]` is missing: only the member that forms the cluster is initialised",
                )?;
                print(&setup::create_admin_token(&cluster.admin_token_hash)?)
            }
            Action::Postgres {
                dir,
                url_file,
                exit_with_parent,
            } => postgres(&dir, &url_file, exit_with_parent),
            Action::Ca(Ca::Init { dir }) => print(&setup::create_authority(&dir)?),
            Action::Ca(Ca::IssueMember {
                ca,
                member,
                names,
                out,
            }) => Ok(setup::issue_member(&ca, member, &names, &out)?),
        }
    }
}

fn run(path: &Path, exit_with_parent: bool) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    runtime.block_on(async move {
        let instance = config.member.to_string();
        let telemetry = telemetry::init("picket-scheduler", &instance, &config.telemetry)?;
        let stop = stop_of_the_process(exit_with_parent)?;
        tracing::info!(member = %config.member, build = build_info::VERSION, "starting");
        let node = Node::start(config, Some(telemetry.metrics()), stop).await?;
        node.finish().await?;
        tracing::info!("stopped");
        Ok(())
    })
}

fn stop_of_the_process(exit_with_parent: bool) -> anyhow::Result<Stop> {
    let stop = Stop::new();
    stop.listen_for_signals().context("listen for signals")?;
    if exit_with_parent {
        stop.listen_for_parent().context("watch standard input")?;
    }
    Ok(stop)
}

fn postgres(dir: &Path, url_file: &Path, exit_with_parent: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    runtime.block_on(async move {
        let stop = stop_of_the_process(exit_with_parent)?;
        let mut postgres = PrivatePostgres::start(dir, Fsync::On).await?;
        // Whoever waits for the file may read it as soon as it is there.
        replace(url_file, postgres.url().as_bytes(), PRIVATE)
            .with_context(|| url_file.display().to_string())?;
        let ended = tokio::select! {
            () = stop.requested() => return Ok(postgres.stop().await?),
            ended = postgres.ended() => ended?,
        };
        // Whoever started us starts us again, and so the server: no second supervisor here.
        anyhow::bail!("Postgres ended by itself: {ended}")
    })
}

fn print(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("print")
}

/// Says on standard error what went wrong, with its causes.
pub(crate) fn complain(error: &anyhow::Error) {
    // Nowhere is left to report that standard error is closed.
    drop(writeln!(std::io::stderr(), "picket-scheduler: {error:#}"));
}
