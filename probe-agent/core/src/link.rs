//! The connections to all scheduler members, and which of them leads.
//!
//! The agent keeps a warm connection to every member, so a change of leader moves streams and not
//! handshakes. A member leads from its `Welcome` on until it says that it does not, another one
//! says `Welcome` in a later term, or its connection ends. A former leader that was cut off from
//! the others may go on saying `Welcome`; its term shows that it is one. Dialling again waits longer each time, with jitter, so
//! that a fleet does not return in one instant.
//!
//! Owner: [`crate::Agent`].

use std::collections::BTreeMap;

use picket_wire::id::MemberId;
use picket_wire::time::{Span, Timestamp};

/// First wait before a member is dialled again.
const WAIT_MIN: Span = Span(250);
/// Longest wait: a member that returns is found within this.
const WAIT_MAX: Span = Span::from_secs(10);
/// Wait after a member refused us: nothing that waiting mends, so do not press.
const WAIT_REFUSED: Span = Span::from_secs(30);

#[derive(Debug, Clone, Copy)]
enum Link {
    /// Not connected; dial at this time.
    Away { dial_at: Timestamp, failures: u32 },
    /// The shell dials.
    Dialling { failures: u32 },
    /// Connected; failures count until the member says something.
    Open { failures: u32 },
    /// Connected, and the member refused us: the shell hangs up.
    Refused,
}

/// All links.
#[derive(Debug)]
pub struct Links {
    links: BTreeMap<MemberId, Link>,
    leader: Option<MemberId>,
    /// The latest term in which anybody led.
    term: u64,
    jitter: SplitMix64,
}

impl Links {
    /// Nobody connected, everybody to be dialled now.
    #[must_use]
    pub fn new(members: &[MemberId], seed: u64, now: Timestamp) -> Self {
        let away = Link::Away {
            dial_at: now,
            failures: 0,
        };
        let links = members.iter().map(|member| (*member, away)).collect();
        Self {
            links,
            leader: None,
            term: 0,
            jitter: SplitMix64(seed),
        }
    }

    /// Who leads, when its connection is open.
    #[must_use]
    pub const fn leader(&self) -> Option<MemberId> {
        self.leader
    }

    /// How many members are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.links
            .values()
            .filter(|link| matches!(link, Link::Open { .. }))
            .count()
    }

    /// When somebody is to be dialled.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let dial_at = |link: &Link| match link {
            Link::Away { dial_at, .. } => Some(*dial_at),
            Link::Dialling { .. } | Link::Open { .. } | Link::Refused => None,
        };
        self.links.values().filter_map(dial_at).min()
    }

    /// A member to dial now; counts as being dialled from here on.
    pub fn take_dial(&mut self, now: Timestamp) -> Option<MemberId> {
        for (member, link) in &mut self.links {
            if let Link::Away { dial_at, failures } = *link
                && dial_at <= now
            {
                *link = Link::Dialling { failures };
                return Some(*member);
            }
        }
        None
    }

    /// A connection stands; says whether the member is one of ours.
    pub fn connected_to(&mut self, member: MemberId) -> bool {
        let Some(link) = self.links.get_mut(&member) else {
            return false;
        };
        let failures = match *link {
            Link::Away { failures, .. } | Link::Dialling { failures } => failures,
            Link::Open { failures } => failures,
            Link::Refused => 0,
        };
        *link = Link::Open { failures };
        true
    }

    /// Whether what a member says on its connection counts.
    #[must_use]
    pub fn is_open(&self, member: MemberId) -> bool {
        matches!(self.links.get(&member), Some(Link::Open { .. }))
    }

    /// A member said something of use: the next failure is the first.
    pub fn heard(&mut self, member: MemberId) {
        if let Some(Link::Open { failures }) = self.links.get_mut(&member) {
            *failures = 0;
        }
    }

    /// The member says that it leads in `term`; says whether it is believed.
    pub const fn leads(&mut self, member: MemberId, term: u64) -> bool {
        let believed = term >= self.term;
        if believed {
            self.term = term;
            self.leader = Some(member);
        }
        believed
    }

    /// The member does not lead; says whether we thought so.
    pub fn leads_not(&mut self, member: MemberId) -> bool {
        let thought = self.leader == Some(member);
        if thought {
            self.leader = None;
        }
        thought
    }

    /// The member refused us; its connection ends soon.
    pub fn refused(&mut self, member: MemberId) {
        if let Some(link) = self.links.get_mut(&member) {
            *link = Link::Refused;
        }
        self.leads_not(member);
    }

    /// The clock was set to `now`: nobody waits longer than anybody ever does.
    pub fn retime(&mut self, now: Timestamp) {
        for link in self.links.values_mut() {
            if let Link::Away { dial_at, .. } = link {
                *dial_at = (*dial_at).min(now + WAIT_REFUSED);
            }
        }
    }

    /// A connection ended or was not made; the member is dialled again later.
    pub fn disconnected(&mut self, member: MemberId, now: Timestamp) {
        self.leads_not(member);
        let jitter = self.jitter.next();
        let Some(link) = self.links.get_mut(&member) else {
            return;
        };
        let (wait, failures) = match *link {
            Link::Refused => (WAIT_REFUSED, 0),
            Link::Away { failures, .. } | Link::Dialling { failures } | Link::Open { failures } => {
                (backoff(failures), failures.saturating_add(1))
            }
        };
        *link = Link::Away {
            dial_at: now + jittered(wait, jitter),
            failures,
        };
    }
}

