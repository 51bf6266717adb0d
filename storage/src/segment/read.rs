//! Reading records back, from files and from what is not written yet.
//!
//! A run of neighbours is one read of the file; every record is checked again, since what was sound
//! when the log was opened may have decayed since.

use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use super::error::ReadLogError;
use super::file::{self, SegmentFile};
use super::{SegmentLog, frame};
use crate::durable::FileFault;

impl SegmentLog {
    /// The records of `range`, from its start, until `max_bytes` are reached (framing counts); at
    /// least one if the range holds any. Sees what was appended and is not synced yet. A range
    /// that reaches beyond the end is cut there.
    ///
    /// # Errors
    /// When the start was purged, or the bytes on disk are not what was written.
    pub fn read(
        &self,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, ReadLogError> {
        let (first, stop) = (self.first(), range.end.min(self.next()));
        if range.start < first && range.start < range.end {
            return Err(ReadLogError::Purged {
                index: range.start,
                first,
            });
        }
        let mut records = Vec::new();
        let mut index = range.start;
        let mut left = max_bytes as u64;
        for file in self.files() {
            if index >= stop || index >= file.next() || (left == 0 && !records.is_empty()) {
                continue;
            }
            let end = file.run_end(index, stop.min(file.next()), left, records.is_empty());
            left = left.saturating_sub(file.start_of(end) - file.start_of(index));
            self.read_run(file, index..end, &mut records)?;
            if end < file.next() {
                break;
            }
            index = end;
        }
        Ok(records)
    }

    fn read_run(
        &self,
        file: &SegmentFile,
        run: Range<u64>,
        records: &mut Vec<(u64, Vec<u8>)>,
    ) -> Result<(), ReadLogError> {
        let (start, end) = (file.start_of(run.start), file.start_of(run.end));
        let mut bytes = vec![0; usize::try_from(end - start).expect("a part of one file")];
        let held = if file.first == self.active.first {
            self.pending.len() as u64
        } else {
            0
        };
        let written = file.end - held;
        let on_disk = usize::try_from(written.clamp(start, end) - start).expect("part of the run");
        let (from_disk, from_memory) = bytes.split_at_mut(on_disk);
        file.file
            .read_exact_at(from_disk, start)
            .map_err(FileFault::new("read", &file.path))?;
        let skip = usize::try_from(start.saturating_sub(written)).expect("part of the buffer");
        from_memory.copy_from_slice(&self.pending[skip..skip + from_memory.len()]);

        let mut rest = bytes.as_slice();
        for index in run {
            let frame =
                frame::parse(rest, file.seed, self.settings.record_max_bytes).ok_or_else(|| {
                    file::damage(
                        &file.path,
                        file.start_of(index),
                        "the record does not check out",
                    )
                })?;
            records.push((index, frame.payload.to_vec()));
            rest = &rest[frame.span()..];
        }
        Ok(())
    }
}
