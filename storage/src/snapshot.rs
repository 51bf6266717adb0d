//! Snapshots of the machine: written whole, the last two kept, verified when read.
//!
//! A snapshot has its final name only when it is complete and synced. Two are kept because the
//! newest is the one most recently written, and a disk that fails does so while writing. When the
//! newest is damaged an older one is offered, but the log may have been purged beyond it: the
//! caller compares the snapshot with [`crate::raft_log::RaftLog::purged`] and, where they do not
//! meet, refuses to start and joins again under a new member id.
//!
//! Owner: one thread. Not here: what a snapshot means; its meta is opaque.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::checksum::crc32c;
use crate::durable::{Directory, FileFault};

const SUFFIX: &str = ".snap";
const MAGIC: [u8; 4] = *b"PKSN";
const LAYOUT: u32 = 1;
/// Magic, layout, length of meta (u64), length of data (u64), checksum of all but itself, and four
/// bytes of zero.
const HEAD_BYTES: usize = 32;
/// How many snapshots are kept.
const KEPT: usize = 2;

/// The snapshots of one member.
#[derive(Debug)]
pub struct SnapshotStore {
    dir: Directory,
    /// Number of the next snapshot; names sort by it.
    next: u64,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What the caller says about it: last entry applied, membership.
    pub meta: Vec<u8>,
    /// The machine's state.
    pub data: Vec<u8>,
}

/// What a store offers.
#[derive(Debug)]
pub struct Newest {
    /// The newest snapshot that checks out.
    pub snapshot: Option<Snapshot>,
    /// Newer ones that do not. They stay where they are, as evidence, until two more are written.
    pub damaged: Vec<PathBuf>,
}

impl SnapshotStore {
    /// Opens or creates the store in `dir`, a directory of its own.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn open(dir: &Path) -> Result<Self, FileFault> {
        let dir = Directory::open(dir)?;
        for name in dir.names(&format!("{SUFFIX}.tmp"))? {
            dir.remove(&dir.path().join(name))?;
        }
        let newest = dir
            .names(SUFFIX)?
            .iter()
            .filter_map(|name| number(name))
            .max();
        Ok(Self {
            dir,
            next: newest.map_or(0, |number| number + 1),
        })
    }

    /// Stores a snapshot as the newest; durable on return. Older ones beyond the last two go.
    ///
    /// # Errors
    /// When the operating system refuses; what was stored before is untouched.
    pub fn write(&mut self, meta: &[u8], data: &[u8]) -> Result<(), FileFault> {
        let name = format!("{:020}{SUFFIX}", self.next);
        drop(self.dir.place(&name, &[&head(meta, data), meta, data])?);
        self.next += 1;
        let names = self.dir.names(SUFFIX)?;
        for name in names.iter().take(names.len().saturating_sub(KEPT)) {
            self.dir.remove(&self.dir.path().join(name))?;
        }
        Ok(())
    }

    /// The newest snapshot that checks out.
    ///
    /// # Errors
    /// When a file cannot be read at all.
    pub fn newest(&self) -> Result<Newest, FileFault> {
        let mut damaged = Vec::new();
        for name in self.dir.names(SUFFIX)?.iter().rev() {
            let path = self.dir.path().join(name);
            let bytes = match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read.map_err(FileFault::new("read", &path))?,
            };
            match split(bytes) {
                Some(snapshot) => {
                    return Ok(Newest {
                        snapshot: Some(snapshot),
                        damaged,
                    });
                }
                None => damaged.push(path),
            }
        }
        Ok(Newest {
            snapshot: None,
            damaged,
        })
    }
}

fn number(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

fn head(meta: &[u8], data: &[u8]) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&LAYOUT.to_le_bytes());
    head[8..16].copy_from_slice(&(meta.len() as u64).to_le_bytes());
    head[16..24].copy_from_slice(&(data.len() as u64).to_le_bytes());
    let crc = crc32c(crc32c(crc32c(0, &head[..24]), meta), data);
    head[24..28].copy_from_slice(&crc.to_le_bytes());
    head
}

/// Takes a file apart; `None` when it is not, to the last byte, what was written.
fn split(mut bytes: Vec<u8>) -> Option<Snapshot> {
    let meta_len: [u8; 8] = bytes.get(8..16)?.try_into().ok()?;
    let meta_len = usize::try_from(u64::from_le_bytes(meta_len)).ok()?;
    let data_at = HEAD_BYTES.checked_add(meta_len)?;
    let meta = bytes.get(HEAD_BYTES..data_at)?.to_vec();
    if bytes[..HEAD_BYTES] != head(&meta, &bytes[data_at..]) {
        return None;
    }
    drop(bytes.drain(..data_at));
    Some(Snapshot { meta, data: bytes })
}
