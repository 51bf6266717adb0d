//! How many evidence records a second three members agree on and keep.
//!
//! A storm as agents report it: checks fail by the thousand, and are fine again. Every record
//! opens or closes a verdict on all three members; an acknowledgement means that a majority has
//! flushed it. All members share this machine's processors and disk. The reference is what that
//! disk allows: three logs that write the same bytes and flush once per batch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use picket_scheduler::context::Context;
use picket_scheduler_core::command::init_cluster::DEFAULT_GROUP;
use picket_scheduler_core::command::{
    AdvanceCursor, Command, IngestEvidence, PointCatalogue, Pointed,
};
use picket_scheduler_core::reply::Reply;
use picket_scheduler_core::state::Consumer;
use picket_wire::blob::{ShardCatalogue, encode_blob};
use picket_wire::check::http::HttpSpec;
use picket_wire::check::{Cadence, CheckKind, CheckSpec};
use picket_wire::codec::encode;
use picket_wire::dispersal::shard_of;
use picket_wire::envelope::Head;
use picket_wire::evidence::{CheckRef, Evidence, EvidenceBatch, Role};
use picket_wire::id::{
    AgentId, CatalogueVersion, CheckId, EndpointId, Epoch, Seq, ShardId, ShardSlot, SiteId, Slot,
};
use picket_wire::limits::EVIDENCE_BATCH_MAX;
use picket_wire::outcome::{Phases, Probe};
use picket_wire::reason::Reason;
use picket_wire::time::{Span, Timestamp};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::bench::Effort;
use crate::bench::cluster::{Cluster, eventually};
use crate::bench::report::{Figure, Goal, Series};
use crate::bench::speaker::Speaker;

/// Agents that speak at the same time, and the regions they stand in.
const AGENTS: [(&str, &str); 4] = [
    ("one", "eu"),
    ("two", "us"),
    ("three", "eu"),
    ("four", "us"),
];
/// Batches of each agent in one round, half of them failures and half of them recoveries.
const BATCHES_EACH: u32 = 20;
/// Checks in the catalogue for each that fails: no agent's share may be too small for its part.
const WATCHED_PER_FAILING: usize = 2;
/// Two looks of the leader's planner, and some air.
const PLANNED_TWICE: Duration = Duration::from_millis(2_500);
/// Flushes of four kilobytes in one round.
const FLUSHES: u32 = 200;
const FLUSHED_BYTES: usize = 4_096;

/// Records a second through the gateway and proposed directly, against the disk.
pub(super) async fn measure(effort: &Effort) -> anyhow::Result<Vec<Figure>> {
    let dir = effort.scratch("evidence")?;
    let cluster = Cluster::start(dir.path()).await?;
    let leader = cluster.leader().await?.clone();
    let mut storm = Storm::prepare(&leader, effort.of(BATCHES_EACH).max(2)).await?;
    let mut gateway = Series::new("evidence over QUIC, agents to acks");
    let mut proposed = Series::new("evidence proposed to the leader");
    let mut disk = Series::new("disk: the same bytes to 3 logs, 1 flush each");
    let mut flushes = Series::new("appends of 4 KiB, each flushed (fdatasync)");
    for _ in 0..effort.rounds {
        gateway.push(storm.round(&leader, Way::Gateway).await?);
        proposed.push(storm.round(&leader, Way::Proposed).await?);
        disk.push(storm.on_disk_alone(dir.path())?);
        flushes.push(flushes_per_second(dir.path(), effort.of(FLUSHES))?);
    }
    drop(storm);
    cluster.stop().await?;
    let goal = Some(Goal::AtLeast(100_000.0));
    Ok(vec![
        Figure::new(&gateway, "records/s", goal, &[&disk]),
        Figure::new(&proposed, "records/s", goal, &[&disk]),
        Figure::new(&flushes, "flushes/s", None, &[]),
    ])
}

