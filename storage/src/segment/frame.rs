//! One record on disk: length, checksum, payload.
//!
//! The length's top bit marks the first record after a successful sync. A sync ends a batch, so
//! a record with the mark proves that everything before it was once durable: that is how the end
//! of a file is told to be a batch that a power cut interrupted, or a finished one that decayed.

use crate::checksum::{crc32c, flipped_bit};

/// Length and checksum, four bytes each.
pub(super) const HEAD_BYTES: usize = 8;
/// Where the checksum stands, behind the length.
const CRC_AT: usize = 4;
/// The least that a disk writes as one: present or absent, never a part.
const SECTOR_BYTES: usize = 512;
/// The mark of a record that is the first of its batch.
const BATCH_START: u32 = 1 << 31;

/// A valid frame at the start of some bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) payload: &'a [u8],
}

impl Frame<'_> {
    /// How many bytes the frame takes.
    pub(super) fn span(&self) -> usize {
        HEAD_BYTES + self.payload.len()
    }
}

/// What is wrong with an end of a file that is not a valid frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadEnd {
    /// A batch that was being written when the power went: nobody was told it is there.
    Torn,
    /// Bytes that were durable once and have changed since.
    Rotten,
}

/// Appends one framed record. `seed` is the identity of the file, so that a frame is valid in the
/// file it was written to and nowhere else.
///
/// # Panics
/// When the payload is longer than 31 bits count; the log bounds it far below.
pub(super) fn encode(out: &mut Vec<u8>, seed: u32, payload: &[u8], starts_batch: bool) {
    let len = u32::try_from(payload.len())
        .ok()
        .filter(|len| len & BATCH_START == 0);
    let len = len.expect("the log bounds a record far below 2 GiB");
    let word = (if starts_batch { len | BATCH_START } else { len }).to_le_bytes();
    out.extend_from_slice(&word);
    out.extend_from_slice(&crc32c(crc32c(seed, &word), payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// The frame that `bytes` begins with, if it is whole and checks out.
pub(super) fn parse(bytes: &[u8], seed: u32, record_max: usize) -> Option<Frame<'_>> {
    let head = Head::read(bytes)?;
    let payload = head.payload(bytes, record_max)?;
    (head.computed(seed, payload) == head.crc).then_some(Frame { payload })
}

/// Judges the bytes from the first invalid frame, which stands at `offset`, to the end of the
/// newest file.
///
/// A whole batch is written at once and disks reorder what is inside it, so valid frames behind a
/// hole prove nothing by themselves. Two things do prove decay: a later batch that is intact, and
/// a frame that is intact but for one bit. Several flipped bits in the very last batch are beyond
/// what can be told from a torn write.
pub(super) fn judge_end(end: &[u8], offset: usize, seed: u32, record_max: usize) -> BadEnd {
    let decayed = flipped_byte(end, seed, record_max)
        .is_some_and(|byte| !is_in_lost_sector(end, offset, byte));
    if decayed || later_batch(end, seed, record_max) {
        BadEnd::Rotten
    } else {
        BadEnd::Torn
    }
}

/// A marked frame at any later byte. Lengths that fit are rare among random bytes, so few
/// checksums are computed.
fn later_batch(end: &[u8], seed: u32, record_max: usize) -> bool {
    (1..end.len()).any(|at| {
        let bytes = end.get(at..).unwrap_or_default();
        Head::read(bytes).is_some_and(|head| head.word & BATCH_START != 0)
            && parse(bytes, seed, record_max).is_some()
    })
}

/// Where one flipped bit, of length, checksum or payload, explains the first frame. Chance makes
/// another damage look like that once in 2^32 per bit of the frame.
fn flipped_byte(end: &[u8], seed: u32, record_max: usize) -> Option<usize> {
    let head = Head::read(end)?;
    if let Some(payload) = head.payload(end, record_max) {
        let difference = head.computed(seed, payload) ^ head.crc;
        if difference.is_power_of_two() {
            return Some(CRC_AT + difference.trailing_zeros() as usize / 8);
        }
        let covered = CRC_AT + payload.len();
        if let Some(distance) = flipped_bit(difference, covered) {
            let byte = covered - 1 - distance / 8;
            return Some(if byte < CRC_AT {
                byte
            } else {
                byte + HEAD_BYTES - CRC_AT
            });
        }
    }
    let length_bit = (0..31).find(|bit| {
        let other = Head {
            word: head.word ^ (1 << bit),
            crc: head.crc,
        };
        other
            .payload(end, record_max)
            .is_some_and(|payload| other.computed(seed, payload) == other.crc)
    })?;
    Some(length_bit / 8)
}

/// Whether what the batch has in the sector of `byte` is all zero: a sector that was never written
/// reads so, and where little was to be written there, a single bit may be all that is missing.
fn is_in_lost_sector(end: &[u8], offset: usize, byte: usize) -> bool {
    let sector = (offset + byte) / SECTOR_BYTES * SECTOR_BYTES;
    let from = sector.saturating_sub(offset);
    let to = (sector + SECTOR_BYTES - offset).min(end.len());
    end.get(from..to)
        .is_some_and(|lost| lost.iter().all(|byte| *byte == 0))
}

/// The fixed part of a frame, believed to nothing yet.
#[derive(Clone, Copy)]
struct Head {
    word: u32,
    crc: u32,
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (word, rest) = bytes.split_first_chunk()?;
        let (crc, _) = rest.split_first_chunk()?;
        Some(Self {
            word: u32::from_le_bytes(*word),
            crc: u32::from_le_bytes(*crc),
        })
    }

    fn payload(self, bytes: &[u8], record_max: usize) -> Option<&[u8]> {
        let len = usize::try_from(self.word & !BATCH_START).ok()?;
        (len <= record_max)
            .then(|| bytes.get(HEAD_BYTES..HEAD_BYTES + len))
            .flatten()
    }

    fn computed(self, seed: u32, payload: &[u8]) -> u32 {
        crc32c(crc32c(seed, &self.word.to_le_bytes()), payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u32 = 0x0c0f_fee0;
    const MAX: usize = 1_000;

    fn frame(payload: &[u8], starts_batch: bool) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, SEED, payload, starts_batch);
        out
    }

    #[test]
    fn a_frame_reads_back_in_its_own_file_only() {
        let bytes = frame(b"hello", true);
        assert_eq!(
            parse(&bytes, SEED, MAX).map(|f| f.payload),
            Some(&b"hello"[..])
        );
        assert!(parse(&bytes, SEED + 1, MAX).is_none());
        assert!(
            parse(&bytes, SEED, 4).is_none(),
            "longer than a record may be"
        );
    }

    #[test]
    fn a_frame_cut_anywhere_is_torn() {
        let bytes = frame(b"a payload of some length", true);
        for len in 0..bytes.len() {
            assert_eq!(
                judge_end(&bytes[..len], 32, SEED, MAX),
                BadEnd::Torn,
                "cut at {len}"
            );
        }
    }

    #[test]
    fn a_frame_with_one_flipped_bit_is_rotten() {
        let bytes = frame(b"a payload of some length", true);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&flipped, SEED, MAX).is_none(), "bit {bit}");
            assert_eq!(
                judge_end(&flipped, 32, SEED, MAX),
                BadEnd::Rotten,
                "bit {bit}"
            );
        }
    }

    #[test]
    fn a_lost_sector_that_held_a_single_bit_is_torn() {
        let bytes = frame(&[0, 0, 0, 1], true);
        let lost = [&bytes[..11], &[0]].concat();
        let offset = SECTOR_BYTES - 11;
        assert_eq!(judge_end(&lost, offset, SEED, MAX), BadEnd::Torn);
        assert_eq!(judge_end(&lost, 32, SEED, MAX), BadEnd::Rotten);
    }

    #[test]
    fn a_hole_inside_one_batch_is_torn_and_a_hole_before_a_later_batch_is_rotten() {
        let mut hole = frame(b"lost in the power cut", true);
        hole[4..].fill(0);
        let same_batch = [hole.clone(), frame(b"reached the disk first", false)].concat();
        assert_eq!(judge_end(&same_batch, 32, SEED, MAX), BadEnd::Torn);
        let later_batch = [hole, frame(b"written after a sync", true)].concat();
        assert_eq!(judge_end(&later_batch, 32, SEED, MAX), BadEnd::Rotten);
    }
}
