//! A scripted agent: enrols, connects, says what the test wants and hears everything.

use picket_rt::identity::{AgentKey, Identity};
use picket_rt::join_token::JoinToken;
use picket_rt::quic::quinn::{Connection, SendStream};
use picket_rt::quic::{self, Link, Mesh, MessageReader};
use picket_scheduler_core::command::{Command, IssueJoinToken};
use picket_scheduler_core::reply::Reply;
use picket_wire::codec::{Message, decode, encode};
use picket_wire::control::{
    Admission, EnrolReply, EnrolRequest, FromAgent, Hello, Renew, ToAgent, Welcome,
};
use picket_wire::envelope::Head;
use picket_wire::evidence::{Evidence, EvidenceBatch};
use picket_wire::id::{AgentId, Incarnation, MemberId, Seq};
use picket_wire::limits::PAYLOAD_MAX_BYTES;
use picket_wire::name::Name;
use picket_wire::time::Timestamp;

use crate::cluster::{Cluster, PATIENCE};

/// An enrolled agent.
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) incarnation: Incarnation,
    mesh: Mesh,
}

/// Its session with one member.
pub(crate) struct Session {
    agent: AgentId,
    incarnation: Incarnation,
    connection: Connection,
    control: SendStream,
    reader: MessageReader,
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A token that admits one agent.
pub(crate) fn token(cluster: &Cluster) -> JoinToken {
    let leader = cluster.context(cluster.leader());
    let token = JoinToken::generate(leader.mesh.ca_fingerprint).unwrap();
    let command = IssueJoinToken {
        hash: token.hash(),
        expires_at: Timestamp::MAX,
        region: None,
    };
    let reply = cluster
        .block_on(leader.replica.propose(Command::IssueJoinToken(command)))
        .unwrap();
    assert!(matches!(reply, Reply::Token(_)), "{reply:?}");
    token
}

/// What a member answers to a request to enrol.
pub(crate) async fn ask_to_enrol(
    address: std::net::SocketAddr,
    token: &JoinToken,
    csr: Vec<u8>,
    region: &str,
    agent: &str,
) -> EnrolReply {
    let link = quic::connect_to_enrol(address, token.ca_fingerprint())
        .await
        .unwrap();
    let request = EnrolRequest {
        token: token.secret().to_owned(),
        csr,
        name: name(agent),
        region: name(region),
        zone: name("a"),
        network: name(&format!("as-{agent}")),
    };
    let message = encode(&request, Head::default());
    let reply = quic::ask(&link.connection, &message, PAYLOAD_MAX_BYTES)
        .await
        .unwrap();
    decode(&reply).unwrap().1
}

impl Agent {
    /// Enrols a new agent in `region`.
    pub(crate) fn enrol(cluster: &Cluster, region: &str, agent: &str) -> Self {
        let token = token(cluster);
        let (key, csr) = AgentKey::generate().unwrap();
        let address = cluster.address(cluster.leader());
        let reply = cluster.block_on(ask_to_enrol(address, &token, csr, region, agent));
        let EnrolReply::Admitted(Admission {
            agent,
            incarnation,
            certificate,
            ca,
            members,
        }) = reply
        else {
            panic!("not admitted: {reply:?}");
        };
        assert_eq!(members.len(), cluster.contexts().count());
        let identity: Identity = key.certified(&certificate, &ca).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let mesh = cluster.block_on(async { Mesh::bind(any, &identity).unwrap() });
        Self {
            id: agent,
            incarnation,
            mesh,
        }
    }

    /// Connects to a member and says hello, perhaps in another's name.
    pub(crate) async fn greet(&self, cluster: &Cluster, to: MemberId, hello: Hello) -> Session {
        let link: Link = self.mesh.connect(cluster.address(to), to).await.unwrap();
        let (mut control, receive) = link.connection.open_bi().await.unwrap();
        say(&mut control, &FromAgent::Hello(hello)).await;
        let reader = MessageReader::new(receive, PAYLOAD_MAX_BYTES);
        let (agent, incarnation) = (self.id, self.incarnation);
        Session {
            agent,
            incarnation,
            connection: link.connection,
            control,
            reader,
        }
    }

    pub(crate) fn hello(&self) -> Hello {
        Hello {
            agent: self.id,
            incarnation: self.incarnation,
            schema_min: 1,
            schema_max: 1,
            build: "scripted".to_owned(),
            evidence_tail: Seq(0),
            rollup_tail: Seq(0),
        }
    }

    /// A session with the leader, welcomed.
    pub(crate) fn session(&self, cluster: &Cluster) -> (Session, Welcome) {
        let leader = cluster.leader();
        cluster.block_on(async {
            let mut session = self.greet(cluster, leader, self.hello()).await;
            let welcome = session.until(|message| match message {
                ToAgent::Welcome(welcome) => Some(welcome),
                _ => None,
            });
            let welcome = welcome.await;
            (session, welcome)
        })
    }
}

impl Session {
    pub(crate) async fn say(&mut self, message: &FromAgent) {
        say(&mut self.control, message).await;
    }

    pub(crate) async fn renew(&mut self, now: Timestamp) {
        self.say(&FromAgent::Renew(Renew {
            sent_at: now,
            healthy: true,
            spool_bytes: 0,
        }))
        .await;
    }

    pub(crate) async fn send_evidence(&self, seq: u64, records: Vec<Evidence>) {
        let (agent, incarnation) = (self.agent, self.incarnation);
        let batch = EvidenceBatch {
            agent,
            incarnation,
            seq: Seq(seq),
            records,
        };
        self.send_lane(&batch).await;
    }

    pub(crate) async fn send_lane<M: Message>(&self, batch: &M) {
        let message = encode(batch, Head::default());
        quic::send_uni(&self.connection, quic::PRIORITY_EVIDENCE, &message)
            .await
            .unwrap();
    }

    /// The next blob that the member sends.
    pub(crate) async fn next_blob(&self) -> Vec<u8> {
        let blob = async {
            let mut stream = self.connection.accept_uni().await.unwrap();
            quic::read_message(&mut stream, PAYLOAD_MAX_BYTES)
                .await
                .unwrap()
                .unwrap()
        };
        tokio::time::timeout(PATIENCE, blob)
            .await
            .expect("a blob comes")
    }

    /// The next message; `None` when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<ToAgent> {
        let message = tokio::time::timeout(PATIENCE, self.reader.next())
            .await
            .expect("something comes");
        message
            .ok()
            .flatten()
            .map(|message| decode(&message).unwrap().1)
    }

    /// Hears messages until one is what the test waits for.
    pub(crate) async fn until<T>(&mut self, mut wanted: impl FnMut(ToAgent) -> Option<T>) -> T {
        loop {
            let message = self.next().await.expect("the stream goes on");
            if let Some(found) = wanted(message) {
                return found;
            }
        }
    }

    /// Waits until evidence is acknowledged up to `seq`.
    pub(crate) async fn evidence_acked(&mut self, seq: u64) {
        self.until(|message| match message {
            ToAgent::Acks { evidence, .. } if evidence >= Seq(seq) => Some(()),
            _ => None,
        })
        .await;
    }
}

async fn say(control: &mut SendStream, message: &FromAgent) {
    quic::send_message(control, &encode(message, Head::default()))
        .await
        .unwrap();
}
