//! What happened in a run: a hash over all of it, and its last lines.
//!
//! A run is deterministic when two runs of one seed have the same hash. Lines are kept as values
//! and written out only when somebody wants to read them.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};

use picket_agent_core::Lane;
use picket_wire::id::{AgentId, CheckId, MemberId};
use picket_wire::time::Timestamp;

/// Lines kept for the report of a failure.
const KEPT: usize = 64;

/// A process of the mesh, or Postgres.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Node {
    Member(MemberId),
    Agent(AgentId),
    Postgres,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(member) => member.fmt(f),
            Self::Agent(agent) => agent.fmt(f),
            Self::Postgres => f.write_str("postgres"),
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Note {
    /// A message arrived.
    Heard {
        to: Node,
        from: Node,
        what: &'static str,
    },
    /// A batch arrived.
    Batch {
        to: MemberId,
        from: AgentId,
        lane: LaneName,
        seq: u64,
    },
    /// A probe ended.
    Probed {
        agent: AgentId,
        check: CheckId,
        ok: bool,
    },
    /// A batch is on an agent's disk.
    Spooled {
        agent: AgentId,
        lane: LaneName,
        seq: u64,
    },
    /// An agent was told that everything up to this is durable.
    Acked {
        agent: AgentId,
        lane: LaneName,
        seq: u64,
    },
    /// An entry is committed.
    Committed {
        index: u64,
        term: u64,
        command: &'static str,
    },
    /// What followed from an entry.
    Decided { index: u64, what: String },
    /// A member has applied everything up to this.
    Applied {
        member: MemberId,
        index: u64,
        state: u64,
    },
    /// A member was elected.
    Elected { member: MemberId, term: u64 },
    /// A member's duties began.
    Leads { member: MemberId, term: u64 },
    /// A member heard of a later term.
    Deposed { member: MemberId, term: u64 },
    /// A transaction ended.
    Stored { what: &'static str, up_to: u64 },
    /// Something broke, or was mended.
    Fault {
        what: &'static str,
        node: Option<Node>,
    },
}

/// A lane, as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LaneName(&'static str);

impl From<Lane> for LaneName {
    fn from(lane: Lane) -> Self {
        Self(lane.name())
    }
}

/// The record of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: Fnv,
    events: u64,
    last: VecDeque<(Timestamp, Note)>,
    /// When the run began.
    origin: Timestamp,
    print: bool,
}

impl Trace {
    /// An empty record; `print` writes each line to standard output as it comes.
    pub(crate) fn new(origin: Timestamp, print: bool) -> Self {
        Self {
            hash: Fnv::default(),
            events: 0,
            last: VecDeque::with_capacity(KEPT),
            origin,
            print,
        }
    }

    /// Adds a line.
    pub(crate) fn note(&mut self, at: Timestamp, note: Note) {
        (at.0, &note).hash(&mut self.hash);
        self.events += 1;
        if self.print {
            say(&line(self.origin, at, &note));
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back((at, note));
    }

    /// How many lines there were.
    pub(crate) const fn events(&self) -> u64 {
        self.events
    }

    /// The hash over all lines.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// The last lines, written out.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.last
            .iter()
            .map(|(at, note)| line(self.origin, *at, note))
            .collect()
    }
}

#[expect(
    clippy::print_stdout,
    reason = "the trace is the output that was asked for"
)]
fn say(line: &str) {
    println!("{line}");
}

fn line(origin: Timestamp, at: Timestamp, note: &Note) -> String {
    let ms = at.since(origin).0;
    format!("{:>4}.{:03} {note:?}", ms / 1_000, ms % 1_000)
}

/// FNV-1a with 64 bits: the same on every machine and in every run.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_sees_the_time_and_the_order_and_the_tail_is_bounded() {
        let note = |trace: &mut Trace, at| {
            trace.note(
                Timestamp(at),
                Note::Fault {
                    what: "cut",
                    node: None,
                },
            );
        };
        let hash = |times: &[i64]| {
            let mut trace = Trace::new(Timestamp(0), false);
            times.iter().for_each(|&at| note(&mut trace, at));
            (trace.hash(), trace.tail().len())
        };
        assert_eq!(hash(&[1, 2]), hash(&[1, 2]));
        assert_ne!(hash(&[1, 2]).0, hash(&[2, 1]).0);
        assert_eq!(hash(&[5; 100]).1, KEPT);
    }
}
