//! The network: who can reach whom, how long that takes, and what gets lost.
//!
//! Between an agent and a member stands a connection, as QUIC gives it: the control stream keeps
//! its order, each batch is a stream of its own, a short cut only delays, a long one ends the
//! connection. Batches are treated worse than QUIC would: they may be lost, repeated and
//! overtaken, because the lanes promise to bear that.

use std::collections::BTreeMap;

use picket_wire::id::{AgentId, MemberId};
use picket_wire::time::{Span, Timestamp};

use crate::sim::rng::Rng;
use crate::sim::scenario::Weather;
use crate::sim::trace::Node;

/// After so long without a word a connection ends: the mesh's own idle limit.
pub(crate) const IDLE: Span = Span::from_secs(12);
/// How long a dialler tries; as the mesh does.
pub(crate) const DIAL_TIMEOUT: Span = Span::from_secs(5);
/// How much later an overtaken message comes.
const LATE_MAX: Span = Span(2_500);

/// Names a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Conn {
    pub(crate) agent: AgentId,
    pub(crate) member: MemberId,
    pub(crate) number: u64,
}

/// When the last message of a stream arrives: the next one comes no sooner.
#[derive(Debug, Clone, Copy)]
struct Streams {
    number: u64,
    up: Timestamp,
    down: Timestamp,
    lanes: Timestamp,
}

/// The stream that a message goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// What the agent says.
    Up,
    /// What the member says.
    Down,
    /// A batch.
    Lane,
}

/// The network.
#[derive(Debug)]
pub(crate) struct Net {
    seed: u64,
    weather: Weather,
    ways: BTreeMap<(Node, Node), Rng>,
    cuts: BTreeMap<(Node, Node), Timestamp>,
    conns: BTreeMap<(AgentId, MemberId), Streams>,
    last_conn: u64,
}

impl Net {
    pub(crate) const fn new(seed: u64, weather: Weather) -> Self {
        Self {
            seed,
            weather,
            ways: BTreeMap::new(),
            cuts: BTreeMap::new(),
            conns: BTreeMap::new(),
            last_conn: 0,
        }
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&mut self) {
        self.weather = self.weather.fair();
        self.cuts.clear();
    }

    /// Nothing passes between the two until `until`.
    pub(crate) fn cut(&mut self, one: Node, other: Node, until: Timestamp) {
        for way in [(one, other), (other, one)] {
            let cut = self.cuts.entry(way).or_insert(until);
            *cut = until.max(*cut);
        }
    }

    /// Until when nothing passes, if that is so now.
    pub(crate) fn cut_until(&self, from: Node, to: Node, now: Timestamp) -> Option<Timestamp> {
        self.cuts
            .get(&(from, to))
            .copied()
            .filter(|&until| until > now)
    }

    /// How long a message takes.
    pub(crate) fn delay(&mut self, from: Node, to: Node) -> Span {
        let max = self.weather.latency_max;
        self.way(from, to).span(Span(1), max)
    }

    /// Whether a message that may be lost is lost.
    pub(crate) fn loses(&mut self, from: Node, to: Node) -> bool {
        let loss = self.weather.loss;
        self.way(from, to).chance(loss)
    }

    fn way(&mut self, from: Node, to: Node) -> &mut Rng {
        let seed = self.seed;
        let number = |node| match node {
            Node::Member(member) => member.0,
            Node::Agent(agent) => 1_000 + u64::from(agent.0),
            Node::Postgres => 999,
        };
        let way = self.ways.entry((from, to));
        way.or_insert_with(|| Rng::new(seed, "way", number(from) * 1_000_000 + number(to)))
    }

    /// A connection stands; an older one between the two is gone.
    pub(crate) fn connect(&mut self, agent: AgentId, member: MemberId, now: Timestamp) -> Conn {
        self.last_conn += 1;
        let number = self.last_conn;
        self.conns.insert(
            (agent, member),
            Streams {
                number,
                up: now,
                down: now,
                lanes: now,
            },
        );
        Conn {
            agent,
            member,
            number,
        }
    }

    /// The connection between the two, if one stands.
    pub(crate) fn conn(&self, agent: AgentId, member: MemberId) -> Option<Conn> {
        let streams = self.conns.get(&(agent, member))?;
        Some(Conn {
            agent,
            member,
            number: streams.number,
        })
    }

    /// Whether this very connection stands.
    pub(crate) fn stands(&self, conn: Conn) -> bool {
        self.conn(conn.agent, conn.member) == Some(conn)
    }

    /// Every connection.
    pub(crate) fn conns(&self) -> Vec<Conn> {
        let conn = |(&(agent, member), streams): (&(AgentId, MemberId), &Streams)| Conn {
            agent,
            member,
            number: streams.number,
        };
        self.conns.iter().map(conn).collect()
    }

    /// The connection is gone, with everything under way on it.
    pub(crate) fn drop_conn(&mut self, conn: Conn) {
        if self.stands(conn) {
            self.conns.remove(&(conn.agent, conn.member));
        }
    }

    /// When copies of a message arrive: none, one or two times.
    pub(crate) fn arrivals(
        &mut self,
        conn: Conn,
        stream: Stream,
        now: Timestamp,
    ) -> Vec<Timestamp> {
        let (agent, member) = (Node::Agent(conn.agent), Node::Member(conn.member));
        let (from, to) = if stream == Stream::Down {
            (member, agent)
        } else {
            (agent, member)
        };
        let Weather {
            loss, twice, late, ..
        } = self.weather;
        let sent = self.cut_until(from, to, now).unwrap_or(now) + self.delay(from, to);
        let way = self.way(from, to);
        let lane = stream == Stream::Lane;
        if lane && way.chance(loss) {
            return Vec::new();
        }
        let overtaken = (lane && way.chance(late)).then(|| way.span(Span(50), LATE_MAX));
        let again = (lane && way.chance(twice)).then(|| way.span(Span::ZERO, LATE_MAX));
        let Some(streams) = self.conns.get_mut(&(conn.agent, conn.member)) else {
            return Vec::new();
        };
        let last = match stream {
            Stream::Up => &mut streams.up,
            Stream::Down => &mut streams.down,
            Stream::Lane => &mut streams.lanes,
        };
        let first = if let Some(later) = overtaken {
            sent + later
        } else {
            *last = sent.max(*last);
            *last
        };
        [Some(first), again.map(|later| first + later)]
            .into_iter()
            .flatten()
            .collect()
    }
}
