//! A scheduler member that does what the test says: real mesh, real certificates, no consensus.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use picket_rt::identity::{Authority, Peer};
use picket_rt::join_token::JoinToken;
use picket_rt::quic::{
    CloseCode, Link, Mesh, MessageReader, read_message, reply, send_message, send_uni,
};
use picket_wire::codec::{decode, encode};
use picket_wire::control::{
    Admission, EnrolRefusal, EnrolReply, EnrolRequest, FromAgent, Hello, ToAgent, Welcome,
};
use picket_wire::envelope::{ENVELOPE_BYTES, Envelope, Head, Kind};
use picket_wire::evidence::{Evidence, EvidenceBatch};
use picket_wire::id::{AgentId, BlobHash, Incarnation, MemberId, Seq};
use picket_wire::lane::rollup::{RollupBatch, ShardRollup};
use picket_wire::limits::PAYLOAD_MAX_BYTES;
use picket_wire::time::{Span, Timestamp};
use quinn::SendStream;
use tokio::sync::{mpsc, watch};

use crate::PATIENCE;

pub(crate) const MEMBER: MemberId = MemberId(1);
pub(crate) const AGENT: AgentId = AgentId(7);
const INCARNATION: Incarnation = Incarnation(1);

/// What came, and what to do.
#[derive(Default)]
struct Book {
    said: Vec<FromAgent>,
    batches: Vec<EvidenceBatch>,
    rollups: Vec<RollupBatch>,
    /// The last batch of evidence without a gap before it.
    evidence: Seq,
    rollup_acked: Seq,
    holds_acks: bool,
    token_used: bool,
    blobs: BTreeMap<BlobHash, Vec<u8>>,
    session: Option<mpsc::Sender<ToAgent>>,
}

impl Book {
    /// What is said to be durable.
    fn evidence_acked(&self) -> Seq {
        if self.holds_acks {
            Seq(0)
        } else {
            self.evidence
        }
    }
}

pub(crate) struct Scheduler {
    pub(crate) address: SocketAddr,
    pub(crate) token: JoinToken,
    mesh: Mesh,
    book: Arc<Mutex<Book>>,
    /// Ticks whenever something came.
    news: watch::Sender<u64>,
}

impl Scheduler {
    pub(crate) fn start(dir: &Path) -> Self {
        let authority = Arc::new(Authority::create(dir, now()).unwrap());
        let identity = authority.issue_member(MEMBER, &[], now()).unwrap();
        let mesh = Mesh::bind("127.0.0.1:0".parse().unwrap(), &identity).unwrap();
        let address = mesh.local_addr().unwrap();
        let token = JoinToken::generate(authority.fingerprint()).unwrap();
        let book: Arc<Mutex<Book>> = Arc::default();
        let (news, _) = watch::channel(0);
        let member = Member {
            authority,
            token: token.clone(),
            address,
            book: book.clone(),
            news: news.clone(),
        };
        let accepting = mesh.clone();
        tokio::spawn(async move {
            while let Some(arrival) = accepting.accept().await {
                let member = member.clone();
                tokio::spawn(async move {
                    if let Ok(link) = arrival.complete().await {
                        member.serve(link).await;
                    }
                });
            }
        });
        Self {
            address,
            token,
            mesh,
            book,
            news,
        }
    }

    pub(crate) fn publish(&self, bytes: Vec<u8>) -> BlobHash {
        let blob = BlobHash::of(&bytes);
        self.book.lock().unwrap().blobs.insert(blob, bytes);
        blob
    }

    /// Says something on the agent's control stream, once there is one.
    pub(crate) async fn say(&self, message: ToAgent) {
        let session = self.wait("a session", |book| book.session.clone()).await;
        session.send(message).await.unwrap();
    }

    pub(crate) fn hold_acks(&self) {
        self.book.lock().unwrap().holds_acks = true;
    }

    pub(crate) fn release_acks(&self) {
        self.book.lock().unwrap().holds_acks = false;
    }

    pub(crate) async fn disappear(&self) {
        self.mesh.close(CloseCode::Stopping).await;
    }

