//! Randomness of a run: a small generator for each part of the world.
//!
//! Every part draws from a stream of its own, so that one more draw in one place does not shift
//! what all the others get: a run stays comparable with the one before a change.

use picket_wire::time::Span;

/// One stream: splitmix64 (Steele, Lea, Flood 2014). Spread, not secrecy.
#[derive(Debug, Clone)]
pub struct Rng(u64);

/// The golden ratio's fraction, by which splitmix64 walks.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

const fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// The stream of one part of the run that `seed` names.
    #[must_use]
    pub fn new(seed: u64, part: &str, number: u64) -> Self {
        let name = part.bytes().fold(0, |hash, byte| {
            mix(hash ^ u64::from(byte)).wrapping_add(STEP)
        });
        Self(mix(seed.wrapping_add(STEP)) ^ mix(name ^ mix(number.wrapping_add(STEP))))
    }

    /// The next 64 bits.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number below `n`, which is not 0. The bias of the remainder does not matter here.
    pub const fn below(&mut self, n: u64) -> u64 {
        self.draw() % n
    }

    /// A number from `low` to `high`.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// A time from `low` to `high`.
    pub const fn span(&mut self, low: Span, high: Span) -> Span {
        Span(self.between(low.0, high.0))
    }

    /// True so many times in a thousand.
    pub const fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1_000) < per_mille as u64
    }

    /// One of `items`, or nothing when there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let n = u64::try_from(items.len()).ok().filter(|&n| n > 0)?;
        items.get(usize::try_from(self.below(n)).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let first = |part, number| Rng::new(7, part, number).draw();
        assert_eq!(first("net", 1), first("net", 1));
        assert_ne!(first("net", 1), first("net", 2));
        assert_ne!(first("net", 1), first("agent", 1));
        assert_ne!(first("net", 1), Rng::new(8, "net", 1).draw());
    }

    #[test]
    fn draws_stay_in_their_range() {
        let mut rng = Rng::new(1, "test", 0);
        for _ in 0..1_000 {
            assert!((3..=5).contains(&rng.between(3, 5)));
            assert!(!rng.chance(0) && rng.chance(1_000));
        }
        assert_eq!(rng.pick::<u8>(&[]), None);
    }
}
