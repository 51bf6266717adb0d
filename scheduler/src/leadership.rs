//! What only the leader does, for as long as it leads.
//!
//! A term begins when this member has applied everything that was decided before it, and ends with
//! the first sign that somebody else leads. Duties keep nothing but what they can rebuild, so that
//! a term may end at any moment; two terms of two members may overlap for a moment, because every
//! decision still passes the log.

mod digests;
mod placement;

use std::sync::Arc;
use std::time::Duration;

use picket_rt::stop::Stop;
use picket_rt::task::{Policy, TaskSet};

use crate::consensus::Leadership;
use crate::context::Context;
use crate::{catalogue, confirm, deliver, project, telemetry};

/// How long the duties of a term may take to end: a transaction or a webhook under way.
const DUTIES_END: Duration = Duration::from_secs(5);

/// How often the gauges are set.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

/// Leads whenever this member is elected, until `stop`. Returns early when openraft has failed.
pub(crate) async fn run(context: Arc<Context>, stop: Stop) {
    let mut leadership = context.replica.leadership();
    let mut now = leadership.now();
    loop {
        if now.failed {
            tracing::error!("consensus has failed");
            return;
        }
        if let Some(term) = now.my_term {
            let term = Term {
                context: Arc::clone(&context),
                term,
            };
            if !term.serve(&mut leadership, &stop).await {
                return;
            }
        }
        let changed = tokio::select! {
            biased;
            () = stop.requested() => return,
            changed = leadership.changed() => changed,
        };
        let Some(changed) = changed else { return };
        now = changed;
    }
}

/// Sets the gauges of every member, leading or not, until `stop`.
pub(crate) async fn run_gauges(context: Arc<Context>, stop: Stop) {
    let mut ticks = tokio::time::interval(GAUGES_EVERY);
    loop {
        tokio::select! {
            biased;
            () = stop.requested() => return,
            _ = ticks.tick() => {}
        }
        telemetry::raft(&context.replica.raft());
        let orders = context.replica.read(|state| state.orders.len());
        telemetry::mesh(
            context.sessions.connected().len(),
            context.leader_view.leases().len(),
            orders,
        );
    }
}

struct Term {
    context: Arc<Context>,
    term: u64,
}

impl Term {
    /// Serves one term; `false` when the process should end.
    async fn serve(self, leadership: &mut Leadership, stop: &Stop) -> bool {
        let caught_up = tokio::select! {
            biased;
            () = stop.requested() => return false,
            () = self.until_over(leadership) => false,
            caught_up = self.catch_up() => caught_up,
        };
        if !caught_up {
            return true;
        }
        let duties = stop.child();
        let tasks = TaskSet::new(duties.clone());
        self.begin(&tasks, &duties);
        let over = tokio::select! {
            biased;
            () = duties.requested() => false,
            () = self.until_over(leadership) => true,
        };
        self.context.leader_view.end();
        duties.request();
        if let Err(names) = tasks.join_all(DUTIES_END).await {
            tracing::error!(?names, "duties of a former leader go on");
        }
        self.context.live.clear();
        tracing::info!(term = self.term, "leads no more");
        over || stop.is_requested()
    }

    /// Applies what was decided before, and waits for the cluster's first state: without settings
    /// there is nothing to do.
    async fn catch_up(&self) -> bool {
        let replica = &self.context.replica;
        if replica.linearizable().await.is_err() {
            return false;
        }
        let mut applied = replica.applied();
        applied.mark_changed();
        while applied.changed().await.is_ok() {
            if replica.read(|state| state.settings.is_some()) {
                return true;
            }
        }
        false
    }

    async fn until_over(&self, leadership: &mut Leadership) {
        while leadership.now().my_term == Some(self.term) {
            if leadership.changed().await.is_none() {
                return;
            }
        }
    }

    fn begin(&self, tasks: &TaskSet, duties: &Stop) {
        let context = &self.context;
        let now = context.clock.now();
        let connected = context
            .sessions
            .numbers()
            .into_iter()
            .map(|(agent, _)| agent)
            .collect();
        context
            .replica
            .read(|state| context.leader_view.begin(self.term, state, &connected, now));
        tracing::info!(term = self.term, "leads");
        let with = || (Arc::clone(context), duties.clone());
        let (c, s) = with();
        tasks.spawn("digests", Policy::Essential, digests::run(c, s));
        let (c, s) = with();
        tasks.spawn("placement", Policy::Essential, placement::run(c, s));
        let (c, s) = with();
        tasks.spawn("confirm", Policy::Essential, confirm::run(c, s));
        let (c, s) = with();
        tasks.spawn("projector", Policy::Essential, project::run(c, s));
        let (c, s) = with();
        tasks.spawn("catalogue", Policy::Essential, catalogue::run(c, s));
        let (c, s) = with();
        tasks.spawn("deliver", Policy::Essential, deliver::run(c, s));
    }
}