fn backoff(failures: u32) -> Span {
    Span((WAIT_MIN.0 << failures.min(16)).min(WAIT_MAX.0))
}

/// Half of the wait, and a random part of the other half.
const fn jittered(wait: Span, random: u64) -> Span {
    let half = wait.0 / 2;
    Span(half + random % (half + 1))
}

/// Splitmix64 (Steele, Lea, Flood 2014): spread, not secrecy.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);
    const ONE: MemberId = MemberId(1);
    const TWO: MemberId = MemberId(2);

    fn dial_all(links: &mut Links, now: Timestamp) -> Vec<MemberId> {
        std::iter::from_fn(|| links.take_dial(now)).collect()
    }

    #[test]
    fn everybody_is_dialled_once() {
        let mut links = Links::new(&[ONE, TWO], 7, NOW);
        assert_eq!(dial_all(&mut links, NOW), [ONE, TWO]);
        assert_eq!(links.deadline(), None);
    }

    #[test]
    fn waits_grow_to_a_bound_and_start_over_once_the_member_spoke() {
        let mut links = Links::new(&[ONE], 7, NOW);
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert!(links.take_dial(Timestamp::MAX).is_some());
            links.disconnected(ONE, NOW);
            waits.push(links.deadline().unwrap().since(NOW));
        }
        assert!(
            waits[0] <= WAIT_MIN && waits[0].0 >= WAIT_MIN.0 / 2,
            "{waits:?}"
        );
        assert!(
            waits[7] <= WAIT_MAX && waits[7].0 >= WAIT_MAX.0 / 2,
            "{waits:?}"
        );
        assert!(links.connected_to(ONE));
        links.heard(ONE);
        links.disconnected(ONE, NOW);
        assert!(links.deadline().unwrap().since(NOW) <= WAIT_MIN);
    }

    #[test]
    fn the_last_welcome_names_the_leader_until_its_connection_ends() {
        let mut links = Links::new(&[ONE, TWO], 7, NOW);
        assert!(links.connected_to(ONE) && links.connected_to(TWO));
        assert!(links.leads(ONE, 1) && links.leads(TWO, 2));
        assert!(!links.leads_not(ONE));
        links.disconnected(ONE, NOW);
        assert_eq!(links.leader(), Some(TWO));
        links.disconnected(TWO, NOW);
        assert_eq!(links.leader(), None);
    }

    #[test]
    fn a_leader_of_an_earlier_term_is_not_believed() {
        let mut links = Links::new(&[ONE, TWO], 7, NOW);
        assert!(links.connected_to(ONE) && links.connected_to(TWO));
        assert!(links.leads(ONE, 5));
        assert!(!links.leads(TWO, 4));
        assert!(!links.leads_not(TWO));
        assert_eq!(links.leader(), Some(ONE));
        assert!(links.leads(ONE, 5), "it may say so again");
    }

    #[test]
    fn a_member_that_refused_is_not_pressed() {
        let mut links = Links::new(&[ONE], 7, NOW);
        assert!(links.connected_to(ONE));
        links.refused(ONE);
        assert!(!links.is_open(ONE));
        links.disconnected(ONE, NOW);
        assert!(links.deadline().unwrap().since(NOW).0 >= WAIT_REFUSED.0 / 2);
    }
}
