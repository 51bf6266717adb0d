//! The farm of demo targets, and the judgement over what the mesh found of its planted outages.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use comfy_table::Cell;
use picket_wire::api::Page;
use picket_wire::api::incidents::{Incident, IncidentExplained};
use picket_wire::fact::Counted;
use picket_wire::state::Verdict;
use picket_wire::time::Timestamp;
use serde::Deserialize;

use crate::client::Client;
use crate::dev::layout::REGIONS;
use crate::exit::Exit;
use crate::print::{Printer, note};

/// Probe interval of the demo targets, in seconds: short, so that a minute shows everything.
const EVERY_S: u32 = 2;
/// From a fault to the first probe that fails: an interval, and the time a hanging probe and its
/// retry may take.
const NOTICE_WITHIN_MS: i64 = 8_000;
/// Incidents reach Postgres within a moment; longer than this they are missing.
const SETTLE_WITHIN: Duration = Duration::from_secs(15);

/// What the farm planned and did, as it writes it.
#[derive(Debug, Deserialize)]
struct Plan {
    targets: Vec<Target>,
}

#[derive(Debug, Clone, Deserialize)]
struct Target {
    url: String,
    kind: String,
    expected: Expected,
    windows: Vec<Window>,
}

/// What the mesh should find of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expected {
    Down,
    Regional,
    None,
}

/// A fault as it was applied; still on while `until_ms` is missing.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Window {
    from_ms: i64,
    until_ms: Option<i64>,
}

/// A running farm.
#[derive(Debug)]
pub(super) struct Farm {
    dir: PathBuf,
}

/// The farm's arguments: outages begin once the mesh stands and end early enough to be seen
/// closing; without an end in sight they come again and again.
pub(super) fn arguments(dir: &Path, lasting: Option<Duration>) -> Vec<String> {
    let mut args = vec![
        "farm".to_owned(),
        "--dir".to_owned(),
        dir.display().to_string(),
    ];
    let seconds = |name: &str, secs: u64| [name.to_owned(), secs.to_string()];
    args.extend(seconds("--start-after", 20));
    args.extend(seconds("--fault-for", 12));
    if lasting.is_none() {
        args.extend(seconds("--again-after", 60));
    }
    // The last region's agent alone sees this target fail.
    let [.., last] = REGIONS;
    args.extend(["--regional-for".to_owned(), last.source.to_string()]);
    args.push("--exit-with-parent".to_owned());
    args
}

impl Farm {
    /// The farm that keeps its files in `dir`.
    pub(super) fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
        }
    }

    fn plan_file(&self) -> PathBuf {
        self.dir.join("plan.json")
    }

    /// Forgets the plan of an earlier run, so that only this one's says that it listens.
    pub(super) fn forget_plan(&self) -> anyhow::Result<()> {
        let file = self.plan_file();
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| file.display().to_string())
            }
            _ => Ok(()),
        }
    }

    /// Whether it listens.
    pub(super) fn is_ready(&self) -> bool {
        self.plan_file().exists()
    }

    /// The certificate that its healthy HTTPS targets chain to.
    pub(super) fn certificate(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    fn plan(&self) -> anyhow::Result<Plan> {
        let file = self.plan_file();
        let text = std::fs::read(&file).with_context(|| file.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| file.display().to_string())
    }

    /// Writes the targets as a file that can be imported.
    pub(super) fn urls_file(&self) -> anyhow::Result<PathBuf> {
        let file = self.dir.join("targets.csv");
        let mut text = "url,site,every_s,labels\n".to_owned();
        for target in self.plan()?.targets {
            text.push_str(&format!(
                "{},demo-{},{EVERY_S},{}\n",
                target.url, target.kind, target.kind
            ));
        }
        std::fs::write(&file, text).with_context(|| file.display().to_string())?;
        Ok(file)
    }

    /// Compares what was planted with what was found, target by target.
    pub(super) async fn judge(&self, client: &Client, printer: Printer) -> anyhow::Result<Exit> {
        let plan = self.plan()?;
        let deadline = Instant::now() + SETTLE_WITHIN;
        let judgements = loop {
            let incidents = all_incidents(client).await?;
            let judgements: Vec<Judgement> = plan
                .targets
                .iter()
                .map(|target| judge(target, &incidents))
                .collect();
            if judgements.iter().all(Judgement::holds) || Instant::now() > deadline {
                break judgements;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        let rows = judgements.iter().map(|judgement| {
            vec![
                Cell::new(&judgement.kind),
                Cell::new(&judgement.url),
                Cell::new(judgement.says()),
                Cell::new(judgement.problems.join("; ")),
            ]
        });
        note(
            &printer
                .table(&["kind", "target", "found", "problems"], rows)
                .to_string(),
        );
        Ok(if judgements.iter().all(Judgement::holds) {
            Exit::Ok
        } else {
            Exit::Failure
        })
    }
}

async fn all_incidents(client: &Client) -> anyhow::Result<Vec<IncidentExplained>> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page: Page<Incident> = client
            .get(&format!("/api/v1/incidents?limit=1000{cursor}"))
            .await?;
        for incident in page.items {
            found.push(
                client
                    .get(&format!("/api/v1/incidents/{}", incident.id))
                    .await?,
            );
        }
        match page.next {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(found),
        }
    }
}

