//! Random histories of the machine: whatever agents, leaders and operators do in whatever order,
//! the invariants hold, and a replay or a restored snapshot agrees to the byte.

use std::collections::{BTreeMap, BTreeSet};

use picket_scheduler_core::command::init_cluster::DEFAULT_GROUP;
use picket_scheduler_core::command::{
    AdmitAgent, AdvanceCursor, AssignShards, Command, DefineGroup, DrainAgent, ExpireOrders,
    Expired, IngestEvidence, InitCluster, IssueJoinToken, Move, PointCatalogue, Pointed,
    PutMaintenance, RevokeAgent,
};
use picket_scheduler_core::invariant;
use picket_scheduler_core::invariant::history::History;
use picket_scheduler_core::machine::{Entry, Faults, Machine};
use picket_scheduler_core::maintenance::{Maintenance, Selector};
use picket_scheduler_core::state::{Consumer, PlacementGroup, Says, Settings};
use picket_wire::dispersal::shard_of;
use picket_wire::evidence::{CheckRef, Evidence, EvidenceBatch, Role};
use picket_wire::fact::{AssignCause, Counted, Fact, FactBody};
use picket_wire::id::{
    AgentId, BlobHash, CatalogueVersion, CheckId, EndpointId, Epoch, FactSeq, Incarnation,
    IncidentId, OrderId, Seq, ShardSlot, SiteId, Slot,
};
use picket_wire::name::Name;
use picket_wire::outcome::{Phases, Probe};
use picket_wire::reason::Reason;
use picket_wire::state::State;
use picket_wire::time::{Interval, Span, Timestamp};
use proptest::prelude::*;

const SHARDS: u32 = 4;
const AGENTS: u32 = 5;
const CHECKS: u64 = 3;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// What may happen next. Choices are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    /// Time passes, or a new leader's clock stands behind.
    Wait(i64),
    Owner {
        check: u64,
        slot: u8,
        found: Found,
        ago: i64,
    },
    /// Somebody who is not the owner, or under another epoch.
    Foreign {
        agent: u32,
        check: u64,
        epoch: u32,
        found: Found,
    },
    Vote {
        agent: u32,
        check: u64,
        found: Found,
        ago: i64,
    },
    LateVote {
        agent: u32,
        check: u64,
        order: u64,
        found: Found,
    },
    /// Every agent answers the order about a check in the same way.
    All {
        check: u64,
        found: Found,
    },
    Expire {
        check: u64,
        vantages: u8,
        wait: bool,
    },
    Assign {
        check: u64,
        slot: u8,
        agent: u32,
    },
    Again {
        batch: usize,
    },
    Gap {
        agent: u32,
    },
    Drain {
        agent: u32,
        drain: bool,
    },
    Revoke {
        agent: u32,
    },
    Enrol {
        agent: u32,
    },
    Replicas(u8),
    Gone {
        check: u64,
    },
    Cursor {
        consumer: bool,
        ahead: u64,
    },
    Maintain {
        from: i64,
        length: i64,
    },
}

#[derive(Debug, Clone, Copy)]
enum Found {
    Ok,
    Fails(Reason),
    SickFails(Reason),
}

impl Found {
    const fn reason(self) -> Option<Reason> {
        match self {
            Self::Ok => None,
            Self::Fails(reason) | Self::SickFails(reason) => Some(reason),
        }
    }
}

