//! `picket dev`: a whole mesh on one machine.
//!
//! Three real scheduler members, one agent in each of three regions over real QUIC and mutual TLS
//! with a throw-away authority, a private Postgres on a Unix socket, and a farm of demo targets
//! (or the user's own URLs). All of it are the programs that ship, started from beside this one.

mod children;
mod layout;
mod planted;
mod summary;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use picket_wire::api::agents::{JoinTokenReply, JoinTokenRequest, token_ttl_default};
use picket_wire::api::status::MeshStatus;
use picket_wire::api::webhooks::{WebhookReply, WebhookRequest};
use picket_wire::name::Name;
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::Client;
use crate::cmd::import;
use crate::dev::children::{Process, sibling, tail};
use crate::dev::layout::{AgentExtra, Layout, MEMBERS, REGIONS, Region};
use crate::dev::planted::Farm;
use crate::dev::summary::Told;
use crate::exit::Exit;
use crate::print::{Printer, note};

/// A mesh that does not stand after this long will not: elections take two seconds, initdb some
/// five on a slow disk.
const STAND_WITHIN: Duration = Duration::from_secs(60);
/// How often the summary is printed.
const SUMMARY_EVERY: Duration = Duration::from_secs(2);
/// How often something that will come is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs a whole mesh on this machine.
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Watch the URLs in this file instead of the demo targets.
    #[arg(long, value_name = "FILE")]
    import: Option<PathBuf>,
    /// Probe interval in seconds for imported rows that do not say.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    every: u32,
    /// Keep state in this directory and continue from it; a temporary one otherwise.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// End after this long, like 60s or 5m; with the demo targets, fail unless every planted
    /// outage was detected, confirmed and closed.
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    lasting: Option<Duration>,
    /// Port of the first member's API; 0 for any.
    #[arg(long, default_value_t = 7600)]
    port: u16,
    /// Seconds after which a process that died is started again.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    restart_after: u64,
    /// Send spans to this OTLP endpoint, like http://127.0.0.1:4317.
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
}

/// Shortest run in which the farm's outages begin, are confirmed and end.
const DEMO_MIN: Duration = Duration::from_secs(45);

/// Something that a mesh needs did not come.
#[derive(Debug, thiserror::Error)]
#[error("waited {} s for {what}; see {}", STAND_WITHIN.as_secs(), logs.display())]
pub(crate) struct WaitedInVain {
    what: String,
    logs: PathBuf,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text
        .parse()
        .map_err(|error: jiff::Error| error.to_string())?;
    Duration::try_from(span).map_err(|_| "expected a length of time, like 60s".to_owned())
}

/// Runs until the time is over, a signal comes, or a part fails; then stops everything.
pub(crate) async fn run(dev: Dev, printer: Printer) -> anyhow::Result<Exit> {
    if dev.import.is_none() && dev.lasting.is_some_and(|lasting| lasting < DEMO_MIN) {
        anyhow::bail!(
            "--for: the demo's outages need at least {} s",
            DEMO_MIN.as_secs()
        );
    }
    let root = Root::open(dev.data.as_deref())?;
    let restart_after = Duration::from_secs(dev.restart_after);
    let mut mesh = Mesh::new(Layout::prepare(root.path(), dev.port)?, restart_after);
    let result = tokio::select! {
        result = mesh.live(&dev, printer) => result,
        signalled = interrupted() => signalled.map(|()| Exit::Interrupted),
    };
    note("stopping");
    mesh.stop().await;
    root.close();
    result
}

async fn interrupted() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = tokio::signal::ctrl_c() => ended?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// The directory of a run: kept, or temporary and removed at the end.
struct Root {
    path: PathBuf,
    temporary: bool,
}

impl Root {
    fn open(kept: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(path) = kept {
            return Ok(Self {
                path: path.to_path_buf(),
                temporary: false,
            });
        }
        let path = std::env::temp_dir().join(format!("picket-dev-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self {
            path,
            temporary: true,
        })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn close(self) {
        if self.temporary
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            note(&format!("cannot remove {}: {error}", self.path.display()));
        }
    }
}

struct Mesh {
    layout: Layout,
    /// In the order they were started; stopped the other way round.
    processes: Vec<Process>,
    restart_after: Duration,
    told: Arc<Told>,
}

impl Mesh {
    fn new(layout: Layout, restart_after: Duration) -> Self {
        Self {
            layout,
            processes: Vec::new(),
            restart_after,
            told: Arc::default(),
        }
    }

