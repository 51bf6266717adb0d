//! How many probes may run at once, in all and to one destination.
//!
//! A probe of something slow or dead holds its place for its whole timeout. Were places first
//! come, first served, a dead tenth of the world would take them all and delay the rest; so what
//! failed or was slow last time may take only half of them, and one destination only its share.
//! What finds no place is not queued but counted: it is due again soon, and a queue would only
//! make everything behind it late.

use std::collections::BTreeMap;

use picket_wire::check::{CheckKind, CheckSpec};

use crate::belief::Pace;
use crate::stats::Skip;

/// The part of all places that heavy probes may take, as a divisor.
const HEAVY_SHARE: u32 = 2;
/// Places above the limit that only orders may take, as a divisor of the limit: a vote decides
/// over an incident and must not wait for routine.
const ORDER_RESERVE: u32 = 16;

/// What a probe is admitted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Due, and its last probe went well.
    Brisk,
    /// Due, and its last probe failed or took long.
    Heavy,
    /// Asked for by the schedulers.
    Order,
}

impl From<Pace> for Class {
    fn from(pace: Pace) -> Self {
        match pace {
            Pace::Brisk => Self::Brisk,
            Pace::Heavy => Self::Heavy,
        }
    }
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// All are taken.
    Full,
    /// The share of heavy probes is taken.
    Heavy,
    /// Too many to this destination.
    Destination,
}

impl From<NoPlace> for Skip {
    fn from(no_place: NoPlace) -> Self {
        match no_place {
            NoPlace::Full => Self::Full,
            NoPlace::Heavy => Self::Heavy,
            NoPlace::Destination => Self::Destination,
        }
    }
}

/// A place that was taken; give it back.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Place {
    class: Class,
    destination: Destination,
}

/// Names a destination: a hash, because names are long and a collision only shares a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination(u64);

impl Destination {
    /// Where a check's probes go, as far as its specification tells: host and port.
    #[must_use]
    pub fn of(spec: &CheckSpec) -> Self {
        match &spec.kind {
            CheckKind::Http(http) => {
                let port = http.port.to_le_bytes();
                Self(fnv1a(http.host.bytes().chain(port)))
            }
        }
    }
}

/// FNV-1a, 64 bit (draft-eastlake-fnv): short keys, no need to resist an attacker.
fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The places, and who has them.
#[derive(Debug)]
pub struct Admission {
    limit: u32,
    per_destination: u32,
    running: u32,
    heavy: u32,
    destinations: BTreeMap<Destination, u32>,
}

impl Admission {
    /// All places free.
    #[must_use]
    pub const fn new(limit: u32, per_destination: u32) -> Self {
        Self {
            limit,
            per_destination,
            running: 0,
            heavy: 0,
            destinations: BTreeMap::new(),
        }
    }

    /// Places taken.
    #[must_use]
    pub const fn running(&self) -> u32 {
        self.running
    }

    /// Takes a place, if there is one.
    ///
    /// # Errors
    /// Why there is none.
    pub fn take(&mut self, class: Class, destination: Destination) -> Result<Place, NoPlace> {
        let limit = match class {
            Class::Brisk | Class::Heavy => self.limit,
            Class::Order => self.limit + self.limit.div_ceil(ORDER_RESERVE),
        };
        if self.running >= limit {
            return Err(NoPlace::Full);
        }
        if class == Class::Heavy && self.heavy >= self.limit.div_ceil(HEAVY_SHARE) {
            return Err(NoPlace::Heavy);
        }
        let there = self.destinations.entry(destination).or_insert(0);
        if *there >= self.per_destination && class != Class::Order {
            return Err(NoPlace::Destination);
        }
        *there += 1;
        self.running += 1;
        self.heavy += u32::from(class == Class::Heavy);
        Ok(Place { class, destination })
    }

    /// Gives a place back.
    pub fn give_back(&mut self, place: Place) {
        let Place { class, destination } = place;
        self.running -= 1;
        self.heavy -= u32::from(class == Class::Heavy);
        if let Some(there) = self.destinations.get_mut(&destination) {
            *there -= 1;
            if *there == 0 {
                self.destinations.remove(&destination);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Destination = Destination(1);

    fn elsewhere(n: u64) -> Destination {
        Destination(1_000 + n)
    }

    #[test]
    fn heavy_probes_leave_half_of_the_places_to_the_rest() {
        let mut admission = Admission::new(8, 8);
        let heavy: Vec<_> = (0..8)
            .map(|n| admission.take(Class::Heavy, elsewhere(n)))
            .collect();
        assert_eq!(heavy.iter().filter(|place| place.is_ok()).count(), 4);
        assert_eq!(heavy[4], Err(NoPlace::Heavy));
        let brisk = (10..20).filter(|n| admission.take(Class::Brisk, elsewhere(*n)).is_ok());
        assert_eq!(brisk.count(), 4);
    }

    #[test]
    fn one_destination_has_its_share_and_orders_ignore_it() {
        let mut admission = Admission::new(8, 2);
        let places: Vec<_> = (0..3).map(|_| admission.take(Class::Brisk, HERE)).collect();
        assert_eq!(places[2], Err(NoPlace::Destination));
        assert!(admission.take(Class::Order, HERE).is_ok());
    }

    #[test]
    fn orders_have_a_reserve() {
        let mut admission = Admission::new(1, 8);
        let brisk = admission.take(Class::Brisk, HERE);
        assert!(brisk.is_ok());
        assert_eq!(admission.take(Class::Brisk, HERE), Err(NoPlace::Full));
        assert!(admission.take(Class::Order, HERE).is_ok());
        assert_eq!(admission.take(Class::Order, HERE), Err(NoPlace::Full));
    }

    #[test]
    fn a_place_given_back_is_free_again() {
        let mut admission = Admission::new(1, 1);
        for _ in 0..3 {
            let place = admission.take(Class::Heavy, HERE).unwrap();
            admission.give_back(place);
        }
        assert_eq!((admission.running(), admission.destinations.len()), (0, 0));
    }
}
