//! A mesh under test: `picket dev` and the processes it starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use picket_wire::api::events::Event;
use picket_wire::api::status::MeshStatus;
use picket_wire::id::MemberId;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::Instant;

use crate::real::api::Api;

/// initdb, an election, enrolments and an import, on a machine that does other things too.
const STAND_WITHIN: Duration = Duration::from_secs(90);
/// An ordered stop of nine processes.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// Between two events of what is past there is next to nothing.
const EVENTS_END: Duration = Duration::from_secs(3);

/// A running mesh.
#[derive(Debug)]
pub struct Mesh {
    child: Child,
    dir: PathBuf,
    apis: BTreeMap<MemberId, Api>,
}

impl Mesh {
    /// Starts a mesh that watches the URLs in `urls` every `every_s` seconds, with its state in
    /// `dir`; a process that dies is started again `restart_after_s` later.
    ///
    /// # Errors
    /// When it does not stand in time.
    pub async fn start(
        dir: &Path,
        urls: &Path,
        every_s: u32,
        restart_after_s: u64,
    ) -> anyhow::Result<Self> {
        Self::start_with(dir, urls, every_s, restart_after_s, &[]).await
    }

    /// The same with further arguments of `picket dev`.
    ///
    /// # Errors
    /// When it does not stand in time.
    #[expect(
        clippy::disallowed_methods,
        reason = "the task ends with the test's runtime"
    )]
    pub async fn start_with(
        dir: &Path,
        urls: &Path,
        every_s: u32,
        restart_after_s: u64,
        further: &[&str],
    ) -> anyhow::Result<Self> {
        let mut child = Command::new(crate::real::program("picket")?)
            .args(["dev", "--port", "0"])
            .arg("--data")
            .arg(dir)
            .arg("--import")
            .arg(urls)
            .args([
                "--every",
                &every_s.to_string(),
                "--restart-after",
                &restart_after_s.to_string(),
            ])
            .args(further)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stderr = child.stderr.take().context("standard error is piped")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut said = Vec::new();
        let standing =
            tokio::time::timeout(STAND_WITHIN, wait_until_it_stands(&mut lines, &mut said)).await;
        standing
            .map_err(|_| ())
            .and_then(|stood| stood.map_err(|_| ()))
            .map_err(|()| {
                anyhow::anyhow!(
                    "the mesh does not stand; it said:\n{}\n{}",
                    said.join("\n"),
                    logs(dir)
                )
            })?;
        // Whoever writes to a full pipe waits; what it says later is of no use here.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let apis = read_apis(dir)?;
        Ok(Self {
            child,
            dir: dir.to_path_buf(),
            apis,
        })
    }

    /// The API of some member that answers.
    ///
    /// # Errors
    /// When none does.
    pub async fn status(&self) -> anyhow::Result<MeshStatus> {
        let mut last = None;
        for api in self.apis.values() {
            match api.get::<MeshStatus>("/api/v1/status").await {
                Ok(status) => return Ok(status),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("there are members")?)
    }

    /// The API of the first member.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.apis[&MemberId(1)]
    }

    /// The API of each member.
    pub fn members(&self) -> impl Iterator<Item = (MemberId, &Api)> {
        self.apis.iter().map(|(member, api)| (*member, api))
    }

    /// The API of a member.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Option<&Api> {
        self.apis.get(&id)
    }

    /// Where the mesh keeps its state.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Every event there is so far, read as the command line reads the stream.
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub async fn events(&self) -> anyhow::Result<Vec<Event>> {
        let mut child = Command::new(crate::real::program("picket")?)
            .args(["events", "--after", "0", "-o", "ndjson", "--server"])
            .arg(format!("http://{}", self.api().authority))
            .arg("--token-file")
            .arg(self.dir.join("admin.token"))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("standard output is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut events = Vec::new();
        // The stream never ends; what was decided before is all there when nothing more comes.
        while let Ok(line) = tokio::time::timeout(EVENTS_END, lines.next_line()).await {
            let Some(line) = line? else { break };
            events.push(serde_json::from_str(&line)?);
        }
        child.kill().await?;
        Ok(events)
    }

    /// The process id of a part: `mem_1`, `agent-eu`, `postgres`, which starts the server, and
    /// `postmaster`, which is the server.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self, part: &str) -> anyhow::Result<u32> {
        if part == "postmaster" {
            return postmaster(&self.dir.join("postgres/data"));
        }
        let marks: &[&str] = match part {
            "postgres" => &["postgres", "--dir"],
            _ => &["run", "--config"],
        };
        let place = self.dir.join(if part == "postgres" {
            "postgres".to_owned()
        } else {
            format!("{part}/")
        });
        let place = place.display().to_string();
        let found = std::fs::read_dir("/proc")?.flatten().find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse::<u32>().ok()?;
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            let args: Vec<&str> = command
                .split(|byte| *byte == 0)
                .filter_map(|arg| std::str::from_utf8(arg).ok())
                .collect();
            let is_part = marks.iter().all(|mark| args.contains(mark))
                && args.iter().any(|arg| arg.starts_with(&place));
            is_part.then_some(pid)
        });
        found.with_context(|| format!("{part} does not run"))
    }

    /// Stops everything in order and checks that nothing is left.
    ///
    /// # Errors
    /// When a process stays behind or the mesh ended badly.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().context("the mesh runs")?;
        crate::real::signal(pid, crate::real::Signal::INT)?;
        tokio::time::timeout(STOP_WITHIN, self.child.wait())
            .await
            .context("the mesh does not stop")??;
        let left: Vec<&str> = [
            "mem_1", "mem_2", "mem_3", "agent-eu", "agent-us", "agent-ap", "postgres",
        ]
        .into_iter()
        .filter(|part| self.pid(part).is_ok())
        .collect();
        anyhow::ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(())
    }

    /// The end of every log, for a failing test.
    #[must_use]
    pub fn logs(&self) -> String {
        logs(&self.dir)
    }
}

