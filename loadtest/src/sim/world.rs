//! The world of one run: members, agents, Postgres, operators; one event after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use picket_scheduler_core::command::init_cluster::DEFAULT_GROUP;
use picket_scheduler_core::command::{Command, DefineGroup, InitCluster};
use picket_scheduler_core::machine::{Entry, Faults};
use picket_scheduler_core::state::PlacementGroup;
use picket_wire::check::CheckSpec;
use picket_wire::dispersal::shard_of;
use picket_wire::id::{AgentId, CatalogueVersion, CheckId, MemberId, ShardId};
use picket_wire::time::{Span, Timestamp};

use crate::oracle::{Oracles, Violation, liveness};
use crate::sim::agent::SimAgent;
use crate::sim::coverage::{Coverage, Met};
use crate::sim::env::Env;
use crate::sim::event::{AgentEvent, Boot, Event};
use crate::sim::member::Member;
use crate::sim::net::Net;
use crate::sim::operator::{Request, first_commands, print_edition};
use crate::sim::postgres::{Postgres, Rows};
use crate::sim::queue::Queue;
use crate::sim::raft::Logged;
use crate::sim::rng::Rng;
use crate::sim::scenario::{MEMBERS, Scenario, name};
use crate::sim::targets::Targets;
use crate::sim::trace::{Node, Trace};

/// Events at one instant beyond this many mean that somebody asks to be woken without end.
const AT_ONCE_MAX: u32 = 100_000;

/// One run's world.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) env: Env,
    pub(crate) members: BTreeMap<MemberId, Member>,
    pub(crate) agents: BTreeMap<AgentId, SimAgent>,
    pub(crate) postgres: Postgres,
    /// What operators asked for and was not answered.
    pub(crate) requests: Vec<Option<Request>>,
    /// Agents that lost their disk and are not admitted again yet.
    pub(crate) enrolling: BTreeSet<AgentId>,
    /// Who stands still, until when.
    pub(crate) paused: BTreeMap<Node, Timestamp>,
    /// What goes wrong is drawn from this.
    pub(crate) rng: Rng,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) seed: u64,
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) simulated: Span,
    pub(crate) coverage: Coverage,
    pub(crate) violation: Option<Violation>,
    pub(crate) tail: Vec<String>,
}

/// Runs one seed to its end, or to the first violation.
pub(crate) fn run(seed: u64, planted: Faults, print: bool) -> Ended {
    let mut world = World::new(Rc::new(Scenario::draw(seed)), planted, print);
    let broken = world.live();
    let env = &world.env;
    Ended {
        seed,
        hash: env.trace.hash(),
        events: env.trace.events(),
        simulated: env.now.since(env.scenario.phases.start),
        coverage: env.coverage.clone(),
        violation: broken,
        tail: env.trace.tail(),
    }
}

impl World {
    fn new(scenario: Rc<Scenario>, planted: Faults, print: bool) -> Self {
        let (seed, phases) = (scenario.seed, scenario.phases);
        let checks: Vec<CheckId> = scenario.checks.iter().map(|spec| spec.id).collect();
        let mut env = Env {
            now: phases.start,
            queue: Queue::new(),
            net: Net::new(seed, scenario.weather),
            targets: Targets::draw(seed, &checks, &scenario.regions(), phases),
            rows: Rows::default(),
            blobs: BTreeMap::new(),
            catalogue: BTreeMap::new(),
            trace: Trace::new(phases.start, print),
            coverage: Coverage::default(),
            oracles: Oracles::new(planted),
            planted,
            scenario,
        };
        publish_all(&mut env);
        let first = first_entries(&mut env);
        let mut members = BTreeMap::new();
        for id in MEMBERS {
            let mut member = Member::new(&env, id, &first);
            member.start(&mut env);
            members.insert(id, member);
        }
        let mut agents = BTreeMap::new();
        for place in env.scenario.places.clone() {
            agents.insert(place.agent, SimAgent::new(&mut env, place));
        }
        let mut world = Self {
            env,
            members,
            agents,
            postgres: Postgres::new(seed),
            requests: Vec::new(),
            enrolling: BTreeSet::new(),
            paused: BTreeMap::new(),
            rng: Rng::new(seed, "faults", 0),
        };
        world.plan_faults();
        world
    }

