//! An agent that says what it is told to say, over a real session with the leader.

#![expect(
    clippy::disallowed_methods,
    reason = "the tasks end with the runtime of one measurement"
)]

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use picket_rt::identity::AgentKey;
use picket_rt::join_token::JoinToken;
use picket_rt::quic::quinn::{Connection, SendStream};
use picket_rt::quic::{self, Mesh, MessageReader};
use picket_scheduler::context::Context;
use picket_scheduler_core::command::{Command, IssueJoinToken};
use picket_scheduler_core::reply::Reply;
use picket_wire::codec::{decode, encode};
use picket_wire::control::{Admission, EnrolReply, EnrolRequest, FromAgent, Hello, ToAgent};
use picket_wire::envelope::{Head, SCHEMA_MAX, SCHEMA_MIN};
use picket_wire::evidence::{Evidence, EvidenceBatch};
use picket_wire::id::{AgentId, Incarnation, Seq};
use picket_wire::limits::PAYLOAD_MAX_BYTES;
use picket_wire::name::Name;
use picket_wire::time::Timestamp;
use tokio::sync::watch;

/// Batches that may be on their way without an ack: what keeps the leader busy, and no more.
const UNACKED_MAX: u64 = 8;

/// The agent and its session.
pub(super) struct Speaker {
    pub(super) agent: AgentId,
    pub(super) incarnation: Incarnation,
    connection: Connection,
    /// The session lasts as long as this stream and the socket below it.
    _control: SendStream,
    _mesh: Mesh,
    acked: watch::Receiver<Seq>,
    /// The last batch that was made.
    pub(super) made: Seq,
}

impl Speaker {
    /// Enrols with the leader, in `region`, and opens a session.
    pub(super) async fn start(leader: &Context, name: &str, region: &str) -> anyhow::Result<Self> {
        let address = leader.mesh.listen;
        let token = JoinToken::generate(leader.mesh.ca_fingerprint)?;
        let issue = IssueJoinToken {
            hash: token.hash(),
            expires_at: Timestamp::MAX,
            region: None,
        };
        let reply = leader
            .replica
            .propose(Command::IssueJoinToken(issue))
            .await?;
        ensure!(matches!(reply, Reply::Token(_)), "no token: {reply:?}");
        let (key, csr) = AgentKey::generate()?;
        let admission = enrol(address, &token, csr, name, region).await?;
        let identity = key.certified(&admission.certificate, &admission.ca)?;
        let mesh = Mesh::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &identity)?;
        let link = mesh.connect(address, leader.member).await?;
        let (mut control, receive) = link.connection.open_bi().await?;
        let Admission {
            agent, incarnation, ..
        } = admission;
        let hello = Hello {
            agent,
            incarnation,
            schema_min: SCHEMA_MIN,
            schema_max: SCHEMA_MAX,
            build: "bench".to_owned(),
            evidence_tail: Seq(0),
            rollup_tail: Seq(0),
        };
        quic::send_message(&mut control, &encode(&FromAgent::Hello(hello), Head::NONE)).await?;
        let (said, acked) = watch::channel(Seq(0));
        drop(tokio::spawn(listen(
            MessageReader::new(receive, PAYLOAD_MAX_BYTES),
            said,
        )));
        Ok(Self {
            agent,
            incarnation,
            connection: link.connection,
            _control: control,
            _mesh: mesh,
            acked,
            made: Seq(0),
        })
    }

    /// The next batch of its evidence lane.
    pub(super) fn batch(&mut self, records: Vec<Evidence>) -> EvidenceBatch {
        self.made = self.made.next();
        EvidenceBatch {
            agent: self.agent,
            incarnation: self.incarnation,
            seq: self.made,
            records,
        }
    }

    /// Sends encoded batches, the last of them `last`, and waits until all are acknowledged.
    pub(super) async fn send(&self, batches: &[Vec<u8>], last: Seq) -> anyhow::Result<()> {
        let first = last.0 + 1 - batches.len() as u64;
        for (seq, batch) in (first..).zip(batches) {
            if seq >= first + UNACKED_MAX {
                self.acked_up_to(Seq(seq - UNACKED_MAX)).await?;
            }
            quic::send_uni(&self.connection, quic::PRIORITY_EVIDENCE, batch).await?;
        }
        self.acked_up_to(last).await
    }

    async fn acked_up_to(&self, seq: Seq) -> anyhow::Result<()> {
        let mut acked = self.acked.clone();
        acked
            .wait_for(|acked| *acked >= seq)
            .await
            .context("the session has ended")?;
        Ok(())
    }
}

async fn enrol(
    address: SocketAddr,
    token: &JoinToken,
    csr: Vec<u8>,
    name: &str,
    region: &str,
) -> anyhow::Result<Admission> {
    let link = quic::connect_to_enrol(address, token.ca_fingerprint()).await?;
    let request = EnrolRequest {
        token: token.secret().to_owned(),
        csr,
        name: Name::parse(name)?,
        region: Name::parse(region)?,
        zone: Name::parse("a")?,
        network: Name::parse(&format!("net-{name}"))?,
    };
    let reply = quic::ask(
        &link.connection,
        &encode(&request, Head::NONE),
        PAYLOAD_MAX_BYTES,
    )
    .await?;
    match decode(&reply)?.1 {
        EnrolReply::Admitted(admission) => Ok(admission),
        refused => bail!("not admitted: {refused:?}"),
    }
}

/// Hears everything the leader says and remembers what it acknowledged.
async fn listen(mut reader: MessageReader, said: watch::Sender<Seq>) {
    while let Ok(Some(message)) = reader.next().await {
        match decode::<ToAgent>(&message) {
            Ok((_, ToAgent::Acks { evidence, .. })) => drop(said.send_replace(evidence)),
            Ok((_, ToAgent::Refused(refusal))) => tracing::error!(?refusal, "evidence was refused"),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the leader does not make sense"),
        }
    }
}
