//! Who kills whom, and when: one killer for the members, one for the agents, one for Postgres.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use picket_load::real::mesh::{Mesh, wait_for};
use picket_load::real::{Signal, nginx, signal};
use picket_load::sim::rng::Rng;
use picket_wire::api::status::MeshStatus;
use picket_wire::id::MemberId;
use picket_wire::time::{Span, Timestamp};

const MEMBERS: [&str; 3] = ["mem_1", "mem_2", "mem_3"];
const AGENTS: [&str; 3] = ["agent-eu", "agent-us", "agent-ap"];
/// The server, and the process that looks after it: when that one dies the server lives on, and
/// the next one takes its place.
const POSTGRES: [&str; 2] = ["postmaster", "postgres"];
/// Between the return of one victim and the death of the next.
const REST: (Span, Span) = (Span(0), Span(3_000));
/// So many victims in a thousand are killed again while they are still coming up.
const AGAIN_PER_MILLE: u32 = 300;
/// How long after its start such a one is killed: a process is up after about a second.
const COMING_UP: (Span, Span) = (Span(0), Span(1_200));
/// A server that ends by itself sooner than two seconds after its start ends the mesh, as one whose
/// settings are wrong would; so the server itself is left in peace for a moment longer.
const SETTLED: Duration = Duration::from_millis(2_300);
/// A second of pause, and recovery on a machine that does other things too.
const BACK_WITHIN: Duration = Duration::from_secs(20);

/// One death.
#[derive(Debug, Clone)]
pub(super) struct Killed {
    pub(super) part: &'static str,
    pub(super) at: Timestamp,
    /// When it, or the one that took its place, was there again.
    pub(super) back: Timestamp,
}

/// All three, until they are told to stop.
pub(super) struct Killers<'a> {
    mesh: &'a Mesh,
    seed: u64,
    stop: Cell<bool>,
}

impl<'a> Killers<'a> {
    pub(super) const fn new(mesh: &'a Mesh, seed: u64) -> Self {
        let stop = Cell::new(false);
        Self { mesh, seed, stop }
    }

    /// Nobody is killed from now on.
    pub(super) fn stop(&self) {
        self.stop.set(true);
    }

    /// Kills until it is stopped and the last victims are back.
    pub(super) async fn run(&self) -> anyhow::Result<Vec<Killed>> {
        let (members, agents, postgres) = tokio::try_join!(
            self.kill_among("members", &MEMBERS),
            self.kill_among("agents", &AGENTS),
            self.kill_among("postgres", &POSTGRES),
        )?;
        Ok([members, agents, postgres].concat())
    }

    /// Kills one after the other; a victim is back before another dies, but the same one may die
    /// again on its way.
    async fn kill_among(&self, kind: &str, parts: &[&'static str]) -> anyhow::Result<Vec<Killed>> {
        // What this killer draws does not depend on how long the others wait.
        let mut rng = Rng::new(self.seed, kind, 0);
        let mut killed = Vec::new();
        loop {
            tokio::time::sleep(rng.span(REST.0, REST.1).to_std()).await;
            if self.stop.get() {
                return Ok(killed);
            }
            let Some(&part) = rng.pick(parts) else {
                return Ok(killed);
            };
            let at = nginx::now();
            self.kill(part).await?;
            while part != "postmaster" && rng.chance(AGAIN_PER_MILLE) {
                tokio::time::sleep(rng.span(COMING_UP.0, COMING_UP.1).to_std()).await;
                self.kill(part).await?;
            }
            self.wait_until_it_works(part).await?;
            let back = nginx::now();
            killed.push(Killed { part, at, back });
            if kind == "postgres" {
                tokio::time::sleep(SETTLED).await;
            }
        }
    }

    /// Kills a process and waits until its successor was started.
    async fn kill(&self, part: &'static str) -> anyhow::Result<()> {
        let pid = self.mesh.pid(part)?;
        signal(pid, Signal::KILL)?;
        wait_for(&format!("another {part}"), BACK_WITHIN, async || {
            Ok(match self.mesh.pid(part) {
                Ok(next) if next != pid => Ok(()),
                Ok(_) => Err(format!("{pid} is still there")),
                Err(error) => Err(error.to_string()),
            })
        })
        .await
    }

    async fn wait_until_it_works(&self, part: &'static str) -> anyhow::Result<()> {
        wait_for(&format!("{part} to work again"), BACK_WITHIN, async || {
            let works = match part
                .parse::<MemberId>()
                .ok()
                .and_then(|id| self.mesh.member(id))
            {
                Some(api) => api
                    .get::<MeshStatus>("/api/v1/status")
                    .await?
                    .leader
                    .is_some(),
                None if POSTGRES.contains(&part) => self.mesh.status().await?.postgres,
                None => true,
            };
            Ok(if works {
                Ok(())
            } else {
                Err("not yet".to_owned())
            })
        })
        .await
    }
}

/// How often each part died, for people.
pub(super) fn summary(killed: &[Killed]) -> String {
    let mut deaths: BTreeMap<&str, usize> = BTreeMap::new();
    for killed in killed {
        *deaths.entry(killed.part).or_default() += 1;
    }
    let deaths: Vec<String> = deaths
        .iter()
        .map(|(part, n)| format!("{part} {n}"))
        .collect();
    format!("killed {}", deaths.join(", "))
}
