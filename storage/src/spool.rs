//! What an agent has observed and the scheduler has not acknowledged yet.
//!
//! An agent must survive a scheduler that is away for a day, and its own death at any moment. One
//! directory per lane: a segment log whose index is the lane's sequence number, a marker that names
//! the incarnation, and a lazily written position up to which records are acknowledged (an older
//! one only means that something is sent twice, and the receiver drops what it has).
//!
//! **Sending.** A record may be sent once it is durable, never before: after a power cut its number
//! would be given to something else and the receiver would take that for a repetition.
//! [`Spool::peek`] therefore shows synced records only.
//!
//! **When it is full.** Evidence refuses ([`WhenFull::Refuse`]): the agent holds it in memory and
//! says so. Rollups give up the oldest file ([`WhenFull::DropOldest`]), an eighth of the bound.
//! The receiver refuses gaps, so a dropped record keeps its number: it is shown without a payload
//! and sent as an empty batch. Nothing on disk says that it was dropped, since a number before the
//! log's first that is not acknowledged can mean nothing else; to keep that true the acknowledged
//! position is synced before a file is removed.
//!
//! **Losing it.** Numbers are dense within one incarnation. An agent whose spool is gone or
//! damaged must not begin at 1 again under the same incarnation: it enrols anew and gets a higher
//! one. The order at enrolment is [`Spool::create`] for every lane first, [`AgentState::save`]
//! last; whoever finds a saved state and [`Found::Fresh`] knows that the spool was lost.
//!
//! After any error but a full disk the spool is poisoned until the process starts again: the agent
//! goes on from memory and does not trust the file that failed.
//!
//! Owner: one thread of the agent. Not here: what the bytes mean, when to sync.

mod agent_state;

use std::fs;
use std::io;
use std::path::Path;

use picket_wire::id::{Incarnation, Seq};

pub use self::agent_state::AgentState;
use crate::durable::{Damage, Directory, FileFault, LOCK, UnsealError};
use crate::segment::{LogSettings, OpenLogError, ReadLogError, SegmentLog, WriteLogError};
use crate::slots::Slots;

const MARKER: &str = "incarnation";
const ACKED: &str = "acked";
/// The first number of an incarnation.
const FIRST: u64 = 1;
/// Into how many files a full spool is cut: what one drop gives up, and what an acknowledged
/// record may go on occupying.
const FILES: u64 = 8;
/// Largest file: opening reads it whole.
const SEGMENT_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// What a record costs against the bound of one [`Spool::peek`] even when it has no payload.
const RECORD_COST_BYTES: usize = 64;

/// What happens when a spool is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The new record is refused.
    Refuse,
    /// The oldest records lose their payload.
    DropOldest,
}

/// Sizes of one lane's spool.
#[derive(Debug, Clone, Copy)]
pub struct SpoolSettings {
    /// Bytes of unacknowledged records. On disk up to a quarter more. A day of one agent's rollups
    /// is some 130 MB.
    pub max_bytes: u64,
    /// Longest record.
    pub record_max_bytes: usize,
    /// What to do beyond `max_bytes`.
    pub when_full: WhenFull,
}

/// What opening a spool found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing of this incarnation: the first record will be number 1.
    Fresh,
    /// Records `from..=to` wait to be sent; none when `from` is behind `to`.
    Recovered {
        /// The first that is not known to be acknowledged.
        from: Seq,
        /// The last.
        to: Seq,
    },
}

/// One record to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    /// Its number.
    pub seq: Seq,
    /// What was pushed; `None` when it had to be dropped and only its number is left.
    pub payload: Option<Vec<u8>>,
}

/// The spool of one lane.
#[derive(Debug)]
pub struct Spool {
    log: SegmentLog,
    settings: SpoolSettings,
    acked: Seq,
    position: Slots,
    dropped: u64,
}

impl Spool {
    /// Removes whatever is in `dir` and begins the spool of `incarnation`.
    ///
    /// # Errors
    /// When somebody has it open or the operating system refuses.
    pub fn create(
        dir: &Path,
        incarnation: Incarnation,
        settings: SpoolSettings,
    ) -> Result<Self, OpenSpoolError> {
        let directory = Directory::open(dir)?;
        wipe(&directory)?;
        let spool = Self::attach(dir, settings)?;
        directory.seal(MARKER, &incarnation.0.to_le_bytes())?;
        Ok(spool)
    }

    /// Opens the spool of `incarnation`. One of another incarnation, or none, is begun anew.
    ///
    /// # Errors
    /// When what is on disk is not what was written: enrol again and [`Spool::create`].
    pub fn open(
        dir: &Path,
        incarnation: Incarnation,
        settings: SpoolSettings,
    ) -> Result<(Self, Found), OpenSpoolError> {
        let marker = Directory::open(dir)?.unseal(MARKER)?;
        if marker.as_deref() != Some(&incarnation.0.to_le_bytes()) {
            return Ok((Self::create(dir, incarnation, settings)?, Found::Fresh));
        }
        if Directory::open(dir)?.names(".seg")?.is_empty() {
            let what = "the spool has a marker and no records file";
            return Err(OpenLogError::from(Damage {
                path: dir.to_owned(),
                offset: 0,
                what,
            })
            .into());
        }
        let spool = Self::attach(dir, settings)?;
        let found = Found::Recovered {
            from: spool.acked.next(),
            to: spool.tail(),
        };
        Ok((spool, found))
    }

