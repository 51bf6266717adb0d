//! Which agents are believed to be alive: the leader's memory, never replicated.
//!
//! A lease is the leader's grant to be believed, not a lock on probing: an agent whose lease ran
//! out goes on probing, and what it says is fenced by epochs. A new leader knows nothing, so it
//! grants everybody one full lease before it declares anybody dead.
//!
//! Storm guard: when many agents of one region are lost at once, it is more likely the way to
//! them that is lost. Then nothing of that region moves, and people are told instead.

use std::collections::{BTreeMap, BTreeSet};

use picket_wire::control::Renew;
use picket_wire::id::AgentId;
use picket_wire::name::Name;
use picket_wire::time::{Span, Timestamp};

use crate::state::State;

/// Within this time, losses count as one event: three lease lengths, so that agents lost together
/// are seen together whenever they renewed last.
const STORM_WINDOW: Span = Span::from_secs(30);
/// Fewer lost agents are a fault of their own, however small the region.
const STORM_AGENTS: usize = 2;
/// A region freezes when more than one in this many of its agents is lost.
const STORM_SHARE: usize = 5;
/// How long a region stays frozen at most. By then people have been told for long enough to act,
/// and probing from elsewhere is better than not probing.
const FREEZE_MAX: Span = Span::from_secs(600);

/// What the leader grants and has granted. All instants are the leader's own clock.
#[derive(Debug, Clone)]
pub struct LeaseBook {
    ttl: Span,
    leases: BTreeMap<AgentId, Lease>,
    frozen: BTreeMap<Name, Timestamp>,
}

#[derive(Debug, Clone)]
struct Lease {
    region: Name,
    /// The last instant at which it holds is just before this.
    until: Timestamp,
    /// The sender's clock in its last renewal.
    sent_at: Timestamp,
}

impl LeaseBook {
    /// The book of a leader that has just been elected: everybody who owns a slot or is
    /// `connected` has one full lease, because the leader cannot know who is gone.
    #[must_use]
    pub fn new_leader(state: &State, connected: impl Fn(AgentId) -> bool, now: Timestamp) -> Self {
        let settings = state.settings.as_ref();
        let ttl = settings.map(|settings| settings.lease_ttl);
        let counts = |id| connected(id) || state.slots_of(id).next().is_some();
        let agents = state.agents.iter();
        let agents = agents.filter(|(id, agent)| !agent.is_revoked() && counts(**id));
        let agents = agents.map(|(&id, agent)| (id, &agent.region));
        Self::granting(ttl.unwrap_or_default(), now, agents)
    }

    fn granting<'a>(
        ttl: Span,
        now: Timestamp,
        agents: impl IntoIterator<Item = (AgentId, &'a Name)>,
    ) -> Self {
        let mut book = Self {
            ttl,
            leases: BTreeMap::new(),
            frozen: BTreeMap::new(),
        };
        for (agent, region) in agents {
            book.admit(agent, region, now);
        }
        book
    }

    /// An agent was admitted, or has shown itself: it has one full lease.
    pub fn admit(&mut self, agent: AgentId, region: &Name, now: Timestamp) {
        let lease = Lease {
            region: region.clone(),
            until: now + self.ttl,
            sent_at: Timestamp::MIN,
        };
        self.leases.insert(agent, lease);
    }

    /// An agent was revoked.
    pub fn forget(&mut self, agent: AgentId) {
        self.leases.remove(&agent);
    }

    /// An agent renews; answers how long its lease lasts from the moment it sent this. `None` for
    /// one that was never admitted. A renewal older than the last one grants nothing new.
    pub fn renew(&mut self, agent: AgentId, renewal: &Renew, now: Timestamp) -> Option<Span> {
        let lease = self.leases.get_mut(&agent)?;
        if renewal.sent_at >= lease.sent_at {
            lease.sent_at = renewal.sent_at;
            // The leader counts from when it heard, the agent from when it spoke: the agent
            // stops believing in its lease before the leader gives its shards away.
            lease.until = now + self.ttl;
        }
        Some(self.ttl)
    }

    /// Every lease, also those that have run out, and until when it holds.
    pub fn leases(&self) -> impl Iterator<Item = (AgentId, Timestamp)> {
        self.leases
            .iter()
            .map(|(&agent, lease)| (agent, lease.until))
    }

    /// Whether an agent's lease holds.
    #[must_use]
    pub fn is_live(&self, agent: AgentId, now: Timestamp) -> bool {
        self.leases
            .get(&agent)
            .is_some_and(|lease| now < lease.until)
    }

    /// The agents whose leases hold.
    #[must_use]
    pub fn live(&self, now: Timestamp) -> BTreeSet<AgentId> {
        self.leases
            .iter()
            .filter(|(_, lease)| now < lease.until)
            .map(|(&agent, _)| agent)
            .collect()
    }

