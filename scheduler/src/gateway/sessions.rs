//! The agents connected to this member, and the way to say something to them.
//!
//! What is said to an agent is a complete statement each time, so a full queue may drop it: the
//! next statement of its kind replaces it. Acknowledgements are a level, not a queue. Orders have a
//! queue of their own: a storm of them keeps no lease waiting, and one that finds no room is
//! ordered again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use picket_wire::control::{Hello, ProbeOrder, Refusal, Renew, ToAgent};
use picket_wire::id::{AgentId, Incarnation, Seq};
use picket_wire::time::Timestamp;
use tokio::sync::{mpsc, watch};

/// Messages that may wait for one agent. One that does not read for so long loses messages, not its
/// session.
const WAITING_MAX: usize = 64;
/// Orders that may wait for one agent. One that finds no room is ordered again at the next look,
/// a tenth of a second later, so this bounds memory and paces a storm, and loses nothing.
const ORDERS_MAX: usize = 512;

/// A handle on the sessions. Clones share everything.
#[derive(Debug, Clone)]
pub struct Sessions {
    book: Arc<Mutex<Book>>,
    arrivals: Arc<watch::Sender<u64>>,
}

#[derive(Debug, Default)]
struct Book {
    last: u64,
    open: BTreeMap<AgentId, Session>,
}

#[derive(Debug)]
struct Session {
    number: u64,
    incarnation: Incarnation,
    say: mpsc::Sender<Say>,
    orders: mpsc::Sender<ProbeOrder>,
    acks: watch::Sender<Acks>,
    connected: Connected,
}

/// What a session is asked to say.
#[derive(Debug)]
pub(crate) enum Say {
    /// This.
    Message(ToAgent),
    /// Who leads and what is durable, as of when it is said.
    Position,
}

/// What is durable, per lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Acks {
    pub(crate) evidence: Seq,
    pub(crate) rollup: Seq,
}

/// A connected agent, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Which agent.
    pub agent: AgentId,
    /// Since when.
    pub since: Timestamp,
    /// When it last said anything that counts here. To the leader it speaks every second.
    pub heard: Timestamp,
    /// Its build.
    pub build: String,
    /// Whether its reference checks were ok when it last said so.
    pub healthy: bool,
    /// Spooled bytes that waited for an ack when it last said so.
    pub spool_bytes: u64,
    /// From where.
    pub remote: SocketAddr,
}

