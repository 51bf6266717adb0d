//! The projector: what was decided becomes rows.
//!
//! Reads facts from the local machine after Postgres' own cursor and applies them in order; rows and
//! cursor are one transaction, so that replaying changes nothing. The machine's copy of the cursor
//! follows and lets it forget. With Postgres away facts wait in the machine, and nobody else does.

pub(crate) mod rollups;

use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_rt::stop::Stop;
use picket_scheduler_core::command::{AdvanceCursor, Command};
use picket_scheduler_core::state::Consumer;
use picket_storage::pg::Pg;
use picket_storage::pg::projector::{ApplyError, Projector};
use picket_wire::id::FactSeq;

use crate::context::Context;
use crate::telemetry;

/// Facts in one transaction: a few thousand hide the price of the commit.
const BATCH_MAX: usize = 4_096;
/// Most facts between two moves of the machine's cursor during a long run.
const CURSOR_EVERY: u64 = 16_384;
/// First and longest pause after Postgres failed.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Pauses that double up to a bound.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: PAUSE_FIRST }
    }
}

impl Backoff {
    /// Waits; a little longer each time.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(PAUSE_MAX);
    }
}

/// Brings the schema up to date, as soon as Postgres is there. Every member does at its start.
pub(crate) async fn migrate(pg: Pg, stop: Stop) {
    let mut backoff = Backoff::default();
    loop {
        match pg.migrate().await {
            Ok(0) => return stop.requested().await,
            Ok(steps) => {
                tracing::info!(steps, "the schema was brought up to date");
                return stop.requested().await;
            }
            Err(error) if error.is_retryable() => telemetry::postgres("migrate", false),
            Err(error) => {
                tracing::error!(error = %picket_rt::chain(&error), "the schema stays as it is")
            }
        }
        tokio::select! {
            biased;
            () = stop.requested() => return,
            () = backoff.pause() => {}
        }
    }
}

/// Projects facts until `stop`. Only the leader does; two at once would only wait for each other.
pub(crate) async fn run(context: Arc<Context>, stop: Stop) {
    let shards = context
        .replica
        .read(|state| state.settings.as_ref().map(|settings| settings.shards));
    let shards = shards.expect("a term begins when the cluster has settings");
    let projection = Projection {
        projector: Projector::new(context.pg.clone(), shards),
        context,
    };
    let mut backoff = Backoff::default();
    loop {
        let failure = tokio::select! {
            biased;
            () = stop.requested() => return,
            failure = projection.follow(&mut backoff) => failure,
        };
        telemetry::postgres("projector", false);
        if failure.is_retryable() {
            tracing::warn!(error = %picket_rt::chain(&failure), "history waits for Postgres");
        } else {
            tracing::error!(error = %picket_rt::chain(&failure), "facts do not become history");
        }
        tokio::select! {
            biased;
            () = stop.requested() => return,
            () = backoff.pause() => {}
        }
    }
}

struct Projection {
    projector: Projector,
    context: Arc<Context>,
}

impl Projection {
    /// Follows the facts until Postgres fails.
    async fn follow(&self, backoff: &mut Backoff) -> ApplyError {
        let mut cursor = match self.projector.cursor().await {
            Ok(cursor) => cursor,
            Err(error) => return error.into(),
        };
        let replica = &self.context.replica;
        let mut applied = replica.applied();
        loop {
            let facts = replica.facts_after(cursor, BATCH_MAX);
            if facts.is_empty() {
                self.advance(cursor).await;
                if applied
                    .wait_for(|applied| applied.facts > cursor)
                    .await
                    .is_err()
                {
                    return std::future::pending().await;
                }
                continue;
            }
            let started = Instant::now();
            cursor = match self.projector.apply(&facts).await {
                Ok(cursor) => cursor,
                Err(error) => return error,
            };
            *backoff = Backoff::default();
            telemetry::postgres("projector", true);
            telemetry::facts_projected(facts.len(), started.elapsed());
            let known = replica.read(|state| state.cursor(Consumer::Projector));
            telemetry::facts_lag("projector", applied.borrow().facts, cursor);
            if cursor.0.saturating_sub(known.0) >= CURSOR_EVERY {
                self.advance(cursor).await;
            }
        }
    }

    /// Tells the machine, which may then forget. When it does not hear of it, a later one will do.
    async fn advance(&self, to: FactSeq) {
        let known = self
            .context
            .replica
            .read(|state| state.cursor(Consumer::Projector));
        if to <= known {
            return;
        }
        let command = Command::AdvanceCursor(AdvanceCursor {
            consumer: Consumer::Projector,
            to,
        });
        match self.context.replica.propose(command).await {
            Ok(picket_scheduler_core::reply::Reply::Rejected(reject)) => {
                tracing::error!(%reject, "Postgres has projected facts that this cluster never stated");
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the projector's cursor was not moved"),
        }
    }
}
