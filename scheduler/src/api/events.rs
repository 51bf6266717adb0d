//! `/events`: changes of state as they are decided, in order, resumable.
//!
//! The stream is made of facts. Those that every consumer has passed are gone from the machine;
//! a reader who asks for older ones gets them from Postgres first.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse;
use futures_util::Stream;
use picket_storage::pg::read::Reads;
use picket_storage::pg::read::timeline::TransitionRow;
use picket_wire::api::events::Event;
use picket_wire::api::instant::Instant;
use picket_wire::check::CheckKind;
use picket_wire::dispersal::shard_of;
use picket_wire::evidence::CheckRef;
use picket_wire::fact::{Fact, FactBody, Transition};
use picket_wire::id::FactSeq;
use picket_wire::time::Timestamp;
use serde::Deserialize;
use tokio::sync::watch;

use crate::api::extract::{Query, Reader};
use crate::api::problem::ApiError;
use crate::consensus::Applied;
use crate::context::Context;

/// Facts read at a time.
const BATCH_MAX: u32 = 512;
/// Keeps proxies from closing a quiet stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    /// Begin after this fact; only what is new when absent. `Last-Event-ID` wins.
    after: Option<u64>,
}

/// Follows changes of state: server-sent events whose `id` is the fact's number.
#[utoipa::path(get, path = "/events", tag = "incidents", params(After),
    responses((status = 200, content_type = "text/event-stream", body = Event)))]
pub(super) async fn follow(
    _: Reader,
    State(ctx): State<Arc<Context>>,
    headers: HeaderMap,
    Query(After { after }): Query<After>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, ApiError> {
    let last =
        match headers.get("last-event-id") {
            None => after,
            Some(value) => {
                let number = value.to_str().ok().and_then(|text| text.parse().ok());
                Some(number.ok_or_else(|| {
                    ApiError::invalid("last-event-id", "expected a fact's number")
                })?)
            }
        };
    let newest = || ctx.replica.read(|state| state.last_ids.fact);
    let after = last.map_or_else(newest, FactSeq);
    let feed = Feed {
        applied: ctx.replica.applied(),
        ctx,
        after,
        ready: VecDeque::new(),
    };
    let stream = futures_util::stream::unfold(feed, |mut feed| async move {
        feed.next().await.map(|event| (Ok(event), feed))
    });
    Ok(Sse::new(stream).keep_alive(sse::KeepAlive::new().interval(KEEP_ALIVE)))
}

/// One reader's place in the stream. It moves when the reader takes an event, so a slow reader
/// costs one batch and no more.
struct Feed {
    ctx: Arc<Context>,
    applied: watch::Receiver<Applied>,
    after: FactSeq,
    ready: VecDeque<sse::Event>,
}

impl Feed {
    /// The next event; `None` ends the stream, and the reader comes again with its last id. That
    /// also happens when the past is in Postgres and Postgres is away: better than skipping what
    /// was not seen.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let (events, upto) = batch(&self.ctx, self.after).await.ok()?;
            for event in events {
                let made = sse::Event::default()
                    .id(event.fact.to_string())
                    .json_data(&event);
                self.ready.push_back(made.ok()?);
            }
            if upto > self.after {
                self.after = upto;
                continue;
            }
            let stop = &self.ctx.stop;
            tokio::select! {
                biased;
                () = stop.requested() => return None,
                changed = self.applied.changed() => changed.ok()?,
            }
        }
    }
}

/// The next events after `after`, and the fact up to which they tell everything.
async fn batch(ctx: &Context, after: FactSeq) -> Result<(Vec<Event>, FactSeq), ApiError> {
    let facts = ctx.replica.facts_after(after, BATCH_MAX as usize);
    let first = facts.first().map(|fact| fact.seq);
    let newest = ctx.replica.read(|state| state.last_ids.fact);
    let gap = match first {
        Some(first) => first > after.next(),
        None => newest > after,
    };
    if gap {
        let until = first.map_or(newest, |first| FactSeq(first.0 - 1));
        return from_postgres(ctx, after, until).await;
    }
    let mut events = Vec::new();
    for fact in &facts {
        events.extend(event(ctx, fact).await);
    }
    Ok((events, facts.last().map_or(after, |fact| fact.seq)))
}

async fn from_postgres(
    ctx: &Context,
    after: FactSeq,
    until: FactSeq,
) -> Result<(Vec<Event>, FactSeq), ApiError> {
    let rows = Reads::new(ctx.pg.clone())
        .transitions_after(after, BATCH_MAX)
        .await?;
    let complete = rows.len() < BATCH_MAX as usize;
    let last = rows.last().map(|event| event.row.seq);
    let upto = if complete {
        until
    } else {
        last.map_or(until, |last| last.min(until))
    };
    let events = rows
        .into_iter()
        .filter(|event| event.row.seq <= until)
        .map(|event| {
            let TransitionRow {
                seq,
                decided_at,
                transition,
            } = event.row;
            body(seq, decided_at, transition, event.url)
        });
    Ok((events.collect(), upto))
}

/// A transition as an event. The address comes from the catalogue blobs: Postgres may be away.
async fn event(ctx: &Context, fact: &Fact) -> Option<Event> {
    let FactBody::Transition(transition) = &fact.body else {
        return None;
    };
    let url = url_of(ctx, transition.check).await;
    Some(body(fact.seq, fact.at, transition.clone(), url))
}

fn body(
    fact: FactSeq,
    decided_at: Timestamp,
    transition: Transition,
    url: Option<String>,
) -> Event {
    Event {
        fact,
        decided_at: Instant(decided_at),
        endpoint: transition.check.endpoint,
        site: transition.check.site,
        url: url.unwrap_or_default(),
        from: transition.from,
        to: transition.to,
        at: Instant(transition.at),
        reason: transition.reason,
        incident: transition.incident,
    }
}

/// The address of a check that the catalogue points at.
async fn url_of(ctx: &Context, check: CheckRef) -> Option<String> {
    let pointers: Vec<_> = ctx.replica.read(|state| {
        let shards = state.settings.as_ref()?.shards;
        let shard = shard_of(check.endpoint, shards);
        let pointed = state
            .groups
            .keys()
            .filter_map(|&group| state.catalogue.get(&(group, shard)));
        Some(pointed.map(|pointer| pointer.blob).collect())
    })?;
    for blob in pointers {
        let shard = ctx.blobs.shard(&blob).await?;
        if let Some(found) = shard.checks.iter().find(|spec| spec.id == check.check) {
            let CheckKind::Http(http) = &found.kind;
            return Some(http.url());
        }
    }
    None
}
