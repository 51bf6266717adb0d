//! What the processes of a mesh tell of themselves: one trace per failure, and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use picket_load::real::collector::{Collector, Span};
use picket_load::real::mesh::{Mesh, wait_for};
use picket_load::real::metrics::Metrics;
use picket_load::real::nginx::Nginx;
use picket_load::real::sockets;
use picket_wire::api::agents::Agent;
use picket_wire::api::incidents::{Incident, IncidentExplained};
use picket_wire::id::AgentId;

/// Endpoints that are watched: enough that each of three agents owns some.
const ENDPOINTS: usize = 30;
/// Their interval.
const EVERY_S: u32 = 5;
/// An interval, the verdict, and twice the time for which a span waits for company.
const TRACED_WITHIN: Duration = Duration::from_secs(15);
/// A window of five seconds, the time over which its reports are spread, and their way.
const COUNTED_WITHIN: Duration = Duration::from_secs(20);

/// The agents of a mesh on one machine.
const AGENTS: [&str; 3] = ["agent-eu", "agent-us", "agent-ap"];

struct World {
    dir: PathBuf,
    nginx: Nginx,
    collector: Collector,
    mesh: Mesh,
}

/// A failure leaves one trace, and every process its metrics.
pub(crate) async fn a_failure_is_followed() -> anyhow::Result<()> {
    let mut world = World::prepare().await?;
    if let Err(error) = world.run_and_judge().await {
        anyhow::bail!("{error:#}\n{}", world.mesh.logs());
    }
    let World {
        dir,
        collector,
        mesh,
        ..
    } = world;
    mesh.stop().await?;
    std::fs::remove_dir_all(&dir)?;
    // Whoever stops sends what it still has, so this is all that was ever told.
    let traces = failures(&collector).len();
    ensure!(
        traces == ENDPOINTS,
        "{traces} traces of {ENDPOINTS} failures"
    );
    Ok(())
}

/// Every trace of a failure, by its id; each answer of the API is a trace too.
fn failures(collector: &Collector) -> BTreeMap<String, Vec<Span>> {
    let mut traces = collector.traces();
    traces.retain(|_, spans| spans.iter().any(|span| span.name != "api"));
    traces
}

impl World {
    async fn prepare() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("picket-trace-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let nginx = Nginx::start(&dir.join("nginx"))?;
        let urls = dir.join("urls.txt");
        let lines: Vec<String> = (0..ENDPOINTS)
            .map(|n| format!("http://{}/{n}", nginx.address()))
            .collect();
        std::fs::write(&urls, lines.join("\n"))?;
        let collector = Collector::listen().await?;
        let otlp = ["--otlp", collector.endpoint()];
        let mesh = Mesh::start_with(&dir.join("mesh"), &urls, EVERY_S, 3, &otlp).await?;
        Ok(Self {
            dir,
            nginx,
            collector,
            mesh,
        })
    }

    async fn run_and_judge(&mut self) -> anyhow::Result<()> {
        self.wait_for_probes(ENDPOINTS).await?;
        ensure!(
            failures(&self.collector).is_empty(),
            "nothing failed, and yet there is {:?}",
            failures(&self.collector)
        );
        self.nginx.down()?;
        let names = self.names().await?;
        wait_for("a trace of every failure", TRACED_WITHIN, async || {
            Ok(self
                .judge_traces(&names)
                .await
                .map_err(|error| format!("{error:#}")))
        })
        .await?;
        wait_for("what every process counts", COUNTED_WITHIN, async || {
            Ok(self
                .judge_metrics()
                .await
                .map_err(|error| format!("{error:#}")))
        })
        .await?;
        self.judge_sockets()?;
        // By now everything has failed again and again, which is no news.
        self.wait_for_probes(4 * ENDPOINTS).await
    }

    /// Until so many probes were made, by all agents together.
    async fn wait_for_probes(&self, wanted: usize) -> anyhow::Result<()> {
        wait_for("probes", COUNTED_WITHIN, async || {
            let mut probed = 0;
            for agent in AGENTS {
                let metrics = Metrics::of_agent(&self.socket(agent)).await?;
                probed += metrics.measured("picket_agent_lateness_seconds")?;
            }
            Ok(if probed >= wanted as u64 {
                Ok(())
            } else {
                Err(format!("{probed} probes"))
            })
        })
        .await
    }

    fn socket(&self, agent: &str) -> PathBuf {
        self.dir.join("mesh").join(agent).join("metrics.sock")
    }

    async fn names(&self) -> anyhow::Result<BTreeMap<AgentId, String>> {
        let agents: Vec<Agent> = self.mesh.api().all("/api/v1/agents").await?;
        Ok(agents
            .into_iter()
            .map(|agent| (agent.id, agent.name.to_string()))
            .collect())
    }

    async fn judge_traces(&self, names: &BTreeMap<AgentId, String>) -> anyhow::Result<()> {
        let leader = self.mesh.status().await?.leader.context("somebody leads")?;
        let incidents: Vec<Incident> = self.mesh.api().all("/api/v1/incidents").await?;
        ensure!(
            incidents.len() == ENDPOINTS,
            "{} incidents",
            incidents.len()
        );
        let traces = self.collector.traces();
        for incident in incidents {
            let path = format!("/api/v1/incidents/{}", incident.id);
            let explained: IncidentExplained = self.mesh.api().get(&path).await?;
            let id = incident
                .trace_id
                .as_ref()
                .context("an incident without a trace")?;
            let spans = traces
                .get(id)
                .with_context(|| format!("nothing of trace {id}"))?;
            let story = Story {
                spans,
                leader: leader.to_string(),
            };
            story
                .judge(&explained, names)
                .with_context(|| format!("{} in {spans:#?}", incident.id))?;
        }
        Ok(())
    }

