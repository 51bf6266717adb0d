//! One agent, one scheduler, one target server, one directory.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use picket_agent::agent::{self, RunError};
use picket_agent::config::Config;
use picket_agent::enrol::{EnrolError, enrol};
use picket_rt::settings;
use picket_rt::stop::Stop;
use picket_rt::task::TaskSet;
use picket_storage::spool::{Spool, SpoolSettings, WhenFull};
use picket_wire::assignment::Assigned;
use picket_wire::blob::{ShardCatalogue, encode_blob};
use picket_wire::check::http::HttpSpec;
use picket_wire::check::{Cadence, CheckKind, CheckSpec};
use picket_wire::codec::decode;
use picket_wire::control::ToAgent;
use picket_wire::id::{
    AgentId, CatalogueVersion, CheckId, EndpointId, Epoch, GroupId, Incarnation, Seq, ShardId,
    ShardSlot, SiteId, Slot,
};
use picket_wire::lane::rollup::{RollupBatch, ShardRollup};
use picket_wire::time::Span;

use crate::PATIENCE;
use crate::scheduler::Scheduler;
use crate::target::Targets;

pub(crate) struct World {
    dir: PathBuf,
    config: Config,
    pub(crate) scheduler: Scheduler,
    pub(crate) targets: Targets,
}

/// An agent that runs; end it.
pub(crate) struct Running {
    stop: Stop,
    tasks: TaskSet,
    run: tokio::task::JoinHandle<Result<(), RunError>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("picket-agent-{}-{number}", std::process::id()));
        let scheduler = Scheduler::start(&dir.join("ca"));
        let text = format!(
            "name = \"a-1\"\nregion = \"eu\"\nmembers = [\"{}\"]\ndata_dir = \"{}\"\n\
             allow_ranges = [\"127.0.0.0/8\"]\n",
            scheduler.address,
            dir.join("data").display()
        );
        let config = settings::parse(&dir.join("agent.toml"), &text).unwrap();
        Self {
            dir,
            config,
            scheduler,
            targets: Targets::start().await,
        }
    }

    pub(crate) async fn enrolled() -> Self {
        let world = Self::new().await;
        world.enrol().await.unwrap();
        world
    }

    pub(crate) async fn enrol(&self) -> Result<AgentId, EnrolError> {
        enrol(&self.config, &self.scheduler.token).await
    }

    pub(crate) async fn try_run(&self) -> Result<(), RunError> {
        let stop = Stop::new();
        agent::run(self.config.clone(), stop.clone(), TaskSet::new(stop)).await
    }

    pub(crate) fn run_agent(&self) -> Running {
        let stop = Stop::new();
        let tasks = TaskSet::new(stop.clone());
        let run = tokio::spawn(agent::run(self.config.clone(), stop.clone(), tasks.clone()));
        Running { stop, tasks, run }
    }

    /// A check of the target server, once a second.
    pub(crate) fn check(&self, id: u64) -> CheckSpec {
        let address = self.targets.address;
        let host = address.ip().to_string();
        CheckSpec {
            id: CheckId(id),
            endpoint: EndpointId(id),
            site: SiteId(id),
            cadence: Cadence::from_secs(1).unwrap(),
            timeout: Span::from_secs(5),
            kind: CheckKind::Http(HttpSpec::plain(
                false,
                host,
                address.port(),
                format!("/{id}"),
            )),
        }
    }

    /// Publishes these as one shard and assigns it.
    pub(crate) async fn assign(&self, checks: &[CheckSpec]) {
        let (group, shard, version) = (GroupId(1), ShardId(3), CatalogueVersion(1));
        let catalogue = ShardCatalogue {
            group,
            shard,
            version,
            checks: checks.to_vec(),
        };
        let blob = self.scheduler.publish(encode_blob(&catalogue).unwrap());
        let slot = ShardSlot {
            group,
            shard,
            slot: Slot(0),
        };
        let line = Assigned {
            slot,
            epoch: Epoch(1),
            version,
            blob,
        };
        self.scheduler.say(ToAgent::Digest(vec![line])).await;
    }

    /// What the rollup spool of a stopped agent holds.
    pub(crate) fn rollups_on_disk(&self) -> Vec<ShardRollup> {
        let sizes = SpoolSettings {
            max_bytes: 1 << 30,
            record_max_bytes: 1 << 24,
            when_full: WhenFull::DropOldest,
        };
        let dir = self.dir.join("data").join("rollup");
        let (spool, _) = Spool::open(&dir, Incarnation(1), sizes).unwrap();
        let records = spool.peek(Seq(1), usize::MAX).unwrap();
        let batches = records
            .into_iter()
            .map(|record| decode::<RollupBatch>(&record.payload.unwrap()));
        batches.flat_map(|batch| batch.unwrap().1.shards).collect()
    }
}

impl Running {
    /// As on SIGTERM.
    pub(crate) async fn stop(self) {
        self.stop.request();
        let ran = tokio::time::timeout(PATIENCE, self.run).await;
        ran.expect("the agent stops when asked to")
            .unwrap()
            .unwrap();
        self.tasks.join_all(PATIENCE).await.unwrap();
        assert_eq!(self.tasks.first_failure(), None);
    }

    /// As on SIGKILL, as far as a task can be killed: nothing is said any more.
    pub(crate) async fn kill(self) {
        self.run.abort();
        assert!(self.run.await.unwrap_err().is_cancelled());
        self.stop.request();
        self.tasks.join_all(PATIENCE).await.unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("{} stays behind: {error}", self.dir.display());
        }
    }
}