/// How the records get to the leader.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// As agents send them.
    Gateway,
    /// As entries, one batch each, as many at a time as there are agents.
    Proposed,
}

/// Four agents and what they fail about.
struct Storm {
    speakers: Vec<Speaker>,
    /// The checks of each agent, with the slot and epoch it speaks under.
    checks: Vec<Vec<(CheckRef, ShardSlot, Epoch)>>,
    /// Bytes of one batch on the wire.
    batch_bytes: usize,
}

impl Storm {
    async fn prepare(leader: &Context, batches_each: u32) -> anyhow::Result<Self> {
        let mut speakers = Vec::new();
        for (name, region) in AGENTS {
            speakers.push(Speaker::start(leader, name, region).await?);
        }
        let n_each = batches_each as usize / 2 * EVIDENCE_BATCH_MAX;
        let n_watched = WATCHED_PER_FAILING * n_each * AGENTS.len();
        let shards = leader
            .replica
            .read(|state| state.settings.as_ref().map(|s| s.shards));
        let shards = shards.context("a cluster has settings")?;
        let owners = share_out(leader, shards, n_watched as u64).await?;
        let mut checks: BTreeMap<AgentId, Vec<_>> = BTreeMap::new();
        for id in 1..=n_watched as u64 {
            let slot = slot_of(shard_of(EndpointId(id), shards));
            let &(agent, epoch) = owners.get(&slot).context("every slot has an owner")?;
            let mine = checks.entry(agent).or_default();
            if mine.len() < n_each {
                mine.push((reference(id), slot, epoch));
            }
        }
        let is_full = checks.len() == AGENTS.len() && checks.values().all(|c| c.len() == n_each);
        ensure!(is_full, "the planner gave some agent too few of the checks");
        let of = |speaker: &Speaker| {
            checks
                .remove(&speaker.agent)
                .context("every agent has a shard")
        };
        let checks = speakers.iter().map(of).collect::<Result<_, _>>()?;
        Ok(Self {
            speakers,
            checks,
            batch_bytes: 0,
        })
    }

    fn n_records(&self) -> u32 {
        let n_checks: usize = self.checks.iter().map(Vec::len).sum();
        u32::try_from(2 * n_checks).unwrap_or(u32::MAX)
    }

    /// All checks fail and are fine again; records a second until the last acknowledgement.
    async fn round(&mut self, leader: &Context, way: Way) -> anyhow::Result<f64> {
        let mut secs = 0.0;
        for reason in [Some(Reason::ConnectRefused), None] {
            let batches = self.batches(leader.clock.now(), reason);
            let started = Instant::now();
            match way {
                Way::Gateway => self.send(&batches, &mut secs).await?,
                Way::Proposed => {
                    propose(leader, batches).await?;
                    secs += started.elapsed().as_secs_f64();
                }
            }
            let n_open = || leader.replica.read(|state| state.open.len());
            if reason.is_some() {
                let (n_open, expected) = (n_open(), self.n_records() as usize / 2);
                ensure!(
                    n_open == expected,
                    "{n_open} verdicts are open, expected {expected}"
                );
            } else {
                // Those whose order had ended undecided wait for a second vantage; nobody answers.
                eventually("every verdict closes", || (n_open() == 0).then_some(())).await?;
            }
        }
        forget(leader).await?;
        Ok(f64::from(self.n_records()) / secs)
    }

    /// What each agent says, in the order of its lane.
    fn batches(&mut self, at: Timestamp, reason: Option<Reason>) -> Vec<Vec<EvidenceBatch>> {
        let say = |(speaker, checks): (&mut Speaker, &Vec<_>)| {
            let record = |&(check, slot, epoch): &_| evidence(check, slot, epoch, at, reason);
            let records = |part: &[_]| part.iter().map(record).collect();
            let parts = checks
                .chunks(EVIDENCE_BATCH_MAX)
                .map(records)
                .collect::<Vec<_>>();
            parts
                .into_iter()
                .map(|records| speaker.batch(records))
                .collect()
        };
        self.speakers
            .iter_mut()
            .zip(&self.checks)
            .map(say)
            .collect()
    }

