//! The processes of a dev mesh: started in groups of their own, stopped by their ids.
//!
//! An interrupt from the terminal reaches only `picket dev`, which then stops its children in
//! order. Each child writes to a log file of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::process::{Child, ChildStdin, Command};

/// A child that does not end within this time of being asked is killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Where the sibling programs are: beside this one.
pub(super) fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("cannot tell where this program is")?;
    let path = this.with_file_name(name);
    anyhow::ensure!(
        path.is_file(),
        "{} is missing; build all programs with `cargo build --bins`",
        path.display()
    );
    Ok(path)
}

/// One running child.
#[derive(Debug)]
pub(super) struct Process {
    /// What it is, for people.
    pub(super) name: String,
    child: Child,
    /// Held open: a child that was told so ends when this closes, however we end.
    _stdin: Option<ChildStdin>,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; its output goes to `log`.
    pub(super) fn start(
        name: &str,
        program: &Path,
        args: &[&str],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| log.display().to_string())?;
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdin = child.stdin.take();
        Ok(Self {
            name: name.to_owned(),
            child,
            _stdin: stdin,
            log: log.to_path_buf(),
        })
    }

    /// Its process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Fails when it has ended, with the end of its log.
    pub(super) fn must_run(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        anyhow::bail!("{} ended with {status}:\n{}", self.name, tail(&self.log))
    }

    /// Asks it to end and waits; kills it when it takes too long.
    pub(super) async fn stop(&mut self) {
        let Some(pid) = self.child.id() else { return };
        signal(pid, "TERM").await;
        if tokio::time::timeout(STOP_WITHIN, self.child.wait())
            .await
            .is_err()
        {
            crate::print::note(&format!(
                "{} did not end in {} s; killing it",
                self.name,
                STOP_WITHIN.as_secs()
            ));
            drop(self.child.kill().await);
        }
    }
}

/// Sends a signal through `kill`: this package calls no foreign functions.
async fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .await;
    if let Err(error) = sent {
        crate::print::note(&format!("cannot run `kill`: {error}"));
    }
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
