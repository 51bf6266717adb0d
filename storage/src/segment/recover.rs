//! Finding the files of a log and what they hold.
//!
//! | found | decision |
//! |---|---|
//! | a temporary file | an interrupted creation: removed |
//! | files before the newest that says “the log begins here” | an interrupted purge: removed |
//! | an unfinished batch at the end of the newest file | cut off |
//! | the same anywhere else, a gap between files, a bad header | refused |

use super::error::OpenLogError;
use super::file::{self, SUFFIX, SegmentFile};
use crate::durable::{Directory, FileFault};

/// Closed files, the active file, and how many bytes were cut off its end.
pub(super) fn files(
    dir: &Directory,
    first_when_new: u64,
    record_max: usize,
) -> Result<(Vec<SegmentFile>, SegmentFile, u64), OpenLogError> {
    for name in dir.names(&format!("{SUFFIX}.tmp"))? {
        dir.remove(&dir.path().join(name))?;
    }
    let mut files = Vec::new();
    for name in dir.names(SUFFIX)? {
        files.push(SegmentFile::open(dir, &name)?);
    }
    let begin = files.iter().rposition(|file| file.restarts).unwrap_or(0);
    for stale in files.drain(..begin) {
        dir.remove(&stale.path)?;
    }
    let Some(mut active) = files.pop() else {
        return Ok((files, SegmentFile::create(dir, first_when_new, true)?, 0));
    };
    for file in &mut files {
        file.scan(record_max, false)?;
    }
    let cut = active.scan(record_max, true)?;
    check_for_gaps(&files, &active)?;
    make_durable(dir, &active)?;
    Ok((files, active, cut))
}

fn check_for_gaps(closed: &[SegmentFile], active: &SegmentFile) -> Result<(), OpenLogError> {
    let followers = closed.iter().skip(1).chain([active]);
    for (file, follower) in closed.iter().zip(followers) {
        if file.next() != follower.first {
            return Err(
                file::damage(&file.path, file.end, "the records after it are missing").into(),
            );
        }
    }
    Ok(())
}

/// What a killed process left in the page cache reads fine and is gone after a power cut; it must
/// not be shown to anyone before it is durable.
fn make_durable(dir: &Directory, active: &SegmentFile) -> Result<(), OpenLogError> {
    active
        .file
        .sync_data()
        .map_err(FileFault::new("sync", &active.path))?;
    dir.sync()?;
    Ok(())
}