/// The server that says in `data` that it runs there, if it does.
fn postmaster(data: &Path) -> anyhow::Result<u32> {
    let file = std::fs::read_to_string(data.join("postmaster.pid"))?;
    let pid = file.lines().next().unwrap_or_default().trim().parse()?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline"))?;
    let data = data.display().to_string();
    let serves = command
        .split(|byte| *byte == 0)
        .any(|argument| argument == data.as_bytes());
    anyhow::ensure!(serves, "no Postgres serves {data}");
    Ok(pid)
}

async fn wait_until_it_stands(
    lines: &mut Lines<BufReader<ChildStderr>>,
    said: &mut Vec<String>,
) -> anyhow::Result<()> {
    while let Some(line) = lines.next_line().await? {
        let stands = line.starts_with("logs are in");
        said.push(line);
        if stands {
            return Ok(());
        }
    }
    anyhow::bail!("it ended")
}

#[derive(Debug, serde::Deserialize)]
struct Ports {
    api: Vec<std::net::SocketAddr>,
}

fn read_apis(dir: &Path) -> anyhow::Result<BTreeMap<MemberId, Api>> {
    let ports: Ports = serde_json::from_slice(&std::fs::read(dir.join("ports.json"))?)?;
    let token = std::fs::read_to_string(dir.join("admin.token"))?
        .trim()
        .to_owned();
    let api = |address: std::net::SocketAddr| Api {
        authority: address.to_string(),
        token: token.clone(),
    };
    Ok((1..)
        .map(MemberId)
        .zip(ports.api.into_iter().map(api))
        .collect())
}

/// The last lines of every log in a mesh's directory.
fn logs(dir: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(dir.join("logs"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        text.push_str(&format!(
            "--- {}\n{}\n",
            entry.path().display(),
            lines[lines.len().saturating_sub(12)..].join("\n")
        ));
    }
    text
}

/// Waits until `look` finds what it looks for; says what was there when it never did.
///
/// # Errors
/// When the time is over; the last thing that was seen is in the error.
pub async fn wait_for<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<Result<T, String>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        let seen = match look().await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(seen)) => seen,
            Err(error) => format!("{error:#}"),
        };
        anyhow::ensure!(
            Instant::now() < deadline,
            "waited {} s for {what}; last seen: {seen}",
            within.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
