//! What every part of the world shares: time, plans, the network, the truth, and who watches.

use std::collections::BTreeMap;
use std::rc::Rc;

use picket_scheduler_core::machine::Faults;
use picket_wire::check::CheckSpec;
use picket_wire::id::{BlobHash, CatalogueVersion, ShardId};
use picket_wire::time::{Span, Timestamp};

use crate::oracle::Oracles;
use crate::sim::coverage::{Coverage, Met};
use crate::sim::event::{Downlink, Event, Uplink};
use crate::sim::net::{Conn, Net, Stream};
use crate::sim::postgres::Rows;
use crate::sim::queue::Queue;
use crate::sim::scenario::Scenario;
use crate::sim::targets::Targets;
use crate::sim::trace::{Node, Note, Trace};

/// A version of one shard's catalogue.
#[derive(Debug, Clone)]
pub(crate) struct Edition {
    pub(crate) version: CatalogueVersion,
    pub(crate) blob: BlobHash,
    pub(crate) checks: Vec<CheckSpec>,
}

/// What every part of the world shares.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) now: Timestamp,
    pub(crate) scenario: Rc<Scenario>,
    pub(crate) queue: Queue<Event>,
    pub(crate) net: Net,
    pub(crate) targets: Targets,
    /// What Postgres has committed.
    pub(crate) rows: Rows,
    /// Every blob that was ever published; they never change.
    pub(crate) blobs: BTreeMap<BlobHash, Vec<CheckSpec>>,
    /// The newest catalogue of each shard.
    pub(crate) catalogue: BTreeMap<ShardId, Edition>,
    pub(crate) trace: Trace,
    pub(crate) coverage: Coverage,
    pub(crate) oracles: Oracles,
    /// Bugs that are switched on.
    pub(crate) planted: Faults,
}

impl Env {
    /// Plans an event.
    pub(crate) fn plan_in(&mut self, wait: Span, event: Event) {
        self.queue.plan(self.now + wait, event);
    }

    /// Writes down what happened.
    pub(crate) fn note(&mut self, note: Note) {
        self.trace.note(self.now, note);
    }

    /// A rare situation was met.
    pub(crate) fn met(&mut self, what: Met) {
        self.coverage.met(what);
    }

    /// Something broke, or was mended.
    pub(crate) fn fault(&mut self, what: &'static str, node: Option<Node>) {
        self.note(Note::Fault { what, node });
    }

    /// Sends something up a connection.
    pub(crate) fn send_up(&mut self, conn: Conn, message: &Uplink) {
        let control = matches!(message, Uplink::Control(_));
        let stream = if control { Stream::Up } else { Stream::Lane };
        for at in self.net.arrivals(conn, stream, self.now) {
            self.queue.plan(at, Event::Up(conn, message.clone()));
        }
    }

    /// Sends something down a connection.
    pub(crate) fn send_down(&mut self, conn: Conn, message: &Downlink) {
        for at in self.net.arrivals(conn, Stream::Down, self.now) {
            self.queue.plan(at, Event::Down(conn, message.clone()));
        }
    }
}
