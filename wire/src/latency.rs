//! Latencies as one byte: log-linear buckets, eight to the octave.
//!
//! Below 8 µs a bucket is one microsecond; from there on each octave is cut into eight equal
//! parts, so that a bucket is at most an eighth of its lower end wide and its midpoint at most
//! 1/17 from any latency in it. Every `u32` of microseconds has a bucket; a probe, which ends
//! within 60 s, uses the first 191.

/// Buckets that exist: codes run from 0 to one below.
pub const BUCKETS: u8 = bucket(u32::MAX) + 1;

/// Parts of an octave, as a power of two.
const PARTS_LOG2: u32 = 3;
const PARTS: u32 = 1 << PARTS_LOG2;

/// The bucket of a latency in microseconds.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "at most 29 octaves of 8 parts: 239"
)]
pub const fn bucket(us: u32) -> u8 {
    if us < PARTS {
        return us as u8;
    }
    let octave = us.ilog2() - PARTS_LOG2;
    // The top four bits: a leading one, which the next octave's first code absorbs, and the part.
    (octave * PARTS + (us >> octave)) as u8
}

/// The lowest latency of a bucket, in microseconds; codes that do not exist count as the last.
#[must_use]
pub const fn lower_us(bucket: u8) -> u32 {
    let code = if bucket < BUCKETS {
        bucket as u32
    } else {
        BUCKETS as u32 - 1
    };
    if code < PARTS {
        return code;
    }
    let octave = code / PARTS - 1;
    (PARTS + code % PARTS) << octave
}

/// The highest latency of a bucket, in microseconds.
#[must_use]
pub const fn upper_us(bucket: u8) -> u32 {
    if bucket >= BUCKETS - 1 {
        u32::MAX
    } else {
        lower_us(bucket + 1) - 1
    }
}

/// The middle of a bucket, rounded down, in microseconds: what a bucket is read as.
#[must_use]
pub const fn midpoint_us(bucket: u8) -> u32 {
    let lower = lower_us(bucket);
    lower + (upper_us(bucket) - lower) / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::TIMEOUT_MAX;

    #[test]
    fn buckets_touch_and_cover_everything() {
        assert_eq!(
            (BUCKETS, lower_us(0), upper_us(BUCKETS - 1)),
            (240, 0, u32::MAX)
        );
        for code in 0..BUCKETS {
            assert_eq!(bucket(lower_us(code)), code);
            assert_eq!(bucket(upper_us(code)), code);
            assert!(code == 0 || lower_us(code) == upper_us(code - 1) + 1);
        }
    }

    #[test]
    fn known_latencies_keep_their_codes() {
        let codes = [
            (0, 0),
            (7, 7),
            (8, 8),
            (15, 15),
            (16, 16),
            (1_000, 63),
            (1_000_000, 143),
        ];
        for (us, code) in codes {
            assert_eq!(bucket(us), code, "{us} µs");
        }
        let longest = u32::try_from(TIMEOUT_MAX.0 * 1_000).unwrap();
        assert_eq!(bucket(longest), 190);
    }

    proptest! {
        #[test]
        fn a_midpoint_is_within_a_seventeenth(us in 8_u32..) {
            let middle = midpoint_us(bucket(us));
            prop_assert!(u64::from(middle.abs_diff(us)) * 16 <= u64::from(us));
        }
    }
}
