//! The handle through which everybody reads the replicated state and proposes to change it.
//!
//! A proposal goes to whoever leads, wherever it is made; the leader stamps the time. An error says
//! whether the command is certainly not applied: only then may a caller without its own means
//! against doubling try again, and this handle does so itself for a while.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use picket_rt::clock::Clock;
use picket_scheduler_core::command::Command;
use picket_scheduler_core::machine::Entry;
use picket_scheduler_core::reply::Reply;
use picket_scheduler_core::state::State;
use picket_wire::codec::{from_bytes, to_bytes};
use picket_wire::envelope::Kind;
use picket_wire::fact::Fact;
use picket_wire::id::{FactSeq, MemberId};
use picket_wire::limits::PAYLOAD_MAX_BYTES;
use picket_wire::peer::{PeerReply, PeerRequest};
use picket_wire::time::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::consensus::{self, Applied, Consensus, Leadership, RaftStatus, WriteError};
use crate::peers::{PeerError, Peers};

/// Proposals under way at once on one member. Each waits for a flush and a round trip, and the
/// leader writes one after the other: more would only wait longer.
const IN_FLIGHT_MAX: usize = 1_024;
/// How long a proposal is tried: an election of two seconds, twice, and some air.
const PROPOSE_WITHIN: Duration = Duration::from_secs(5);
/// Pause before another try, about a tenth of an election.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Largest encoded entry: one frame to another member with room for the entry's surroundings.
/// Whoever makes large entries stays far below, since an append has only a heartbeat to arrive.
const ENTRY_MAX_BYTES: usize = PAYLOAD_MAX_BYTES / 2;

/// Why a proposal has no reply. A refusal by the machine's rules is a reply, not an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Nobody led for as long as was tried.
    #[error("no member leads at the moment")]
    NoLeader,
    /// Too many proposals are under way here.
    #[error("{IN_FLIGHT_MAX} proposals are under way already")]
    Overloaded,
    /// The command does not fit an entry.
    #[error("the command has {bytes} bytes encoded, at most {ENTRY_MAX_BYTES} fit an entry")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It may have been applied or not; whoever asks the state will know.
    #[error("it is not known whether the command was applied: {0}")]
    Unsure(&'static str),
    /// This member is stopping.
    #[error("this member is stopping")]
    Stopped,
}

impl ProposeError {
    /// Whether proposing the command again cannot apply it twice.
    #[must_use]
    pub fn is_certainly_not_applied(&self) -> bool {
        match self {
            Self::NoLeader | Self::Overloaded | Self::TooLarge { .. } | Self::Stopped => true,
            Self::Unsure(_) => false,
        }
    }

    /// Whether trying again later can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoLeader | Self::Overloaded | Self::Unsure(_) => true,
            Self::TooLarge { .. } | Self::Stopped => false,
        }
    }
}

/// Why a read cannot be promised to be current.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Nobody could confirm that it still leads.
    #[error("no member leads at the moment")]
    NoLeader,
}

/// The handle. Clones share everything.
#[derive(Clone)]
pub struct ReplicaHandle {
    inner: Arc<Inner>,
}

struct Inner {
    consensus: Consensus,
    peers: Peers,
    clock: Clock,
    me: MemberId,
    permits: Semaphore,
    /// The last stamp given out here: entries of one leader never go back in time.
    stamped: AtomicI64,
}

impl fmt::Debug for ReplicaHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaHandle")
            .field("member", &self.inner.me)
            .finish_non_exhaustive()
    }
}

impl ReplicaHandle {
    /// A handle over `consensus` for member `me`.
    pub(crate) fn new(consensus: Consensus, peers: Peers, clock: Clock, me: MemberId) -> Self {
        let permits = Semaphore::new(IN_FLIGHT_MAX);
        let stamped = AtomicI64::new(i64::MIN);
        Self {
            inner: Arc::new(Inner {
                consensus,
                peers,
                clock,
                me,
                permits,
                stamped,
            }),
        }
    }

