//! The one hash that spreads endpoints over shards and checks over time.
//!
//! Ids are dense, so the hash must mix well and can be short: the 64-bit finaliser of splitmix64
//! (Steele, Lea, Flood 2014; constants by Stafford, variant 13), which is a bijection. Where a
//! check stands and when it runs follow from it on every machine: changing it moves every
//! endpoint, so its values are pinned by test.

use crate::check::Cadence;
use crate::id::{CheckId, EndpointId, ShardId};

/// Keeps the two uses independent: a shard's checks must spread over the whole interval.
const PHASE_SALT: u64 = 0x7069_636b_6574_7068;

/// The shard of an endpoint in a cluster of `shards`, a power of two.
///
/// # Panics
/// When `shards` is zero.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "below `shards`, which is a u32"
)]
pub const fn shard_of(endpoint: EndpointId, shards: u32) -> ShardId {
    assert!(shards > 0, "a cluster has at least one shard");
    ShardId((mix(endpoint.0) % shards as u64) as u32)
}

/// When in its interval a check is due: milliseconds after each multiple of the cadence, counted
/// from the Unix epoch; below the cadence.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "below a cadence, at most a day: 27 bits"
)]
pub const fn phase_ms(check: CheckId, cadence: Cadence) -> u32 {
    (mix(check.0 ^ PHASE_SALT) % (cadence.secs() as u64 * 1_000)) as u32
}

/// The finaliser: every bit of the input changes each bit of the output about half of the time.
const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{INTERVALS_SECS, SHARDS_DEFAULT};

    #[test]
    fn known_ids_keep_their_place_and_phase() {
        // splitmix64 from state 0 begins with this value.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        let minute = Cadence::from_secs(60).unwrap();
        let day = Cadence::from_secs(86_400).unwrap();
        let place = |id| shard_of(EndpointId(id), SHARDS_DEFAULT).0;
        let phase = |id, cadence| phase_ms(CheckId(id), cadence);
        assert_eq!(
            [place(0), place(1), place(2), place(u64::MAX)],
            [3503, 3265, 1742, 3104]
        );
        assert_eq!(
            [phase(1, minute), phase(2, minute), phase(1, day)],
            [56160, 3538, 83756160]
        );
    }

    /// Pearson's statistic over `cells` equally likely cells.
    fn chi_square(counts: &[u32]) -> u64 {
        let n: u64 = counts.iter().copied().map(u64::from).sum();
        let cells = counts.len() as u64;
        let squares: u64 = counts.iter().map(|&c| u64::from(c).pow(2)).sum();
        squares * cells / n - n
    }

    #[test]
    fn dense_ids_spread_evenly_over_shards() {
        let mut counts = vec![0_u32; SHARDS_DEFAULT as usize];
        for id in 1..=1_000_000 {
            counts[shard_of(EndpointId(id), SHARDS_DEFAULT).0 as usize] += 1;
        }
        // 4,095 degrees of freedom: mean 4,095, standard deviation 90; five of them either way.
        let statistic = chi_square(&counts);
        assert!((3_645..4_545).contains(&statistic), "{statistic}");
    }

    #[test]
    fn the_checks_of_one_shard_spread_evenly_over_their_interval() {
        let cadence = Cadence::from_secs(300).unwrap();
        let mut counts = vec![0_u32; 300];
        let of_one_shard = |id: &u64| shard_of(EndpointId(*id), 16) == ShardId(3);
        for id in (1..=1_000_000).filter(of_one_shard) {
            counts[phase_ms(CheckId(id), cadence) as usize / 1_000] += 1;
        }
        // 299 degrees of freedom: standard deviation 24.
        let statistic = chi_square(&counts);
        assert!((177..422).contains(&statistic), "{statistic}");
    }

    #[test]
    fn a_phase_lies_within_its_interval() {
        for secs in INTERVALS_SECS {
            let cadence = Cadence::from_secs(secs).unwrap();
            assert!((0..1_000).all(|id| phase_ms(CheckId(id), cadence) < secs * 1_000));
        }
    }
}
