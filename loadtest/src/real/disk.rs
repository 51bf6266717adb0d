//! What a mesh that stopped has left on its disks: agents' lanes and members' logs.
//!
//! Read with the product's own storage, but by nobody who took part: what an agent may forget it
//! keeps until its file is full, so after a short run everything it ever said is still there.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use picket_agent_core::Lane;
use picket_scheduler_core::machine::Entry;
use picket_storage::raft_log::{RaftLog, RaftLogSettings};
use picket_storage::segment::{LogSettings, SegmentLog};
use picket_storage::spool::{AgentState, Spool, SpoolSettings, WhenFull};
use picket_wire::codec::{Message, decode, from_bytes};
use picket_wire::envelope::{ENVELOPE_BYTES, Kind};
use picket_wire::evidence::EvidenceBatch;
use picket_wire::id::{AgentId, Incarnation, Seq};
use picket_wire::lane::rollup::RollupBatch;
use picket_wire::limits::PAYLOAD_MAX_BYTES;

/// More than any lane grows to here; nothing is written, so it bounds nothing.
const SPOOL_BYTES: u64 = 1 << 30;
/// Longest record of a lane.
const RECORD_BYTES: usize = ENVELOPE_BYTES + PAYLOAD_MAX_BYTES;
/// A log entry as openraft numbers it: term, node and index, eight bytes each, then what it is.
const PROPOSAL_AT: usize = 3 * size_of::<u64>();
/// What an entry is that holds a command: this byte, and the command behind its length.
const PROPOSAL: u8 = 1;

/// One lane of one agent.
#[derive(Debug)]
pub struct Spoken<T> {
    /// Everything up to this the agent holds for taken, and may have forgotten.
    pub acked: Seq,
    /// Every batch that the agent ever wrote, from number 1.
    pub batches: BTreeMap<Seq, T>,
}

/// Everything that one agent ever said and wanted to be kept.
#[derive(Debug)]
pub struct Diary {
    /// Who.
    pub agent: AgentId,
    /// In which incarnation.
    pub incarnation: Incarnation,
    /// What it found.
    pub evidence: Spoken<EvidenceBatch>,
    /// What it counted.
    pub rollup: Spoken<RollupBatch>,
}

impl Diary {
    /// Reads the data directory of an agent that does not run.
    ///
    /// # Errors
    /// When it does not read, or a part of it was given up.
    pub fn read(data: &Path) -> anyhow::Result<Self> {
        let state = AgentState::load(data)?.context("the agent is enrolled")?;
        Ok(Self {
            agent: state.agent,
            incarnation: state.incarnation,
            evidence: lane(data, Lane::Evidence, state.incarnation)?,
            rollup: lane(data, Lane::Rollup, state.incarnation)?,
        })
    }
}

fn lane<T: Message>(
    data: &Path,
    lane: Lane,
    incarnation: Incarnation,
) -> anyhow::Result<Spoken<T>> {
    let dir = data.join(lane.name());
    let settings = SpoolSettings {
        max_bytes: SPOOL_BYTES,
        record_max_bytes: RECORD_BYTES,
        when_full: WhenFull::Refuse,
    };
    let (spool, _) = Spool::open(&dir, incarnation, settings)?;
    let acked = spool.acked();
    drop(spool);
    let sizes = LogSettings {
        segment_bytes: SPOOL_BYTES,
        record_max_bytes: RECORD_BYTES,
    };
    let (log, _) = SegmentLog::open(&dir, 1, sizes)?;
    ensure!(
        log.first() == 1,
        "{}: the beginning was given up",
        dir.display()
    );
    let records = log.read(1..log.next(), usize::MAX)?;
    let batches = records.into_iter().map(|(seq, bytes)| {
        let (_, batch) = decode::<T>(&bytes)?;
        Ok((Seq(seq), batch))
    });
    Ok(Spoken {
        acked,
        batches: batches.collect::<anyhow::Result<_>>()?,
    })
}

/// The commands in the logs of members that do not run, as far as a majority holds them: what was
/// committed, and perhaps a little that was about to be.
///
/// # Errors
/// When a log does not read, does not begin at its beginning, or says something else than another.
pub fn committed(data: &[impl AsRef<Path>]) -> anyhow::Result<Vec<Entry>> {
    let mut logs = data
        .iter()
        .map(|data| log(data.as_ref()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    logs.sort_by_key(Vec::len);
    let majority = logs.len() / 2 + 1;
    let held = logs.split_off(logs.len() - majority);
    let shortest = held.first().context("a mesh has members")?;
    for (index, record) in shortest.iter().enumerate() {
        ensure!(
            held.iter().all(|log| log[index] == *record),
            "two members hold different entries {index}"
        );
    }
    shortest
        .iter()
        .filter_map(|record| command(record))
        .map(|bytes| Ok(from_bytes::<Entry>(Kind::RaftEntry, bytes)?))
        .collect()
}

fn log(data: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let dir = data.join("raft/log");
    let log = RaftLog::open(&dir, RaftLogSettings::default())?;
    ensure!(
        log.first() == 0,
        "{}: the beginning is in a snapshot",
        dir.display()
    );
    let end = log.last().map_or(0, |last| last + 1);
    let records = log.read(0..end, usize::MAX)?;
    Ok(records.into_iter().map(|(_, bytes)| bytes).collect())
}

/// The command in an entry; `None` in those that openraft wrote for itself.
fn command(record: &[u8]) -> Option<&[u8]> {
    let (kind, proposal) = record.get(PROPOSAL_AT..)?.split_first()?;
    let behind_length = proposal.get(size_of::<u32>()..)?;
    (*kind == PROPOSAL).then_some(behind_length)
}
