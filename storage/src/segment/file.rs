//! One file of a log: a header, then frames.
//!
//! The file is created whole under its final name, header synced, so a bad header is always
//! damage and never a torn write. Offsets of all frames stay in memory, four bytes a record.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::error::OpenLogError;
use super::frame::{self, BadEnd};
use crate::checksum::crc32c;
use crate::durable::{Damage, Directory, FileFault};

/// How the name of a log's file ends; before it stands the index of its first record, 20 digits.
pub(super) const SUFFIX: &str = ".seg";
const MAGIC: [u8; 4] = *b"PKSG";
const LAYOUT: u16 = 1;
/// Magic, layout, flags, first index, 12 bytes reserved as zero, checksum.
pub(super) const HEADER_BYTES: usize = 32;
/// Flag: the log begins here, whatever older files are still lying about.
const RESTARTS: u16 = 1;

/// An open file with the offsets of its frames.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Index of the first record.
    pub(super) first: u64,
    /// Where each frame begins.
    offsets: Vec<u32>,
    /// Where the next frame begins; includes frames that the log still holds in memory.
    pub(super) end: u64,
    /// Identity that is mixed into each frame's checksum.
    pub(super) seed: u32,
    pub(super) restarts: bool,
}

impl SegmentFile {
    /// Creates the file for records from `first`; durable on return.
    pub(super) fn create(dir: &Directory, first: u64, restarts: bool) -> Result<Self, FileFault> {
        let name = format!("{first:020}{SUFFIX}");
        let header = header(first, restarts);
        let file = dir.place(&name, &[&header])?;
        let path = dir.path().join(name);
        let end = HEADER_BYTES as u64;
        Ok(Self {
            path,
            file,
            first,
            offsets: Vec::new(),
            end,
            seed: seed_of(&header),
            restarts,
        })
    }

    /// Opens a file and reads its header; [`SegmentFile::scan`] finds the frames.
    pub(super) fn open(dir: &Directory, name: &str) -> Result<Self, OpenLogError> {
        let path = dir.path().join(name);
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(FileFault::new("open", &path))?;
        let length = file
            .metadata()
            .map_err(FileFault::new("measure", &path))?
            .len();
        if length < HEADER_BYTES as u64 || u32::try_from(length).is_err() {
            return Err(damage(&path, 0, "the length is not one a log writes").into());
        }
        let mut bytes = [0; HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0)
            .map_err(FileFault::new("read", &path))?;
        let (first, restarts) = parse_header(&path, &bytes)?;
        if name != format!("{first:020}{SUFFIX}") {
            return Err(damage(&path, 0, "the header names another file").into());
        }
        let seed = seed_of(&bytes);
        Ok(Self {
            path,
            file,
            first,
            offsets: Vec::new(),
            end: length,
            seed,
            restarts,
        })
    }