fn found() -> impl Strategy<Value = Found> {
    let reason = prop::sample::select(vec![
        Reason::ConnectRefused,
        Reason::Http5xx,
        Reason::DnsNxdomain,
        Reason::ConnectRefused,
        Reason::AddressBlocked,
    ]);
    prop_oneof![
        4 => Just(Found::Ok),
        5 => reason.clone().prop_map(Found::Fails),
        1 => reason.prop_map(Found::SickFails),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let agent = 1..=AGENTS;
    let check = 1..=CHECKS;
    let slot = prop::sample::select(vec![0_u8, 0, 0, 1]);
    let ago = prop::sample::select(vec![0_i64, 0, 100, 3_000, 400_000, -2_000]);
    prop_oneof![
        8 => prop::sample::select(vec![100_i64, 1_000, 5_000, 10_000, 60_000, 300_000, -1_000, 100_000_000])
            .prop_map(Step::Wait),
        10 => (check.clone(), slot.clone(), found(), ago.clone())
            .prop_map(|(check, slot, found, ago)| Step::Owner { check, slot, found, ago }),
        2 => (agent.clone(), check.clone(), 0_u32..4, found())
            .prop_map(|(agent, check, epoch, found)| Step::Foreign { agent, check, epoch, found }),
        10 => (agent.clone(), check.clone(), found(), ago)
            .prop_map(|(agent, check, found, ago)| Step::Vote { agent, check, found, ago }),
        2 => (agent.clone(), check.clone(), 1_u64..20, found())
            .prop_map(|(agent, check, order, found)| Step::LateVote { agent, check, order, found }),
        4 => (check.clone(), found()).prop_map(|(check, found)| Step::All { check, found }),
        4 => (check.clone(), 0_u8..3, any::<bool>())
            .prop_map(|(check, vantages, wait)| Step::Expire { check, vantages, wait }),
        3 => (check.clone(), slot, agent.clone())
            .prop_map(|(check, slot, agent)| Step::Assign { check, slot, agent }),
        2 => any::<usize>().prop_map(|batch| Step::Again { batch }),
        1 => agent.clone().prop_map(|agent| Step::Gap { agent }),
        1 => (agent.clone(), any::<bool>()).prop_map(|(agent, drain)| Step::Drain { agent, drain }),
        1 => agent.clone().prop_map(|agent| Step::Revoke { agent }),
        1 => agent.prop_map(|agent| Step::Enrol { agent }),
        1 => (1_u8..=2).prop_map(Step::Replicas),
        1 => check.prop_map(|check| Step::Gone { check }),
        1 => (any::<bool>(), 0_u64..40).prop_map(|(consumer, ahead)| Step::Cursor { consumer, ahead }),
        1 => (-100_000_i64..100_000, 1_i64..100_000).prop_map(|(from, length)| Step::Maintain { from, length }),
    ]
}

/// A machine, everything it was told, and what its facts have said.
struct World {
    machine: Machine,
    now: Timestamp,
    entries: Vec<Entry>,
    batches: Vec<EvidenceBatch>,
    history: History,
    /// Vantages that were counted as failing, by incident.
    accusers: BTreeMap<IncidentId, BTreeSet<(Name, Name)>>,
    tokens: u8,
    versions: u64,
}

impl World {
    fn new(faults: Faults) -> Self {
        let mut world = Self {
            machine: Machine::with_faults(faults),
            now: Timestamp(1_000_000),
            entries: Vec::new(),
            batches: Vec::new(),
            history: History::new(),
            accusers: BTreeMap::new(),
            tokens: 0,
            versions: 0,
        };
        let settings = Settings {
            shards: SHARDS,
            ..Settings::standard(name("random"))
        };
        world.apply(Command::InitCluster(InitCluster { settings }));
        for agent in 1..=AGENTS {
            world.enrol(agent);
        }
        for check in 1..=CHECKS {
            world.assign(check, 0, u32::try_from(check).unwrap());
        }
        world
    }

    fn apply(&mut self, command: Command) {
        let entry = Entry {
            at: self.now,
            command,
        };
        let mut facts = Vec::new();
        self.machine.apply(&entry, &mut facts);
        self.entries.push(entry);
        invariant::check(self.machine.state()).unwrap();
        facts.iter().for_each(|fact| self.observe(fact));
        for check in (1..=CHECKS).map(CheckId) {
            let open = self.machine.state().open.get(&check);
            let public = open.map_or(State::Up, |open| open.stage.state());
            let told = self
                .history
                .state_of(check)
                .map_or(State::Up, |(state, _)| state);
            assert_eq!(public, told, "{check}: the facts say what the state is");
        }
    }

    /// Every `Down` rests on two vantages, unless there is only one.
    fn observe(&mut self, fact: &Fact) {
        self.history.observe(fact).unwrap();
        match &fact.body {
            FactBody::Testimony(testimony)
                if testimony.counted == Counted::Yes && !testimony.evidence.is_ok() =>
            {
                let vantage = (testimony.region.clone(), testimony.network.clone());
                self.accusers
                    .entry(testimony.incident)
                    .or_default()
                    .insert(vantage);
            }
            FactBody::Transition(transition) if transition.to == State::Down => {
                let mut accusers = self
                    .accusers
                    .get(&transition.incident.unwrap())
                    .cloned()
                    .unwrap_or_default();
                let state = self.machine.state();
                if let Some(open) = state.open.get(&transition.check.check) {
                    let failing = open
                        .words
                        .values()
                        .filter(|word| matches!(word.says, Says::Fails(_)));
                    accusers.extend(failing.map(|word| {
                        let agent = &state.agents[&word.agent];
                        (agent.region.clone(), agent.network.clone())
                    }));
                }
                assert!(
                    accusers.len() >= 2 || state.index.vantages() <= 1,
                    "{transition:?}: {accusers:?}"
                );
            }
            _ => {}
        }
    }

    fn enrol(&mut self, agent: u32) {
        self.tokens = self.tokens.wrapping_add(1);
        let token = [self.tokens; 32];
        let (expires_at, region) = (Timestamp::MAX, None);
        self.apply(Command::IssueJoinToken(IssueJoinToken {
            hash: token,
            expires_at,
            region,
        }));
        let place = ["eu", "us", "ap"][agent as usize % 3];
        let network = ["as1", "as2"][agent as usize % 2];
        self.apply(Command::AdmitAgent(AdmitAgent {
            token,
            name: name(&format!("agent-{agent}")),
            region: name(place),
            zone: name("a"),
            network: name(network),
            fingerprint: [u8::try_from(agent).unwrap(); 32],
        }));
    }

    fn assign(&mut self, check: u64, slot: u8, agent: u32) {
        let slot = slot_of(check, slot);
        let seen = self
            .machine
            .state()
            .assignments
            .get(&slot)
            .map_or(Epoch(0), |now| now.epoch);
        let (agent, cause) = (Some(AgentId(agent)), AssignCause::Rebalanced);
        let planned = Move {
            slot,
            seen,
            agent,
            standby: None,
            cause,
        };
        self.apply(Command::AssignShards(AssignShards {
            moves: vec![planned],
        }));
    }

    fn send(&mut self, agent: AgentId, records: Vec<Evidence>) {
        let known = self.machine.state().agents.get(&agent);
        let seq = known.map_or(Seq(0), |agent| agent.watermark).next();
        let incarnation = known.map_or(Incarnation(1), |agent| agent.incarnation);
        let batch = EvidenceBatch {
            agent,
            incarnation,
            seq,
            records,
        };
        self.batches.push(batch.clone());
        self.apply(Command::IngestEvidence(IngestEvidence {
            batches: vec![batch],
        }));
    }

    fn vote(&mut self, agent: u32, check: u64, order: OrderId, found: Found, at: Timestamp) {
        self.send(
            AgentId(agent),
            vec![evidence(check, at, found, Role::Voter { order })],
        );
    }

    fn order(&self, check: u64) -> Option<OrderId> {
        self.machine
            .state()
            .open
            .get(&CheckId(check))?
            .stage
            .order()
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Wait(ms) => self.now = Timestamp(self.now.0 + ms),
            Step::Owner {
                check,
                slot,
                found,
                ago,
            } => {
                let slot = slot_of(check, slot);
                let Some(now) = self.machine.state().assignments.get(&slot).copied() else {
                    return;
                };
                let Some(agent) = now.agent else { return };
                let role = Role::Owner {
                    slot,
                    epoch: now.epoch,
                };
                let at = Timestamp(self.now.0 - ago);
                self.send(agent, vec![evidence(check, at, found, role)]);
            }
            Step::Foreign {
                agent,
                check,
                epoch,
                found,
            } => {
                let role = Role::Owner {
                    slot: slot_of(check, 0),
                    epoch: Epoch(epoch),
                };
                self.send(AgentId(agent), vec![evidence(check, self.now, found, role)]);
            }
            Step::Vote {
                agent,
                check,
                found,
                ago,
            } => {
                let Some(order) = self.order(check) else {
                    return;
                };
                self.vote(agent, check, order, found, Timestamp(self.now.0 - ago));
            }
            Step::LateVote {
                agent,
                check,
                order,
                found,
            } => {
                self.vote(agent, check, OrderId(order), found, self.now);
            }
            Step::All { check, found } => {
                let Some(order) = self.order(check) else {
                    return;
                };
                let asked_at = self.machine.state().orders[&order].asked_at;
                self.now = self.now.max(asked_at);
                for agent in 1..=AGENTS {
                    self.vote(agent, check, order, found, self.now);
                }
            }
            Step::Expire {
                check,
                vantages,
                wait,
            } => {
                let Some(order) = self.order(check) else {
                    return;
                };
                if wait {
                    self.now = self.now.max(self.machine.state().orders[&order].deadline);
                }
                let orders = vec![Expired { order, vantages }];
                self.apply(Command::ExpireOrders(ExpireOrders { orders }));
            }
            Step::Assign { check, slot, agent } => self.assign(check, slot, agent),
            Step::Again { batch } => self.again(batch),
            Step::Gap { agent } => self.gap(AgentId(agent)),
            Step::Drain { agent, drain } => {
                self.apply(Command::DrainAgent(DrainAgent {
                    agent: AgentId(agent),
                    drain,
                }));
            }
            Step::Revoke { agent } => {
                self.apply(Command::RevokeAgent(RevokeAgent {
                    agent: AgentId(agent),
                }));
            }
            Step::Enrol { agent } => self.enrol(agent),
            Step::Replicas(replicas) => {
                let definition = PlacementGroup {
                    name: name("default"),
                    regions: Vec::new(),
                    replicas,
                };
                let group = Some(DEFAULT_GROUP);
                self.apply(Command::DefineGroup(DefineGroup { group, definition }));
            }
            Step::Gone { check } => self.gone(check),
            Step::Cursor { consumer, ahead } => {
                let consumer = if consumer {
                    Consumer::Projector
                } else {
                    Consumer::Delivery
                };
                let to = FactSeq(self.machine.state().cursor(consumer).0 + ahead);
                self.apply(Command::AdvanceCursor(AdvanceCursor { consumer, to }));
            }
            Step::Maintain { from, length } => {
                let from = Timestamp(self.now.0 + from);
                let until = Timestamp(from.0 + length);
                let (interval, note) = (Interval::new(from, until), String::new());
                let window = Maintenance {
                    interval,
                    selector: Selector::All,
                    note,
                };
                self.apply(Command::PutMaintenance(PutMaintenance { id: None, window }));
            }
        }
    }

    /// A batch that was sent before comes again: nothing changes.
    fn again(&mut self, batch: usize) {
        if self.batches.is_empty() {
            return;
        }
        let batch = self.batches[batch % self.batches.len()].clone();
        let known = &self.machine.state().agents[&batch.agent];
        if batch.incarnation != known.incarnation || batch.seq > known.watermark {
            return;
        }
        // The same instant as the last entry, since the time of an entry is state too.
        self.now = self.machine.state().last_at;
        let before = self.machine.hash();
        self.apply(Command::IngestEvidence(IngestEvidence {
            batches: vec![batch],
        }));
        assert_eq!(
            self.machine.hash(),
            before,
            "a repeated batch changes nothing"
        );
    }

    fn gap(&mut self, agent: AgentId) {
        let Some(known) = self.machine.state().agents.get(&agent) else {
            return;
        };
        let (seq, incarnation) = (known.watermark.next().next(), known.incarnation);
        self.now = self.machine.state().last_at;
        let before = self.machine.hash();
        let batch = EvidenceBatch {
            agent,
            incarnation,
            seq,
            records: Vec::new(),
        };
        self.apply(Command::IngestEvidence(IngestEvidence {
            batches: vec![batch],
        }));
        assert_eq!(self.machine.hash(), before, "a gap changes nothing");
    }

    fn gone(&mut self, check: u64) {
        self.versions += 1;
        let pointed = Pointed {
            group: DEFAULT_GROUP,
            shard: slot_of(check, 0).shard,
            version: CatalogueVersion(self.versions),
            blob: BlobHash([0; 32]),
            checks: 1,
            gone: vec![CheckId(check)],
        };
        self.apply(Command::PointCatalogue(PointCatalogue {
            pointers: vec![pointed],
        }));
        assert!(!self.machine.state().open.contains_key(&CheckId(check)));
    }
}

