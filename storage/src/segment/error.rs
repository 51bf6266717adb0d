//! What can go wrong with a log, by operation.

use std::path::PathBuf;

use crate::durable::{Damage, FileFault};

/// A log could not be opened. None of these is repaired silently.
#[derive(Debug, thiserror::Error)]
pub enum OpenLogError {
    /// Another owner has the directory open.
    #[error("the log in {} is in use", dir.display())]
    InUse {
        /// The log's directory.
        dir: PathBuf,
    },
    /// Bytes that were durable once have changed, or a file is missing.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// A file of a later version of this program.
    #[error("{} has layout {found}, this program reads {supported}", path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// The layout that the file names.
        found: u16,
        /// The only layout this program reads.
        supported: u16,
    },
    /// The operating system refused.
    #[error(transparent)]
    Fault(#[from] FileFault),
}

/// Nothing was taken, or it is not known what reached the disk.
#[derive(Debug, thiserror::Error)]
pub enum WriteLogError {
    /// The record is longer than the log's bound.
    #[error("a record of {bytes} bytes exceeds the bound of {max}")]
    TooLarge {
        /// Length of the record.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The index lies outside what the log holds.
    #[error("index {index} is outside {first}..={next}")]
    OutOfRange {
        /// The index asked for.
        index: u64,
        /// The first index present.
        first: u64,
        /// The index of the record to come.
        next: u64,
    },
    /// There is no space. What was appended before is still held and the call may be repeated.
    #[error("the disk is full")]
    DiskFull(#[source] FileFault),
    /// A write or sync failed, and with it the log: every later call answers `Poisoned`.
    #[error(transparent)]
    Fault(#[from] FileFault),
    /// An earlier write or sync failed, so what is on disk is unknown. A second sync would report
    /// success without having written anything, therefore there is none.
    #[error("the log failed earlier: {cause}")]
    Poisoned {
        /// The first failure.
        cause: String,
    },
}

impl WriteLogError {
    /// Whether the same call can succeed later without opening the log again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::DiskFull(_))
    }
}

/// Records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadLogError {
    /// The range begins before the first record that is kept.
    #[error("index {index} is before the first record {first}")]
    Purged {
        /// The index asked for.
        index: u64,
        /// The first index present.
        first: u64,
    },
    /// A record is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The operating system refused.
    #[error(transparent)]
    Fault(#[from] FileFault),
}
