//! One outage from beginning to end: nginx stops for forty seconds and starts again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use picket_load::real::mesh::{Mesh, wait_for};
use picket_load::real::nginx::{self, Nginx};
use picket_load::real::receiver::Receiver;
use picket_load::real::{Signal, signal};
use picket_wire::api::incidents::{Incident, IncidentExplained};
use picket_wire::api::instant::Instant;
use picket_wire::api::sla::Sla;
use picket_wire::api::webhooks::{MessageEvent, WebhookReply, WebhookRequest};
use picket_wire::fact::Counted;
use picket_wire::id::EndpointId;
use picket_wire::state::{State, Verdict};
use picket_wire::time::{Span, Timestamp};

/// Endpoints that are watched.
const ENDPOINTS: usize = 1_000;
/// Their interval.
const EVERY_S: u32 = 10;
const EVERY_MS: i64 = EVERY_S as i64 * 1_000;
/// Calm before the outage: more than one interval, so that everything was probed.
const CALM: Duration = Duration::from_secs(15);
/// How long the outage lasts.
const OUTAGE: Span = Span::from_secs(40);
/// How long one part stays away in the middle of it.
const AWAY_S: u64 = 30;

/// A dead agent's checks run elsewhere after this long: nine seconds of lease, and the move.
const TAKEOVER_MS: i64 = 12_000;

/// What else happens during the outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meanwhile {
    Nothing,
    PostgresStops,
    LeaderDies,
    AgentDies,
}

pub(crate) struct Outage {
    dir: PathBuf,
    nginx: Nginx,
    mesh: Mesh,
    receiver: Receiver,
    meanwhile: Meanwhile,
}

/// What truly happened.
#[derive(Debug)]
struct Truth {
    /// nginx answered until some moment before this.
    down: Timestamp,
    /// nginx answered from some moment before this on.
    up: Timestamp,
}