    async fn live(&mut self, dev: &Dev, printer: Printer) -> anyhow::Result<Exit> {
        let started = Instant::now();
        let client = self.start_schedulers(dev).await?;
        // Only now: the clock of its planned outages begins with it.
        let farm = match &dev.import {
            None => Some(self.start_farm(dev.lasting).await?),
            Some(_) => None,
        };
        self.start_agents(&client, dev, farm.as_ref()).await?;
        self.hear_notifications(&client).await?;
        self.import(&client, dev, farm.as_ref()).await?;
        self.introduce(&client, started).await?;
        let watched = Instant::now();
        let end = dev.lasting.map(|lasting| watched + lasting);
        let mut summary_at = watched + SUMMARY_EVERY;
        while end.is_none_or(|end| Instant::now() < end) {
            tokio::time::sleep(LOOK_EVERY).await;
            self.supervise()?;
            if Instant::now() >= summary_at {
                summary_at += SUMMARY_EVERY;
                match client.get::<MeshStatus>("/api/v1/status").await {
                    Ok(status) => note(&summary::line(watched.elapsed(), &status, &self.told)),
                    Err(error) => note(&format!("no status: {error}")),
                }
            }
        }
        match farm {
            Some(farm) => farm.judge(&client, printer).await,
            None => Ok(Exit::Ok),
        }
    }

    fn supervise(&mut self) -> anyhow::Result<()> {
        let restart_after = self.restart_after;
        self.processes
            .iter_mut()
            .try_for_each(|process| process.supervise(restart_after))
    }

    fn start(&mut self, name: &str, program: &str, args: &[&str]) -> anyhow::Result<()> {
        let log = self.layout.log(name);
        let process = Process::start(name, sibling(program)?, args, log)?;
        self.processes.push(process);
        Ok(())
    }

    async fn start_farm(&mut self, lasting: Option<Duration>) -> anyhow::Result<Farm> {
        let dir = self.layout.path("farm");
        std::fs::create_dir_all(&dir)?;
        let args = planted::arguments(&dir, lasting);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let farm = Farm::at(&dir);
        farm.forget_plan()?;
        self.start("farm", "picket-load", &args)?;
        self.wait_for("the demo targets", async || Ok(farm.is_ready()))
            .await?;
        Ok(farm)
    }

    /// Starts Postgres and the members, and waits until one leads and Postgres answers.
    async fn start_schedulers(&mut self, dev: &Dev) -> anyhow::Result<Client> {
        let postgres = self.layout.path("postgres");
        let url = self.layout.path("postgres.url");
        drop(std::fs::remove_file(&url));
        let shown = |path: &Path| path.display().to_string();
        self.start(
            "postgres",
            "picket-scheduler",
            &[
                "postgres",
                "--dir",
                &shown(&postgres),
                "--url-file",
                &shown(&url),
                "--exit-with-parent",
            ],
        )?;
        self.wait_for("Postgres", async || Ok(url.exists())).await?;
        let url = std::fs::read_to_string(&url)?;
        for (index, member) in MEMBERS.iter().enumerate() {
            let config = self
                .layout
                .write_member(index, url.trim(), dev.otlp.as_deref())?;
            self.start(
                &member.to_string(),
                "picket-scheduler",
                &["run", "--config", &shown(&config), "--exit-with-parent"],
            )?;
        }
        let client = Client::new(&self.layout.server(), Some(&self.layout.token_file()))?;
        self.wait_for("a leader", async || {
            let status = client.get::<MeshStatus>("/api/v1/status").await;
            Ok(status.is_ok_and(|status| {
                status.leader.is_some() && status.postgres && !status.cluster.is_empty()
            }))
        })
        .await?;
        Ok(client)
    }

    async fn start_agents(
        &mut self,
        client: &Client,
        dev: &Dev,
        farm: Option<&Farm>,
    ) -> anyhow::Result<()> {
        let extra = AgentExtra {
            trust_anchors: farm.map(Farm::certificate),
            otlp: dev.otlp.clone(),
        };
        for region in &REGIONS {
            let config = self.layout.write_agent(region, &extra)?;
            let config = config.display().to_string();
            if !self
                .layout
                .path(&format!("agent-{}/data/agent", region.name))
                .exists()
            {
                self.enrol(client, region, &config).await?;
            }
            self.start(
                &format!("agent-{}", region.name),
                "picket-agent",
                &["run", "--config", &config, "--exit-with-parent"],
            )?;
        }
        self.wait_for("leases for all agents", async || {
            let status = client.get::<MeshStatus>("/api/v1/status").await;
            let leased = status.map(|status| {
                status
                    .regions
                    .iter()
                    .map(|region| region.leased)
                    .sum::<u32>()
            });
            Ok(leased.is_ok_and(|leased| leased as usize == REGIONS.len()))
        })
        .await
    }

