//! Delivery: notification groups become messages to webhooks.
//!
//! Runs where the leader is and needs only the replicated state: with Postgres away, people are
//! told all the same.

mod outbox;
pub(crate) mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use picket_rt::stop::Stop;
use picket_rt::telemetry::PastSpan;
use picket_scheduler_core::command::AdvanceCursor;
use picket_scheduler_core::command::Command;
use picket_scheduler_core::state::Consumer;
use picket_wire::fact::{Fact, FactBody};
use picket_wire::id::{FactSeq, WebhookId};
use picket_wire::state::Verdict;
use picket_wire::time::Span;
use tokio::task::JoinSet;

use crate::context::Context;
use crate::deliver::outbox::{Job, JobId, Outbox, Tried};
use crate::deliver::webhook::Sender;

/// Facts read at a time.
const FACTS_MAX: usize = 4_096;
/// The cursor is moved at most this often: it costs a log entry.
const CURSOR_EVERY: Duration = Duration::from_millis(500);

/// Tells webhooks what happened until `stop`; runs only while this member leads.
pub(crate) async fn run(ctx: Arc<Context>, stop: Stop) {
    let (cursor, group_wait) = ctx.replica.read(|state| {
        let wait = state
            .settings
            .as_ref()
            .map_or(Span::ZERO, |settings| settings.group_wait);
        (state.cursor(Consumer::Delivery), wait)
    });
    let mut delivery = Delivery {
        outbox: Outbox::new(cursor, group_wait),
        stored: cursor,
        sender: Sender::new(),
        sends: JoinSet::new(),
        ctx,
    };
    delivery.run(&stop).await;
}

/// Tells in the trace that a failing probe began what has become of it: from the first failure to
/// the decision, and once more to its end.
fn trace(fact: &Fact) {
    let FactBody::Incident(incident) = &fact.body else {
        return;
    };
    let Some(parent) = incident.trace else {
        return;
    };
    let until = incident.ended_at.unwrap_or(fact.at);
    let span = PastSpan {
        name: "incident",
        began: incident.started_at,
        took: until.since(incident.started_at).to_std(),
        parent: Some(parent),
        error: None,
        attributes: &[
            ("incident", &incident.id),
            ("endpoint", &incident.check.endpoint),
            ("state", &incident.state.name()),
            ("reason", &incident.reason.name()),
            ("verdict", &incident.verdict.map_or("none", Verdict::name)),
            ("ended", &incident.ended_at.is_some()),
        ],
    };
    let _last = span.tell();
}

struct Delivery {
    outbox: Outbox,
    /// The cursor as the machine has it.
    stored: FactSeq,
    sender: Sender,
    /// One at a time per webhook, so at most as many as there are webhooks.
    sends: JoinSet<(JobId, Tried)>,
    ctx: Arc<Context>,
}

impl Delivery {
    async fn run(&mut self, stop: &Stop) {
        let mut applied = self.ctx.replica.applied();
        let mut cursor_tick = tokio::time::interval(CURSOR_EVERY);
        cursor_tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.read_and_send();
            let deadline = self.outbox.deadline();
            let wake = async {
                match deadline {
                    Some(at) => self.ctx.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.requested() => break,
                Some(done) = self.sends.join_next() => self.on_sent(done),
                _ = cursor_tick.tick() => self.store_cursor().await,
                () = wake => {}
                changed = applied.changed() => if changed.is_err() { break },
            }
        }
        self.sends.shutdown().await;
    }

    fn read_and_send(&mut self) {
        let webhooks: BTreeMap<WebhookId, (String, String)> = self.ctx.replica.read(|state| {
            let each = state.webhooks.iter();
            each.map(|(&id, hook)| (id, (hook.url.clone(), hook.secret.clone())))
                .collect()
        });
        let ids: Vec<WebhookId> = webhooks.keys().copied().collect();
        loop {
            let facts = self.ctx.replica.facts_after(self.outbox.read(), FACTS_MAX);
            for fact in &facts {
                trace(fact);
                self.outbox.on_fact(fact, &ids);
            }
            if facts.len() < FACTS_MAX {
                break;
            }
        }
        for job in self.outbox.due(self.ctx.clock.now(), &ids) {
            if let Some((url, secret)) = webhooks.get(&job.id.webhook) {
                self.start(job, url.clone(), secret);
            }
        }
        metrics::gauge!("picket_delivery_waiting")
            .set(u32::try_from(self.outbox.waiting()).unwrap_or(u32::MAX));
    }

    fn start(&mut self, job: Job, url: String, secret: &str) {
        let rendered = webhook::render(job.id.webhook, &job.message, secret, self.ctx.clock.now());
        let sender = self.sender.clone();
        self.sends.spawn(async move {
            let Job { id, message, tries } = job;
            let result = match rendered {
                Ok(rendered) => sender.send(&url, rendered).await.map_err(|error| picket_rt::chain(&error).to_string()),
                Err(error) => Err(error.to_string()),
            };
            match result {
                Ok(status) => {
                    metrics::counter!("picket_deliveries_total", "result" => "delivered").increment(1);
                    tracing::info!(webhook = %id.webhook, group = %message.group, event = ?message.event, status, tries, "delivered");
                    (id, Tried::Delivered)
                }
                Err(error) => {
                    metrics::counter!("picket_deliveries_total", "result" => "failed").increment(1);
                    tracing::warn!(webhook = %id.webhook, group = %message.group, event = ?message.event, tries, error, "delivery failed; it will be tried again");
                    (id, Tried::Failed)
                }
            }
        });
    }

    fn on_sent(&mut self, done: Result<(JobId, Tried), tokio::task::JoinError>) {
        match done {
            Ok((id, tried)) => self.outbox.tried(id, tried, self.ctx.clock.now()),
            // Only a panic ends a send like this; its message stays in flight, holds the cursor,
            // and is sent again by the next leader.
            Err(error) => tracing::error!(%error, "a delivery task broke"),
        }
    }

    async fn store_cursor(&mut self) {
        let to = self.outbox.cursor();
        if to <= self.stored {
            return;
        }
        let command = Command::AdvanceCursor(AdvanceCursor {
            consumer: Consumer::Delivery,
            to,
        });
        match self.ctx.replica.propose(command).await {
            Ok(_) => self.stored = to,
            Err(error) => tracing::debug!(%error, "cursor not stored yet"),
        }
    }
}
