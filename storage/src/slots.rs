//! A small value that may be lost but never wrong.
//!
//! An acknowledged position changes often and matters little: an older one only means that
//! something is sent or applied twice. It is overwritten in place, without a sync, in two slots
//! taken in turn, so that a torn write leaves the other slot; the newest valid slot wins.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::checksum::crc32c;
use crate::durable::FileFault;

/// One slot: checksum, generation, length, value. Well inside one disk sector of 512 bytes.
const SLOT_BYTES: usize = 128;
const HEAD_BYTES: usize = 4 + 8 + 1;
/// Longest value.
pub(crate) const VALUE_MAX_BYTES: usize = SLOT_BYTES - HEAD_BYTES;

/// The file and the value it last took.
#[derive(Debug)]
pub(crate) struct Slots {
    path: PathBuf,
    file: File,
    generation: u64,
    value: Option<Vec<u8>>,
}

impl Slots {
    pub(crate) fn open(path: &Path) -> Result<Self, FileFault> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(FileFault::new("open", path))?;
        let newest = [read_slot(&file, 0), read_slot(&file, 1)]
            .into_iter()
            .flatten()
            .max_by_key(|(generation, _)| *generation);
        let (generation, value) = newest.map_or((0, None), |(at, value)| (at, Some(value)));
        Ok(Self {
            path: path.to_owned(),
            file,
            generation,
            value,
        })
    }

    pub(crate) fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// Overwrites the older slot; durable some time later, or after [`Slots::sync`].
    pub(crate) fn put(&mut self, value: &[u8]) -> Result<(), FileFault> {
        assert!(
            value.len() <= VALUE_MAX_BYTES,
            "a slot holds a position, not data"
        );
        let generation = self.generation + 1;
        let mut slot = [0; SLOT_BYTES];
        slot[4..12].copy_from_slice(&generation.to_le_bytes());
        slot[12] = u8::try_from(value.len()).expect("the longest value fits one byte");
        slot[HEAD_BYTES..HEAD_BYTES + value.len()].copy_from_slice(value);
        let crc = crc32c(0, &slot[4..]);
        slot[..4].copy_from_slice(&crc.to_le_bytes());
        self.file
            .write_all_at(&slot, (generation % 2) * SLOT_BYTES as u64)
            .map_err(FileFault::new("write", &self.path))?;
        self.generation = generation;
        self.value = Some(value.to_vec());
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<(), FileFault> {
        self.file
            .sync_data()
            .map_err(FileFault::new("sync", &self.path))
    }
}

/// A slot that cannot be read or does not check out is a slot without a value.
fn read_slot(file: &File, number: u64) -> Option<(u64, Vec<u8>)> {
    let mut slot = [0; SLOT_BYTES];
    file.read_exact_at(&mut slot, number * SLOT_BYTES as u64)
        .ok()?;
    let (crc, covered) = slot.split_first_chunk::<4>()?;
    let (generation, rest) = covered.split_first_chunk::<8>()?;
    let (len, value) = rest.split_first()?;
    let value = value.get(..usize::from(*len))?;
    (u32::from_le_bytes(*crc) == crc32c(0, covered))
        .then(|| (u64::from_le_bytes(*generation), value.to_vec()))
}
