//! Digests and beliefs: each agent's whole assignment, and which of its checks are failing.
//!
//! Told at every change and every five seconds besides, complete each time: an agent that missed
//! one learns everything from the next.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use picket_rt::stop::Stop;
use picket_scheduler_core::state::State;
use picket_wire::assignment::Assigned;
use picket_wire::control::{Beliefs, ToAgent};
use picket_wire::id::{AgentId, CheckId, ShardSlot};
use picket_wire::limits::{ASSIGNMENTS_MAX, BELIEFS_MAX};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::consensus::Applied;
use crate::context::Context;

/// How often everybody is told everything.
const ROUND: Duration = Duration::from_secs(5);
/// Changes that come together are told together: an assignment of all shards is several entries.
const SETTLE: Duration = Duration::from_millis(20);

/// What an agent was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    session: u64,
    digest: u64,
    beliefs: u64,
}

/// Tells digests and beliefs until `stop`.
pub(super) async fn run(context: Arc<Context>, stop: Stop) {
    let mut told = BTreeMap::new();
    let mut applied = context.replica.applied();
    let mut arrivals = context.sessions.arrivals();
    let mut rounds = tokio::time::interval_at(Instant::now() + ROUND, ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let placement = applied.borrow_and_update().placement;
        arrivals.borrow_and_update();
        tell(&context, &mut told, false);
        tokio::select! {
            biased;
            () = stop.requested() => return,
            _ = rounds.tick() => tell(&context, &mut told, true),
            () = settled(&mut applied, placement) => {}
            Ok(()) = arrivals.changed() => {}
        }
    }
}

/// Returns a moment after the placement has changed.
async fn settled(applied: &mut watch::Receiver<Applied>, placement: u64) {
    if applied
        .wait_for(|applied| applied.placement != placement)
        .await
        .is_ok()
    {
        tokio::time::sleep(SETTLE).await;
    }
}

fn tell(context: &Context, told: &mut BTreeMap<AgentId, Told>, round: bool) {
    let connected = context.sessions.numbers();
    told.retain(|agent, _| connected.iter().any(|(there, _)| there == agent));
    for (agent, session) in connected {
        let (digest, slots) = context.replica.read(|state| digest_of(state, agent));
        let before = told
            .get(&agent)
            .filter(|told| told.session == session)
            .copied();
        let mut now = Told {
            session,
            digest: fingerprint(&digest),
            beliefs: 0,
        };
        let changed = before.is_none_or(|before| before.digest != now.digest);
        if !changed && !round {
            continue;
        }
        let mut heard = context.sessions.send(agent, ToAgent::Digest(digest));
        let beliefs = context.replica.read(|state| beliefs_of(state, &slots));
        now.beliefs = fingerprint(&beliefs);
        // What an owner said under an earlier epoch had no effect: it has to hear what is believed
        // under the new one, even if that is what was believed before.
        if changed || before.is_none_or(|before| before.beliefs != now.beliefs) {
            for (slots, failing) in beliefs {
                heard &= context
                    .sessions
                    .send(agent, ToAgent::Beliefs(Beliefs { slots, failing }));
            }
        }
        if heard {
            told.insert(agent, now);
        } else {
            told.remove(&agent);
        }
    }
}

/// Everything assigned to `agent` that has a catalogue, and all its slots.
fn digest_of(state: &State, agent: AgentId) -> (Vec<Assigned>, Vec<ShardSlot>) {
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
    let digest: Vec<_> = state
        .slots_of(agent)
        .filter_map(line)
        .take(ASSIGNMENTS_MAX)
        .collect();
    let slots = digest.iter().map(|assigned| assigned.slot).collect();
    (digest, slots)
}

/// What fails in `slots`, in as many messages as the bound on one asks for.
fn beliefs_of(state: &State, slots: &[ShardSlot]) -> Vec<(Vec<ShardSlot>, Vec<CheckId>)> {
    let mut messages = Vec::new();
    let (mut told, mut failing) = (Vec::new(), Vec::new());
    for &slot in slots {
        let more: Vec<_> = state.failing(slot).collect();
        if !told.is_empty() && failing.len() + more.len() > BELIEFS_MAX {
            messages.push((std::mem::take(&mut told), std::mem::take(&mut failing)));
        }
        told.push(slot);
        failing.extend(more);
    }
    if !told.is_empty() {
        messages.push((told, failing));
    }
    messages
}

/// Tells whether something changed; never leaves the process.
fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