    fn attach(dir: &Path, settings: SpoolSettings) -> Result<Self, OpenSpoolError> {
        let sizes = LogSettings {
            segment_bytes: (settings.max_bytes / FILES).min(SEGMENT_MAX_BYTES),
            record_max_bytes: settings.record_max_bytes,
        };
        let (log, _) = SegmentLog::open(dir, FIRST, sizes)?;
        let position = Slots::open(&dir.join(ACKED))?;
        let acked = position
            .value()
            .and_then(|value| value.try_into().ok())
            .map_or(0, u64::from_le_bytes)
            .min(log.next() - 1);
        Ok(Self {
            log,
            settings,
            acked: Seq(acked),
            position,
            dropped: 0,
        })
    }

    /// Takes a record and returns its number. It may be sent after the next [`Spool::sync`].
    ///
    /// # Errors
    /// When the lane refuses because it is full, or the record is too long, or the disk is full or
    /// has failed. The record is then not taken and no number was used.
    pub fn push(&mut self, record: &[u8]) -> Result<Seq, PushError> {
        let max_bytes = self.settings.max_bytes;
        while self.bytes() + record.len() as u64 > max_bytes {
            let may_drop = self.settings.when_full == WhenFull::DropOldest;
            if !may_drop || self.bytes() == 0 {
                return Err(PushError::Full { max_bytes });
            }
            self.drop_oldest()?;
        }
        Ok(Seq(self.log.append(record)?))
    }

    /// Makes every record durable: one write and one `fdatasync`.
    ///
    /// # Errors
    /// After any error but a full disk the spool is poisoned.
    pub fn sync(&mut self) -> Result<(), WriteLogError> {
        self.log.sync()
    }

    /// Durable records from number `from` (or the first unacknowledged, if that is later), in
    /// order, until `max_bytes` are reached; at least one if there is any.
    ///
    /// # Errors
    /// When a record is not what was written.
    pub fn peek(&self, from: Seq, max_bytes: usize) -> Result<Vec<Spooled>, ReadLogError> {
        let from = from.max(self.acked.next()).0;
        let first = self.log.first();
        let lost = (from..first).take((max_bytes / RECORD_COST_BYTES).max(1));
        let mut records: Vec<_> = lost
            .map(|seq| Spooled {
                seq: Seq(seq),
                payload: None,
            })
            .collect();
        let left = max_bytes.saturating_sub(records.len() * RECORD_COST_BYTES);
        let from = from + records.len() as u64;
        if from >= first && (records.is_empty() || left > 0) {
            let kept = self.log.read(from..self.log.synced_next(), left)?;
            records.extend(kept.into_iter().map(|(seq, bytes)| Spooled {
                seq: Seq(seq),
                payload: Some(bytes),
            }));
        }
        Ok(records)
    }

    /// Notes that the effect of everything up to `seq` is durable at the other end. A number
    /// behind the last acknowledged or ahead of what was sent changes nothing beyond those.
    ///
    /// # Errors
    /// When the disk refuses; the records are then only sent again.
    pub fn ack(&mut self, seq: Seq) -> Result<(), WriteLogError> {
        let seq = seq.min(self.durable());
        if seq <= self.acked {
            return Ok(());
        }
        self.acked = seq;
        self.position.put(&seq.0.to_le_bytes())?;
        if self
            .log
            .last_of_oldest_file()
            .is_some_and(|last| last <= seq.0)
        {
            self.position.sync()?;
            self.log.purge_to(seq.0)?;
        }
        Ok(())
    }

    /// The last number known to be acknowledged.
    #[must_use]
    pub fn acked(&self) -> Seq {
        self.acked
    }

    /// The last number given.
    #[must_use]
    pub fn tail(&self) -> Seq {
        Seq(self.log.next() - 1)
    }

    /// The last number that may be sent.
    #[must_use]
    pub fn durable(&self) -> Seq {
        Seq(self.log.synced_next() - 1)
    }

    /// Bytes of unacknowledged records, framing included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.log.bytes_from(self.acked.next().0)
    }

    /// Records that lost their payload since the spool was opened.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn drop_oldest(&mut self) -> Result<(), WriteLogError> {
        if self.log.last_of_oldest_file().is_none() {
            self.log.roll()?;
        }
        let Some(last) = self.log.last_of_oldest_file() else {
            return Ok(());
        };
        let first_lost = self.log.first().max(self.acked.next().0);
        self.position.sync()?;
        self.log.purge_to(last)?;
        self.dropped += (last + 1).saturating_sub(first_lost);
        Ok(())
    }
}

/// A spool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenSpoolError {
    /// The records.
    #[error("cannot open the records")]
    Records(#[from] OpenLogError),
    /// The marker.
    #[error("cannot read the incarnation")]
    Marker(#[from] UnsealError),
    /// The operating system refused.
    #[error(transparent)]
    Fault(#[from] FileFault),
}

/// A record was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The lane is full and does not drop.
    #[error("the spool holds its {max_bytes} bytes")]
    Full {
        /// The bound.
        max_bytes: u64,
    },
    /// The log did not take it.
    #[error(transparent)]
    Log(#[from] WriteLogError),
}

/// The marker goes first: from then on what is left belongs to no incarnation.
fn wipe(dir: &Directory) -> Result<(), OpenSpoolError> {
    let lock = dir.lock()?.ok_or_else(|| OpenLogError::InUse {
        dir: dir.path().to_owned(),
    })?;
    dir.remove(&dir.path().join(MARKER))?;
    for name in dir.names("")?.into_iter().filter(|name| name != LOCK) {
        let path = dir.path().join(&name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FileFault::new("remove", &path)(error).into());
            }
            Ok(()) | Err(_) => {}
        }
    }
    drop(lock);
    Ok(dir.sync()?)
}
