//! Rendezvous scores: how well an agent suits a slot, from their ids alone.

use picket_wire::id::{AgentId, ShardSlot};

/// How badly an agent of this weight suits a slot; the lowest score owns.
///
/// Weighted rendezvous takes `−ln(u) / weight` of a uniform hash `u`: the chance to be lowest is
/// then proportional to the weight. The logarithm is taken in integers, so that every build agrees
/// on it; its error of less than one part in a hundred only shifts the weights by as much.
pub(crate) fn score(slot: ShardSlot, agent: AgentId, weight: u16) -> u64 {
    let place =
        u64::from(slot.group.0) << 40 ^ u64::from(slot.shard.0) << 8 ^ u64::from(slot.slot.0);
    let hash = mix(mix(place).wrapping_add(u64::from(agent.0)));
    (minus_log2(hash) << 16) / u64::from(weight.max(1))
}

/// `−log2(hash / 2^64)` with 32 fractional bits.
fn minus_log2(hash: u64) -> u64 {
    let hash = hash.max(1);
    let zeros = hash.leading_zeros();
    // The fraction f of 1 + f, with 32 bits; the leading one is shifted out.
    let fraction = (hash << zeros) << 1 >> 32;
    // log2(1 + f) is f and a little more, at most 0.0861 at f = 0.44: 0.344 f (1 - f).
    let more = (fraction * ((1 << 32) - fraction)) >> 32;
    let log2 = (u64::from(63 - zeros) << 32) + fraction + more * 344 / 1_000;
    (64 << 32) - log2
}

/// The finaliser of splitmix64: mixes well, and is a bijection.
pub(crate) const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use picket_wire::id::{GroupId, ShardId, Slot};

    use super::*;

    fn slot(shard: u32) -> ShardSlot {
        ShardSlot {
            group: GroupId(1),
            shard: ShardId(shard),
            slot: Slot(0),
        }
    }

    #[test]
    fn the_integer_logarithm_is_close_and_never_rises() {
        for (hash, log) in [
            (u64::MAX, 0.0),
            (1 << 63, 1.0),
            (3 << 62, 0.415_037),
            (1, 64.0),
        ] {
            #[expect(clippy::cast_precision_loss, reason = "a test")]
            let error = (minus_log2(hash) as f64 / 4_294_967_296.0 - log).abs();
            assert!(error < 0.01, "{hash:x}: {error}");
        }
        let logs: Vec<_> = (0..10_000).map(|n| minus_log2(1 << 63 | n << 49)).collect();
        assert!(logs.is_sorted_by(|a, b| a >= b));
    }

    #[test]
    fn a_weight_is_a_share() {
        let first = (0..10_000).filter(|&shard| {
            score(slot(shard), AgentId(1), 100) < score(slot(shard), AgentId(2), 300)
        });
        // A quarter of 10,000; the standard deviation is 43.
        let first = first.count();
        assert!((2_300..2_700).contains(&first), "{first}");
    }
}
