//! What an agent's ring holds, so that its live lane can be understood.
//!
//! The agent names its slots and their blobs; the checks in them, in the order that both sides
//! derive, give each position its meaning. Until the blobs are here the lane is not understood, and
//! nobody is told: it is lossy.

use std::sync::{Mutex, MutexGuard, PoisonError};

use picket_wire::blob::decode_blob;
use picket_wire::control::Schedule;
use picket_wire::lane::live::{LiveDecoder, LiveOrder};
use tokio::sync::watch;

use super::agent_session::End;
use crate::blobs::Blobs;

/// The live lane's decoder of one session.
#[derive(Debug, Default)]
pub(super) struct Feed {
    now: Mutex<Option<Decoding>>,
}

/// An order of checks and the memory that goes with it.
#[derive(Debug)]
pub(super) struct Decoding {
    pub(super) order: LiveOrder,
    pub(super) decoder: LiveDecoder,
}

impl Feed {
    /// The decoder, when the newest schedule is known. It stays whole when a decode fails.
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Decoding>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Learns each schedule that the agent announces, the newest first.
pub(super) async fn learn(
    blobs: &Blobs,
    mut announced: watch::Receiver<Option<Schedule>>,
    feed: &Feed,
) -> End {
    while announced.changed().await.is_ok() {
        let Some(schedule) = announced.borrow_and_update().clone() else {
            continue;
        };
        let mut newer = announced.clone();
        let order = tokio::select! {
            biased;
            // A newer one makes this one worthless; the loop picks it up.
            _ = newer.changed() => continue,
            order = order_of(blobs, &schedule) => order,
        };
        if let Some(order) = order {
            let decoder = LiveDecoder::new(schedule.generation, &order.sizes());
            *feed.lock() = Some(Decoding { order, decoder });
        }
    }
    End::Lost
}

/// The rings of a schedule; `None` when a blob is nowhere to be found.
async fn order_of(blobs: &Blobs, schedule: &Schedule) -> Option<LiveOrder> {
    let mut checks = Vec::new();
    for held in &schedule.held {
        let bytes = blobs.get(&held.blob).await?;
        let shard = decode_blob(&bytes).ok()?;
        checks.extend(shard.checks.iter().map(|check| (check.id, check.cadence)));
        // A large schedule is many blobs; others want to run as well.
        tokio::task::yield_now().await;
    }
    Some(LiveOrder::new(checks))
}
