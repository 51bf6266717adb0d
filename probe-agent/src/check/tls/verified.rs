//! Chains that were verified lately.
//!
//! Whether a chain leads from a leaf to a trusted root for one host is a pure function of the
//! chain, the host, the roots and the time, and the roots never change while the process runs. A
//! site shows the same chain at every probe, and to verify one costs more than the rest of a
//! handshake (a P-384 signature takes half a millisecond). So a chain that was found good is
//! remembered for as long as time cannot change the answer, an hour at most. The proof that the
//! peer holds the leaf's key is never remembered: it is verified in every handshake.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use picket_wire::time::{Span, Timestamp};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::check::tls::certificate::expires;

/// How long a chain is taken on trust. Nothing should need this bound; it makes any error that we
/// did not think of pass within the hour.
const REMEMBERED_FOR: Span = Span::from_secs(3_600);
/// How often places of chains that are past their time are given away while all are taken.
const SWEEP_EVERY: Span = Span::from_secs(60);

/// Stands for a chain presented for a host: nobody can make two of them that share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ChainId([u8; 32]);

impl ChainId {
    /// The id of this chain for this host.
    pub(crate) fn of(
        host: &ServerName<'_>,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Self {
        let mut hasher = blake3::Hasher::new();
        let host = host.to_str();
        let certificates = std::iter::once(leaf)
            .chain(intermediates)
            .map(|der| der.as_ref());
        for part in std::iter::once(host.as_bytes()).chain(certificates) {
            // Lengths first, so that no bytes can move from one part to the next.
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }
}

/// Chains that were found good, each within the time for which that holds.
///
/// Past the bound new chains are not learnt until old ones have had their time. To forget the
/// oldest instead would, for an agent that watches a few hosts more than there are places in turn,
/// forget each chain just before it is needed.
pub(crate) struct VerifiedChains {
    chains_max: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    chains: HashMap<ChainId, Verified>,
    swept_at: Timestamp,
}

/// When a chain was verified, and until when the answer holds.
#[derive(Debug, Clone, Copy)]
struct Verified {
    from: Timestamp,
    until: Timestamp,
}

impl VerifiedChains {
    pub(crate) fn new(chains_max: usize) -> Self {
        Self {
            chains_max,
            known: Mutex::default(),
        }
    }

    /// Whether the chain is known to be good at `now`.
    pub(crate) fn contains(&self, chain: &ChainId, now: Timestamp) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back may lie before the beginning of a certificate.
        known
            .chains
            .get(chain)
            .is_some_and(|verified| (verified.from..=verified.until).contains(&now))
    }

    /// Remembers a chain that was found good at `now`. One with a date that cannot be read is not
    /// remembered.
    pub(crate) fn learn(
        &self,
        chain: ChainId,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: Timestamp,
    ) {
        let ends = std::iter::once(leaf)
            .chain(intermediates)
            .map(|der| expires(der));
        let Some(first_end) = ends.min().flatten() else {
            return;
        };
        let verified = Verified {
            from: now,
            until: first_end.min(now + REMEMBERED_FOR),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = known.chains.contains_key(&chain);
        if !is_known && known.chains.len() >= self.chains_max {
            known.sweep(now);
        }
        if is_known || known.chains.len() < self.chains_max {
            known.chains.insert(chain, verified);
        }
    }
}

impl Known {
    fn sweep(&mut self, now: Timestamp) {
        if now.since(self.swept_at) >= SWEEP_EVERY {
            self.swept_at = now;
            self.chains
                .retain(|_, verified| (verified.from..=verified.until).contains(&now));
        }
    }
}

impl fmt::Debug for VerifiedChains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedChains")
            .field("chains_max", &self.chains_max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const HOUR: Span = REMEMBERED_FOR;

    fn host(name: &str) -> ServerName<'static> {
        ServerName::try_from(name.to_owned()).unwrap()
    }

    fn certificate(last_year: i32) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::new(vec!["example.org".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    fn chain(number: u8) -> ChainId {
        ChainId([number; 32])
    }

    #[test]
    fn a_chain_is_one_host_and_each_of_its_certificates_in_order() {
        let bytes = |bytes: &'static [u8]| CertificateDer::from(bytes);
        let id = |host: &ServerName<'_>, leaf, rest: &[_]| ChainId::of(host, &bytes(leaf), rest);
        let (a, b) = (host("a.example"), host("b.example"));
        let ids = [
            id(&a, b"12", &[bytes(b"3"), bytes(b"4")]),
            id(&b, b"12", &[bytes(b"3"), bytes(b"4")]),
            id(&a, b"1", &[bytes(b"23"), bytes(b"4")]),
            id(&a, b"12", &[bytes(b"4"), bytes(b"3")]),
            id(&a, b"12", &[bytes(b"34")]),
        ];
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(ids.iter().position(|other| other == id), Some(n));
        }
    }

    #[test]
    fn a_chain_is_known_for_an_hour_and_not_before_it_was_verified() {
        let chains = VerifiedChains::new(1);
        chains.learn(chain(1), &certificate(2090), &[], NOW);
        let known = |at| chains.contains(&chain(1), at);
        assert_eq!([known(NOW), known(NOW + HOUR)], [true, true]);
        assert_eq!(
            [known(NOW + HOUR + Span(1)), known(Timestamp(NOW.0 - 1))],
            [false, false]
        );
        assert!(!chains.contains(&chain(2), NOW));
    }

    #[test]
    fn no_chain_is_known_beyond_the_end_of_any_of_its_certificates() {
        // 2030-01-01.
        let end = Timestamp(1_893_456_000_000);
        let now = Timestamp(end.0 - 1_000);
        for (leaf, issuer) in [(2030, 2090), (2090, 2030)] {
            let chains = VerifiedChains::new(1);
            chains.learn(chain(1), &certificate(leaf), &[certificate(issuer)], now);
            let known = |at| chains.contains(&chain(1), at);
            assert_eq!([known(end), known(end + Span(1))], [true, false]);
        }
    }

    #[test]
    fn a_chain_with_a_date_that_cannot_be_read_is_not_learnt() {
        let chains = VerifiedChains::new(1);
        let unreadable = CertificateDer::from(vec![0x30, 0]);
        chains.learn(chain(1), &certificate(2090), &[unreadable], NOW);
        assert!(!chains.contains(&chain(1), NOW));
    }

    #[test]
    fn when_all_places_are_taken_the_old_keep_theirs_for_their_time() {
        let (chains, leaf) = (VerifiedChains::new(2), certificate(2090));
        let learn = |number, at| {
            chains.learn(chain(number), &leaf, &[], at);
            chains.contains(&chain(number), at)
        };
        assert_eq!(
            [1, 2, 3].map(|number| learn(number, NOW)),
            [true, true, false]
        );
        assert!(
            learn(1, NOW + Span(1)),
            "a chain that is known may always be verified anew"
        );
        let later = NOW + HOUR + Span(1);
        assert_eq!([3, 4].map(|number| learn(number, later)), [true, false]);
    }
}