    fn live(&mut self) -> Option<Violation> {
        let end = self.env.scenario.phases.end_at;
        let mut at_once = 0;
        while let Some((at, event)) = self.env.queue.pop(end) {
            at_once = if at > self.env.now { 0 } else { at_once + 1 };
            self.env.now = at;
            self.pass(event);
            if at_once > AT_ONCE_MAX {
                return Some(Violation::new("progress", "time stands still".to_owned()));
            }
            if let Some(violation) = self.env.oracles.broken() {
                return Some(violation);
            }
        }
        self.env.now = end;
        self.env.oracles.at_the_end().or_else(|| {
            let unhealed = liveness::check(self).err()?;
            Some(Violation::new("liveness", unhealed))
        })
    }

    /// Lets an event happen, unless it happens to somebody who stands still.
    fn pass(&mut self, event: Event) {
        let until = event
            .whom()
            .and_then(|node| self.paused.get(&node))
            .copied();
        match until.filter(|&until| until > self.env.now) {
            Some(until) => self.env.queue.plan(until, event),
            None => self.happen(event),
        }
    }

    fn happen(&mut self, event: Event) {
        let Self {
            env,
            members,
            agents,
            postgres,
            ..
        } = self;
        match event {
            Event::Agent(boot, event) => {
                if let Some(agent) = agents.get_mut(&boot.of).filter(|agent| agent.is(boot)) {
                    agent.happen(env, event);
                }
            }
            Event::Down(conn, message) => {
                if let Some(agent) = agents.get_mut(&conn.agent).filter(|_| env.net.stands(conn)) {
                    agent.receive(env, conn, message);
                }
            }
            Event::Member(boot, event) => {
                if let Some(member) = members.get_mut(&boot.of).filter(|member| member.is(boot)) {
                    member.happen(env, event);
                }
            }
            Event::Up(conn, message) => {
                let stands = env.net.stands(conn);
                if let Some(member) = members
                    .get_mut(&conn.member)
                    .filter(|member| member.up && stands)
                {
                    member.receive(env, conn, message);
                }
            }
            Event::SessionLost(conn) => {
                members
                    .get_mut(&conn.member)
                    .into_iter()
                    .for_each(|member| member.lose(conn));
            }
            Event::Raft { from, to, message } => {
                if let Some(member) = members.get_mut(&to).filter(|member| member.up) {
                    member.hear(env, from, message);
                }
            }
            Event::Begin { member, term, work } => postgres.begin(env, member, term, work),
            Event::Commit(transaction) => postgres.commit(env, transaction),
            Event::Election(boot) => self.stand(boot),
            Event::Dialled(boot, member) => self.dialled(boot, member),
            Event::Idle(conn) => self.idle(conn),
            Event::Operate(op) => self.operate(op),
            Event::Operated(op, reply) => self.operated(op, &reply),
            Event::Strike(plague) => self.strike(plague),
            Event::Mend(mend) => self.mend(mend),
            Event::Heal => self.heal(),
        }
    }

    /// The member that leads in the latest term.
    pub(crate) fn leader(&self) -> Option<MemberId> {
        let leading = self
            .members
            .values()
            .filter(|member| member.up && member.raft.leads());
        leading
            .max_by_key(|member| member.raft.term())
            .map(|member| member.id)
    }

    /// A member stands for election if it has heard nothing for too long.
    fn stand(&mut self, boot: Boot<MemberId>) {
        let member = self
            .members
            .get_mut(&boot.of)
            .filter(|member| member.is(boot));
        if member.is_some_and(|member| member.wants_to_lead(&mut self.env)) {
            self.elect(boot.of, false);
        }
    }

