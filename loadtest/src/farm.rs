//! `picket-load farm`: targets to watch, healthy and faulty, in one process on loopback.
//!
//! A demo and a test need to know what truly happened. Each target is healthy, then faulty for a
//! planned while, then healthy; what was applied is in the plan file. With `--bulk` the farm also
//! serves any number of plain URLs for load tests.

pub mod authority;
pub mod bulk;
pub mod plan;
pub mod target;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use picket_rt::clock::Clock;
use picket_rt::stop::Stop;
use picket_rt::task::{Policy, TaskSet};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use crate::farm::authority::Authority;
use crate::farm::bulk::{Bulk, BulkSettings};
use crate::farm::plan::{Plan, Planned, Ready, Timing};
use crate::farm::target::{CONNECTIONS_MAX, Kind, Surroundings, Target};

/// Connections are dropped at once, so this is generous.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Serves targets that fail as planned.
#[derive(Debug, Clone, Args)]
pub struct FarmArgs {
    /// Where plan.json and ca.pem are written.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Seconds from the start until the first target fails.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub start_after: u64,
    /// Seconds that each fault lasts.
    #[arg(long, value_name = "SECONDS", default_value_t = 12)]
    pub fault_for: u64,
    /// Milliseconds by which each target fails later than the one before.
    #[arg(long, value_name = "MS", default_value_t = 100)]
    pub stagger_ms: u64,
    /// Seconds from the end of a fault to its return; without this each target fails once.
    #[arg(long, value_name = "SECONDS")]
    pub again_after: Option<u64>,
    /// Targets of each kind.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub each: u16,
    /// Client addresses for which the regional target fails; without any there is no such target.
    #[arg(long, value_name = "IP")]
    pub regional_for: Vec<IpAddr>,
    /// Serve this many plain URLs, /t/0 and so on, and no failing targets.
    #[arg(long, value_name = "N")]
    pub bulk: Option<u64>,
    /// Ports that the plain URLs are spread over.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub bulk_ports: u16,
    /// Threads that serve them.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub bulk_threads: u16,
    /// The loopback address to listen on.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub ip: IpAddr,
    /// Stop when standard input ends, as it does when the parent goes away.
    #[arg(long)]
    pub exit_with_parent: bool,
}

impl FarmArgs {
    const fn timing(&self) -> Timing {
        Timing {
            start_after: Duration::from_secs(self.start_after),
            fault_for: Duration::from_secs(self.fault_for),
            stagger: Duration::from_millis(self.stagger_ms),
            again_after: match self.again_after {
                Some(secs) => Some(Duration::from_secs(secs)),
                None => None,
            },
        }
    }

    /// The kinds of the targets to start.
    fn kinds(&self) -> impl Iterator<Item = Kind> {
        let n_each = if self.bulk.is_some() { 0 } else { self.each };
        let is_wanted = |kind: &Kind| *kind != Kind::Regional || !self.regional_for.is_empty();
        (0..n_each).flat_map(|_| Kind::ALL).filter(is_wanted)
    }
}

/// Serves until a signal comes or the parent goes away.
///
/// # Errors
/// When the directory cannot be written or there are no ports.
pub async fn run(args: FarmArgs) -> anyhow::Result<()> {
    let stop = Stop::new();
    stop.listen_for_signals().context("listen for signals")?;
    let tasks = TaskSet::new(stop.clone());
    if args.exit_with_parent {
        stop.listen_for_parent().context("watch standard input")?;
    }
    let (ready, bulk) = start(&args, &stop, &tasks)?;
    say(&serde_json::to_string(&ready)?);
    stop.requested().await;
    let ended = tasks.join_all(STOP_WITHIN).await;
    bulk.into_iter().for_each(Bulk::join);
    ended.map_err(|alive| anyhow::anyhow!("still alive: {}", alive.join(", ")))
}

#[expect(
    clippy::print_stdout,
    reason = "the line that says where things are is the output"
)]
fn say(line: &str) {
    println!("{line}");
}

/// Starts everything; what it returns says where it is.
///
/// # Errors
/// When the directory cannot be written or there are no ports.
pub fn start(
    args: &FarmArgs,
    stop: &Stop,
    tasks: &TaskSet,
) -> anyhow::Result<(Ready, Option<Bulk>)> {
    std::fs::create_dir_all(&args.dir).with_context(|| args.dir.display().to_string())?;
    let ca = args.dir.join("ca.pem");
    let authority = Authority::new()?;
    authority
        .save(&ca)
        .with_context(|| ca.display().to_string())?;
    let around = Surroundings {
        regional_for: args.regional_for.clone(),
        connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        stop: stop.clone(),
        tasks: tasks.clone(),
    };
    let targets: Vec<Arc<Target>> = args
        .kinds()
        .map(|kind| Target::start(kind, args.ip, &authority, around.clone()))
        .collect::<Result<_, _>>()?;
    let bulk = args
        .bulk
        .map(|n_urls| start_bulk(args, n_urls, stop))
        .transpose()?;
    let n_targets = targets.len();
    let conductor = Conductor::new(args, targets);
    conductor.plan.write(&args.dir).context("write the plan")?;
    tasks.spawn("conductor", Policy::Essential, conductor.run(stop.clone()));
    let ready = Ready {
        plan: Plan::path(&args.dir),
        ca,
        n_targets,
        n_bulk: args.bulk.unwrap_or(0),
        bulk: bulk
            .as_ref()
            .map_or_else(Vec::new, |bulk| bulk.addresses().to_vec()),
    };
    Ok((ready, bulk))
}

