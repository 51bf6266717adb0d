//! The programs of Postgres, run as the right user.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::pg::private::binaries::Binaries;
use crate::pg::private::user::RunAs;
use crate::pg::private::{PrivateError, data, io};

/// Makes a database in the directory: under another name, which it loses when it is whole.
pub(super) fn initdb(
    dir: &Path,
    binaries: &Binaries,
    run_as: Option<&RunAs>,
) -> Result<(), PrivateError> {
    let (data, new) = (data(dir), dir.join("data.new"));
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io("remove", &new, error)),
        _ => {}
    }
    let mut command = command(&binaries.initdb(), dir, run_as);
    command.arg("-D").arg(&new).args([
        "--username=picket",
        "--encoding=UTF8",
        "--no-locale",
        // Who may open the socket may do everything; the socket is its owner's alone.
        "--auth-local=trust",
        "--auth-host=reject",
        "--no-sync",
    ]);
    run("initdb", command)?;
    fs::rename(&new, &data).map_err(|source| io("rename into", &data, source))
}

/// Sends a signal to the server of this id.
pub(super) fn signal(
    name: &str,
    pid: u32,
    dir: &Path,
    binaries: &Binaries,
    run_as: Option<&RunAs>,
) -> Result<(), PrivateError> {
    let mut command = command(&binaries.pg_ctl(), dir, run_as);
    command.args(["kill", name, &pid.to_string()]);
    run("pg_ctl", command)
}

/// Stops a server that a killed owner left behind, if the process of that id is indeed one that
/// serves this directory.
pub(super) fn stop_predecessor(
    dir: &Path,
    binaries: &Binaries,
    run_as: Option<&RunAs>,
) -> Result<(), PrivateError> {
    let Some(pid) = predecessor(dir) else {
        return Ok(());
    };
    tracing::warn!(pid, dir = %dir.display(), "stopping a Postgres that was left behind");
    let mut command = command(&binaries.pg_ctl(), dir, run_as);
    command
        .arg("stop")
        .arg("-D")
        .arg(data(dir))
        .args(["-m", "fast", "-w", "-t", "30"]);
    run("pg_ctl", command)
}

fn predecessor(dir: &Path) -> Option<u32> {
    let file = fs::read_to_string(data(dir).join("postmaster.pid")).ok()?;
    let pid = file.lines().next()?.trim().parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let serves = data(dir).display().to_string();
    command
        .split(|byte| *byte == 0)
        .any(|argument| argument == serves.as_bytes())
        .then_some(pid)
}

/// A program of Postgres, as the right user, with nothing of our environment.
pub(super) fn command(program: &Path, dir: &Path, run_as: Option<&RunAs>) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(dir)
        .stdin(Stdio::null())
        .env_clear()
        .env("LC_ALL", "C");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    if let Some(user) = run_as {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

fn run(program: &'static str, mut command: Command) -> Result<(), PrivateError> {
    let path = PathBuf::from(command.get_program());
    let output = command
        .output()
        .map_err(|source| io("run", &path, source))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(PrivateError::Failed {
        program,
        said: tail(&said),
    })
}

/// The last few lines.
pub(super) fn tail(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<&str> = said.trim().lines().collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}
