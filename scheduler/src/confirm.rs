//! Confirmation: independent vantages are asked, and orders end when nobody else will answer.
//!
//! Which agents are asked, and when an order is over, is the core's to say; this is its clock and
//! its voice. An order whose question was lost ends at its deadline with the votes that are there.

use std::sync::Arc;
use std::time::Duration;

use picket_rt::stop::Stop;
use picket_rt::telemetry::{current_trace, set_parent};
use picket_scheduler_core::command::expire_orders::EXPIRED_MAX;
use picket_scheduler_core::command::{Command, ExpireOrders, Expired};
use picket_scheduler_core::confirm::{Driver, Effect, Vantage};
use picket_scheduler_core::state::State;
use picket_wire::blob::ShardCatalogue;
use picket_wire::check::CheckSpec;
use picket_wire::control::{ProbeOrder, ToAgent};
use picket_wire::evidence::TraceContext;
use picket_wire::id::{AgentId, BlobHash, CheckId, OrderId};
use picket_wire::time::Timestamp;

use crate::context::Context;
use crate::telemetry;

/// How often the agenda is looked at when nothing else happens: a twentieth of the shortest
/// deadline, so that a verdict is hardly late.
const EVERY: Duration = Duration::from_millis(100);

/// Changes that come together are looked at together: nothing beside the time of a probe, and a
/// bound on the looks during a storm.
const SETTLE: Duration = Duration::from_millis(10);

/// Asks and ends until `stop`.
pub(crate) async fn run(context: Arc<Context>, stop: Stop) {
    let mut driver = Driver::default();
    let mut applied = context.replica.applied();
    loop {
        let index = applied.borrow_and_update().index;
        let now = context.clock.now();
        let vantages = vantages(&context, now);
        let effects = context
            .replica
            .read(|state| driver.step(now, state, &vantages));
        let perform = perform(&context, effects);
        tokio::select! {
            biased;
            () = stop.requested() => return,
            () = perform => {}
        }
        let changed = async {
            if applied
                .wait_for(|applied| applied.index > index)
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

/// Agents that can be asked now: connected here, with a lease, admitted, not drained.
fn vantages(context: &Context, now: Timestamp) -> Vec<Vantage> {
    let connected = context.sessions.connected();
    let live = context
        .leader_view
        .alive(now)
        .map(|alive| alive.live)
        .unwrap_or_default();
    context.replica.read(|state| {
        let vantage = |seen: &crate::gateway::sessions::Connected| {
            let agent = state.agents.get(&seen.agent)?;
            let serves = live.contains(&seen.agent) && !agent.is_revoked() && !agent.is_drained();
            serves.then(|| Vantage {
                agent: seen.agent,
                region: agent.region.clone(),
                zone: agent.zone.clone(),
                network: agent.network.clone(),
                healthy: seen.healthy,
            })
        };
        connected.iter().filter_map(vantage).collect()
    })
}

async fn perform(context: &Context, effects: Vec<Effect>) {
    let mut expired = Vec::new();
    for effect in effects {
        match effect {
            Effect::Ask { order, agents } => ask(context, order, &agents).await,
            Effect::Expire(orders) => expired.extend(orders),
        }
    }
    for orders in expired.chunks(EXPIRED_MAX) {
        expire(context, orders.to_vec()).await;
    }
}

async fn expire(context: &Context, orders: Vec<Expired>) {
    let command = Command::ExpireOrders(ExpireOrders { orders });
    if let Err(error) = context.replica.propose(command).await {
        tracing::debug!(%error, "orders were not ended; they are looked at again");
    }
}

async fn ask(context: &Context, id: OrderId, agents: &[AgentId]) {
    let Some(question) = context.replica.read(|state| Question::of(state, id)) else {
        return;
    };
    let Some(shard) = context.blobs.shard(&question.blob).await else {
        tracing::warn!(order = %id, "the catalogue of an order is nowhere");
        return;
    };
    let Some(spec) = find(&shard, question.check) else {
        return;
    };
    let within = question.deadline.since(context.clock.now());
    let trace = asking(id, question.trace);
    for agent in agents {
        let order = ProbeOrder {
            order: id,
            check: spec.clone(),
            within,
            trace,
        };
        if context.sessions.send(*agent, ToAgent::Probe(order)) {
            telemetry::orders_sent(1);
        }
    }
}

/// What has to be known to ask.
struct Question {
    check: CheckId,
    blob: BlobHash,
    deadline: Timestamp,
    trace: Option<TraceContext>,
}

impl Question {
    fn of(state: &State, id: OrderId) -> Option<Self> {
        let order = state.orders.get(&id)?;
        let pointer = state.catalogue.get(&(order.group, order.shard))?;
        let check = order.check.check;
        Some(Self {
            check,
            blob: pointer.blob,
            deadline: order.deadline,
            trace: order.trace,
        })
    }
}

/// Checks in a blob are in the order of their ids.
fn find(shard: &ShardCatalogue, check: CheckId) -> Option<&CheckSpec> {
    let at = shard
        .checks
        .binary_search_by_key(&check, |spec| spec.id)
        .ok()?;
    shard.checks.get(at)
}

/// The span of an order within the trace of the failure that it is about; votes are its children.
fn asking(order: OrderId, trace: Option<TraceContext>) -> Option<TraceContext> {
    let span = tracing::info_span!("confirm", %order);
    set_parent(&span, trace?);
    span.in_scope(current_trace).or(trace)
}