const fn slot_of(check: u64, slot: u8) -> ShardSlot {
    let shard = shard_of(EndpointId(check), SHARDS);
    ShardSlot {
        group: DEFAULT_GROUP,
        shard,
        slot: Slot(slot),
    }
}

fn evidence(check: u64, at: Timestamp, found: Found, role: Role) -> Evidence {
    let check = CheckRef {
        check: CheckId(check),
        endpoint: EndpointId(check),
        site: SiteId(check % 2),
    };
    let remote = (found.reason() != Some(Reason::DnsNxdomain))
        .then(|| std::net::IpAddr::from([192, 0, 2, u8::try_from(check.check.0 % 2).unwrap()]));
    let probe = Probe {
        at,
        lateness: Span::ZERO,
        reason: found.reason(),
        phases: Phases::default(),
        http_status: 0,
        remote,
        certificate_expires: None,
        detail: String::new(),
    };
    let vantage_healthy = !matches!(found, Found::SickFails(_));
    Evidence {
        check,
        probe,
        retry: None,
        vantage_healthy,
        role,
        trace: None,
    }
}

fn run(steps: &[Step]) -> World {
    let mut world = World::new(Faults::default());
    steps.iter().for_each(|step| world.step(step));
    world
}

/// The whole state a machine reaches by these entries.
fn replay(mut machine: Machine, entries: &[Entry]) -> (Machine, Vec<Fact>) {
    let mut facts = Vec::new();
    for entry in entries {
        machine.apply(entry, &mut facts);
    }
    (machine, facts)
}