    /// Proposes `command` and waits for what the machine says to it.
    ///
    /// Goes to the leader, whoever it is, and is tried again while it is certainly not applied, for
    /// at most five seconds.
    ///
    /// # Errors
    /// See [`ProposeError`]; a refusal by the machine is `Ok(Reply::Rejected(_))`.
    pub async fn propose(&self, command: Command) -> Result<Reply, ProposeError> {
        let deadline = Instant::now() + PROPOSE_WITHIN;
        let _permit = self
            .inner
            .permits
            .try_acquire()
            .map_err(|_full| ProposeError::Overloaded)?;
        let bytes = to_bytes(Kind::RaftEntry, &command);
        check_size(bytes.len())?;
        loop {
            let outcome = tokio::time::timeout_at(deadline, self.try_once(&command, &bytes)).await;
            match outcome {
                Ok(Err(error)) if error.is_certainly_not_applied() && error.is_retryable() => {
                    if Instant::now() + RETRY_PAUSE >= deadline {
                        return Err(error);
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Ok(result) => {
                    crate::telemetry::proposed(result.is_ok());
                    return result;
                }
                Err(_elapsed) => return Err(ProposeError::Unsure("no reply in time")),
            }
        }
    }

    async fn try_once(&self, command: &Command, bytes: &[u8]) -> Result<Reply, ProposeError> {
        match self.leader() {
            None => Err(ProposeError::NoLeader),
            Some(leader) if leader == self.inner.me => self.submit(command.clone()).await?.await,
            Some(leader) => self.forward(leader, bytes).await,
        }
    }

    /// Hands `command` to the local log, which works only on the leader. Commands handed over one
    /// after the other are applied in that order; the returned future waits for the reply.
    ///
    /// # Errors
    /// [`ProposeError::NoLeader`] when this member does not lead.
    pub(crate) async fn submit(
        &self,
        command: Command,
    ) -> Result<impl Future<Output = Result<Reply, ProposeError>> + Send + use<>, ProposeError>
    {
        let entry = to_bytes(
            Kind::RaftEntry,
            &Entry {
                at: self.stamp(),
                command,
            },
        );
        check_size(entry.len())?;
        let waiting = self.inner.consensus.submit(entry).await.map_err(of_write)?;
        Ok(async move { waiting.await.map_err(of_write) })
    }

    async fn forward(&self, leader: MemberId, command: &[u8]) -> Result<Reply, ProposeError> {
        let request = PeerRequest::Propose(command.to_vec());
        let answer = self
            .inner
            .peers
            .request(leader, &request, PROPOSE_WITHIN)
            .await;
        match answer {
            Ok(PeerReply::Proposed(reply)) => from_bytes(Kind::RaftEntry, &reply)
                .map_err(|_malformed| ProposeError::Unsure("the leader's reply does not read")),
            Ok(PeerReply::NotLeader(_)) => Err(ProposeError::NoLeader),
            Ok(_) => Err(ProposeError::Unsure("the leader could not say")),
            Err(error) if error.is_certainly_not_served() => Err(ProposeError::NoLeader),
            Err(_lost) => Err(ProposeError::Unsure("the leader's reply was lost")),
        }
    }

    /// Serves a command that another member forwarded.
    pub(crate) async fn propose_forwarded(&self, command: &[u8]) -> PeerReply {
        let Ok(command) = from_bytes::<Command>(Kind::RaftEntry, command) else {
            return PeerReply::Failed("the command does not read".to_owned());
        };
        let reply = match self.submit(command).await {
            Ok(waiting) => waiting.await,
            Err(error) => Err(error),
        };
        match reply {
            Ok(reply) => PeerReply::Proposed(to_bytes(Kind::RaftEntry, &reply)),
            Err(error) if error.is_certainly_not_applied() => {
                PeerReply::NotLeader(picket_wire::peer::LeaderHint {
                    leader: self.leader(),
                })
            }
            Err(error) => PeerReply::Failed(error.to_string()),
        }
    }

    /// Looks at the local state, which may lag behind the leader's. Short, and never across an
    /// await: the machine waits meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.inner.consensus.replica().read(look)
    }

    /// Returns when the local state contains every change that was acknowledged before the call.
    ///
    /// # Errors
    /// When no leader could confirm that it still leads.
    pub async fn linearizable(&self) -> Result<(), ReadError> {
        let index = tokio::time::timeout(PROPOSE_WITHIN, self.read_index()).await;
        let Some(index) = index.map_err(|_elapsed| ReadError::NoLeader)? else {
            return Ok(());
        };
        let mut applied = self.applied();
        let reached = applied.wait_for(|applied| applied.index > index);
        let reached = tokio::time::timeout(PROPOSE_WITHIN, reached).await;
        reached
            .map_err(|_elapsed| ReadError::NoLeader)?
            .map(drop)
            .map_err(|_closed| ReadError::NoLeader)
    }

    async fn read_index(&self) -> Option<u64> {
        loop {
            match self.leader() {
                Some(leader) if leader == self.inner.me => {
                    if let Ok(index) = self.inner.consensus.read_index().await {
                        return index;
                    }
                }
                Some(leader) => {
                    let request = consensus::read_index_request();
                    let reply = self
                        .inner
                        .peers
                        .request(leader, &request, PROPOSE_WITHIN)
                        .await;
                    if let Ok(Ok(index)) = reply.map(consensus::read_index_reply) {
                        return index;
                    }
                }
                None => {}
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Whether this member leads, as far as it knows.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leader() == Some(self.inner.me)
    }

    /// Who leads, as far as this member knows.
    #[must_use]
    pub fn leader(&self) -> Option<MemberId> {
        self.inner.consensus.status().leader
    }

    /// Asks another member something other than a proposal.
    pub(crate) async fn ask(
        &self,
        member: MemberId,
        request: &PeerRequest,
        within: Duration,
    ) -> Result<PeerReply, PeerError> {
        self.inner.peers.request(member, request, within).await
    }

    /// Who leads, as a level to wait on.
    pub(crate) fn leadership(&self) -> Leadership {
        self.inner.consensus.leadership()
    }

    /// The members and their mesh addresses.
    #[must_use]
    pub fn members(&self) -> Vec<(MemberId, String)> {
        let members = self.inner.consensus.replica().members();
        members
            .into_iter()
            .map(|(id, address)| (MemberId(id), address))
            .collect()
    }

    /// Where this member stands in consensus.
    #[must_use]
    pub fn raft(&self) -> RaftStatus {
        self.inner.consensus.status()
    }

    /// How far the local state has come, as a level to wait on.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.inner.consensus.replica().applied()
    }

    /// The facts after `cursor` that the state still holds, in order, at most `max`.
    #[must_use]
    pub fn facts_after(&self, cursor: FactSeq, max: usize) -> Vec<Fact> {
        self.read(|state| state.facts_after(cursor).take(max).cloned().collect())
    }

    /// A digest of the whole state and how many entries it contains: equal on all members.
    #[must_use]
    pub fn state_hash(&self) -> (u64, [u8; 32]) {
        let (applied, hash) = self.inner.consensus.replica().hash();
        (applied.index, hash)
    }

    fn stamp(&self) -> Timestamp {
        let now = self.inner.clock.now().0;
        Timestamp(
            self.inner
                .stamped
                .fetch_max(now, Ordering::Relaxed)
                .max(now),
        )
    }
}

fn check_size(bytes: usize) -> Result<(), ProposeError> {
    if bytes > ENTRY_MAX_BYTES {
        Err(ProposeError::TooLarge { bytes })
    } else {
        Ok(())
    }
}

fn of_write(error: WriteError) -> ProposeError {
    match error {
        WriteError::NotLeader(_) => ProposeError::NoLeader,
        WriteError::Stopped => ProposeError::Unsure("raft stopped"),
    }
}
