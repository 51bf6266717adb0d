//! One agent's connection: its control stream, its lanes, its blobs.
//!
//! Five loops run side by side in one task and end together: one listens, one speaks, one reads the
//! lanes, one sends blobs, one learns schedules. None of them is ever cancelled while the session
//! lasts, so that nothing is lost half-way.

use std::time::Duration;

use picket_rt::quic::quinn::{RecvStream, SendStream};
use picket_rt::quic::{self, CloseCode, Link, MessageReader};
use picket_rt::stop::Stop;
use picket_scheduler_core::admission::admitted;
use picket_wire::codec::{decode, encode};
use picket_wire::control::{FromAgent, Hello, Refusal, Renew, Schedule, ToAgent, Welcome};
use picket_wire::envelope::{Head, SCHEMA_MAX, SCHEMA_MIN};
use picket_wire::id::{AgentId, BlobHash};
use picket_wire::limits::PAYLOAD_MAX_BYTES;
use tokio::sync::{mpsc, watch};

use super::sessions::{Acks, Entered, Say};
use super::{Gateway, lanes, schedule};
use crate::consensus::Leadership;

/// How long an agent may take to open its control stream and say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Requests for blobs that may wait; an agent asks again for what it does not get.
const WANTED_MAX: usize = 4;

/// What the loops of one session share.
pub(super) struct Session<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) link: &'a Link,
    pub(super) hello: Hello,
}

/// Why a session ended before its connection did.
pub(super) enum End {
    /// The stream or the connection is gone.
    Lost,
    /// The agent is told why.
    Refused(Refusal),
}

/// Serves `agent` on `link` until the connection, the agent's admission or the process ends.
pub(super) async fn serve(gateway: &Gateway, link: &Link, agent: AgentId, stop: &Stop) {
    let Ok(Some((mut send, reader, hello))) = tokio::time::timeout(HELLO_WITHIN, greet(link)).await
    else {
        quic::close(&link.connection, CloseCode::Malformed);
        return;
    };
    let session = Session {
        gateway,
        link,
        hello,
    };
    let end = match session.judge(agent) {
        Ok(()) => session.run(&mut send, reader, stop).await,
        Err(refusal) => End::Refused(refusal),
    };
    if let End::Refused(refusal) = end {
        tracing::info!(%agent, %refusal, "session refused");
        session.refuse(&mut send, refusal).await;
    }
}

async fn greet(link: &Link) -> Option<(SendStream, MessageReader, Hello)> {
    let (send, receive): (SendStream, RecvStream) = link.connection.accept_bi().await.ok()?;
    let mut reader = MessageReader::new(receive, PAYLOAD_MAX_BYTES);
    let message = reader.next().await.ok()??;
    match decode::<FromAgent>(&message).ok()? {
        (_head, FromAgent::Hello(hello)) => Some((send, reader, hello)),
        _ => None,
    }
}

