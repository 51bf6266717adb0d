//! An agent's lanes: one stream is one batch.
//!
//! Streams are read one after the other in the order in which they were opened, so that a lane's
//! sequence is kept. Waiting for room in an inbox holds back the agent through the credit of its
//! streams, and what it cannot send it spools.

use std::time::Instant;

use picket_rt::quic;
use picket_wire::codec::decode;
use picket_wire::control::{Refusal, ToAgent};
use picket_wire::envelope::{ENVELOPE_BYTES, Envelope, Kind};
use picket_wire::evidence::EvidenceBatch;
use picket_wire::id::{AgentId, CheckId, Incarnation};
use picket_wire::lane::live::{LiveError, LiveOutcome, LiveSecond};
use picket_wire::lane::rollup::RollupBatch;
use picket_wire::limits::PAYLOAD_MAX_BYTES;

use super::agent_session::{End, Session, malformed};
use super::evidence::Received;
use super::schedule::{Decoding, Feed};
use crate::telemetry;

/// Reads batches until the connection ends or one breaks a rule.
pub(super) async fn read(session: &Session<'_>, feed: &Feed) -> End {
    loop {
        let Ok(mut stream) = session.link.connection.accept_uni().await else {
            return End::Lost;
        };
        let message = match quic::read_message(&mut stream, PAYLOAD_MAX_BYTES).await {
            Ok(Some(message)) => message,
            // Given up by the agent, which sends it again if it matters.
            Ok(None)
            | Err(quic::ReadMessageError::Read(_) | quic::ReadMessageError::Torn { .. }) => {
                continue;
            }
            Err(error) => return malformed(&picket_rt::chain(&error).to_string()),
        };
        let context = &session.gateway.context;
        context
            .sessions
            .heard(session.hello.agent, context.clock.now());
        if let Err(end) = take(session, feed, &message).await {
            return end;
        }
    }
}

async fn take(session: &Session<'_>, feed: &Feed, message: &[u8]) -> Result<(), End> {
    let envelope = message
        .first_chunk::<ENVELOPE_BYTES>()
        .and_then(|front| Envelope::parse(front).ok());
    match envelope.map(|envelope| envelope.kind) {
        Some(Kind::Evidence) => take_evidence(session, message).await,
        Some(Kind::Rollup) => take_rollup(session, message),
        Some(Kind::Live) => take_live(session, feed, message),
        _ => Err(malformed("a stream of no lane")),
    }
}

async fn take_evidence(session: &Session<'_>, message: &[u8]) -> Result<(), End> {
    let at = Instant::now();
    let (_head, batch) = decode::<EvidenceBatch>(message).map_err(|e| malformed(&e.to_string()))?;
    check(session, batch.agent, batch.incarnation)?;
    let context = &session.gateway.context;
    if !context.leader_view.leads() {
        telemetry::batch_refused("evidence", "not_leader");
        return Ok(());
    }
    let durable = context
        .replica
        .read(|state| state.agents.get(&batch.agent).map(|agent| agent.watermark));
    if durable.is_some_and(|watermark| batch.seq <= watermark) {
        context
            .sessions
            .ack_evidence(batch.agent, batch.incarnation, durable.unwrap_or_default());
        return Ok(());
    }
    let received = Received {
        batch,
        bytes: message.len(),
        at,
    };
    session
        .gateway
        .evidence
        .put(received)
        .await
        .map_err(|_stopping| End::Lost)
}

fn take_rollup(session: &Session<'_>, message: &[u8]) -> Result<(), End> {
    let (_head, batch) = decode::<RollupBatch>(message).map_err(|e| malformed(&e.to_string()))?;
    check(session, batch.agent, batch.incarnation)?;
    let context = &session.gateway.context;
    if !context.leader_view.leads() {
        telemetry::batch_refused("rollup", "not_leader");
        return Ok(());
    }
    context.live.record_lateness(&batch);
    session.gateway.rollups.offer(batch);
    Ok(())
}

fn take_live(session: &Session<'_>, feed: &Feed, message: &[u8]) -> Result<(), End> {
    let context = &session.gateway.context;
    if !context.leader_view.leads() {
        return Ok(());
    }
    let (_head, second) = decode::<LiveSecond>(message).map_err(|e| malformed(&e.to_string()))?;
    let results = match &mut *feed.lock() {
        Some(decoding) => decode_live(decoding, &second),
        None => return Ok(()),
    };
    match results {
        Ok(results) => {
            telemetry::live_results(results.len());
            context.live.record(second.second, &results);
        }
        Err(LiveError::Desync) => {
            context
                .sessions
                .send(session.hello.agent, ToAgent::ResetLive);
        }
        Err(LiveError::Generation { .. } | LiveError::Era { .. }) => {}
        Err(LiveError::Malformed(what)) => return Err(malformed(what)),
    }
    Ok(())
}

fn decode_live(
    decoding: &mut Decoding,
    second: &LiveSecond,
) -> Result<Vec<(CheckId, LiveOutcome)>, LiveError> {
    let Decoding { order, decoder } = decoding;
    let mut results = Vec::new();
    decoder.second(second, |result| {
        if let Some(check) = order.at(result.cadence, result.position) {
            results.push((check, result.outcome));
        }
    })?;
    Ok(results)
}

/// A batch must be its sender's own, and its sender still admitted.
fn check(session: &Session<'_>, agent: AgentId, incarnation: Incarnation) -> Result<(), End> {
    let hello = &session.hello;
    if agent != hello.agent {
        return Err(End::Refused(Refusal::Impostor {
            certificate: hello.agent,
            message: agent,
        }));
    }
    if incarnation != hello.incarnation {
        let (theirs, current) = (incarnation, hello.incarnation);
        return Err(End::Refused(Refusal::OldIncarnation { theirs, current }));
    }
    session.check_admission().map_err(End::Refused)
}