impl Outage {
    pub(crate) async fn prepare(meanwhile: Meanwhile) -> anyhow::Result<Self> {
        let dir =
            std::env::temp_dir().join(format!("picket-real-{}-{meanwhile:?}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let nginx = Nginx::start(&dir.join("nginx"))?;
        let urls = dir.join("urls.txt");
        let lines: Vec<String> = (0..ENDPOINTS)
            .map(|n| format!("http://{}/{n}", nginx.address()))
            .collect();
        std::fs::write(&urls, lines.join("\n"))?;
        let restart_after = if meanwhile == Meanwhile::LeaderDies {
            10
        } else {
            AWAY_S
        };
        let mesh = Mesh::start(&dir.join("mesh"), &urls, EVERY_S, restart_after).await?;
        let receiver = Receiver::listen().await?;
        let request = WebhookRequest {
            url: receiver.url().to_owned(),
            secret: None,
        };
        mesh.api()
            .post::<_, WebhookReply>("/api/v1/webhooks", &request)
            .await?;
        Ok(Self {
            dir,
            nginx,
            mesh,
            receiver,
            meanwhile,
        })
    }

    pub(crate) fn logs(&self) -> String {
        self.mesh.logs()
    }

    pub(crate) async fn finish(self) -> anyhow::Result<()> {
        self.mesh.stop().await?;
        std::fs::remove_dir_all(&self.dir)?;
        Ok(())
    }

    pub(crate) async fn run_and_judge(&mut self) -> anyhow::Result<()> {
        tokio::time::sleep(CALM).await;
        let begin = nginx::now();
        let down = self.nginx.down()?;
        self.disturb().await?;
        tokio::time::sleep((down + OUTAGE).since(nginx::now()).to_std()).await;
        let truth = Truth {
            down,
            up: self.nginx.up()?,
        };
        let incidents = self.closed_incidents().await?;
        self.judge_incidents(&truth, &incidents)?;
        self.judge_testimony(&incidents).await?;
        self.judge_transitions().await?;
        self.judge_notifications().await?;
        self.judge_sla(begin, &truth, &incidents).await?;
        self.judge_lateness().await
    }

    /// Takes one part away in the middle of the outage, while incidents are being opened.
    async fn disturb(&self) -> anyhow::Result<()> {
        tokio::time::sleep(Duration::from_secs(3)).await;
        match self.meanwhile {
            Meanwhile::Nothing => Ok(()),
            Meanwhile::PostgresStops => {
                signal(self.mesh.pid("postgres")?, Signal::TERM)?;
                self.told_without_postgres().await
            }
            Meanwhile::LeaderDies => {
                let leader = self.mesh.status().await?.leader.context("somebody leads")?;
                signal(self.mesh.pid(&leader.to_string())?, Signal::KILL)
            }
            Meanwhile::AgentDies => signal(self.mesh.pid("agent-eu")?, Signal::KILL),
        }
    }

    /// The webhook arrives although there is no Postgres.
    async fn told_without_postgres(&self) -> anyhow::Result<()> {
        wait_for(
            "a notification without Postgres",
            Duration::from_secs(20),
            async || {
                let away = !self.mesh.status().await?.postgres;
                let told = self
                    .receiver
                    .messages()
                    .iter()
                    .any(|message| message.event == MessageEvent::Opened);
                Ok(if away && told {
                    Ok(())
                } else {
                    Err(format!("postgres away: {away}, told: {told}"))
                })
            },
        )
        .await
    }

    /// Every incident, once there is one per endpoint and all are closed.
    async fn closed_incidents(&self) -> anyhow::Result<Vec<Incident>> {
        wait_for(
            "every incident to close",
            Duration::from_secs(60),
            async || {
                let incidents: Vec<Incident> = self.mesh.api().all("/api/v1/incidents").await?;
                let closed = incidents
                    .iter()
                    .filter(|incident| incident.ended_at.is_some())
                    .count();
                Ok(if closed >= ENDPOINTS && closed == incidents.len() {
                    Ok(incidents)
                } else {
                    Err(format!(
                        "{closed} of {} incidents are closed",
                        incidents.len()
                    ))
                })
            },
        )
        .await
    }

    fn judge_incidents(&self, truth: &Truth, incidents: &[Incident]) -> anyhow::Result<()> {
        let endpoints: BTreeSet<EndpointId> =
            incidents.iter().map(|incident| incident.endpoint).collect();
        ensure!(
            incidents.len() == ENDPOINTS,
            "{} incidents, expected one per endpoint",
            incidents.len()
        );
        ensure!(
            endpoints.len() == ENDPOINTS,
            "incidents of {} endpoints",
            endpoints.len()
        );
        let mut slowest = 0;
        for incident in incidents {
            let Incident {
                id,
                started_at,
                decided_at,
                verdict,
                ..
            } = incident;
            ensure!(
                *verdict == Some(Verdict::ConfirmedDown) || *verdict == Some(Verdict::ConfirmedUp),
                "{id}: {verdict:?}"
            );
            let after = started_at.0.0 - truth.down.0;
            // A probe may have been on its way while nginx went down.
            ensure!(
                (-500..self.noticed_within()).contains(&after),
                "{id} starts {after} ms after the stop"
            );
            let decided = decided_at.context("decided")?.0;
            slowest = slowest.max(decided.0 - started_at.0.0);
        }
        say(&format!(
            "{:?}: the slowest verdict took {slowest} ms",
            self.meanwhile
        ));
        // While the leader is away nobody decides; an agent that fell silent is waited for a while.
        let allowed = match self.meanwhile {
            Meanwhile::Nothing | Meanwhile::PostgresStops => 2_000,
            Meanwhile::LeaderDies | Meanwhile::AgentDies => 5_000,
        };
        ensure!(
            slowest <= allowed,
            "the slowest verdict took {slowest} ms, at most {allowed} ms"
        );
        Ok(())
    }

    /// Down and up are the owner's own probes, and a vantage of another region agreed.
    async fn judge_testimony(&self, incidents: &[Incident]) -> anyhow::Result<()> {
        for incident in incidents.iter().step_by(97) {
            let path = format!("/api/v1/incidents/{}", incident.id);
            let explained: IncidentExplained = self.mesh.api().get(&path).await?;
            let said = &explained.testimony;
            let failing: BTreeSet<&str> = said
                .iter()
                .filter(|said| !said.ok && said.counted == Counted::Yes)
                .map(|said| said.region.as_str())
                .collect();
            ensure!(
                failing.len() >= 2,
                "{}: down from {failing:?} only",
                incident.id
            );
            let owners = |ok: bool| {
                said.iter()
                    .filter(move |said| said.order.is_none() && said.ok == ok)
                    .map(|said| said.at)
            };
            ensure!(
                owners(false).min() == Some(incident.started_at),
                "{}: first failure",
                incident.id
            );
            ensure!(
                owners(true).any(|at| Some(at) == incident.ended_at),
                "{}: first success",
                incident.id
            );
        }
        Ok(())
    }

    /// Each endpoint went from up over suspicion to down and back, and each step is there once.
    async fn judge_transitions(&self) -> anyhow::Result<()> {
        let events = self.mesh.events().await?;
        let mut chains: BTreeMap<EndpointId, Vec<(State, State, Instant)>> = BTreeMap::new();
        let mut facts = BTreeSet::new();
        for event in events {
            ensure!(
                facts.insert(event.fact),
                "fact {} is there twice",
                event.fact
            );
            chains
                .entry(event.endpoint)
                .or_default()
                .push((event.from, event.to, event.at));
        }
        ensure!(
            chains.len() == ENDPOINTS,
            "{} endpoints have transitions",
            chains.len()
        );
        for (endpoint, chain) in chains {
            let ends = chain
                .first()
                .map(|first| first.0)
                .zip(chain.last().map(|last| last.1));
            ensure!(
                ends == Some((State::Up, State::Up)),
                "{endpoint}: {chain:?}"
            );
            ensure!(
                chain.windows(2).all(|pair| pair[0].1 == pair[1].0),
                "{endpoint} has a broken chain: {chain:?}"
            );
            ensure!(
                chain.windows(2).all(|pair| pair[0].2 <= pair[1].2),
                "{endpoint} goes back in time: {chain:?}"
            );
            let downs = chain.iter().filter(|step| step.1 == State::Down).count();
            ensure!(downs == 1, "{endpoint} went down {downs} times: {chain:?}");
        }
        Ok(())
    }

    async fn judge_notifications(&self) -> anyhow::Result<()> {
        let messages = wait_for(
            "the closing notification",
            Duration::from_secs(20),
            async || {
                let messages = self.receiver.messages();
                let closed = messages
                    .iter()
                    .any(|message| message.event == MessageEvent::Closed);
                Ok(if closed {
                    Ok(messages)
                } else {
                    Err(format!("{messages:?}"))
                })
            },
        )
        .await?;
        let groups: BTreeSet<_> = messages.iter().map(|message| message.group).collect();
        ensure!(
            groups.len() == 1 && messages.len() == 2,
            "one group, two messages; got {messages:?}"
        );
        let closed = messages
            .iter()
            .find(|message| message.event == MessageEvent::Closed)
            .context("closed")?;
        ensure!(
            closed.total as usize == ENDPOINTS,
            "the group held {} incidents",
            closed.total
        );
        Ok(())
    }

    async fn judge_sla(
        &self,
        begin: Timestamp,
        truth: &Truth,
        incidents: &[Incident],
    ) -> anyhow::Result<()> {
        let until = Instant(nginx::now());
        for incident in incidents.iter().step_by(41) {
            let path = format!(
                "/api/v1/endpoints/{}/sla?from={}",
                incident.endpoint,
                Instant(begin)
            );
            // Windows are told a few seconds after they end.
            let sla = wait_for(
                "coverage of the outage",
                Duration::from_secs(40),
                async || {
                    let sla: Sla = self.mesh.api().get(&path).await?;
                    let is_enough = sla.until >= incident.ended_at.context("ended")?
                        && sla.until.0.0 >= truth.up.0 + EVERY_MS;
                    Ok(if is_enough {
                        Ok(sla)
                    } else {
                        Err(format!("covered until {}", sla.until))
                    })
                },
            )
            .await?;
            self.judge_one_sla(&sla, truth, incident, until)?;
        }
        Ok(())
    }

    fn judge_one_sla(
        &self,
        sla: &Sla,
        truth: &Truth,
        incident: &Incident,
        until: Instant,
    ) -> anyhow::Result<()> {
        let id = incident.endpoint;
        let parts = sla.up_ms
            + sla.down_ms
            + sla.degraded_ms
            + sla.unknown_ms
            + sla.maintenance_ms
            + sla.paused_ms;
        ensure!(
            parts == sla.window_ms,
            "{id}: {parts} ms of {} ms, until {until}",
            sla.window_ms
        );
        let probed = incident.ended_at.context("ended")?.0.0 - incident.started_at.0.0;
        let truly = truth.up.0 - truth.down.0;
        match self.meanwhile {
            // A dead agent's checks are not watched until another takes them: that time counts
            // neither as up nor as down.
            Meanwhile::AgentDies => {
                let counted = i64::try_from(sla.down_ms + sla.unknown_ms)?;
                ensure!(
                    counted >= probed - EVERY_MS,
                    "{id}: {counted} ms of {probed} ms, {sla:?}"
                );
            }
            Meanwhile::Nothing | Meanwhile::PostgresStops | Meanwhile::LeaderDies => {
                ensure!(
                    i64::try_from(sla.down_ms)? == probed,
                    "{id}: {} ms down, probes say {probed} ms: {sla:?}",
                    sla.down_ms
                );
                ensure!(
                    sla.coverage.covered_ppm == 1_000_000,
                    "{id}: {:?}",
                    sla.coverage
                );
                ensure!(
                    sla.coverage.due == sla.coverage.ran,
                    "{id}: {:?}",
                    sla.coverage
                );
            }
        }
        ensure!(
            (probed - truly).abs() < self.noticed_within(),
            "{id}: {probed} ms for an outage of {truly} ms"
        );
        Ok(())
    }

    /// A check is probed once an interval; where its owner died, its next owner comes first.
    fn noticed_within(&self) -> i64 {
        let takeover = if self.meanwhile == Meanwhile::AgentDies {
            TAKEOVER_MS
        } else {
            0
        };
        EVERY_MS + takeover + 500
    }

    async fn judge_lateness(&self) -> anyhow::Result<()> {
        let lateness = self
            .mesh
            .status()
            .await?
            .lateness
            .context("somebody leads")?;
        say(&format!("{:?}: {lateness:?}", self.meanwhile));
        ensure!(lateness.count > 0, "no lateness was told");
        ensure!(
            lateness.p99_ms <= 250,
            "p99 lateness {} ms",
            lateness.p99_ms
        );
        Ok(())
    }
}

/// Figures for people who read what the tests print.
#[expect(clippy::print_stderr, reason = "standard error is where a test speaks")]
pub(crate) fn say(figure: &str) {
    eprintln!("{figure}");
}

/// One mesh at a time: figures of lateness mean nothing when four meshes share two cores.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Runs a test that starts a whole mesh, when no other does.
pub(crate) fn alone(test: impl Future<Output = ()>) {
    let _one = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

/// One outage from beginning to end.
pub(crate) fn play(meanwhile: Meanwhile) {
    alone(async {
        let mut outage = Outage::prepare(meanwhile).await.unwrap();
        if let Err(error) = outage.run_and_judge().await {
            panic!("{error:#}\n{}", outage.logs());
        }
        outage.finish().await.unwrap();
    });
}
