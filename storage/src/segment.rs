//! An append-only log of opaque records over a directory of files.
//!
//! The Raft log and the agent's spool need the same three things: what was synced is there after
//! a power cut, what was torn is cut off, and what has decayed is an error that names file and
//! offset instead of a wrong record.
//!
//! Records have dense indexes. [`SegmentLog::append`] only fills a buffer; [`SegmentLog::sync`] is
//! one `write` and one `fdatasync`, and that is the whole cost: on common disks a sync takes 50 µs
//! (NVMe with a protected cache) to 10 ms (a spinning disk, a busy cloud volume) whatever its size
//! up to some hundred KB. The caller therefore gathers a batch, then syncs once. `fdatasync` and
//! not `fsync`: the file's length is needed to read it back and is written either way, its times
//! are not. A file is replaced by the next once it is longer than
//! [`LogSettings::segment_bytes`], at a sync, so that only the newest file can end torn.
//!
//! After a failed write or sync nobody knows what the disk holds: the kernel drops the dirty pages
//! and a second sync succeeds without them. The log then answers
//! [`WriteLogError::Poisoned`] until it is opened again. A full disk is the one exception, when it
//! shows at `write` and the file could be set back.
//!
//! Owner: one thread. Not here: what the records mean, when a sync is due.

mod error;
mod file;
mod frame;
mod read;
mod recover;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

pub use self::error::{OpenLogError, ReadLogError, WriteLogError};
use self::file::SegmentFile;
use crate::durable::{Directory, FileFault};

/// Bounds of `segment_bytes`. Below 4 KiB a file is mostly directory entry; offsets inside a file
/// are 32 bits wide and a file overshoots by one batch.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 4 * 1024..=1024 * 1024 * 1024;
/// Longest record that any log takes; four times the largest message on the wire.
const RECORD_MAX_BYTES: usize = 32 * 1024 * 1024;
/// The buffer is written, without a sync, when it grows beyond this: an owner that never syncs
/// costs a bounded amount of memory.
const PENDING_MAX_BYTES: usize = 1024 * 1024;
/// Where a file is closed whoever is writing: twice the largest `segment_bytes`.
const SEGMENT_END_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// Sizes of a log.
#[derive(Debug, Clone, Copy)]
pub struct LogSettings {
    /// Bytes after which a new file is begun; held between 4 KiB and 1 GiB. Space is given back
    /// in whole files, and opening reads all of them.
    pub segment_bytes: u64,
    /// Longest record; held at or below 32 MiB. A longer one on disk counts as damage, so this may
    /// grow between two versions of a program but never shrink.
    pub record_max_bytes: usize,
}

/// What opening a log found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Records present.
    pub records: u64,
    /// Bytes of an unfinished batch that were cut off the end. Not a fault: nobody was told that
    /// they were there.
    pub cut_bytes: u64,
}

/// The log. See the module for what it promises.
#[derive(Debug)]
pub struct SegmentLog {
    dir: Directory,
    settings: LogSettings,
    /// Full files, oldest first. Each stays open: their number is the log's size over
    /// `segment_bytes`.
    closed: Vec<SegmentFile>,
    active: SegmentFile,
    /// Frames at the end of the active file that are not written yet.
    pending: Vec<u8>,
    /// How far the active file is durable.
    synced_end: u64,
    /// Index of the first record that is not durable.
    synced_next: u64,
    poison: Option<String>,
    _lock: File,
}

