//! Placement: who should probe what, given who is alive.
//!
//! Planned after every change that can matter and once a second besides, because a lease runs out
//! without anything being said. What is planned is decided by the log; a plan made from an old view
//! is refused there move by move.

use std::sync::Arc;
use std::time::Duration;

use picket_rt::stop::Stop;
use picket_scheduler_core::command::assign_shards::MOVES_MAX;
use picket_scheduler_core::command::{AssignShards, Command, Move};
use picket_scheduler_core::placement::{Problem, plan};
use picket_scheduler_core::reply::Reply;

use crate::context::Context;
use crate::leases::Alive;
use crate::telemetry;

/// How often placement is planned when nothing seems to have changed.
const EVERY: Duration = Duration::from_secs(1);
/// Changes that come together are planned together.
const SETTLE: Duration = Duration::from_millis(50);
/// Moves in one plan that only even out the load; slots without an owner are not counted. At one
/// plan a second a whole cluster of 4,096 shards is evened out in a minute.
const BUDGET: usize = 64;

/// Plans until `stop`.
pub(super) async fn run(context: Arc<Context>, stop: Stop) {
    let mut applied = context.replica.applied();
    loop {
        let placement = applied.borrow_and_update().placement;
        tokio::select! {
            biased;
            () = stop.requested() => return,
            () = place(&context) => {}
        }
        let changed = async {
            if applied
                .wait_for(|applied| applied.placement != placement)
                .await
                .is_ok()
            {
                tokio::time::sleep(SETTLE).await;
            }
        };
        tokio::select! {
            biased;
            () = stop.requested() => return,
            () = changed => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn place(context: &Context) {
    let Some(Alive { live, frozen }) = context.leader_view.alive(context.clock.now()) else {
        return;
    };
    let problem = context
        .replica
        .read(|state| Problem::of(state, &live, &frozen, BUDGET));
    // Tens of milliseconds for the largest cluster: too long for a thread that others wait for.
    let planned = tokio::task::spawn_blocking(move || plan(&problem)).await;
    let moves = planned.expect("planning does not panic");
    for part in moves.chunks(MOVES_MAX) {
        if !decide(context, part.to_vec()).await {
            return;
        }
    }
}

/// Proposes moves; `false` when there is no point in going on.
async fn decide(context: &Context, moves: Vec<Move>) -> bool {
    match context
        .replica
        .propose(Command::AssignShards(AssignShards { moves }))
        .await
    {
        Ok(Reply::Assigned { applied, stale }) => {
            telemetry::moves(applied, stale);
            tracing::info!(applied, stale, "shard slots were assigned");
            true
        }
        Ok(reply) => {
            tracing::error!(?reply, "an assignment was refused");
            false
        }
        Err(error) => {
            tracing::debug!(%error, "an assignment was not decided");
            false
        }
    }
}