proptest! {
    #![proptest_config(crate::config(128))]

    #[test]
    fn a_replay_equals_the_live_run(steps in prop::collection::vec(step(), 1..120)) {
        let world = run(&steps);
        let (replayed, _) = replay(Machine::new(), &world.entries);
        prop_assert_eq!(replayed.state(), world.machine.state());
        prop_assert_eq!(replayed.hash(), world.machine.hash());
    }

    #[test]
    fn a_snapshot_and_the_rest_equal_the_whole(
        steps in prop::collection::vec(step(), 1..120),
        cut in any::<prop::sample::Index>(),
    ) {
        let world = run(&steps);
        let (head, tail) = world.entries.split_at(cut.index(world.entries.len()));
        let (first, _) = replay(Machine::new(), head);
        let restored = Machine::restore(&first.snapshot()).unwrap();
        prop_assert_eq!(restored.state(), first.state());
        let (whole, facts) = replay(restored, tail);
        prop_assert_eq!(whole.hash(), world.machine.hash());
        let (_, same) = replay(first, tail);
        prop_assert_eq!(facts, same);
    }
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let world = World::new(Faults::default());
    let snapshot = world.machine.snapshot();
    for at in (0..snapshot.len()).step_by(7) {
        let mut damaged = snapshot.clone();
        damaged[at] ^= 0x10;
        assert!(Machine::restore(&damaged).is_err(), "byte {at}");
    }
    for length in (0..snapshot.len()).step_by(13) {
        assert!(
            Machine::restore(&snapshot[..length]).is_err(),
            "{length} bytes"
        );
    }
}

/// The planted bugs are bugs: what the properties above promise does not hold with them.
#[test]
fn a_planted_bug_breaks_a_promise() {
    let mut world = World::new(Faults {
        dedupe_off_by_one: true,
        ..Faults::default()
    });
    world.step(&Step::Owner {
        check: 1,
        slot: 0,
        found: Found::Fails(Reason::Http5xx),
        ago: 0,
    });
    let batch = world.batches[0].clone();
    let before = world.machine.hash();
    world.apply(Command::IngestEvidence(IngestEvidence {
        batches: vec![batch],
    }));
    assert_ne!(
        world.machine.hash(),
        before,
        "the same batch was applied twice"
    );

    let mut world = World::new(Faults {
        epoch_ge: true,
        ..Faults::default()
    });
    world.assign(1, 0, 2);
    let found = Found::Fails(Reason::Http5xx);
    world.step(&Step::Foreign {
        agent: 1,
        check: 1,
        epoch: 1,
        found,
    });
    assert_eq!(
        world.machine.state().skipped.supplementary,
        0,
        "an old owner was believed"
    );
}