    /// One look at who would vote for `candidate`: if that is a quorum, it leads. `forced` leaves
    /// out that members which hear from a leader vote for nobody.
    pub(crate) fn elect(&mut self, candidate: MemberId, forced: bool) {
        let Some(standing) = self.members.get(&candidate).filter(|member| member.up) else {
            return;
        };
        let last = standing.raft.log().last();
        let voters: Vec<MemberId> = self
            .members
            .values()
            .filter(|member| {
                member.id == candidate
                    || (self.hear_each_other(candidate, member.id)
                        && member.would_elect(last, self.env.now, forced))
            })
            .map(|member| member.id)
            .collect();
        if voters.len() * 2 <= MEMBERS.len() {
            return;
        }
        let terms = voters
            .iter()
            .filter_map(|voter| self.members.get(voter))
            .map(|voter| voter.raft.term());
        let term = terms.max().unwrap_or(0) + 1;
        for voter in voters {
            if let Some(member) = self.members.get_mut(&voter) {
                member.vote(&mut self.env, term);
            }
        }
        if let Some(member) = self.members.get_mut(&candidate) {
            member.lead(&mut self.env, term);
        }
        let leaders = self
            .members
            .values()
            .filter(|member| member.up && member.raft.leads())
            .count();
        self.env
            .coverage
            .met_times(Met::TwoLeaders, u64::from(leaders > 1));
    }

    fn hear_each_other(&self, one: MemberId, other: MemberId) -> bool {
        let nodes = [Node::Member(one), Node::Member(other)];
        let awake = |node| {
            self.paused
                .get(node)
                .is_none_or(|&until| until <= self.env.now)
        };
        let cut = self
            .env
            .net
            .cut_until(nodes[0], nodes[1], self.env.now)
            .is_some();
        !cut && nodes.iter().all(awake)
    }

    fn dialled(&mut self, boot: Boot<AgentId>, member: MemberId) {
        let Some(agent) = self.agents.get_mut(&boot.of).filter(|agent| agent.is(boot)) else {
            return;
        };
        if self.members.get(&member).is_some_and(|member| member.up) {
            let conn = self.env.net.connect(boot.of, member, self.env.now);
            agent.connected(&mut self.env, conn);
        } else {
            agent.happen(&mut self.env, AgentEvent::HungUp(member, None));
        }
    }
}

/// Every shard's first catalogue.
fn publish_all(env: &mut Env) {
    let mut shards: BTreeMap<ShardId, Vec<CheckSpec>> = BTreeMap::new();
    for spec in &env.scenario.checks {
        let shard = shard_of(spec.endpoint, env.scenario.settings.shards);
        shards.entry(shard).or_default().push(spec.clone());
    }
    for (shard, checks) in shards {
        print_edition(env, shard, CatalogueVersion(1), checks);
    }
}

/// What the log begins with.
fn first_entries(env: &mut Env) -> Vec<Rc<Logged>> {
    let settings = env.scenario.settings.clone();
    let replicas = env.scenario.replicas;
    let definition = PlacementGroup {
        name: name("default"),
        regions: Vec::new(),
        replicas,
    };
    let mut commands = vec![
        Command::InitCluster(InitCluster { settings }),
        Command::DefineGroup(DefineGroup {
            group: Some(DEFAULT_GROUP),
            definition,
        }),
    ];
    commands.extend(first_commands(env));
    let logged = |command| {
        Rc::new(Logged {
            term: 1,
            entry: Some(Entry {
                at: env.now,
                command,
            }),
        })
    };
    let entries: Vec<_> = commands.into_iter().map(logged).collect();
    for entry in &entries {
        env.oracles.commit(entry, &mut env.coverage, &mut |_| {});
    }
    entries
}
