//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use picket_rt::build_info;

/// Probes sites on behalf of a Picket mesh.
#[derive(Debug, Parser)]
#[command(name = "picket-agent", version = build_info::VERSION)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Join a mesh with a join token; needed once per data directory.
    Enrol {
        /// Settings file.
        #[arg(long)]
        config: PathBuf,
        /// File with the join token; `-` reads standard input.
        #[arg(long)]
        token_file: PathBuf,
    },
    /// Probe, until SIGINT or SIGTERM.
    Run {
        /// Settings file.
        #[arg(long)]
        config: PathBuf,
        /// Stop when standard input ends, as it does when the parent goes away.
        #[arg(long)]
        exit_with_parent: bool,
    },
}
