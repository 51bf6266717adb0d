//! Confirmation: independent vantages are asked, and orders end when nobody else will answer.
//!
//! Which agents are asked, and when an order is over, is the core's to say; this is its clock and
//! its voice. An order that did not reach its agent is tried again; one that was lost on the way
//! ends at its deadline with the votes that are there.
//!
//! An order about a check that its shard no longer has shows that its owner spoke after the check
//! was removed: nobody will ever speak of it again, so its verdict is closed.

use std::sync::Arc;
use std::time::Duration;

use picket_rt::stop::Stop;
use picket_rt::telemetry::PastSpan;
use picket_scheduler_core::command::expire_orders::EXPIRED_MAX;
use picket_scheduler_core::command::{Command, ExpireOrders, Expired, PointCatalogue, Pointed};
use picket_scheduler_core::confirm::{self, Driver, Effect, Heard, Vantage};
use picket_scheduler_core::state::{Pointer, State};
use picket_wire::blob::ShardCatalogue;
use picket_wire::check::CheckSpec;
use picket_wire::control::ProbeOrder;
use picket_wire::evidence::TraceContext;
use picket_wire::id::{AgentId, CheckId, GroupId, OrderId, ShardId};
use picket_wire::time::Timestamp;

use crate::context::Context;
use crate::telemetry;

/// How often the agenda is looked at when nothing else happens: a twentieth of the shortest
/// deadline, so that a verdict is hardly late.
const EVERY: Duration = Duration::from_millis(100);

/// Changes that come together are looked at together: nothing beside the time of a probe, and a
/// bound on the looks during a storm.
const SETTLE: Duration = Duration::from_millis(10);

/// How long one look may wait for blobs that are not here: a round trip to another member. What is
/// still missing then is asked for at the next look, and the other orders are not held up.
const BLOBS_WITHIN: Duration = Duration::from_millis(300);

/// Asks and ends until `stop`.
pub(crate) async fn run(context: Arc<Context>, stop: Stop) {
    let mut driver = Driver::new(context.clock.now());
    let mut applied = context.replica.applied();
    loop {
        let index = applied.borrow_and_update().index;
        let now = context.clock.now();
        let vantages = vantages(&context, now);
        let effects = context
            .replica
            .read(|state| driver.step(now, state, &vantages));
        let perform = perform(&context, effects, &mut driver);
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

/// Agents that can be asked now.
fn vantages(context: &Context, now: Timestamp) -> Vec<Vantage> {
    let connected = context.sessions.connected();
    let live = context
        .leader_view
        .alive(now)
        .map(|alive| alive.live)
        .unwrap_or_default();
    let connected = connected.into_iter().map(|seen| Heard {
        agent: seen.agent,
        at: seen.heard,
        healthy: seen.healthy,
    });
    context
        .replica
        .read(|state| confirm::vantages(state, &live, connected, now))
}

async fn perform(context: &Context, effects: Vec<Effect>, driver: &mut Driver) {
    let mut expired = Vec::new();
    let mut questions = Vec::new();
    for effect in effects {
        match effect {
            Effect::Ask { order, agents } => questions.push((order, agents)),
            Effect::Expire(orders) => expired.extend(orders),
        }
    }
    for (order, agent) in ask(context, questions).await {
        driver.unreached(order, agent);
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

/// Asks, shard by shard, so that each is decoded once; returns who was not reached about what.
async fn ask(
    context: &Context,
    questions: Vec<(OrderId, Vec<AgentId>)>,
) -> Vec<(OrderId, AgentId)> {
    let mut questions: Vec<_> = context.replica.read(|state| {
        let each = questions.into_iter();
        each.filter_map(|(order, agents)| Some((Question::of(state, order)?, agents)))
            .collect()
    });
    questions.sort_by_key(|(question, _)| question.pointer.blob);
    let blobs_until = tokio::time::Instant::now() + BLOBS_WITHIN;
    let (mut unreached, mut missing) = (Vec::new(), 0_usize);
    for (question, agents) in questions {
        let blob = context.blobs.shard(&question.pointer.blob);
        let unasked = match tokio::time::timeout_at(blobs_until, blob).await {
            Ok(Some(shard)) => ask_about(context, question, &shard, agents).await,
            Ok(None) | Err(_) => {
                missing += 1;
                agents
            }
        };
        unreached.extend(unasked.into_iter().map(|agent| (question.order, agent)));
    }
    if missing > 0 {
        tracing::warn!(
            orders = missing,
            "orders wait for catalogues that are not here yet"
        );
    }
    unreached
}

/// Asks `agents` about a check of `shard`; returns those who were not reached.
async fn ask_about(
    context: &Context,
    question: Question,
    shard: &ShardCatalogue,
    mut agents: Vec<AgentId>,
) -> Vec<AgentId> {
    let Some(spec) = find(shard, question.check) else {
        retire(context, question).await;
        return Vec::new();
    };
    let now = context.clock.now();
    let within = question.deadline.since(now);
    let trace = asking(&question, now);
    agents.retain(|agent| {
        let order = ProbeOrder {
            order: question.order,
            check: spec.clone(),
            within,
            trace,
        };
        let reached = context.sessions.order(*agent, order);
        telemetry::orders_sent(usize::from(reached));
        !reached
    });
    agents
}

/// Closes what is open about a check that is not in its shard's catalogue. A catalogue that has
/// moved on meanwhile refuses this; then the next order asks.
async fn retire(context: &Context, question: Question) {
    let Question {
        group,
        shard,
        pointer,
        check,
        ..
    } = question;
    let pointers = vec![Pointed::again(group, shard, pointer, vec![check])];
    let command = Command::PointCatalogue(PointCatalogue { pointers });
    if let Err(error) = context.replica.propose(command).await {
        tracing::debug!(%check, %error, "a check that was removed is still open");
    }
}

/// What has to be known to ask.
#[derive(Clone, Copy)]
struct Question {
    order: OrderId,
    check: CheckId,
    group: GroupId,
    shard: ShardId,
    pointer: Pointer,
    asked_at: Timestamp,
    deadline: Timestamp,
    trace: Option<TraceContext>,
}

impl Question {
    fn of(state: &State, id: OrderId) -> Option<Self> {
        let order = state.orders.get(&id)?;
        let pointer = state.catalogue.get(&(order.group, order.shard)).copied()?;
        Some(Self {
            order: id,
            check: order.check.check,
            group: order.group,
            shard: order.shard,
            pointer,
            asked_at: order.asked_at,
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

/// The span of an order within the trace of the failure that it is about, until it is asked; votes
/// are its children. A failure that is not traced has none.
fn asking(question: &Question, now: Timestamp) -> Option<TraceContext> {
    let parent = question.trace?;
    let span = PastSpan {
        name: "confirm",
        began: question.asked_at,
        took: now.since(question.asked_at).to_std(),
        parent: Some(parent),
        error: None,
        attributes: &[("order", &question.order), ("check", &question.check)],
    };
    Some(span.tell().unwrap_or(parent))
}
