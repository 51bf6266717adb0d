//! The desk for peers without a certificate: one request, one answer, good-bye.
//!
//! Strangers can reach this, so everything about it is bounded: size, time, how many at once, how
//! many a second. A token is spent by the machine before anything is signed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use picket_rt::identity::{Authority, csr_public_key_fingerprint};
use picket_rt::join_token::hash_secret;
use picket_rt::quic::{self, Link};
use picket_scheduler_core::command::{AdmitAgent, Command};
use picket_scheduler_core::reply::{Reject, Reply};
use picket_wire::codec::{decode, encode};
use picket_wire::control::{Admission, EnrolRefusal, EnrolReply, EnrolRequest};
use picket_wire::envelope::Head;
use picket_wire::id::{AgentId, Incarnation};
use picket_wire::limits::ENROL_MAX_BYTES;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Gateway;

/// Enrolments under way at once. Each costs one proposal and one signature.
const AT_ONCE_MAX: usize = 16;
/// Enrolments a second. A fleet of a thousand enrols in under a minute; a secret has 128 bits.
const PER_SECOND: u32 = 20;
/// How long a stranger may take to say what it wants, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The desk.
pub(super) struct EnrolDesk {
    authority: Authority,
    at_once: Semaphore,
    turns: Mutex<Turns>,
}

/// A bucket of turns that fills up evenly.
#[derive(Debug)]
struct Turns {
    left: u32,
    filled: Instant,
}

impl Turns {
    fn take(&mut self, now: Instant) -> bool {
        let since = now.duration_since(self.filled);
        let more =
            u32::try_from(since.as_millis() * u128::from(PER_SECOND) / 1_000).unwrap_or(PER_SECOND);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(PER_SECOND);
            self.filled = now;
        }
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }
}

impl EnrolDesk {
    pub(super) fn new(authority: Authority) -> Self {
        let turns = Mutex::new(Turns {
            left: PER_SECOND,
            filled: Instant::now(),
        });
        Self {
            authority,
            at_once: Semaphore::new(AT_ONCE_MAX),
            turns,
        }
    }

    /// Answers one request on `link`. A stranger that comes too often is closed without a word,
    /// which it takes for a busy member and tries again.
    pub(super) async fn serve(&self, gateway: &Gateway, link: &Link) {
        let turn = self
            .turns
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(Instant::now());
        let place = self.at_once.try_acquire();
        if let (true, Ok(_place)) = (turn, place) {
            drop(tokio::time::timeout(2 * PATIENCE, self.exchange(gateway, link)).await);
        }
        quic::close(&link.connection, quic::CloseCode::Done);
    }

    async fn exchange(&self, gateway: &Gateway, link: &Link) -> Option<()> {
        let arriving = async {
            let (send, mut receive) = link.connection.accept_bi().await.ok()?;
            let message = quic::read_message(&mut receive, ENROL_MAX_BYTES)
                .await
                .ok()??;
            Some((send, message))
        };
        let (mut send, message) = tokio::time::timeout(PATIENCE, arriving).await.ok()??;
        let reply = match decode::<EnrolRequest>(&message) {
            Ok((_head, request)) => self.decide(gateway, request).await,
            Err(error) => EnrolReply::Refused(EnrolRefusal::BadRequest(error.to_string())),
        };
        quic::reply(&mut send, &encode(&reply, Head::default()))
            .await
            .ok()?;
        // The answer must have arrived before the connection is closed behind it.
        drop(tokio::time::timeout(PATIENCE, send.stopped()).await);
        Some(())
    }

    async fn decide(&self, gateway: &Gateway, request: EnrolRequest) -> EnrolReply {
        let context = &gateway.context;
        if !context.replica.is_leader() {
            return not_leader(gateway);
        }
        let fingerprint = match csr_public_key_fingerprint(&request.csr) {
            Ok(fingerprint) => fingerprint,
            Err(error) => return EnrolReply::Refused(EnrolRefusal::BadRequest(error.to_string())),
        };
        let command = Command::AdmitAgent(AdmitAgent {
            token: hash_secret(&request.token),
            name: request.name,
            region: request.region,
            zone: request.zone,
            network: request.network,
            fingerprint,
        });
        match context.replica.propose(command).await {
            Ok(Reply::Admitted { agent, incarnation }) => {
                tracing::info!(%agent, %incarnation, "agent admitted");
                self.admit(gateway, agent, incarnation, &request.csr)
            }
            Ok(Reply::Rejected(reject)) => EnrolReply::Refused(refusal(reject)),
            Ok(_) | Err(_) => not_leader(gateway),
        }
    }

    fn admit(
        &self,
        gateway: &Gateway,
        agent: AgentId,
        incarnation: Incarnation,
        csr: &[u8],
    ) -> EnrolReply {
        match self
            .authority
            .sign_agent(agent, csr, gateway.context.clock.now())
        {
            Ok(certificate) => EnrolReply::Admitted(Admission {
                agent,
                incarnation,
                certificate,
                ca: self.authority.certificate().to_vec(),
                members: gateway.context.mesh.members.clone(),
            }),
            Err(error) => EnrolReply::Refused(EnrolRefusal::BadRequest(error.to_string())),
        }
    }
}

fn not_leader(gateway: &Gateway) -> EnrolReply {
    let leader = gateway.context.replica.leader();
    let members = gateway.context.mesh.members.iter();
    let address = members
        .filter(|(id, _)| Some(*id) == leader)
        .map(|(_, address)| address.clone())
        .next();
    EnrolReply::NotLeader { leader: address }
}

fn refusal(reject: Reject) -> EnrolRefusal {
    match reject {
        Reject::UnknownToken => EnrolRefusal::UnknownToken,
        Reject::UsedToken => EnrolRefusal::UsedToken,
        Reject::ExpiredToken => EnrolRefusal::ExpiredToken,
        Reject::WrongRegion(region) => EnrolRefusal::WrongRegion(region),
        other => EnrolRefusal::BadRequest(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_run_out_and_come_back_evenly() {
        let now = Instant::now();
        let mut turns = Turns {
            left: PER_SECOND,
            filled: now,
        };
        assert_eq!((0..100).filter(|_| turns.take(now)).count(), 20);
        let later = now + Duration::from_millis(100);
        assert_eq!((0..100).filter(|_| turns.take(later)).count(), 2);
    }
}