    async fn judge_metrics(&self) -> anyhow::Result<()> {
        for agent in AGENTS {
            let metrics = Metrics::of_agent(&self.socket(agent)).await?;
            for name in ["picket_agent_lateness_seconds", "picket_agent_ack_seconds"] {
                ensure!(metrics.measured(name)? > 0, "{agent}: {name} is empty");
            }
        }
        let leader = self.mesh.status().await?.leader.context("somebody leads")?;
        for (member, api) in self.mesh.members() {
            let metrics = Metrics::of_member(&api.authority).await?;
            let mut names = vec!["picket_raft_log_flush_seconds"];
            // Agents tell the leader alone.
            if member == leader {
                names.extend([
                    "picket_window_lateness_seconds",
                    "picket_evidence_ack_seconds",
                ]);
            }
            for name in names {
                ensure!(metrics.measured(name)? > 0, "{member}: {name} is empty");
            }
        }
        Ok(())
    }

    /// An agent has a QUIC client of each family, a connection to the collector, and no ear.
    fn judge_sockets(&self) -> anyhow::Result<()> {
        for agent in AGENTS {
            let open = sockets::of(self.mesh.pid(agent)?)?;
            ensure!(open.listening.is_empty(), "{agent} listens: {open:?}");
            ensure!((1..=2).contains(&open.udp), "{agent}: {open:?}");
        }
        let member = self.mesh.members().next().context("there are members")?.0;
        let open = sockets::of(self.mesh.pid(&member.to_string())?)?;
        ensure!(
            open.listening.len() == 1,
            "{member} serves the API: {open:?}"
        );
        Ok(())
    }
}

/// The spans of one failure.
struct Story<'a> {
    spans: &'a [Span],
    /// Who confirms and concludes.
    leader: String,
}

impl Story<'_> {
    fn judge(
        &self,
        explained: &IncidentExplained,
        names: &BTreeMap<AgentId, String>,
    ) -> anyhow::Result<()> {
        let incident = &explained.incident;
        let root = self.root()?;
        ensure!(
            root.name == "probe" && root.service == "picket-agent",
            "it begins with {root:?}"
        );
        let endpoint = incident.endpoint.to_string();
        ensure!(
            root.attributes.get("endpoint") == Some(&endpoint),
            "it begins with {root:?}"
        );
        let owners = explained
            .testimony
            .iter()
            .filter(|said| said.order.is_none());
        let owners: BTreeSet<_> = owners.filter_map(|said| names.get(&said.agent)).collect();
        ensure!(
            owners.contains(&root.instance),
            "{owners:?} own it, {} probed",
            root.instance
        );

        let confirms = self.named("confirm", "picket-scheduler");
        ensure!(!confirms.is_empty(), "nobody asked");
        ensure!(
            confirms.iter().all(|span| span.instance == self.leader),
            "{} leads, and another asked",
            self.leader
        );
        self.judge_votes(explained, root, &confirms, names)?;

        let id = incident.id.to_string();
        let ends = self.named("incident", "picket-scheduler");
        let is_end = |span: &&&Span| {
            span.instance == self.leader
                && span.parent.as_ref() == Some(&root.id)
                && span.attributes.get("incident") == Some(&id)
                && span.attributes.get("verdict").map(String::as_str) == Some("confirmed_down")
        };
        ensure!(ends.iter().any(|span| is_end(&span)), "no verdict");
        Ok(())
    }

    /// The span that the trace begins with; every other one is part of one that is there.
    fn root(&self) -> anyhow::Result<&Span> {
        let ids: BTreeSet<&String> = self.spans.iter().map(|span| &span.id).collect();
        let mut roots = Vec::new();
        for span in self.spans {
            match &span.parent {
                None => roots.push(span),
                Some(parent) => ensure!(ids.contains(parent), "{parent} is missing"),
            }
        }
        ensure!(roots.len() == 1, "{} beginnings", roots.len());
        Ok(roots[0])
    }

    /// Whoever voted probed because of a question, and at least two other agents did.
    fn judge_votes(
        &self,
        explained: &IncidentExplained,
        root: &Span,
        confirms: &[&Span],
        names: &BTreeMap<AgentId, String>,
    ) -> anyhow::Result<()> {
        let asked: BTreeSet<&String> = confirms.iter().map(|span| &span.id).collect();
        let votes = self.named("probe", "picket-agent");
        let votes = votes.iter().filter(|span| {
            span.parent
                .as_ref()
                .is_some_and(|parent| asked.contains(parent))
        });
        let traced: BTreeSet<&String> = votes.map(|span| &span.instance).collect();
        ensure!(
            traced.len() >= 2 && !traced.contains(&root.instance),
            "{traced:?} probed for the vote, {} owns it",
            root.instance
        );
        let voters = explained
            .testimony
            .iter()
            .filter(|said| said.order.is_some());
        let voters: BTreeSet<&String> = voters.filter_map(|said| names.get(&said.agent)).collect();
        ensure!(
            voters.is_subset(&traced),
            "{voters:?} voted, {traced:?} left a span"
        );
        Ok(())
    }

    fn named(&self, name: &str, service: &str) -> Vec<&Span> {
        let is = |span: &&Span| span.name == name && span.service == service;
        self.spans.iter().filter(is).collect()
    }
}
