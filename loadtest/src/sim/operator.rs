//! What operators ask for while the run goes on: drained agents, edited catalogues, new
//! enrolments. A request is repeated until its answer has come, as a person would.

use picket_scheduler_core::command::init_cluster::DEFAULT_GROUP;
use picket_scheduler_core::command::{
    AdmitAgent, Command, DrainAgent, IssueJoinToken, PointCatalogue, Pointed,
};
use picket_scheduler_core::reply::Reply;
use picket_scheduler_core::state::State;
use picket_wire::check::CheckSpec;
use picket_wire::id::{AgentId, BlobHash, CatalogueVersion, ShardId};
use picket_wire::time::{Span, Timestamp};

use crate::sim::env::{Edition, Env};
use crate::sim::event::{Event, OpId};
use crate::sim::member::Waiter;
use crate::sim::scenario::{Place, name};
use crate::sim::world::World;

/// How long an answer is waited for.
const AGAIN: Span = Span::from_secs(2);

/// What an operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// An agent gives its shards away, or takes shards again.
    Drain { agent: AgentId, drain: bool },
    /// A shard's newest catalogue counts.
    Point(ShardId),
    /// A token is issued for an agent.
    Issue { agent: AgentId, token: [u8; 32] },
    /// The agent enrols with it.
    Admit { agent: AgentId, token: [u8; 32] },
}

impl World {
    /// Asks for something, until it is answered.
    pub(crate) fn request(&mut self, request: Request) {
        if let Request::Drain { agent, .. } = request {
            // Whoever changes their mind gives the first request up.
            let older = |known: &Option<Request>| matches!(known, Some(Request::Drain { agent: other, .. }) if *other == agent);
            self.requests
                .iter_mut()
                .filter(|known| older(known))
                .for_each(|known| *known = None);
        }
        let op = OpId(self.requests.len());
        self.requests.push(Some(request));
        self.env.plan_in(Span(1), Event::Operate(op));
    }

    /// An agent whose disk was lost gets a new token and enrols with it.
    pub(crate) fn enrol_again(&mut self, agent: AgentId) {
        self.enrolling.insert(agent);
        let mut token = [0; 32];
        let number = u64::try_from(self.requests.len()).unwrap_or(0) + 1_000;
        token[..8].copy_from_slice(&number.to_le_bytes());
        self.request(Request::Issue { agent, token });
    }

    /// Publishes a changed catalogue of a shard.
    pub(crate) fn publish(&mut self, shard: ShardId, change: impl FnOnce(&mut Vec<CheckSpec>)) {
        let Some(edition) = self.env.catalogue.get(&shard) else {
            return;
        };
        let mut checks = edition.checks.clone();
        change(&mut checks);
        let version = edition.version.next();
        print_edition(&mut self.env, shard, version, checks);
        self.request(Request::Point(shard));
    }

    /// Asks the leader, if there is one; looks again later.
    pub(crate) fn operate(&mut self, op: OpId) {
        let Some(Some(request)) = self.requests.get(op.0).copied() else {
            return;
        };
        self.env.plan_in(AGAIN, Event::Operate(op));
        let leader = self.leader().and_then(|id| self.members.get_mut(&id));
        let Some(leader) = leader.filter(|member| member.term.is_some()) else {
            return;
        };
        let command = command(&self.env, leader.machine.state(), request);
        leader.propose(&mut self.env, command, Waiter::Operator(op));
    }

    /// A request was answered.
    pub(crate) fn operated(&mut self, op: OpId, reply: &Reply) {
        let Some(request) = self.requests.get_mut(op.0).and_then(Option::take) else {
            return;
        };
        match (request, reply) {
            (Request::Issue { agent, token }, _) => self.request(Request::Admit { agent, token }),
            (Request::Admit { agent, .. }, Reply::Admitted { incarnation, .. }) => {
                self.enrolling.remove(&agent);
                if let Some(reborn) = self.agents.get_mut(&agent) {
                    self.env
                        .oracles
                        .delivery
                        .abandon(agent, reborn.incarnation());
                    reborn.be_reborn(&mut self.env, *incarnation);
                }
            }
            (Request::Admit { agent, .. }, reply) => {
                self.env
                    .oracles
                    .recovery
                    .failed(format!("{agent} cannot enrol again: {reply:?}"));
            }
            (Request::Drain { .. } | Request::Point(_), _) => {}
        }
    }
}

fn command(env: &Env, state: &State, request: Request) -> Command {
    match request {
        Request::Drain { agent, drain } => Command::DrainAgent(DrainAgent { agent, drain }),
        Request::Issue { token, .. } => issue(token),
        Request::Point(shard) => Command::PointCatalogue(PointCatalogue {
            pointers: env
                .catalogue
                .get(&shard)
                .map(|edition| pointed(state, shard, edition))
                .into_iter()
                .collect(),
        }),
        Request::Admit { agent, token } => {
            let place = env
                .scenario
                .places
                .iter()
                .find(|place| place.agent == agent);
            let place = place.expect("only agents of the scenario enrol");
            admit(place, token)
        }
    }
}

fn issue(token: [u8; 32]) -> Command {
    Command::IssueJoinToken(IssueJoinToken {
        hash: token,
        expires_at: Timestamp::MAX,
        region: None,
    })
}

fn admit(place: &Place, token: [u8; 32]) -> Command {
    let mut fingerprint = [1; 32];
    fingerprint[..4].copy_from_slice(&place.agent.0.to_le_bytes());
    Command::AdmitAgent(AdmitAgent {
        token,
        name: name(&format!("agent-{}", place.agent.0)),
        region: place.region.clone(),
        zone: name("a"),
        network: place.network.clone(),
        fingerprint,
    })
}

/// The pointer to an edition, with the open checks that it no longer has.
fn pointed(state: &State, shard: ShardId, edition: &Edition) -> Pointed {
    let open = state.index.open_in(DEFAULT_GROUP, shard);
    Pointed {
        group: DEFAULT_GROUP,
        shard,
        version: edition.version,
        blob: edition.blob,
        checks: u32::try_from(edition.checks.len()).unwrap_or(u32::MAX),
        gone: open
            .filter(|check| edition.checks.iter().all(|spec| spec.id != *check))
            .collect(),
    }
}

/// Makes an edition the newest one of its shard.
pub(crate) fn print_edition(
    env: &mut Env,
    shard: ShardId,
    version: CatalogueVersion,
    checks: Vec<CheckSpec>,
) {
    let blob = BlobHash::of(format!("{shard} {version}").as_bytes());
    env.blobs.insert(blob, checks.clone());
    env.catalogue.insert(
        shard,
        Edition {
            version,
            blob,
            checks,
        },
    );
}

/// The commands that a cluster begins with, after its settings: its agents, its catalogue.
pub(crate) fn first_commands(env: &Env) -> Vec<Command> {
    let mut commands = Vec::new();
    for place in &env.scenario.places {
        let mut token = [0; 32];
        token[..4].copy_from_slice(&place.agent.0.to_le_bytes());
        commands.extend([issue(token), admit(place, token)]);
    }
    let nothing = State::default();
    let pointers = env
        .catalogue
        .iter()
        .map(|(&shard, edition)| pointed(&nothing, shard, edition));
    commands.push(Command::PointCatalogue(PointCatalogue {
        pointers: pointers.collect(),
    }));
    commands
}