    /// Enrols an agent as an operator would: a token from the API, handed over on standard input.
    async fn enrol(&self, client: &Client, region: &Region, config: &str) -> anyhow::Result<()> {
        let request = JoinTokenRequest {
            region: Some(Name::parse(region.name)?),
            ttl_s: token_ttl_default(),
        };
        let token: JoinTokenReply = client.post("/api/v1/agents/tokens", &request).await?;
        let log = self.layout.log(&format!("agent-{}", region.name));
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)?;
        let mut child = tokio::process::Command::new(sibling("picket-agent")?)
            .args(["enrol", "--config", config, "--token-file", "-"])
            .stdin(std::process::Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()?;
        let mut stdin = child
            .stdin
            .take()
            .context("the enrolment takes its token on standard input")?;
        stdin.write_all(token.token.as_bytes()).await?;
        drop(stdin);
        let status = child.wait().await?;
        anyhow::ensure!(
            status.success(),
            "the agent of region {} could not enrol:\n{}",
            region.name,
            tail(&log)
        );
        Ok(())
    }

    async fn hear_notifications(&self, client: &Client) -> anyhow::Result<()> {
        let address = summary::receive_webhooks(Arc::clone(&self.told)).await?;
        let request = WebhookRequest {
            url: format!("http://{address}/picket-dev"),
            secret: None,
        };
        let stale: picket_wire::api::Page<picket_wire::api::webhooks::Webhook> =
            client.get("/api/v1/webhooks").await?;
        for webhook in stale
            .items
            .iter()
            .filter(|webhook| webhook.url.ends_with("/picket-dev"))
        {
            client
                .delete(&format!("/api/v1/webhooks/{}", webhook.id))
                .await?;
        }
        client
            .post::<_, WebhookReply>("/api/v1/webhooks", &request)
            .await
            .map(drop)?;
        Ok(())
    }

    async fn import(&self, client: &Client, dev: &Dev, farm: Option<&Farm>) -> anyhow::Result<()> {
        let own = farm.map(Farm::urls_file).transpose()?;
        let Some(file) = dev.import.as_ref().or(own.as_ref()) else {
            return Ok(());
        };
        let mut rejects = file.clone().into_os_string();
        rejects.push(".rejects");
        let summary =
            import::import(client, file, None, Some(dev.every), Path::new(&rejects)).await?;
        note(&summary.for_people());
        Ok(())
    }

    async fn introduce(&mut self, client: &Client, started: Instant) -> anyhow::Result<()> {
        self.wait_for("an owner for every check", async || {
            let status = client.get::<MeshStatus>("/api/v1/status").await;
            Ok(status.is_ok_and(|status| status.checks > 0 && status.unowned_checks == 0))
        })
        .await?;
        note(&format!(
            "the mesh stands after {:.1} s; to look at it from another terminal:",
            started.elapsed().as_secs_f64()
        ));
        note(&format!(
            "  export PICKET_SERVER={} PICKET_TOKEN_FILE={}",
            self.layout.server(),
            self.layout.token_file().display()
        ));
        note("  picket status; picket endpoint list; picket incident list; picket events");
        note(&format!(
            "logs are in {}",
            self.layout.path("logs").display()
        ));
        for process in &self.processes {
            if let Some(pid) = process.pid() {
                note(&format!("  {:<10} pid {pid}", process.name));
            }
        }
        Ok(())
    }

    /// Waits until `look` finds what will come, or some process has ended.
    async fn wait_for(
        &mut self,
        what: &str,
        look: impl AsyncFn() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + STAND_WITHIN;
        while Instant::now() < deadline {
            self.supervise()?;
            if look().await? {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let logs = self.layout.path("logs");
        Err(WaitedInVain {
            what: what.to_owned(),
            logs,
        }
        .into())
    }

    async fn stop(&mut self) {
        while let Some(mut process) = self.processes.pop() {
            process.stop().await;
        }
    }
}
