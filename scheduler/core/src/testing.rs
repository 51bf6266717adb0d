//! A small cluster for tests: commands in, replies and facts out, invariants checked throughout.

use std::net::{IpAddr, Ipv4Addr};

use picket_wire::dispersal::shard_of;
use picket_wire::evidence::{CheckRef, Evidence, EvidenceBatch, Role};
use picket_wire::fact::{AssignCause, Fact};
use picket_wire::id::{
    AgentId, CheckId, EndpointId, Epoch, GroupId, Incarnation, OrderId, Seq, ShardId, ShardSlot,
    SiteId, Slot,
};
use picket_wire::name::Name;
use picket_wire::outcome::{Phases, Probe};
use picket_wire::reason::Reason;
use picket_wire::time::{Span, Timestamp};

use crate::command::init_cluster::DEFAULT_GROUP;
use crate::command::{
    AdmitAgent, AssignShards, Command, IngestEvidence, InitCluster, IssueJoinToken, Move,
};
use crate::machine::{Entry, Machine};
use crate::reply::{Ingested, Reply};
use crate::state::{Settings, State};

/// A name that keeps the rule.
pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// The shards of a test cluster: few, so that every slot is easy to name.
const SHARDS: u32 = 8;

/// A machine and the time.
pub(crate) struct World {
    machine: Machine,
    now: Timestamp,
    /// The facts of the last command.
    pub(crate) facts: Vec<Fact>,
}

impl World {
    pub(crate) fn empty() -> Self {
        Self {
            machine: Machine::new(),
            now: Timestamp(0),
            facts: Vec::new(),
        }
    }

    pub(crate) fn started() -> Self {
        let mut world = Self::empty();
        let settings = Settings {
            shards: SHARDS,
            ..Settings::standard(name("test"))
        };
        world.apply(Command::InitCluster(InitCluster { settings }));
        world
    }

    /// With an agent in each of these regions and networks: agents 1, 2, …
    pub(crate) fn with_agents(vantages: &[(&str, &str)]) -> Self {
        let mut world = Self::started();
        for (number, (region, network)) in (1_u8..).zip(vantages) {
            let hash = [number; 32];
            world.apply(Command::IssueJoinToken(IssueJoinToken {
                hash,
                expires_at: Timestamp::MAX,
                region: None,
            }));
            world.apply(Command::AdmitAgent(AdmitAgent {
                token: hash,
                name: name(&format!("agent-{number}")),
                region: name(region),
                zone: name("a"),
                network: name(network),
                fingerprint: hash,
            }));
        }
        world
    }

    pub(crate) fn at(&mut self, ms: i64) -> &mut Self {
        self.now = Timestamp(ms);
        self
    }

    pub(crate) fn apply(&mut self, command: Command) -> Reply {
        self.facts.clear();
        let reply = self.machine.apply(
            &Entry {
                at: self.now,
                command,
            },
            &mut self.facts,
        );
        self.check();
        reply
    }

    pub(crate) fn check(&self) {
        crate::invariant::check(self.state()).unwrap();
    }

    pub(crate) const fn state(&self) -> &State {
        self.machine.state()
    }

    /// Gives a slot of the default group to an agent.
    pub(crate) fn assign(&mut self, shard: u32, slot: u8, agent: u32) {
        let slot = ShardSlot {
            group: DEFAULT_GROUP,
            shard: ShardId(shard),
            slot: Slot(slot),
        };
        let seen = self
            .state()
            .assignments
            .get(&slot)
            .map_or(Epoch(0), |a| a.epoch);
        let agent = Some(AgentId(agent));
        let planned = Move {
            slot,
            seen,
            agent,
            standby: None,
            cause: AssignCause::Initial,
        };
        let reply = self.apply(Command::AssignShards(AssignShards {
            moves: vec![planned],
        }));
        assert_eq!(
            reply,
            Reply::Assigned {
                applied: 1,
                stale: 0
            }
        );
    }

    /// The next batch of an agent.
    pub(crate) fn batch(&self, agent: u32, records: Vec<Evidence>) -> EvidenceBatch {
        let agent = AgentId(agent);
        let known = self.state().agents.get(&agent);
        let incarnation = known.map_or(Incarnation(1), |agent| agent.incarnation);
        let seq = known.map_or(Seq(0), |agent| agent.watermark).next();
        EvidenceBatch {
            agent,
            incarnation,
            seq,
            records,
        }
    }

    pub(crate) fn ingest(&mut self, batch: EvidenceBatch) -> Ingested {
        let reply = self.apply(Command::IngestEvidence(IngestEvidence {
            batches: vec![batch],
        }));
        let Reply::Ingested(mut all) = reply else {
            panic!("{reply:?}")
        };
        all.pop().unwrap()
    }

    /// The owner of a check's slot 0 says something about it.
    pub(crate) fn owner(&mut self, agent: u32, check: CheckRef, reason: Option<Reason>) {
        let slot = slot_of(check);
        let epoch = self.state().assignments[&slot].epoch;
        let record = evidence(check, self.now, reason, Role::Owner { slot, epoch });
        let batch = self.batch(agent, vec![record]);
        assert_eq!(self.ingest(batch).refused, None);
    }

    /// A vantage votes on the order about a check.
    pub(crate) fn vote(&mut self, agent: u32, check: CheckRef, reason: Option<Reason>) {
        let order = self.order(check).unwrap();
        let record = evidence(check, self.now, reason, Role::Voter { order });
        let batch = self.batch(agent, vec![record]);
        assert_eq!(self.ingest(batch).refused, None);
    }

    pub(crate) fn order(&self, check: CheckRef) -> Option<OrderId> {
        self.state().open.get(&check.check)?.stage.order()
    }
}

/// Check `n`, of endpoint `n`, of site `n`.
pub(crate) const fn check(n: u64) -> CheckRef {
    CheckRef {
        check: CheckId(n),
        endpoint: EndpointId(n),
        site: SiteId(n),
    }
}

/// Slot 0 of the shard that a check is in.
pub(crate) const fn slot_of(check: CheckRef) -> ShardSlot {
    ShardSlot {
        group: GroupId(1),
        shard: shard_of(check.endpoint, SHARDS),
        slot: Slot(0),
    }
}

pub(crate) fn evidence(
    check: CheckRef,
    at: Timestamp,
    reason: Option<Reason>,
    role: Role,
) -> Evidence {
    let probe = Probe {
        at,
        lateness: Span::ZERO,
        reason,
        phases: Phases::default(),
        http_status: 0,
        remote: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
        certificate_expires: None,
        detail: String::new(),
    };
    Evidence {
        check,
        probe,
        retry: None,
        vantage_healthy: true,
        role,
        trace: None,
    }
}
