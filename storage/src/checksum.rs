//! CRC32C and what a wrong one tells.
//!
//! Castagnoli's polynomial because processors compute it in hardware. A checksum that does not
//! match says only that the bytes changed; [`flipped_bit`] says whether a single flipped bit
//! explains it, which tells decay of a finished write from a write that was never finished.

/// The polynomial, bit-reversed as the algorithm shifts right (RFC 3720, section 12.1).
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The checksum of `bytes`, continuing from `seed` (0 to begin).
pub(crate) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(seed, bytes)
}

/// The one bit whose flip explains the difference of two checksums of `len` bytes: its distance
/// from the last bit. `None` when no single bit does.
///
/// The difference of two checksums depends only on which bits differ: a flip followed by `n` more
/// bits leaves the polynomial shifted `n` times. One step a bit; 8 MiB take some 0.1 s.
pub(crate) fn flipped_bit(difference: u32, len: usize) -> Option<usize> {
    let mut trace = POLYNOMIAL;
    for distance in 0..len * 8 {
        if trace == difference {
            return Some(distance);
        }
        trace = (trace >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(trace & 1));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_standard_is_met() {
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(crc32c(0, b"1234"), b"56789"), 0xe306_9283);
    }

    #[test]
    fn every_single_flip_is_located() {
        let bytes = b"a frame of a log".to_vec();
        let stored = crc32c(7, &bytes);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let difference = crc32c(7, &flipped) ^ stored;
            assert_eq!(
                flipped_bit(difference, bytes.len()),
                Some(bytes.len() * 8 - 1 - bit)
            );
        }
    }

    #[test]
    fn two_flips_and_a_missing_half_are_not_one_flip() {
        let bytes = b"a frame of a log".to_vec();
        let stored = crc32c(7, &bytes);
        let mut two = bytes.clone();
        two[0] ^= 1;
        two[9] ^= 4;
        assert_eq!(flipped_bit(crc32c(7, &two) ^ stored, bytes.len()), None);
        let mut half = bytes.clone();
        half[8..].fill(0);
        assert_eq!(flipped_bit(crc32c(7, &half) ^ stored, bytes.len()), None);
    }
}