    /// The agents whose leases have run out.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> BTreeSet<AgentId> {
        self.leases
            .iter()
            .filter(|(_, lease)| now >= lease.until)
            .map(|(&agent, _)| agent)
            .collect()
    }

    /// When the next lease runs out, if none is renewed.
    #[must_use]
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        self.leases
            .values()
            .map(|lease| lease.until)
            .filter(|&until| until > now)
            .min()
    }

    /// The regions in which nothing may move.
    ///
    /// A region freezes when at least two of its agents, and more than a fifth of them, were lost
    /// within thirty seconds. It thaws when no more than a fifth is missing, or after ten minutes.
    pub fn frozen(&mut self, now: Timestamp) -> BTreeSet<Name> {
        let mut regions: BTreeMap<&Name, Losses> = BTreeMap::new();
        for lease in self.leases.values() {
            let losses = regions.entry(&lease.region).or_default();
            losses.agents += 1;
            if now >= lease.until {
                losses.missing += 1;
                losses.recent += usize::from(now.since(lease.until) <= STORM_WINDOW);
            }
        }
        for (region, losses) in regions {
            if losses.is_storm(losses.recent) {
                self.frozen.entry(region.clone()).or_insert(now);
            } else if !losses.is_storm(losses.missing) {
                self.frozen.remove(region);
            }
        }
        let lasting = |since: Timestamp| now.since(since) < FREEZE_MAX;
        self.frozen
            .iter()
            .filter(|&(_, &at)| lasting(at))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

/// The agents of one region.
#[derive(Debug, Clone, Copy, Default)]
struct Losses {
    agents: usize,
    missing: usize,
    recent: usize,
}

impl Losses {
    const fn is_storm(self, lost: usize) -> bool {
        lost >= STORM_AGENTS && lost * STORM_SHARE > self.agents
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::name;

    const TTL: Span = Span::from_secs(9);

    fn book(agents: u32) -> LeaseBook {
        let eu = name("eu");
        LeaseBook::granting(TTL, Timestamp(0), (1..=agents).map(|n| (AgentId(n), &eu)))
    }

    fn renewal(sent_at: i64) -> Renew {
        Renew {
            sent_at: Timestamp(sent_at),
            healthy: true,
            spool_bytes: 0,
        }
    }

    #[test]
    fn a_new_leader_declares_nobody_dead_for_one_full_lease() {
        let book = book(3);
        assert_eq!(book.expired(Timestamp(8_999)).len(), 0);
        assert_eq!(book.expired(Timestamp(9_000)).len(), 3);
        assert_eq!(book.next_expiry(Timestamp(0)), Some(Timestamp(9_000)));
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_heard_and_an_older_one_not_at_all() {
        let mut book = book(1);
        assert_eq!(
            book.renew(AgentId(1), &renewal(3_000), Timestamp(5_000)),
            Some(TTL)
        );
        assert_eq!(
            book.renew(AgentId(1), &renewal(2_000), Timestamp(13_000)),
            Some(TTL)
        );
        assert!(book.is_live(AgentId(1), Timestamp(13_999)));
        assert!(!book.is_live(AgentId(1), Timestamp(14_000)));
        assert_eq!(book.renew(AgentId(9), &renewal(0), Timestamp(0)), None);
    }

    /// Lets agents `lost` of `all` fall silent at 9 s; the others renew until 60 s.
    fn storm(all: u32, lost: u32) -> LeaseBook {
        let mut book = book(all);
        for second in (3..=60).step_by(3) {
            for agent in lost + 1..=all {
                book.renew(AgentId(agent), &renewal(second), Timestamp(second * 1_000));
            }
        }
        book
    }

    #[test]
    fn losing_more_than_a_fifth_of_a_region_freezes_it() {
        assert!(
            storm(3, 1).frozen(Timestamp(10_000)).is_empty(),
            "one agent is no storm"
        );
        assert!(
            storm(10, 2).frozen(Timestamp(10_000)).is_empty(),
            "a fifth is not more than it"
        );
        assert_eq!(storm(9, 2).frozen(Timestamp(10_000)).len(), 1);
    }

    #[test]
    fn a_frozen_region_thaws_when_its_agents_return_or_after_ten_minutes() {
        let mut book = storm(4, 2);
        assert_eq!(book.frozen(Timestamp(10_000)).len(), 1);
        assert_eq!(book.frozen(Timestamp(50_000)).len(), 1, "still missing");
        let mut returned = book.clone();
        returned.renew(AgentId(1), &renewal(50_000), Timestamp(51_000));
        returned.renew(AgentId(2), &renewal(50_000), Timestamp(51_000));
        assert!(returned.frozen(Timestamp(52_000)).is_empty());
        for agent in [3, 4] {
            book.renew(AgentId(agent), &renewal(600_000), Timestamp(605_000));
        }
        assert!(book.frozen(Timestamp(610_000)).is_empty());
    }

    #[test]
    fn losses_far_apart_are_no_storm() {
        let mut book = book(4);
        for second in (3..=60).step_by(3) {
            for agent in 2..=4 {
                book.renew(AgentId(agent), &renewal(second), Timestamp(second * 1_000));
            }
        }
        assert!(book.frozen(Timestamp(60_000)).is_empty());
        book.renew(AgentId(3), &renewal(61), Timestamp(120_000));
        book.renew(AgentId(4), &renewal(61), Timestamp(120_000));
        assert!(
            book.frozen(Timestamp(70_000)).is_empty(),
            "an hour and a minute lie between"
        );
    }
}
