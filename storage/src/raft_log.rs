//! What a Raft member must not forget: entries, vote, how far it may apply.
//!
//! Entries are opaque bytes by index; the caller encodes term and payload. Entries appended are
//! readable at once and durable after [`RaftLog::sync`]; a vote is durable on return, since a member
//! that forgets whom it voted for can elect two leaders. The committed position is a hint: it
//! may be lost, it is never ahead of the entries on disk.
//!
//! ```text
//! dir/00000000000000000000.seg …   entries          vote        sealed file, replaced whole
//!     purged                       sealed file      committed   two slots, overwritten
//! ```
//!
//! Owner: one thread. The owner must end the process on any error but a full disk: a log that
//! cannot be read or synced may not go on answering for the cluster (a leader that carries on with
//! a read error sends followers a wrong log).
//! Not here: the snapshot ([`crate::snapshot`]), openraft's types.

use std::ops::Range;
use std::path::Path;

use crate::durable::{Damage, Directory, FileFault, SEALED_MAX_BYTES, UnsealError};
use crate::segment::{LogSettings, OpenLogError, ReadLogError, SegmentLog, WriteLogError};
use crate::slots::{self, Slots};

const VOTE: &str = "vote";
const PURGED: &str = "purged";
const COMMITTED: &str = "committed";
/// Longest vote, and longest id of a purged entry.
pub const NOTE_MAX_BYTES: usize = SEALED_MAX_BYTES - size_of::<u64>();
/// Longest committed id.
pub const COMMITTED_MAX_BYTES: usize = slots::VALUE_MAX_BYTES - size_of::<u64>();

/// Sizes of a Raft log.
#[derive(Debug, Clone, Copy)]
pub struct RaftLogSettings {
    /// Bytes after which a new file is begun. The default of 16 MiB is read at start in a few
    /// milliseconds and given back soon after a snapshot; more means fewer files.
    pub segment_bytes: u64,
    /// Longest entry. The default is twice the longest message of the wire, because an entry
    /// carries at most one message.
    pub entry_max_bytes: usize,
}

impl Default for RaftLogSettings {
    fn default() -> Self {
        Self {
            segment_bytes: 16 * 1024 * 1024,
            entry_max_bytes: 2 * picket_wire::limits::PAYLOAD_MAX_BYTES,
        }
    }
}

/// The log of one member.
#[derive(Debug)]
pub struct RaftLog {
    dir: Directory,
    log: SegmentLog,
    /// Index and id of the last entry that a snapshot replaces.
    purged: Option<(u64, Vec<u8>)>,
    vote: Option<Vec<u8>>,
    committed: Slots,
}

impl RaftLog {
    /// Opens or creates the log in `dir`. A new log begins at index 0.
    ///
    /// # Errors
    /// When anything on disk is not what was written. Never repair by wiping the directory and
    /// coming back under the same member id: remove the member and join anew.
    pub fn open(dir: &Path, settings: RaftLogSettings) -> Result<Self, OpenRaftLogError> {
        let sizes = LogSettings {
            segment_bytes: settings.segment_bytes,
            record_max_bytes: settings.entry_max_bytes,
        };
        let (log, _) = SegmentLog::open(dir, 0, sizes)?;
        let dir = Directory::open(dir)?;
        let vote = dir.unseal(VOTE)?;
        let purged = dir
            .unseal(PURGED)?
            .map(|bytes| split_purged(&dir, &bytes))
            .transpose()?;
        let committed = Slots::open(&dir.path().join(COMMITTED))?;
        let mut this = Self {
            dir,
            log,
            purged,
            vote,
            committed,
        };
        this.finish_purge()?;
        Ok(this)
    }

