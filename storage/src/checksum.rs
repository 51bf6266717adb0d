//! CRC32C and what a wrong one tells.
//!
//! Castagnoli's polynomial because processors compute it in hardware. A checksum that does not
//! match says only that the bytes changed; [`one_bit_apart`] says whether a single flipped bit
//! explains it, which tells decay of a finished write from a write that was never finished.

/// The polynomial, bit-reversed as the algorithm shifts right (RFC 3720, section 12.1).
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The checksum of `bytes`, continuing from `seed` (0 to begin).
pub(crate) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(seed, bytes)
}

/// Whether flipping exactly one bit, of the checksum or of the last `len` bytes that it covers,
/// would make `computed` and `stored` agree.
///
/// The difference of two checksums depends only on which bits differ: a flip followed by `n` more
/// bits leaves the polynomial shifted `n` times. One step a bit; 8 MiB take some 0.1 s.
pub(crate) fn one_bit_apart(computed: u32, stored: u32, len: usize) -> bool {
    let difference = computed ^ stored;
    if difference.is_power_of_two() {
        return true;
    }
    let mut trace = POLYNOMIAL;
    for _ in 0..len * 8 {
        if trace == difference {
            return true;
        }
        trace = (trace >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(trace & 1));
    }
    false
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
    fn every_single_flip_is_recognised() {
        let bytes = b"a frame of a log".to_vec();
        let stored = crc32c(7, &bytes);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(
                one_bit_apart(crc32c(7, &flipped), stored, bytes.len()),
                "bit {bit}"
            );
        }
        for bit in 0..32 {
            assert!(
                one_bit_apart(stored, stored ^ (1 << bit), bytes.len()),
                "checksum bit {bit}"
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
        assert!(!one_bit_apart(crc32c(7, &two), stored, bytes.len()));
        let mut half = bytes.clone();
        half[8..].fill(0);
        assert!(!one_bit_apart(crc32c(7, &half), stored, bytes.len()));
    }
}