impl SegmentLog {
    /// Opens or creates the log in `dir`. A new log begins at index `first_when_new`. Everything
    /// that is found is durable on return.
    ///
    /// # Errors
    /// When the directory is in use, unreadable, or holds anything but what a log wrote.
    pub fn open(
        dir: &Path,
        first_when_new: u64,
        settings: LogSettings,
    ) -> Result<(Self, Recovered), OpenLogError> {
        let settings = LogSettings {
            segment_bytes: settings
                .segment_bytes
                .clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end()),
            record_max_bytes: settings.record_max_bytes.min(RECORD_MAX_BYTES),
        };
        let dir = Directory::open(dir)?;
        let lock = dir.lock()?.ok_or_else(|| OpenLogError::InUse {
            dir: dir.path().to_owned(),
        })?;
        let (closed, active, cut_bytes) =
            recover::files(&dir, first_when_new, settings.record_max_bytes)?;
        let log = Self {
            settings,
            pending: Vec::new(),
            synced_end: active.end,
            synced_next: active.next(),
            poison: None,
            dir,
            closed,
            active,
            _lock: lock,
        };
        let recovered = Recovered {
            records: log.next() - log.first(),
            cut_bytes,
        };
        Ok((log, recovered))
    }

    /// Index of the oldest record, or of the record to come in an empty log.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.closed.first().unwrap_or(&self.active).first
    }

    /// Index of the record to come.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.active.next()
    }

    /// Index of the first record that a power cut could take: all before it are durable.
    #[must_use]
    pub fn synced_next(&self) -> u64 {
        self.synced_next
    }

    /// Bytes that the records from `index` take, framing included.
    #[must_use]
    pub fn bytes_from(&self, index: u64) -> u64 {
        self.files()
            .map(|file| {
                let index = index.clamp(file.first, file.next());
                file.end - file.start_of(index)
            })
            .sum()
    }

    /// Takes a record at the end and returns its index. It is durable after the next
    /// [`SegmentLog::sync`].
    ///
    /// # Errors
    /// When the record is too long, or the log is poisoned, or a full buffer could not be written;
    /// the record is then not in the log.
    pub fn append(&mut self, record: &[u8]) -> Result<u64, WriteLogError> {
        self.check_poison()?;
        let (bytes, max) = (record.len(), self.settings.record_max_bytes);
        if bytes > max {
            return Err(WriteLogError::TooLarge { bytes, max });
        }
        if self.pending.len() > PENDING_MAX_BYTES {
            self.write_pending()?;
        }
        if self.active.end > SEGMENT_END_MAX {
            self.roll()?;
        }
        let index = self.next();
        let starts_batch = self.active.end == self.synced_end;
        let before = self.pending.len();
        frame::encode(&mut self.pending, self.active.seed, record, starts_batch);
        self.active.push(self.pending.len() - before);
        Ok(index)
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// After any error but a full disk the log is poisoned.
    pub fn sync(&mut self) -> Result<(), WriteLogError> {
        self.sync_active()?;
        if self.active.end < self.settings.segment_bytes {
            return Ok(());
        }
        match self.begin_file(self.next(), false) {
            // The records are safe and the file can go on growing: try again at the next sync.
            Ok(()) | Err(WriteLogError::DiskFull(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Syncs, then begins a new file, so that [`SegmentLog::purge_to`] can remove everything
    /// appended so far.
    pub(crate) fn roll(&mut self) -> Result<(), WriteLogError> {
        self.sync_active()?;
        if self.active.first < self.active.next() {
            self.begin_file(self.next(), false)?;
        }
        Ok(())
    }

    /// Removes the records from `index` to the end; durable on return.
    ///
    /// # Errors
    /// When `index` is outside the log; after a fault the log is poisoned.
    pub fn truncate_from(&mut self, index: u64) -> Result<(), WriteLogError> {
        self.check_poison()?;
        let (first, next) = (self.first(), self.next());
        if index < first || index > next {
            return Err(WriteLogError::OutOfRange { index, first, next });
        }
        // Newest first and each removal durable, so that a cut in between leaves no gap.
        while index < self.active.first {
            let path = self.active.path.clone();
            self.active = self
                .closed
                .pop()
                .expect("an index inside the log has a file");
            self.pending.clear();
            self.synced_end = self.active.end;
            self.synced_next = self.active.next();
            self.guard(|log| log.dir.remove(&path))?;
        }
        let written = self.active.end - self.pending.len() as u64;
        self.active.cut(index);
        if let Some(kept) = self.active.end.checked_sub(written) {
            self.pending
                .truncate(usize::try_from(kept).expect("a part of the buffer"));
            return Ok(());
        }
        self.pending.clear();
        self.guard(|log| log.active.shorten())?;
        self.synced_end = self.active.end;
        self.synced_next = index;
        Ok(())
    }

    /// Gives back full files whose records all lie at or before `index`; durable on return. Beyond
    /// the last record the log becomes empty and goes on at `index + 1`.
    ///
    /// # Errors
    /// After a fault the log is poisoned; on a full disk nothing has changed.
    pub fn purge_to(&mut self, index: u64) -> Result<(), WriteLogError> {
        self.check_poison()?;
        let start = index.saturating_add(1);
        if start > self.next() {
            self.begin_file(start, true)?;
            // What was still buffered is purged with the rest.
            self.pending.clear();
        }
        // Oldest first and each removal durable, so that a cut in between leaves no gap.
        while self.closed.first().is_some_and(|file| file.next() <= start) {
            let file = self.closed.remove(0);
            self.guard(|log| log.dir.remove(&file.path))?;
        }
        Ok(())
    }

    /// Index of the last record in the oldest file that is full.
    pub(crate) fn last_of_oldest_file(&self) -> Option<u64> {
        self.closed.first().map(|file| file.next() - 1)
    }

    fn files(&self) -> impl Iterator<Item = &SegmentFile> {
        self.closed.iter().chain([&self.active])
    }

    fn sync_active(&mut self) -> Result<(), WriteLogError> {
        self.check_poison()?;
        self.write_pending()?;
        if self.synced_end < self.active.end {
            self.guard(|log| {
                let fault = FileFault::new("sync", &log.active.path);
                log.active.file.sync_data().map_err(fault)
            })?;
            self.synced_end = self.active.end;
            self.synced_next = self.active.next();
        }
        Ok(())
    }

    fn write_pending(&mut self) -> Result<(), WriteLogError> {
        let written = self.active.end - self.pending.len() as u64;
        let result = self.active.file.write_all_at(&self.pending, written);
        let Err(error) = result.map_err(FileFault::new("write", &self.active.path)) else {
            self.pending.clear();
            return Ok(());
        };
        // A part may have been written; set the file back so that the next try finds its place.
        if error.is_disk_full() && self.active.file.set_len(written).is_ok() {
            return Err(WriteLogError::DiskFull(error));
        }
        self.guard(|_| Err(error))
    }

    /// Closes the active file and begins one for the records from `first`.
    fn begin_file(&mut self, first: u64, restarts: bool) -> Result<(), WriteLogError> {
        let file = match SegmentFile::create(&self.dir, first, restarts) {
            Err(fault) if fault.is_disk_full() => return Err(WriteLogError::DiskFull(fault)),
            result => self.guard(|_| result)?,
        };
        self.synced_end = file.end;
        self.synced_next = first;
        self.closed.push(std::mem::replace(&mut self.active, file));
        Ok(())
    }

    /// Runs a step that leaves the disk in an unknown state when it fails.
    fn guard<T>(
        &mut self,
        step: impl FnOnce(&Self) -> Result<T, FileFault>,
    ) -> Result<T, WriteLogError> {
        step(self).map_err(|fault| {
            self.poison = Some(format!("{fault}: {}", fault.source));
            fault.into()
        })
    }

    fn check_poison(&self) -> Result<(), WriteLogError> {
        match &self.poison {
            Some(cause) => Err(WriteLogError::Poisoned {
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One synced record and one more, for which the file is replaced by `broken`; then the good
    /// file is back.
    fn sync_with(broken: File, name: &str) -> (WriteLogError, SegmentLog) {
        let dir = std::env::temp_dir().join(format!("picket-{name}-{}", std::process::id()));
        let settings = LogSettings {
            segment_bytes: 4096,
            record_max_bytes: 100,
        };
        let (mut log, _) = SegmentLog::open(&dir, 1, settings).expect("the log opens");
        drop(std::fs::remove_dir_all(dir));
        log.append(b"synced").expect("appended");
        log.sync().expect("synced");
        log.append(b"not synced").expect("appended");
        let good = std::mem::replace(&mut log.active.file, broken);
        let error = log.sync().expect_err("the file is broken");
        log.active.file = good;
        (error, log)
    }

    #[test]
    fn a_failed_sync_is_never_tried_again() {
        // Takes any write and cannot be synced.
        let null = File::options()
            .write(true)
            .open("/dev/null")
            .expect("every system has it");
        let (error, mut log) = sync_with(null, "sync");
        assert!(
            matches!(&error, WriteLogError::Fault(fault) if fault.doing == "sync"),
            "{error}"
        );
        let again = log.sync().expect_err("the pages may be gone");
        assert!(matches!(again, WriteLogError::Poisoned { .. }), "{again}");
        assert_eq!(log.synced_next(), 2);
    }

    #[test]
    fn a_failed_write_that_cannot_be_undone_poisons_the_log() {
        // Has no space and no length that could be set back.
        let full = File::options()
            .write(true)
            .open("/dev/full")
            .expect("every Linux has it");
        let (error, mut log) = sync_with(full, "write");
        assert!(
            matches!(&error, WriteLogError::Fault(fault) if fault.doing == "write"),
            "{error}"
        );
        assert!(matches!(
            log.append(b"x"),
            Err(WriteLogError::Poisoned { .. })
        ));
    }
}