impl Session<'_> {
    /// Whether this agent may have a session at all.
    fn judge(&self, certificate: AgentId) -> Result<(), Refusal> {
        let hello = &self.hello;
        if hello.agent != certificate {
            return Err(Refusal::Impostor {
                certificate,
                message: hello.agent,
            });
        }
        if hello.schema_min > SCHEMA_MAX || hello.schema_max < SCHEMA_MIN {
            return Err(Refusal::Schema {
                theirs_min: hello.schema_min,
                theirs_max: hello.schema_max,
                ours_min: SCHEMA_MIN,
                ours_max: SCHEMA_MAX,
            });
        }
        self.check_admission()
    }

    /// Whether the agent is still admitted, in this incarnation and with this key. A follower that
    /// lags behind may not know a new agent yet; the agent comes again.
    pub(super) fn check_admission(&self) -> Result<(), Refusal> {
        let hello = &self.hello;
        self.gateway.context.replica.read(|state| {
            let agent = admitted(state, hello.agent, hello.incarnation)?;
            if Some(agent.fingerprint) == self.link.key_fingerprint {
                Ok(())
            } else {
                Err(Refusal::NotAdmitted(hello.agent))
            }
        })
    }

    async fn run(&self, send: &mut SendStream, reader: MessageReader, stop: &Stop) -> End {
        let context = &self.gateway.context;
        let remote = self.link.connection.remote_address();
        let entered = context
            .sessions
            .enter(&self.hello, context.clock.now(), remote);
        let number = entered.number;
        tracing::debug!(agent = %self.hello.agent, %remote, build = self.hello.build, "session open");
        let (wanted_in, wanted) = mpsc::channel(WANTED_MAX);
        let (schedule_in, schedule) = watch::channel(None);
        let feed = schedule::Feed::default();
        let end = tokio::select! {
            biased;
            () = stop.requested() => End::Lost,
            end = self.listen(reader, wanted_in, schedule_in) => end,
            end = self.speak(send, entered) => end,
            end = self.watch_admission() => end,
            end = lanes::read(self, &feed) => end,
            end = self.send_blobs(wanted) => end,
            end = schedule::learn(&context.blobs, schedule, &feed) => end,
        };
        context.sessions.leave(self.hello.agent, number);
        tracing::debug!(agent = %self.hello.agent, "session closed");
        end
    }

    /// Hears what the agent says on the control stream.
    async fn listen(
        &self,
        mut reader: MessageReader,
        wanted: mpsc::Sender<Vec<BlobHash>>,
        schedule: watch::Sender<Option<Schedule>>,
    ) -> End {
        loop {
            let Ok(Some(message)) = reader.next().await else {
                return End::Lost;
            };
            match decode::<FromAgent>(&message) {
                Ok((_head, FromAgent::Renew(renew))) => self.renew(&renew),
                // A full queue means that the last request is still being answered.
                Ok((_head, FromAgent::WantBlobs(hashes))) => drop(wanted.try_send(hashes)),
                Ok((_head, FromAgent::Schedule(held))) => drop(schedule.send_replace(Some(held))),
                Ok((_head, FromAgent::Hello(_))) => return malformed("a second hello"),
                Err(error) => return malformed(&error.to_string()),
            }
        }
    }

    fn renew(&self, renew: &Renew) {
        let context = &self.gateway.context;
        let agent = self.hello.agent;
        let now = context.clock.now();
        context.sessions.renewed(agent, renew, now);
        let answer = match context.leader_view.renew(agent, renew, now) {
            Some(ttl) => ToAgent::Lease {
                renewed_at: renew.sent_at,
                ttl,
            },
            None => ToAgent::NotLeader {
                leader: context.replica.leader(),
            },
        };
        context.sessions.send(agent, answer);
    }

    /// Says what the rest of the member wants said, who leads, and what is durable.
    async fn speak(&self, send: &mut SendStream, entered: Entered) -> End {
        let Entered {
            mut say,
            mut orders,
            mut acks,
            ..
        } = entered;
        let context = &self.gateway.context;
        let mut term = context.leader_view.term();
        let mut leadership: Leadership = context.replica.leadership();
        leadership.now();
        term.mark_changed();
        loop {
            let message = tokio::select! {
                biased;
                Ok(()) = term.changed() => self.position().await,
                Some(_) = leadership.changed() => match context.leader_view.leads() {
                    true => continue,
                    false => self.position().await,
                },
                said = say.recv() => match said {
                    Some(Say::Message(ToAgent::Refused(refusal))) => return End::Refused(refusal),
                    Some(Say::Message(message)) => message,
                    Some(Say::Position) => self.position().await,
                    None => return End::Lost,
                },
                Ok(()) = acks.changed() => {
                    let Acks { evidence, rollup } = *acks.borrow_and_update();
                    ToAgent::Acks { evidence, rollup }
                }
                Some(order) = orders.recv() => ToAgent::Probe(order),
                else => return End::Lost,
            };
            if quic::send_message(send, &encode(&message, Head::default()))
                .await
                .is_err()
            {
                return End::Lost;
            }
        }
    }

    /// Who leads, and where the agent's lanes stand when it is this member.
    async fn position(&self) -> ToAgent {
        let context = &self.gateway.context;
        let Some(term) = *context.leader_view.term().borrow() else {
            return ToAgent::NotLeader {
                leader: context.replica.leader(),
            };
        };
        let (agent, now) = (self.hello.agent, context.clock.now());
        let (window, evidence) = context.replica.read(|state| {
            let window = state.settings.as_ref().map(|settings| settings.window);
            let known = state.agents.get(&agent);
            if let Some(known) = known {
                context.leader_view.arrived(agent, &known.region, now);
            }
            (
                window.unwrap_or_default(),
                known.map(|agent| agent.watermark).unwrap_or_default(),
            )
        });
        let rollup = self
            .gateway
            .rollups
            .watermark(agent, self.hello.incarnation)
            .await;
        ToAgent::Welcome(Welcome {
            member: context.member,
            term,
            now,
            window,
            evidence,
            rollup,
        })
    }

    /// Ends the session when the agent is revoked or admitted anew.
    async fn watch_admission(&self) -> End {
        let mut applied = self.gateway.context.replica.applied();
        let mut placement = applied.borrow_and_update().placement;
        loop {
            let changed = applied
                .wait_for(|applied| applied.placement != placement)
                .await;
            match changed {
                Ok(now) => placement = now.placement,
                Err(_closed) => return End::Lost,
            }
            if let Err(refusal) = self.check_admission() {
                return End::Refused(refusal);
            }
        }
    }

    /// Sends the blobs that were asked for; what is nowhere is asked for again later.
    async fn send_blobs(&self, mut wanted: mpsc::Receiver<Vec<BlobHash>>) -> End {
        while let Some(hashes) = wanted.recv().await {
            for hash in hashes {
                let Some(blob) = self.gateway.context.blobs.get(&hash).await else {
                    tracing::warn!(agent = %self.hello.agent, ?hash, "a wanted blob is nowhere");
                    continue;
                };
                let sent = quic::send_uni(&self.link.connection, quic::PRIORITY_BLOB, &blob).await;
                if sent.is_err() {
                    return End::Lost;
                }
            }
        }
        End::Lost
    }

    /// Says why, waits until it has been heard, closes.
    async fn refuse(&self, send: &mut SendStream, refusal: Refusal) {
        let code = match &refusal {
            Refusal::Replaced => CloseCode::Replaced,
            Refusal::Malformed(_) | Refusal::Gap { .. } => CloseCode::Malformed,
            Refusal::Schema { .. }
            | Refusal::NotAdmitted(_)
            | Refusal::OldIncarnation { .. }
            | Refusal::Impostor { .. } => CloseCode::Refused,
        };
        let message = encode(&ToAgent::Refused(refusal), Head::default());
        let said = async {
            quic::reply(send, &message).await.ok()?;
            send.stopped().await.ok()
        };
        drop(tokio::time::timeout(Duration::from_secs(1), said).await);
        quic::close(&self.link.connection, code);
    }
}

/// A message that broke a rule.
pub(super) fn malformed(what: &str) -> End {
    End::Refused(Refusal::Malformed(what.chars().take(200).collect()))
}