    /// Walks all frames. In the newest file an unfinished batch at the end is cut off; the number
    /// of bytes cut is returned.
    pub(super) fn scan(&mut self, record_max: usize, newest: bool) -> Result<u64, OpenLogError> {
        let length = usize::try_from(self.end).expect("a file of a log stays below 4 GiB");
        let mut bytes = vec![0; length];
        self.file
            .read_exact_at(&mut bytes, 0)
            .map_err(FileFault::new("read", &self.path))?;
        let mut at = HEADER_BYTES;
        self.end = at as u64;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(frame) = frame::parse(rest, self.seed, record_max) else {
                if !newest || frame::judge_end(rest, at, self.seed, record_max) == BadEnd::Rotten {
                    return Err(
                        damage(&self.path, at as u64, "the record does not check out").into(),
                    );
                }
                break;
            };
            self.push(frame.span());
            at += frame.span();
        }
        let cut = (length - at) as u64;
        if cut > 0 {
            self.shorten()?;
        }
        Ok(cut)
    }

    /// Cuts the file at `end`; durable on return.
    pub(super) fn shorten(&self) -> Result<(), FileFault> {
        self.file
            .set_len(self.end)
            .map_err(FileFault::new("truncate", &self.path))?;
        self.file
            .sync_all()
            .map_err(FileFault::new("sync", &self.path))
    }

    /// Index of the record to come.
    pub(super) fn next(&self) -> u64 {
        self.first + self.offsets.len() as u64
    }

    /// Notes a frame of `span` bytes at the end.
    pub(super) fn push(&mut self, span: usize) {
        let start = u32::try_from(self.end).expect("a file of a log stays below 4 GiB");
        self.offsets.push(start);
        self.end += span as u64;
    }

    /// Forgets the records from `index`.
    pub(super) fn cut(&mut self, index: u64) {
        self.end = self.start_of(index);
        self.offsets.truncate(self.position(index));
    }

    /// Where the frame of `index` begins; for the record to come, where it will begin.
    pub(super) fn start_of(&self, index: u64) -> u64 {
        self.offsets
            .get(self.position(index))
            .map_or(self.end, |start| u64::from(*start))
    }

    /// Where a run of records from `index` to at most `stop` ends if its frames may take `max`
    /// bytes; with `at_least_one` the first record is in it whatever its length.
    pub(super) fn run_end(&self, index: u64, stop: u64, max: u64, at_least_one: bool) -> u64 {
        let limit = self.start_of(index).saturating_add(max);
        // The last frame that begins at or before the limit ends behind it, unless all fit.
        let begun = self
            .offsets
            .partition_point(|start| u64::from(*start) <= limit) as u64;
        let fits = if self.end <= limit {
            self.next()
        } else {
            self.first + begun - 1
        };
        fits.max(index + u64::from(at_least_one)).min(stop)
    }

    fn position(&self, index: u64) -> usize {
        usize::try_from(index - self.first).expect("a file holds fewer records than bytes")
    }
}

pub(super) fn damage(path: &Path, offset: u64, what: &'static str) -> Damage {
    Damage {
        path: path.to_owned(),
        offset,
        what,
    }
}

/// The header's own checksum: it tells one file from another, and a checksum over it and what it
/// covers would be the same number for every file.
fn seed_of(header: &[u8; HEADER_BYTES]) -> u32 {
    crc32c(0, &header[..28])
}

fn header(first: u64, restarts: bool) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&LAYOUT.to_le_bytes());
    bytes[6..8].copy_from_slice(&(if restarts { RESTARTS } else { 0 }).to_le_bytes());
    bytes[8..16].copy_from_slice(&first.to_le_bytes());
    let crc = seed_of(&bytes).to_le_bytes();
    bytes[28..].copy_from_slice(&crc);
    bytes
}

fn parse_header(path: &Path, bytes: &[u8; HEADER_BYTES]) -> Result<(u64, bool), OpenLogError> {
    let field = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    if bytes[..4] != MAGIC {
        return Err(damage(path, 0, "the file does not begin like a log").into());
    }
    if field(4) != LAYOUT {
        let path = path.to_owned();
        return Err(OpenLogError::Layout {
            path,
            found: field(4),
            supported: LAYOUT,
        });
    }
    if bytes[28..] != seed_of(bytes).to_le_bytes() || field(6) > RESTARTS {
        return Err(damage(path, 0, "the header does not check out").into());
    }
    let first = bytes[8..16]
        .try_into()
        .expect("eight bytes are eight bytes");
    Ok((u64::from_le_bytes(first), field(6) == RESTARTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_pinned_to_the_byte() {
        let expected: [u8; 28] = [
            b'P', b'K', b'S', b'G', 1, 0, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0,
        ];
        assert_eq!(header(7, true)[..28], expected);
        assert_eq!(
            parse_header(Path::new("x"), &header(7, true)).expect("valid"),
            (7, true)
        );
    }
}