    /// The first so many batches of evidence that came, repeats included.
    pub(crate) async fn batches(&self, count: usize) -> Vec<EvidenceBatch> {
        let enough = |book: &Book| (book.batches.len() >= count).then(|| book.batches.clone());
        self.wait("batches of evidence", enough).await
    }

    /// At least so many records of evidence.
    pub(crate) async fn evidence(&self, count: usize) -> Vec<Evidence> {
        let enough = |book: &Book| {
            let records: Vec<_> = book
                .batches
                .iter()
                .flat_map(|batch| batch.records.clone())
                .collect();
            (records.len() >= count).then_some(records)
        };
        self.wait("evidence", enough).await
    }

    pub(crate) async fn evidence_where(&self, is_it: impl Fn(&Evidence) -> bool) -> Evidence {
        let find = |book: &Book| {
            let mut records = book.batches.iter().flat_map(|batch| &batch.records);
            records.find(|evidence| is_it(evidence)).cloned()
        };
        self.wait("that evidence", find).await
    }

    pub(crate) async fn rollup(&self) -> ShardRollup {
        let find = |book: &Book| {
            book.rollups
                .iter()
                .flat_map(|batch| batch.shards.clone())
                .next()
        };
        self.wait("a rollup", find).await
    }

    pub(crate) async fn said_where(&self, is_it: impl Fn(&FromAgent) -> bool) -> FromAgent {
        self.wait("that message", |book| {
            book.said.iter().find(|said| is_it(said)).cloned()
        })
        .await
    }

    /// Waits for so many more renewals.
    pub(crate) async fn renewals(&self, count: usize) {
        let renewals = |book: &Book| {
            book.said
                .iter()
                .filter(|said| matches!(said, FromAgent::Renew(_)))
                .count()
        };
        let before = renewals(&self.book.lock().unwrap());
        self.wait("renewals", |book| {
            (renewals(book) >= before + count).then_some(())
        })
        .await;
    }

    async fn wait<T>(&self, what: &str, look: impl Fn(&Book) -> Option<T>) -> T {
        let mut news = self.news.subscribe();
        let waiting = async {
            loop {
                if let Some(found) = look(&self.book.lock().unwrap()) {
                    return found;
                }
                news.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => {
                let book = self.book.lock().unwrap();
                panic!(
                    "{what} did not come; batches {:?}, said {:?}",
                    book.batches, book.said
                )
            }
        }
    }
}

#[derive(Clone)]
struct Member {
    authority: Arc<Authority>,
    token: JoinToken,
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    news: watch::Sender<u64>,
}

impl Member {
    async fn serve(&self, link: Link) {
        match link.peer {
            Peer::Anonymous => self.enrol(&link).await,
            Peer::Agent(agent) => {
                assert_eq!(agent, AGENT);
                tokio::join!(self.control(&link), self.lanes(&link));
            }
            Peer::Member(_) => panic!("a member of a mesh of one"),
        }
    }

    async fn enrol(&self, link: &Link) {
        let Ok((mut send, mut receive)) = link.connection.accept_bi().await else {
            return;
        };
        let request = read_message(&mut receive, PAYLOAD_MAX_BYTES)
            .await
            .unwrap()
            .unwrap();
        let (_, request) = decode::<EnrolRequest>(&request).unwrap();
        let used = std::mem::replace(&mut self.book.lock().unwrap().token_used, true);
        let answer = if request.token != self.token.secret() {
            EnrolReply::Refused(EnrolRefusal::UnknownToken)
        } else if used {
            EnrolReply::Refused(EnrolRefusal::UsedToken)
        } else {
            EnrolReply::Admitted(Admission {
                agent: AGENT,
                incarnation: INCARNATION,
                certificate: self
                    .authority
                    .sign_agent(AGENT, &request.csr, now())
                    .unwrap(),
                ca: self.authority.certificate().to_vec(),
                members: vec![(MEMBER, self.address.to_string())],
            })
        };
        reply(&mut send, &encode(&answer, Head::NONE))
            .await
            .unwrap();
        link.connection.closed().await;
    }