/// What was found of one target.
#[derive(Debug)]
struct Judgement {
    kind: String,
    url: String,
    outages: usize,
    incidents: usize,
    problems: Vec<String>,
}

impl Judgement {
    fn holds(&self) -> bool {
        self.problems.is_empty()
    }

    fn says(&self) -> String {
        format!("{} planted, {} incidents", self.outages, self.incidents)
    }
}

fn judge(target: &Target, all: &[IncidentExplained]) -> Judgement {
    let incidents: Vec<&IncidentExplained> = all
        .iter()
        .filter(|found| found.incident.url == target.url)
        .collect();
    let mut problems = Vec::new();
    for window in &target.windows {
        judge_window(target, *window, &incidents, &mut problems);
    }
    for found in &incidents {
        let incident = &found.incident;
        let fits = target
            .windows
            .iter()
            .any(|window| planted(*window, incident.started_at.0));
        let down = incident.verdict == Some(Verdict::ConfirmedDown) || was_down(found);
        if down && (target.expected != Expected::Down || !fits) {
            problems.push(format!("{} is a false down", incident.id));
        }
    }
    Judgement {
        kind: target.kind.clone(),
        url: target.url.clone(),
        outages: target.windows.len(),
        incidents: incidents.len(),
        problems,
    }
}

/// Whether an incident that has ended was down in between: its state is kept as it was.
fn was_down(found: &IncidentExplained) -> bool {
    found.incident.state == picket_wire::state::State::Down
}

/// Whether a failure at `at` belongs to this fault.
fn planted(window: Window, at: Timestamp) -> bool {
    let until = window.until_ms.unwrap_or(i64::MAX);
    at.0 >= window.from_ms - 1_000 && at.0 <= until.saturating_add(NOTICE_WITHIN_MS)
}

fn judge_window(
    target: &Target,
    window: Window,
    incidents: &[&IncidentExplained],
    problems: &mut Vec<String>,
) {
    let found = incidents
        .iter()
        .find(|found| planted(window, found.incident.started_at.0));
    match (target.expected, found) {
        (Expected::None, _) => {}
        (Expected::Regional, None) => {
            // Only the endpoint's owner looks at it all the time; a failure in another region is
            // none of its business.
        }
        (Expected::Down, None) => problems.push("not detected".to_owned()),
        (Expected::Regional, Some(found)) => {
            if found.incident.ended_at.is_none() && window.until_ms.is_some() {
                problems.push(format!("{} did not close", found.incident.id));
            }
        }
        (Expected::Down, Some(found)) => {
            let regions: BTreeSet<&str> = found
                .testimony
                .iter()
                .filter(|said| !said.ok && said.counted == Counted::Yes)
                .map(|said| said.region.as_str())
                .collect();
            if regions.len() < 2 {
                problems.push(format!(
                    "{} was not confirmed from another region",
                    found.incident.id
                ));
            }
            if found.incident.ended_at.is_none() {
                problems.push(format!("{} did not close", found.incident.id));
            }
        }
    }
}