    async fn send(&mut self, batches: &[Vec<EvidenceBatch>], secs: &mut f64) -> anyhow::Result<()> {
        let encode_all = |lane: &Vec<EvidenceBatch>| {
            let frames: Vec<_> = lane.iter().map(|batch| encode(batch, Head::NONE)).collect();
            (frames, lane.last().map_or(Seq(0), |batch| batch.seq))
        };
        // An agent has encoded a batch before it tries to send it: that is not the leader's work.
        let lanes: Vec<_> = batches.iter().map(encode_all).collect();
        self.batch_bytes = lanes
            .iter()
            .flat_map(|(frames, _)| frames)
            .map(Vec::len)
            .max()
            .unwrap_or(0);
        let started = Instant::now();
        let lanes = self.speakers.iter().zip(&lanes);
        let sending = lanes.map(|(speaker, (frames, last))| speaker.send(frames, *last));
        futures_util::future::try_join_all(sending).await?;
        *secs += started.elapsed().as_secs_f64();
        Ok(())
    }

    /// Records a second if nothing but the disk took time.
    fn on_disk_alone(&self, dir: &Path) -> anyhow::Result<f64> {
        let n_batches = self.n_records() as usize / EVIDENCE_BATCH_MAX;
        let batch = vec![0x5a; self.batch_bytes];
        let started = Instant::now();
        thread::scope(|scope| {
            let log = |number| {
                let (batch, path) = (&batch, dir.join(format!("disk-{number}")));
                scope.spawn(move || append(&path, batch, n_batches))
            };
            let logs: Vec<_> = (0..3).map(log).collect();
            logs.into_iter()
                .try_for_each(|log| log.join().expect("writing does not panic"))
        })?;
        Ok(f64::from(self.n_records()) / started.elapsed().as_secs_f64())
    }
}

/// Points every shard at its checks, the first `n_checks` that there are, and waits until all
/// shards have owners that stay.
async fn share_out(
    leader: &Context,
    shards: u32,
    n_checks: u64,
) -> anyhow::Result<BTreeMap<ShardSlot, (AgentId, Epoch)>> {
    let mut checks: BTreeMap<ShardId, Vec<CheckSpec>> = BTreeMap::new();
    for id in 1..=n_checks {
        checks
            .entry(shard_of(EndpointId(id), shards))
            .or_default()
            .push(spec(id));
    }
    let point = |(shard, checks): (ShardId, Vec<CheckSpec>)| {
        let (group, version) = (DEFAULT_GROUP, CatalogueVersion(1));
        let n_checks = u32::try_from(checks.len())?;
        let catalogue = ShardCatalogue {
            group,
            shard,
            version,
            checks,
        };
        let blob = leader.blobs.put(encode_blob(&catalogue)?);
        anyhow::Ok(Pointed {
            group,
            shard,
            version,
            blob,
            checks: n_checks,
            gone: Vec::new(),
        })
    };
    let pointed: BTreeSet<_> = checks.keys().copied().collect();
    let pointers = checks.into_iter().map(point).collect::<Result<_, _>>()?;
    let reply = leader
        .replica
        .propose(Command::PointCatalogue(PointCatalogue { pointers }))
        .await?;
    ensure!(reply == Reply::Done, "no catalogue: {reply:?}");
    let owners = || {
        leader.replica.read(|state| {
            let owner = |slot| {
                let assignment = state.assignments.get(&slot)?;
                Some((slot, (assignment.agent?, assignment.epoch)))
            };
            pointed
                .iter()
                .map(|&shard| owner(slot_of(shard)))
                .collect::<Option<BTreeMap<_, _>>>()
        })
    };
    loop {
        let before = eventually("every shard has an owner", owners).await?;
        // The planner looks once a second; what it left alone twice is where it stays.
        sleep(PLANNED_TWICE).await;
        let speakers: BTreeSet<_> = before.values().map(|(agent, _)| *agent).collect();
        if speakers.len() == AGENTS.len() && owners().as_ref() == Some(&before) {
            return Ok(before);
        }
    }
}