    async fn control(&self, link: &Link) {
        let Ok((mut send, receive)) = link.connection.accept_bi().await else {
            return;
        };
        let (session, mut to_say) = mpsc::channel(64);
        self.book.lock().unwrap().session = Some(session.clone());
        let mut reader = MessageReader::new(receive, PAYLOAD_MAX_BYTES);
        loop {
            tokio::select! {
                message = reader.next() => {
                    let Ok(Some(frame)) = message else { break };
                    let (_, said) = decode::<FromAgent>(&frame).unwrap();
                    self.hear(link, &mut send, said).await;
                }
                Some(message) = to_say.recv() => say(&mut send, &message).await,
            }
        }
        let mut book = self.book.lock().unwrap();
        if book
            .session
            .as_ref()
            .is_some_and(|current| current.same_channel(&session))
        {
            book.session = None;
        }
    }

    async fn hear(&self, link: &Link, send: &mut SendStream, said: FromAgent) {
        match &said {
            FromAgent::Hello(hello) => say(send, &self.welcome(hello)).await,
            FromAgent::Renew(renew) => {
                let (renewed_at, ttl) = (renew.sent_at, Span::from_secs(1));
                say(send, &ToAgent::Lease { renewed_at, ttl }).await;
            }
            FromAgent::WantBlobs(blobs) => {
                for blob in blobs {
                    let bytes = self.book.lock().unwrap().blobs.get(blob).cloned();
                    let Some(bytes) = bytes else { continue };
                    send_uni(&link.connection, 0, &bytes).await.unwrap();
                }
            }
            FromAgent::Schedule(_) => {}
        }
        self.note(|book| book.said.push(said));
    }

    fn welcome(&self, hello: &Hello) -> ToAgent {
        assert_eq!((hello.agent, hello.incarnation), (AGENT, INCARNATION));
        let book = self.book.lock().unwrap();
        ToAgent::Welcome(Welcome {
            member: MEMBER,
            term: 1,
            now: now(),
            window: Span::from_secs(300),
            evidence: book.evidence_acked(),
            rollup: book.rollup_acked,
        })
    }

    async fn lanes(&self, link: &Link) {
        while let Ok(mut stream) = link.connection.accept_uni().await {
            let Ok(Some(frame)) = read_message(&mut stream, PAYLOAD_MAX_BYTES).await else {
                continue;
            };
            let envelope = Envelope::parse(frame.first_chunk::<ENVELOPE_BYTES>().unwrap()).unwrap();
            match envelope.kind {
                Kind::Evidence => self.take_evidence(decode::<EvidenceBatch>(&frame).unwrap().1),
                Kind::Rollup => self.take_rollup(decode::<RollupBatch>(&frame).unwrap().1),
                Kind::Live => {}
                other => panic!("{other:?} on a lane"),
            }
            let (session, acks) = {
                let book = self.book.lock().unwrap();
                let acks = ToAgent::Acks {
                    evidence: book.evidence_acked(),
                    rollup: book.rollup_acked,
                };
                (book.session.clone(), acks)
            };
            if let Some(session) = session
                && session.send(acks).await.is_err()
            {
                return;
            }
        }
    }

    fn take_evidence(&self, batch: EvidenceBatch) {
        self.note(|book| {
            assert!(batch.seq <= book.evidence.next(), "a gap at {}", batch.seq);
            book.evidence = book.evidence.max(batch.seq);
            book.batches.push(batch);
        });
    }

    fn take_rollup(&self, batch: RollupBatch) {
        self.note(|book| {
            book.rollup_acked = book.rollup_acked.max(batch.seq);
            book.rollups.push(batch);
        });
    }

    fn note(&self, write: impl FnOnce(&mut Book)) {
        write(&mut self.book.lock().unwrap());
        self.news.send_modify(|count| *count += 1);
    }
}

async fn say(send: &mut SendStream, message: &ToAgent) {
    if send_message(send, &encode(message, Head::NONE))
        .await
        .is_err()
    {
        // The agent is gone; the reader notices.
    }
}

pub(crate) fn now() -> Timestamp {
    picket_rt::clock::Clock::system().now()
}
