//! The processes of a dev mesh: started in groups of their own, started again when they die,
//! stopped by their ids.
//!
//! An interrupt from the terminal reaches only `picket dev`, which then stops its children in
//! order. Each child writes to a log file of its own. A child that was killed comes back after a
//! pause, as under any service manager; one that cannot stay up ends the mesh.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

use crate::print::note;

/// A child that does not end within this time of being asked is killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// A child that ends sooner than this after its start did not come up: its settings, most likely.
const UP_AFTER: Duration = Duration::from_secs(2);

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

/// One child, running or about to be started again.
#[derive(Debug)]
pub(super) struct Process {
    /// What it is, for people.
    pub(super) name: String,
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    Running {
        child: Box<Child>,
        since: Instant,
        /// Held open: a child that was told so ends when this closes, however we end.
        _stdin: Option<ChildStdin>,
    },
    Waiting {
        until: Instant,
    },
}

impl Process {
    /// Starts `program`; its output goes to `log`.
    pub(super) fn start(
        name: &str,
        program: PathBuf,
        args: &[&str],
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let state = spawn(&program, &args, &log)?;
        Ok(Self {
            name: name.to_owned(),
            program,
            args,
            log,
            state,
        })
    }

    /// Its process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        match &self.state {
            State::Running { child, .. } => child.id(),
            State::Waiting { .. } => None,
        }
    }

    /// Looks after it: notices its death, and starts it again `restart_after` later. Fails when it
    /// did not come up.
    pub(super) fn supervise(&mut self, restart_after: Duration) -> anyhow::Result<()> {
        match &mut self.state {
            State::Running { child, since, .. } => {
                let Some(status) = child.try_wait()? else {
                    return Ok(());
                };
                if since.elapsed() < UP_AFTER && !was_killed(status) {
                    anyhow::bail!("{} ended with {status}:\n{}", self.name, tail(&self.log));
                }
                note(&format!(
                    "{} ended with {status}; it starts again in {} s",
                    self.name,
                    restart_after.as_secs()
                ));
                self.state = State::Waiting {
                    until: Instant::now() + restart_after,
                };
            }
            State::Waiting { until } if Instant::now() >= *until => {
                self.state = spawn(&self.program, &self.args, &self.log)?;
                note(&format!(
                    "{} started again, pid {}",
                    self.name,
                    self.pid().unwrap_or_default()
                ));
            }
            State::Waiting { .. } => {}
        }
        Ok(())
    }

    /// Asks it to end and waits; kills it when it takes too long.
    pub(super) async fn stop(&mut self) {
        let Some(pid) = self.pid() else { return };
        let State::Running { child, .. } = &mut self.state else {
            return;
        };
        terminate(pid);
        if tokio::time::timeout(STOP_WITHIN, child.wait())
            .await
            .is_err()
        {
            note(&format!(
                "{} did not end in {} s; killing it",
                self.name,
                STOP_WITHIN.as_secs()
            ));
            drop(child.kill().await);
        }
    }
}

/// Killed from outside, which says nothing about its settings and may happen at any moment.
fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}

fn spawn(program: &Path, args: &[String], log: &Path) -> anyhow::Result<State> {
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
    Ok(State::Running {
        child: Box::new(child),
        since: Instant::now(),
        _stdin: stdin,
    })
}

/// Asks a process to end in order.
fn terminate(pid: u32) {
    let sent = Pid::from_raw(pid.cast_signed()).map(|pid| kill_process(pid, Signal::TERM));
    if let Some(Err(error)) = sent {
        note(&format!("process {pid} cannot be asked to end: {error}"));
    }
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
