//! Real processes under test: a whole mesh, an nginx, a receiver of webhooks, a collector of spans.
//!
//! Nothing here stands in for a part of Picket: the mesh is `picket dev` with the programs that
//! ship, found beside the test's own binary.

pub mod api;
pub mod collector;
pub mod disk;
pub mod mesh;
pub mod metrics;
pub mod nginx;
pub mod receiver;
pub mod sockets;

use std::path::PathBuf;

use anyhow::Context;
use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

/// A program of this workspace: the folder above the one that test binaries are in.
///
/// # Errors
/// When it is not built.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("cannot tell where this program is")?;
    let built = this
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    built
        .with_context(|| format!("{name} is not built; run `cargo build --workspace --bins` first"))
}

/// Sends a signal to a process by its id.
///
/// # Errors
/// When there is no such process.
pub fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let id = Pid::from_raw(pid.cast_signed()).context("zero is no process")?;
    kill_process(id, signal).with_context(|| format!("send {signal:?} to process {pid}"))
}