fn start_bulk(args: &FarmArgs, n_urls: u64, stop: &Stop) -> anyhow::Result<Bulk> {
    let settings = BulkSettings {
        ip: args.ip,
        n_urls,
        n_ports: args.bulk_ports,
        n_threads: args.bulk_threads,
    };
    Bulk::start(settings, stop).context("serve plain URLs")
}

/// The next change of one target.
#[derive(Debug, Clone, Copy)]
struct Switch {
    target: usize,
    /// Its place in the order of failing targets.
    index: u32,
    /// Which fault of this target.
    nth: u32,
    /// Whether the fault begins or ends.
    begins: bool,
    at: Duration,
}

impl Switch {
    /// The one that follows, if one does.
    fn next(self, timing: &Timing) -> Option<Self> {
        let nth = if self.begins { self.nth } else { self.nth + 1 };
        let (from, until) = timing.fault(self.index, nth)?;
        let begins = !self.begins;
        Some(Self {
            nth,
            begins,
            at: if begins { from } else { until },
            ..self
        })
    }
}

/// Switches targets when the plan says so, and writes down when it did.
struct Conductor {
    dir: PathBuf,
    timing: Timing,
    clock: Clock,
    targets: Vec<Arc<Target>>,
    plan: Plan,
    /// One per target that will change again; few, so the next is found by looking at all.
    pending: Vec<Switch>,
}

impl Conductor {
    fn new(args: &FarmArgs, targets: Vec<Arc<Target>>) -> Self {
        let planned = |target: &Arc<Target>| Planned {
            url: target.url(),
            kind: target.kind().name().to_owned(),
            expected: target.kind().expected(),
            windows: Vec::new(),
        };
        let timing = args.timing();
        let failing = targets
            .iter()
            .enumerate()
            .filter(|(_, t)| t.kind() != Kind::Healthy);
        let first = |(index, (target, _)): (u32, (usize, _))| {
            let (at, _) = timing.fault(index, 0)?;
            Some(Switch {
                target,
                index,
                nth: 0,
                begins: true,
                at,
            })
        };
        Self {
            dir: args.dir.clone(),
            timing,
            clock: Clock::system(),
            plan: Plan {
                targets: targets.iter().map(planned).collect(),
            },
            pending: (0..).zip(failing).filter_map(first).collect(),
            targets,
        }
    }

    async fn run(mut self, stop: Stop) {
        let started = Instant::now();
        while let Some(due) = (0..self.pending.len()).min_by_key(|&n| self.pending[n].at) {
            let switch = self.pending.swap_remove(due);
            tokio::select! {
                biased;
                () = stop.requested() => return,
                () = sleep_until(started + switch.at) => {}
            }
            if let Err(error) = self.apply(switch) {
                tracing::error!(%error, "the plan cannot be written any more");
                return stop.request();
            }
            self.pending.extend(switch.next(&self.timing));
        }
        stop.requested().await;
    }

    /// The window in the file holds every moment in which the target was faulty.
    fn apply(&mut self, switch: Switch) -> std::io::Result<()> {
        let (target, planned) = (
            &self.targets[switch.target],
            &mut self.plan.targets[switch.target],
        );
        if switch.begins {
            planned.begin(self.clock.now());
            target.set_faulty(true);
        } else {
            target.set_faulty(false);
            planned.end(self.clock.now());
        }
        self.plan.write(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_switches_on_and_off_in_turn() {
        let secs = Duration::from_secs;
        let timing = Timing {
            start_after: secs(1),
            fault_for: secs(2),
            stagger: secs(0),
            again_after: Some(secs(3)),
        };
        let first = Switch {
            target: 0,
            index: 0,
            nth: 0,
            begins: true,
            at: secs(1),
        };
        let switches = std::iter::successors(Some(first), |switch| switch.next(&timing));
        let seen: Vec<_> = switches
            .take(4)
            .map(|switch| (switch.begins, switch.at))
            .collect();
        assert_eq!(
            seen,
            [
                (true, secs(1)),
                (false, secs(3)),
                (true, secs(6)),
                (false, secs(8))
            ]
        );
        let once = Timing {
            again_after: None,
            ..timing
        };
        assert_eq!(
            std::iter::successors(Some(first), |switch| switch.next(&once)).count(),
            2
        );
    }
}