/// A session's end of the book.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) number: u64,
    pub(crate) say: mpsc::Receiver<Say>,
    pub(crate) orders: mpsc::Receiver<ProbeOrder>,
    pub(crate) acks: watch::Receiver<Acks>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            book: Arc::default(),
            arrivals: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Sessions {
    /// Writes a new session into the book. An older one of the same agent is told that it was
    /// replaced.
    pub(crate) fn enter(&self, hello: &Hello, since: Timestamp, remote: SocketAddr) -> Entered {
        let (say, waiting) = mpsc::channel(WAITING_MAX);
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let (acks, level) = watch::channel(Acks::default());
        let connected = Connected {
            agent: hello.agent,
            since,
            heard: since,
            build: hello.build.clone(),
            healthy: true,
            spool_bytes: 0,
            remote,
        };
        let mut book = self.book();
        book.last += 1;
        let number = book.last;
        let session = Session {
            number,
            incarnation: hello.incarnation,
            say,
            orders,
            acks,
            connected,
        };
        if let Some(older) = book.open.insert(hello.agent, session) {
            drop(
                older
                    .say
                    .try_send(Say::Message(ToAgent::Refused(Refusal::Replaced))),
            );
        }
        drop(book);
        self.arrivals.send_replace(number);
        Entered {
            number,
            say: waiting,
            orders: ordered,
            acks: level,
        }
    }

    /// Strikes a session out, unless a newer one of the same agent stands in its place.
    pub(crate) fn leave(&self, agent: AgentId, number: u64) {
        let mut book = self.book();
        if book
            .open
            .get(&agent)
            .is_some_and(|session| session.number == number)
        {
            book.open.remove(&agent);
        }
    }

    /// Remembers what a renewal says of its sender.
    pub(crate) fn renewed(&self, agent: AgentId, renew: &Renew, now: Timestamp) {
        if let Some(session) = self.book().open.get_mut(&agent) {
            session.connected.heard = now;
            session.connected.healthy = renew.healthy;
            session.connected.spool_bytes = renew.spool_bytes;
        }
    }

    /// Remembers that the agent spoke.
    pub(crate) fn heard(&self, agent: AgentId, now: Timestamp) {
        if let Some(session) = self.book().open.get_mut(&agent) {
            session.connected.heard = now;
        }
    }

    /// Says `message` to `agent`; `false` when it is not connected here or does not read.
    pub fn send(&self, agent: AgentId, message: ToAgent) -> bool {
        self.say(agent, Say::Message(message))
    }

    /// Asks `agent` to probe; `false` when it is not connected here or has enough to do.
    pub(crate) fn order(&self, agent: AgentId, order: ProbeOrder) -> bool {
        self.book()
            .open
            .get(&agent)
            .is_some_and(|session| session.orders.try_send(order).is_ok())
    }

    /// Tells `agent` where its lanes stand, so that it sends again what comes after.
    pub(crate) fn send_position(&self, agent: AgentId) -> bool {
        self.say(agent, Say::Position)
    }

    fn say(&self, agent: AgentId, say: Say) -> bool {
        self.book()
            .open
            .get(&agent)
            .is_some_and(|session| session.say.try_send(say).is_ok())
    }

    /// Acknowledges evidence up to `seq`, again if it was acknowledged before.
    pub(crate) fn ack_evidence(&self, agent: AgentId, incarnation: Incarnation, seq: Seq) {
        self.ack(agent, incarnation, |acks| {
            acks.evidence = acks.evidence.max(seq)
        });
    }

    /// Acknowledges rollups up to `seq`, again if they were acknowledged before.
    pub(crate) fn ack_rollup(&self, agent: AgentId, incarnation: Incarnation, seq: Seq) {
        self.ack(agent, incarnation, |acks| {
            acks.rollup = acks.rollup.max(seq)
        });
    }

    fn ack(&self, agent: AgentId, incarnation: Incarnation, change: impl FnOnce(&mut Acks)) {
        let book = self.book();
        let session = book
            .open
            .get(&agent)
            .filter(|session| session.incarnation == incarnation);
        if let Some(session) = session {
            session.acks.send_modify(change);
        }
    }

    /// The agents connected here.
    #[must_use]
    pub fn connected(&self) -> Vec<Connected> {
        self.book()
            .open
            .values()
            .map(|session| session.connected.clone())
            .collect()
    }

    /// The agents connected here and the numbers of their sessions.
    pub(crate) fn numbers(&self) -> Vec<(AgentId, u64)> {
        self.book()
            .open
            .iter()
            .map(|(agent, session)| (*agent, session.number))
            .collect()
    }

    /// The newest session's number, as a level to wait on.
    pub(crate) fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }

    /// Each statement under the lock leaves the book whole, so a panic elsewhere spoils nothing.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(incarnation: u32) -> Hello {
        Hello {
            agent: AgentId(7),
            incarnation: Incarnation(incarnation),
            schema_min: 1,
            schema_max: 1,
            build: "test".to_owned(),
            evidence_tail: Seq(0),
            rollup_tail: Seq(0),
        }
    }

    fn enter(sessions: &Sessions, incarnation: u32) -> Entered {
        let remote = SocketAddr::from(([127, 0, 0, 1], 4));
        sessions.enter(&hello(incarnation), Timestamp(1), remote)
    }

    #[test]
    fn a_newer_session_replaces_the_older_and_survives_its_end() {
        let sessions = Sessions::default();
        let mut older = enter(&sessions, 1);
        let newer = enter(&sessions, 1);
        let said = older.say.try_recv().expect("the older is told");
        assert!(matches!(
            said,
            Say::Message(ToAgent::Refused(Refusal::Replaced))
        ));
        sessions.leave(AgentId(7), older.number);
        assert_eq!(sessions.numbers(), [(AgentId(7), newer.number)]);
    }

    #[test]
    fn acks_only_grow_and_only_within_their_incarnation() {
        let sessions = Sessions::default();
        let entered = enter(&sessions, 2);
        sessions.ack_evidence(AgentId(7), Incarnation(2), Seq(5));
        sessions.ack_evidence(AgentId(7), Incarnation(2), Seq(3));
        sessions.ack_evidence(AgentId(7), Incarnation(1), Seq(9));
        sessions.ack_rollup(AgentId(7), Incarnation(2), Seq(1));
        assert_eq!(
            *entered.acks.borrow(),
            Acks {
                evidence: Seq(5),
                rollup: Seq(1)
            }
        );
    }

    #[test]
    fn an_agent_that_does_not_read_loses_messages_and_nobody_waits() {
        let sessions = Sessions::default();
        let _entered = enter(&sessions, 1);
        let taken = (0..=WAITING_MAX)
            .filter(|_| sessions.send(AgentId(7), ToAgent::ResetLive))
            .count();
        assert_eq!(taken, WAITING_MAX);
    }
}
