//! Every kind of process is killed, again and again, while two outages come and go; then the books
//! are balanced.
//!
//! Who is killed when follows from a seed; `PICKET_KILL_SEED` chooses another one. The mesh starts a
//! killed process again a second later. One member is away at a time, so that a majority is always
//! there; agents, and Postgres beside them, are away whenever they are.
//!
//! What is accounted, and how it would fail:
//! - What an agent was told to forget must be there (`books/lanes.rs`). An ack sent before the
//!   commit it stands for leaves a batch that the agent holds for taken and nobody has.
//! - What was sent twice, because an ack was lost with a process, must be there once. A watermark
//!   that does not move in the transaction of its effect leaves windows or testimony twice.
//! - What the members decided must be in Postgres, each fact once (`books/facts.rs`). A cursor that
//!   is ahead of its rows leaves facts out, one that is behind writes them again.
//! - What people read, the stream of events and the incidents, must tell one story for each
//!   endpoint (`stories.rs`), and never a Down of something that answered throughout.
//!
//! Not here: power cuts. A killed process loses its memory, not what the kernel holds for it; what
//! is not synced is taken away in the simulation.

mod books;
mod killers;
mod stories;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use picket_load::real::mesh::{Mesh, wait_for};
use picket_load::real::nginx::{self, Nginx};
use picket_wire::api::status::MeshStatus;
use picket_wire::time::Timestamp;

use crate::outage::{alone, say};
use killers::{Killed, Killers};

/// Endpoints that go away twice.
const FRAIL: usize = 200;
/// Endpoints that never go away.
const STEADY: usize = 20;
/// Their interval, the shortest there is.
const EVERY_S: u32 = 5;
/// A killed process is started again after this long.
const RESTART_AFTER_S: u64 = 1;
/// More than one interval: everything was probed once before anything happens.
const CALM: Duration = Duration::from_secs(6);
/// How long each outage lasts, and how long it is quiet before and after it.
const OUTAGE: Duration = Duration::from_secs(13);
const BETWEEN: Duration = Duration::from_secs(9);
/// After the last kill: a lease, an election, a recovery, an interval, a confirmation, a window.
const QUIET_WITHIN: Duration = Duration::from_secs(40);

/// An outage as it truly was.
#[derive(Debug, Clone, Copy)]
struct Outage {
    /// nginx answered until some moment before this.
    down: Timestamp,
    /// nginx answered from some moment before this on.
    up: Timestamp,
}

/// What happened, by who did it.
#[derive(Debug)]
struct Truth {
    outages: Vec<Outage>,
    killed: Vec<Killed>,
    /// How the addresses of endpoints that went away begin.
    frail: String,
}

struct Scene {
    dir: PathBuf,
    mesh: Mesh,
    frail: Nginx,
    /// Held: it never goes away.
    _steady: Nginx,
}

impl Scene {
    async fn prepare() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("picket-kill-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let frail = Nginx::start(&dir.join("frail"))?;
        let steady = Nginx::start(&dir.join("steady"))?;
        let urls = [(&frail, FRAIL), (&steady, STEADY)]
            .into_iter()
            .flat_map(|(nginx, n)| (0..n).map(|i| format!("http://{}/{i}", nginx.address())))
            .collect::<Vec<_>>();
        let file = dir.join("urls.txt");
        std::fs::write(&file, urls.join("\n"))?;
        let mesh = Mesh::start(&dir.join("mesh"), &file, EVERY_S, RESTART_AFTER_S).await?;
        Ok(Self {
            dir,
            mesh,
            frail,
            _steady: steady,
        })
    }

    /// Two outages under fire, and the time until nothing is left to be done.
    async fn play(&mut self, seed: u64) -> anyhow::Result<Truth> {
        tokio::time::sleep(CALM).await;
        let killers = Killers::new(&self.mesh, seed);
        let outages = async {
            let mut outages = Vec::new();
            for _ in 0..2 {
                tokio::time::sleep(BETWEEN).await;
                let down = self.frail.down()?;
                tokio::time::sleep(OUTAGE).await;
                let up = self.frail.up()?;
                outages.push(Outage { down, up });
            }
            tokio::time::sleep(BETWEEN).await;
            killers.stop();
            Ok(outages)
        };
        let (outages, killed) = tokio::try_join!(outages, killers.run())?;
        let truth = Truth {
            outages,
            killed,
            frail: format!("http://{}/", self.frail.address()),
        };
        self.wait_until_quiet().await?;
        Ok(truth)
    }

    /// Everything that was said is decided, and everything that was decided is written.
    async fn wait_until_quiet(&self) -> anyhow::Result<()> {
        let began = nginx::now();
        wait_for("the mesh to be quiet", QUIET_WITHIN, async || {
            let status: MeshStatus = self.mesh.status().await?;
            let lag: u64 = status.lag.values().sum();
            let leased: u32 = status.regions.iter().map(|region| region.leased).sum();
            let probed =
                nginx::now().since(began).to_std() > 2 * Duration::from_secs(EVERY_S.into());
            let quiet = status.postgres
                && lag == 0
                && leased == 3
                && status.open_incidents == 0
                && status.open_orders == 0
                && status.unowned_checks == 0;
            Ok(if quiet && probed {
                Ok(())
            } else {
                Err(format!("{status:?}"))
            })
        })
        .await
    }
}

/// Which kills the suite plays. With these, agents once talked to a leader's former life for so long
/// that an outage went unnoticed.
const SEED: u64 = 22;

/// The seed that was asked for, or the suite's.
fn seed() -> anyhow::Result<u64> {
    match std::env::var("PICKET_KILL_SEED") {
        Ok(text) => text.parse().context("PICKET_KILL_SEED"),
        Err(_) => Ok(SEED),
    }
}

/// The whole play: prepare, kill, wait, judge what people see, stop, balance the books.
pub(crate) fn kill_and_account() {
    alone(async {
        let seed = seed().unwrap();
        say(&format!("killing by seed {seed}"));
        let mut scene = Scene::prepare().await.unwrap();
        let played = async {
            let truth = scene.play(seed).await?;
            say(&format!("seed {seed}: {}", killers::summary(&truth.killed)));
            stories::judge(&scene.mesh, &truth).await?;
            anyhow::Ok(truth)
        };
        let truth = match played.await {
            Ok(truth) => truth,
            Err(error) => panic!("seed {seed}: {error:#}\n{}", scene.mesh.logs()),
        };
        let logs = scene.mesh.logs();
        let Scene { dir, mesh, .. } = scene;
        mesh.stop().await.unwrap();
        if let Err(error) = books::balance(&dir.join("mesh"), &truth).await {
            panic!("seed {seed}: {error:#}\n{logs}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    });
}
