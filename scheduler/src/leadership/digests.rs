//! Digests and beliefs, told at every change and in rounds besides. What is told is the core's to
//! say; this is its clock and its voice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use picket_rt::stop::Stop;
use picket_scheduler_core::digest::{Digests, ROUND};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::consensus::Applied;
use crate::context::Context;

/// Changes that come together are told together: an assignment of all shards is several entries.
const SETTLE: Duration = Duration::from_millis(20);

/// Tells digests and beliefs until `stop`.
pub(super) async fn run(context: Arc<Context>, stop: Stop) {
    let mut digests = Digests::default();
    let mut applied = context.replica.applied();
    let mut arrivals = context.sessions.arrivals();
    let mut rounds = tokio::time::interval_at(Instant::now() + ROUND.to_std(), ROUND.to_std());
    rounds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let placement = applied.borrow_and_update().placement;
        arrivals.borrow_and_update();
        tell(&context, &mut digests, false);
        tokio::select! {
            biased;
            () = stop.requested() => return,
            _ = rounds.tick() => tell(&context, &mut digests, true),
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

/// Tells everybody what is news to them, or in a round everything.
fn tell(context: &Context, digests: &mut Digests, round: bool) {
    let connected: BTreeMap<_, _> = context.sessions.numbers().into_iter().collect();
    digests.retain(|agent| connected.contains_key(&agent));
    for (&agent, &session) in &connected {
        let news = context
            .replica
            .read(|state| digests.news(state, agent, session, round));
        let Some((messages, sent)) = news else {
            continue;
        };
        let mut messages = messages.into_iter();
        if messages.all(|message| context.sessions.send(agent, message)) {
            digests.sent(sent);
        }
    }
}