    /// Index of the first entry that is kept, or of the first to come.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.purged
            .as_ref()
            .map_or(0, |(index, _)| index + 1)
            .max(self.log.first())
    }

    /// Index of the last entry. `None` when the log holds none, whatever was purged.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        (self.first() < self.log.next()).then(|| self.log.next() - 1)
    }

    /// Index and id of the last entry that was purged.
    #[must_use]
    pub fn purged(&self) -> Option<(u64, &[u8])> {
        self.purged
            .as_ref()
            .map(|(index, id)| (*index, id.as_slice()))
    }

    /// Takes entries from index `first`, which must follow the last one. Nothing is durable before
    /// [`RaftLog::sync`].
    ///
    /// # Errors
    /// When `first` leaves a gap or an overlap, or an entry is too long: some of the entries before
    /// it may have been taken, see [`RaftLog::last`].
    pub fn append_batch<B: AsRef<[u8]>>(
        &mut self,
        first: u64,
        entries: impl IntoIterator<Item = B>,
    ) -> Result<(), WriteLogError> {
        let next = self.log.next();
        if first != next {
            return Err(WriteLogError::OutOfRange {
                index: first,
                first: self.first(),
                next,
            });
        }
        entries
            .into_iter()
            .try_for_each(|entry| self.log.append(entry.as_ref()).map(drop))
    }

    /// Makes all entries durable: one write and one `fdatasync`.
    ///
    /// # Errors
    /// After any error but a full disk the log is poisoned.
    pub fn sync(&mut self) -> Result<(), WriteLogError> {
        self.log.sync()
    }

    /// Removes the entries from `index` to the end; durable on return.
    ///
    /// # Errors
    /// When `index` was purged or lies beyond the end.
    pub fn truncate_from(&mut self, index: u64) -> Result<(), WriteLogError> {
        let (first, next) = (self.first(), self.log.next());
        if index < first {
            return Err(WriteLogError::OutOfRange { index, first, next });
        }
        self.log.truncate_from(index)
    }

    /// Forgets the entries up to and including `index`, whose id is `id`; durable on return.
    /// Beyond the end (a snapshot came from the leader) the log goes on at `index + 1`.
    ///
    /// # Errors
    /// On a full disk nothing has changed; an index at or before the last purge changes nothing.
    pub fn purge_to(&mut self, index: u64, id: &[u8]) -> Result<(), WriteLogError> {
        if id.len() > NOTE_MAX_BYTES {
            return Err(WriteLogError::TooLarge {
                bytes: id.len(),
                max: NOTE_MAX_BYTES,
            });
        }
        if self
            .purged
            .as_ref()
            .is_some_and(|(purged, _)| index <= *purged)
        {
            return Ok(());
        }
        // The note first: entries may outlive it, but a log that begins late and does not know why
        // would be taken for damaged.
        let note = [&index.to_le_bytes(), id].concat();
        self.dir.seal(PURGED, &note).map_err(note_fault)?;
        self.purged = Some((index, id.to_vec()));
        self.log.purge_to(index)
    }

    /// The entries of `range`, from its start, until `max_bytes` are reached; at least one if the
    /// range holds any. A range that reaches beyond the end is cut there.
    ///
    /// # Errors
    /// When the start was purged, or an entry is not what was written: end the process.
    pub fn read(
        &self,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, ReadLogError> {
        let first = self.first();
        if range.start < first && range.start < range.end {
            return Err(ReadLogError::Purged {
                index: range.start,
                first,
            });
        }
        self.log.read(range, max_bytes)
    }

    /// Remembers a vote; durable on return.
    ///
    /// # Errors
    /// When it is too long or the disk refuses; the old vote then stands, here and on disk, unless
    /// the error is other than a full disk.
    pub fn save_vote(&mut self, vote: &[u8]) -> Result<(), WriteLogError> {
        if vote.len() > NOTE_MAX_BYTES {
            return Err(WriteLogError::TooLarge {
                bytes: vote.len(),
                max: NOTE_MAX_BYTES,
            });
        }
        self.dir.seal(VOTE, vote).map_err(note_fault)?;
        self.vote = Some(vote.to_vec());
        Ok(())
    }

    /// The last vote.
    #[must_use]
    pub fn vote(&self) -> Option<&[u8]> {
        self.vote.as_deref()
    }

    /// Notes that everything up to `index`, whose id is `id`, is committed. Cheap and lazy.
    ///
    /// # Errors
    /// When the id is longer than [`COMMITTED_MAX_BYTES`] or the disk refuses.
    pub fn save_committed(&mut self, index: u64, id: &[u8]) -> Result<(), WriteLogError> {
        if id.len() > COMMITTED_MAX_BYTES {
            return Err(WriteLogError::TooLarge {
                bytes: id.len(),
                max: COMMITTED_MAX_BYTES,
            });
        }
        let note = [&index.to_le_bytes(), id].concat();
        self.committed.put(&note).map_err(note_fault)
    }

    /// The committed position, if one is known and the log reaches it.
    #[must_use]
    pub fn committed(&self) -> Option<(u64, &[u8])> {
        let (index, id) = self.committed.value()?.split_first_chunk()?;
        let index = u64::from_le_bytes(*index);
        (index < self.log.next()).then_some((index, id))
    }

    /// A purge that a power cut interrupted after its note was written is carried to its end.
    fn finish_purge(&mut self) -> Result<(), OpenRaftLogError> {
        let kept_from = self.purged.as_ref().map_or(0, |(index, _)| index + 1);
        if self.log.first() > kept_from {
            let what = "entries before the first one are missing";
            let path = self.dir.path().to_owned();
            return Err(OpenLogError::from(Damage {
                path,
                offset: 0,
                what,
            })
            .into());
        }
        if let Some((index, _)) = &self.purged {
            self.log.purge_to(*index)?;
        }
        Ok(())
    }
}

/// A Raft log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenRaftLogError {
    /// The entries.
    #[error("cannot open the entries")]
    Entries(#[from] OpenLogError),
    /// The vote or the purged position.
    #[error("cannot read vote or purged position")]
    Note(#[from] UnsealError),
    /// A purge that was interrupted could not be finished.
    #[error("cannot finish a purge")]
    Purge(#[from] WriteLogError),
    /// The operating system refused.
    #[error(transparent)]
    Fault(#[from] FileFault),
}

fn note_fault(fault: FileFault) -> WriteLogError {
    if fault.is_disk_full() {
        WriteLogError::DiskFull(fault)
    } else {
        fault.into()
    }
}

fn split_purged(dir: &Directory, note: &[u8]) -> Result<(u64, Vec<u8>), UnsealError> {
    note.split_first_chunk()
        .map(|(index, id)| (u64::from_le_bytes(*index), id.to_vec()))
        .ok_or_else(|| {
            let path = dir.path().join(PURGED);
            Damage {
                path,
                offset: 0,
                what: "a purged position has an index",
            }
            .into()
        })
}