const fn reference(id: u64) -> CheckRef {
    CheckRef {
        check: CheckId(id),
        endpoint: EndpointId(id),
        site: SiteId(id),
    }
}

fn spec(id: u64) -> CheckSpec {
    let host = format!("site-{id}.example");
    CheckSpec {
        id: CheckId(id),
        endpoint: EndpointId(id),
        site: SiteId(id),
        cadence: Cadence::from_secs(60).expect("a minute is one of the intervals"),
        timeout: Span::from_secs(10),
        kind: CheckKind::Http(HttpSpec::plain(false, host, 80, "/".to_owned())),
    }
}

const fn slot_of(shard: ShardId) -> ShardSlot {
    ShardSlot {
        group: DEFAULT_GROUP,
        shard,
        slot: Slot(0),
    }
}

fn evidence(
    check: CheckRef,
    slot: ShardSlot,
    epoch: Epoch,
    at: Timestamp,
    reason: Option<Reason>,
) -> Evidence {
    let probe = |at| Probe {
        at,
        lateness: Span(3),
        reason,
        phases: Phases {
            dns_us: 180,
            connect_us: 20_400,
            total_us: 20_700,
            ..Phases::default()
        },
        http_status: 0,
        // An outage of a hosting company: a thousand sites behind one address.
        remote: Some(IpAddr::V4(Ipv4Addr::from_bits(
            0x0a00_0000 + low_bits(check.check.0 / 1_000),
        ))),
        certificate_expires: None,
        detail: reason.map_or_else(String::new, |_| {
            "connecting to 192.0.2.7: Connection refused (os error 111)".to_owned()
        }),
    };
    Evidence {
        check,
        probe: probe(at),
        retry: reason.map(|_| probe(at + Span(25))),
        vantage_healthy: true,
        role: Role::Owner { slot, epoch },
        trace: None,
    }
}

fn low_bits(number: u64) -> u32 {
    u32::try_from(number & 0x00ff_ffff).expect("24 bits fit")
}

/// Each agent's batches one after the other, all agents at once.
async fn propose(leader: &Context, batches: Vec<Vec<EvidenceBatch>>) -> anyhow::Result<()> {
    let mut lanes = JoinSet::new();
    for lane in batches {
        let replica = leader.replica.clone();
        lanes.spawn(async move {
            for batch in lane {
                let command = Command::IngestEvidence(IngestEvidence { batches: vec![batch] });
                let reply = replica.propose(command).await?;
                let taken = matches!(&reply, Reply::Ingested(all) if all.iter().all(|one| one.refused.is_none()));
                ensure!(taken, "not taken: {reply:?}");
            }
            Ok(())
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    Ok(())
}

/// Lets the machine forget what a projector would have stored by now.
async fn forget(leader: &Context) -> anyhow::Result<()> {
    for consumer in Consumer::ALL {
        let (at, to) = leader
            .replica
            .read(|state| (state.cursor(consumer), state.last_ids.fact));
        if at < to {
            let advance = AdvanceCursor { consumer, to };
            leader
                .replica
                .propose(Command::AdvanceCursor(advance))
                .await?;
        }
    }
    Ok(())
}

fn append(path: &Path, bytes: &[u8], times: usize) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    for _ in 0..times {
        file.write_all(bytes)?;
        file.sync_data()?;
    }
    drop(file);
    fs::remove_file(path)
}

fn flushes_per_second(dir: &Path, times: u32) -> anyhow::Result<f64> {
    let started = Instant::now();
    append(&dir.join("flushes"), &[0x5a; FLUSHED_BYTES], times as usize)?;
    Ok(f64::from(times) / started.elapsed().as_secs_f64())
}
