//! What each agent is told of its own: its whole assignment, and which of its checks are failing.
//!
//! Complete each time, so that an agent that missed one learns everything from the next. What a
//! leader has told is its memory, never replicated: losing it costs saying everything once more.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use picket_wire::assignment::Assigned;
use picket_wire::control::{Beliefs, ToAgent};
use picket_wire::id::{AgentId, ShardSlot};
use picket_wire::limits::{ASSIGNMENTS_MAX, BELIEFS_MAX};
use picket_wire::time::Span;

use crate::state::State;

/// How often every agent is told everything, changed or not.
pub const ROUND: Span = Span::from_secs(5);

/// What the leader of a term has told. Owner: the digest duty.
#[derive(Debug, Clone, Default)]
pub struct Digests {
    told: BTreeMap<AgentId, Told>,
}

/// What an agent was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    session: u64,
    digest: u64,
    beliefs: u64,
}

/// What an agent knows once everything that was news to it is on its way.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    agent: AgentId,
    told: Told,
}

impl Digests {
    /// What `agent` should hear on its session of this number, in this order; `None` when it has
    /// heard it, unless it is time for a `round`. Until [`Self::sent`] says otherwise, it has heard
    /// nothing.
    #[must_use]
    pub fn news(
        &mut self,
        state: &State,
        agent: AgentId,
        session: u64,
        round: bool,
    ) -> Option<(Vec<ToAgent>, Sent)> {
        let before = self.told.get(&agent).copied();
        let before = before.filter(|told| told.session == session);
        let digest = digest_of(state, agent);
        let digested = fingerprint(&digest);
        let changed = before.is_none_or(|before| before.digest != digested);
        if !changed && !round {
            return None;
        }
        self.told.remove(&agent);
        let slots: Vec<_> = digest.iter().map(|assigned| assigned.slot).collect();
        let beliefs = beliefs_of(state, &slots);
        let told = Told {
            session,
            digest: digested,
            beliefs: fingerprint(&beliefs),
        };
        let mut messages = vec![ToAgent::Digest(digest)];
        // What an owner said under an earlier epoch had no effect: it has to hear what is believed
        // under the new one, even if that is what was believed before.
        if changed || before.is_none_or(|before| before.beliefs != told.beliefs) {
            messages.extend(beliefs.into_iter().map(ToAgent::Beliefs));
        }
        Some((messages, Sent { agent, told }))
    }

    /// All of an agent's news is on its way.
    pub fn sent(&mut self, sent: Sent) {
        self.told.insert(sent.agent, sent.told);
    }

    /// Forgets agents that are `connected` no more.
    pub fn retain(&mut self, connected: impl Fn(AgentId) -> bool) {
        self.told.retain(|agent, _| connected(*agent));
    }
}

/// Everything assigned to `agent` that has a catalogue.
fn digest_of(state: &State, agent: AgentId) -> Vec<Assigned> {
    let line = |slot: ShardSlot| {
        let pointer = state.catalogue.get(&(slot.group, slot.shard))?;
        let epoch = state.assignments.get(&slot)?.epoch;
        Some(Assigned {
            slot,
            epoch,
            version: pointer.version,
            blob: pointer.blob,
        })
    };
    let lines = state.slots_of(agent).filter_map(line);
    lines.take(ASSIGNMENTS_MAX).collect()
}

/// What fails in `slots`, in as many messages as the bound on one asks for.
fn beliefs_of(state: &State, slots: &[ShardSlot]) -> Vec<Beliefs> {
    let mut messages = Vec::new();
    let mut next = Beliefs {
        slots: Vec::new(),
        failing: Vec::new(),
    };
    for &slot in slots {
        let failing: Vec<_> = state.failing(slot).collect();
        if !next.slots.is_empty() && next.failing.len() + failing.len() > BELIEFS_MAX {
            let (slots, failing) = (Vec::new(), Vec::new());
            messages.push(std::mem::replace(&mut next, Beliefs { slots, failing }));
        }
        next.slots.push(slot);
        next.failing.extend(failing);
    }
    if !next.slots.is_empty() {
        messages.push(next);
    }
    messages
}

/// Tells whether something changed; never leaves the process.
fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use picket_wire::id::{BlobHash, CatalogueVersion};
    use picket_wire::reason::Reason;

    use super::*;
    use crate::command::init_cluster::DEFAULT_GROUP;
    use crate::command::{Command, PointCatalogue, Pointed};
    use crate::testing::{World, check, slot_of};

    const OWNER: AgentId = AgentId(1);

    /// Agent 1 owns the shard of check 1, which has a catalogue.
    fn world() -> World {
        let mut world = World::with_agents(&[("eu", "as1"), ("us", "as2"), ("ap", "as3")]);
        let shard = slot_of(check(1)).shard;
        let pointed = Pointed {
            group: DEFAULT_GROUP,
            shard,
            version: CatalogueVersion(1),
            blob: BlobHash::of(b"one"),
            checks: 1,
            gone: Vec::new(),
        };
        let pointers = vec![pointed];
        world.apply(Command::PointCatalogue(PointCatalogue { pointers }));
        world.assign(shard.0, 0, OWNER.0);
        world
    }

    fn hears(digests: &mut Digests, world: &World, session: u64, round: bool) -> Vec<ToAgent> {
        let Some((messages, sent)) = digests.news(world.state(), OWNER, session, round) else {
            return Vec::new();
        };
        digests.sent(sent);
        messages
    }

    fn failing(messages: &[ToAgent]) -> Option<usize> {
        messages.iter().find_map(|message| {
            let ToAgent::Beliefs(beliefs) = message else {
                return None;
            };
            Some(beliefs.failing.len())
        })
    }

    #[test]
    fn a_digest_is_told_once_and_again_in_every_round_and_on_every_session() {
        let (mut digests, world) = (Digests::default(), world());
        let first = hears(&mut digests, &world, 1, false);
        let [ToAgent::Digest(lines), ToAgent::Beliefs(_)] = &first[..] else {
            panic!("{first:?}");
        };
        assert_eq!(lines.len(), 1);
        assert_eq!(hears(&mut digests, &world, 1, false), []);
        let round = hears(&mut digests, &world, 1, true);
        assert_eq!(round, first[..1], "what is believed has not changed");
        assert_eq!(hears(&mut digests, &world, 2, false), first);
    }

    #[test]
    fn what_did_not_go_out_is_told_again() {
        let (mut digests, world) = (Digests::default(), world());
        drop(hears(&mut digests, &world, 1, false));
        drop(digests.news(world.state(), OWNER, 1, true));
        assert_eq!(hears(&mut digests, &world, 1, false).len(), 2);
    }

    #[test]
    fn a_change_of_belief_waits_for_the_round_and_one_of_owner_does_not() {
        let (mut digests, mut world) = (Digests::default(), world());
        drop(hears(&mut digests, &world, 1, false));
        world
            .at(1_000)
            .owner(1, check(1), Some(Reason::ConnectRefused));
        assert_eq!(hears(&mut digests, &world, 1, false), []);
        let round = hears(&mut digests, &world, 1, true);
        assert_eq!(failing(&round), Some(1));
        let shard = slot_of(check(1)).shard.0;
        world.assign(shard, 0, 2);
        assert_eq!(
            hears(&mut digests, &world, 1, false).len(),
            1,
            "it is empty"
        );
        world.assign(shard, 0, OWNER.0);
        let again = hears(&mut digests, &world, 1, false);
        assert!(failing(&again).is_some(), "{again:?}");
    }
}
