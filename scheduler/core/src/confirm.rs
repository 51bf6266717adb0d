//! Who is asked to confirm, and when waiting for them is over: the leader's memory.
//!
//! The machine keeps what is to be confirmed; this only looks at it. Losing this memory costs
//! repeated questions, whose second answers do not count. Work per step is bounded: in a storm
//! orders queue for their question, and one that was never asked ends undecided and is asked
//! again.

use std::collections::{BTreeMap, BTreeSet};

use picket_wire::id::{AgentId, OrderId};
use picket_wire::name::Name;
use picket_wire::time::{Span, Timestamp};

use crate::command::Expired;
use crate::command::expire_orders::EXPIRED_MAX;
use crate::state::{Ballot, Order, Standing, State};

/// Orders looked at in one step besides those that are over. At ten steps a second this asks
/// eighty thousand vantages a second, more than a fleet should be made to probe out of turn.
const LOOKED_AT_MAX: usize = 4_096;
/// For so long after an election every vantage has the benefit of the doubt: agents take a moment
/// to find the new leader.
const FOUND_WITHIN: Span = Span::from_secs(2);
/// For so long an order waits for a vantage that is not there: a lost connection is back within
/// this, and a dead agent does not hold up a verdict for longer.
const BACK_WITHIN: Span = Span(500);

/// An agent says something to its leader every second; one that has been silent for so long is dead
/// or cut off, whatever its lease says, and is not waited for.
const SILENT_MAX: Span = Span::from_secs(3);

/// Before every order.
const START: (Timestamp, OrderId) = (Timestamp::MIN, OrderId(0));

/// An agent that can be asked now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vantage {
    /// The agent; it has a lease, a connection, and is neither drained nor revoked.
    pub agent: AgentId,
    /// Its region.
    pub region: Name,
    /// Its zone.
    pub zone: Name,
    /// Its network.
    pub network: Name,
    /// Whether its own reference checks are ok.
    pub healthy: bool,
}

/// A connected agent, as its leader hears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The agent.
    pub agent: AgentId,
    /// When it last said anything.
    pub at: Timestamp,
    /// Whether its own reference checks are ok, by its own word.
    pub healthy: bool,
}

/// The connected agents that can be asked at `now`: heard lately, with a lease that is `live`,
/// admitted, and not drained.
pub fn vantages(
    state: &State,
    live: &BTreeSet<AgentId>,
    connected: impl IntoIterator<Item = Heard>,
    now: Timestamp,
) -> Vec<Vantage> {
    let vantage = |heard: Heard| {
        let agent = state.agents.get(&heard.agent)?;
        let serves = live.contains(&heard.agent)
            && now.since(heard.at) <= SILENT_MAX
            && agent.standing == Standing::Serving;
        serves.then(|| Vantage {
            agent: heard.agent,
            region: agent.region.clone(),
            zone: agent.zone.clone(),
            network: agent.network.clone(),
            healthy: heard.healthy,
        })
    };
    connected.into_iter().filter_map(vantage).collect()
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send the order to these agents.
    Ask {
        /// Which order.
        order: OrderId,
        /// Whom.
        agents: Vec<AgentId>,
    },
    /// Propose that these orders are over.
    Expire(Vec<Expired>),
}

/// The leader's confirmation driver. Owner: the confirm duty of a term.
#[derive(Debug, Clone)]
pub struct Driver {
    asked: BTreeMap<OrderId, BTreeSet<AgentId>>,
    /// How far the last step came.
    place: (Timestamp, OrderId),
    /// When the term began.
    since: Timestamp,
}

impl Driver {
    /// The driver of a term that begins now; nobody has been asked anything.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self {
            asked: BTreeMap::new(),
            place: START,
            since: now,
        }
    }

    /// The order did not reach `agent`, which may be asked again.
    pub fn unreached(&mut self, order: OrderId, agent: AgentId) {
        if let Some(asked) = self.asked.get_mut(&order) {
            asked.remove(&agent);
        }
    }

    /// Looks at the orders that ask now, and says what is to be done.
    pub fn step(&mut self, now: Timestamp, state: &State, vantages: &[Vantage]) -> Vec<Effect> {
        self.asked
            .retain(|order, _| state.orders.contains_key(order));
        let mut effects = Vec::new();
        let mut expired = over(state, now);
        for id in self.turn(state, now) {
            let Some(order) = state.orders.get(&id) else {
                continue;
            };
            if order.deadline <= now {
                continue;
            }
            let agents = self.missing(state, id, order, vantages);
            if !agents.is_empty() {
                self.asked
                    .entry(id)
                    .or_default()
                    .extend(agents.iter().copied());
                effects.push(Effect::Ask { order: id, agents });
            }
            let available = self.available(id, order, vantages);
            let patient =
                now.since(self.since) < FOUND_WITHIN || now.since(order.asked_at) < BACK_WITHIN;
            if available < order.wanted && !patient {
                expired.push(Expired {
                    order: id,
                    vantages: available,
                });
            }
        }
        if !expired.is_empty() {
            effects.push(Effect::Expire(expired));
        }
        effects
    }

    /// When the next step is due, if nothing else happens before.
    #[must_use]
    pub fn deadline(&self, now: Timestamp, state: &State) -> Option<Timestamp> {
        let deadline = |id| state.orders.get(&id).map(|order: &Order| order.deadline);
        let first = state.index.asking(now).next().and_then(deadline);
        first.into_iter().chain(state.index.next_asking(now)).min()
    }

    /// The orders whose turn it is: in a circle through all that ask.
    fn turn(&mut self, state: &State, now: Timestamp) -> Vec<OrderId> {
        let ahead: Vec<_> = state
            .index
            .asking_after(self.place, now)
            .take(LOOKED_AT_MAX)
            .collect();
        let left = LOOKED_AT_MAX - ahead.len();
        let place = self.place;
        let around = state
            .index
            .asking_after(START, now)
            .take_while(|&next| next <= place);
        let turn: Vec<_> = ahead.into_iter().chain(around.take(left)).collect();
        self.place = turn.last().copied().unwrap_or(START);
        turn.into_iter().map(|(_, order)| order).collect()
    }

    /// Whom to ask besides those that have been asked and may still answer.
    fn missing(
        &self,
        state: &State,
        id: OrderId,
        order: &Order,
        vantages: &[Vantage],
    ) -> Vec<AgentId> {
        let wanted = usize::from(
            order
                .wanted
                .saturating_sub(self.available(id, order, vantages)),
        );
        let nobody = BTreeSet::new();
        let asked = self.asked.get(&id).unwrap_or(&nobody);
        choose(state, id, order, vantages, asked, wanted)
    }

    /// Vantages that have voted, or have been asked, have not spoken, and can still be heard.
    fn available(&self, id: OrderId, order: &Order, vantages: &[Vantage]) -> u8 {
        let counted = order
            .votes
            .iter()
            .filter(|vote| vote.says != Ballot::Void)
            .count();
        let awaited = self.asked.get(&id).map_or(0, |asked| {
            let there = |agent: &&AgentId| vantages.iter().any(|vantage| vantage.agent == **agent);
            let silent = |agent: &&AgentId| order.votes.iter().all(|vote| vote.agent != **agent);
            asked.iter().filter(there).filter(silent).count()
        });
        u8::try_from(counted + awaited).unwrap_or(u8::MAX)
    }
}

/// Orders whose deadline has passed.
fn over(state: &State, now: Timestamp) -> Vec<Expired> {
    let passed = |id: &OrderId| {
        state
            .orders
            .get(id)
            .is_some_and(|order| order.deadline <= now)
    };
    let ids = state.index.asking(now).take_while(passed).take(EXPIRED_MAX);
    ids.map(|order| Expired { order, vantages: 0 }).collect()
}

/// The `wanted` best vantages to ask: healthy, not asked before, distinct from the owner's, from
/// those that have been asked, and from each other. Other regions come first, then other
/// networks; between equals a hash of order and agent decides, so that the work spreads.
#[must_use]
pub fn choose(
    state: &State,
    id: OrderId,
    order: &Order,
    vantages: &[Vantage],
    asked: &BTreeSet<AgentId>,
    wanted: usize,
) -> Vec<AgentId> {
    let mut regions: BTreeSet<&Name> = BTreeSet::new();
    let mut networks: BTreeSet<&Name> = BTreeSet::new();
    let mut taken: BTreeSet<(&Name, &Name)> = BTreeSet::new();
    let open = state.open.get(&order.check.check);
    let owners = open
        .into_iter()
        .flat_map(|open| open.words.values())
        .map(|word| word.agent);
    for agent in owners.chain(asked.iter().copied()) {
        if let Some(agent) = state.agents.get(&agent) {
            regions.insert(&agent.region);
            networks.insert(&agent.network);
            taken.insert(agent.vantage());
        }
    }
    let mut chosen = Vec::with_capacity(wanted);
    for _ in 0..wanted {
        let free = vantages.iter().filter(|vantage| {
            vantage.healthy && !taken.contains(&(&vantage.region, &vantage.network))
        });
        let best = free.min_by_key(|vantage| {
            (
                regions.contains(&vantage.region),
                networks.contains(&vantage.network),
                spread(id, vantage.agent),
            )
        });
        let Some(best) = best else { break };
        regions.insert(&best.region);
        networks.insert(&best.network);
        taken.insert((&best.region, &best.network));
        chosen.push(best.agent);
    }
    chosen
}

/// Orders one agent differently among its equals for each order.
const fn spread(order: OrderId, agent: AgentId) -> u64 {
    crate::placement::score::mix(order.0 ^ crate::placement::score::mix(agent.0 as u64))
}

#[cfg(test)]
mod tests {
    use picket_wire::reason::Reason;

    use super::*;
    use crate::command::{Command, DrainAgent, ExpireOrders};
    use crate::testing::{World, check, slot_of};

    const FLEET: [(&str, &str); 5] = [
        ("eu", "as1"),
        ("eu", "as1"),
        ("eu", "as2"),
        ("us", "as1"),
        ("ap", "as3"),
    ];

    /// A check that its owner, agent 1, has just found failing.
    fn suspected() -> World {
        let mut world = World::with_agents(&FLEET);
        world.assign(slot_of(check(1)).shard.0, 0, 1);
        world
            .at(1_000)
            .owner(1, check(1), Some(Reason::ConnectRefused));
        world
    }

    fn vantages(world: &World, agents: &[u32]) -> Vec<Vantage> {
        let of = |&agent: &u32| {
            let agent = AgentId(agent);
            let known = &world.state().agents[&agent];
            Vantage {
                agent,
                region: known.region.clone(),
                zone: known.zone.clone(),
                network: known.network.clone(),
                healthy: true,
            }
        };
        agents.iter().map(of).collect()
    }

    fn asked(effects: &[Effect]) -> Vec<u32> {
        let agents = effects.iter().flat_map(|effect| match effect {
            Effect::Ask { agents, .. } => agents.clone(),
            Effect::Expire(_) => Vec::new(),
        });
        agents.map(|agent| agent.0).collect()
    }

    #[test]
    fn who_is_silent_drained_or_without_a_lease_is_not_asked() {
        let mut world = World::with_agents(&FLEET);
        let (agent, drain) = (AgentId(2), true);
        world.apply(Command::DrainAgent(DrainAgent { agent, drain }));
        let heard = |agent, at| Heard {
            agent: AgentId(agent),
            at: Timestamp(at),
            healthy: true,
        };
        let live = [1, 2, 3, 9].map(AgentId).into();
        let connected = [
            heard(1, 7_000),
            heard(2, 10_000),
            heard(3, 6_999),
            heard(4, 10_000),
            heard(9, 10_000),
        ];
        let found = super::vantages(world.state(), &live, connected, Timestamp(10_000));
        assert_eq!(found, vantages(&world, &[1]));
    }

    #[test]
    fn other_regions_are_asked_first_then_other_networks() {
        let world = suspected();
        let mut driver = Driver::new(Timestamp(0));
        let all = vantages(&world, &[1, 2, 3, 4, 5]);
        let mut first = asked(&driver.step(Timestamp(1_000), world.state(), &all));
        first.sort_unstable();
        assert_eq!(first, [4, 5]);
        assert!(asked(&driver.step(Timestamp(1_100), world.state(), &all)).is_empty());
        let near = vantages(&world, &[1, 2, 3]);
        let near = asked(&Driver::new(Timestamp(0)).step(Timestamp(1_000), world.state(), &near));
        assert_eq!(
            near,
            [3],
            "agents 1 and 2 look from the owner's own vantage"
        );
    }

    #[test]
    fn a_vantage_that_vanishes_or_is_not_healthy_is_replaced() {
        let mut world = suspected();
        let mut driver = Driver::new(Timestamp(0));
        let few = vantages(&world, &[4, 5]);
        driver.step(Timestamp(1_000), world.state(), &few);
        let without = vantages(&world, &[3, 4]);
        let again = asked(&driver.step(Timestamp(1_200), world.state(), &without));
        assert_eq!(again, [3]);
        world
            .at(1_300)
            .vote(4, check(1), Some(Reason::ConnectRefused));
        assert!(asked(&driver.step(Timestamp(1_300), world.state(), &without)).is_empty());
    }

    #[test]
    fn an_agent_that_the_order_did_not_reach_is_asked_again() {
        let world = suspected();
        let order = world.order(check(1)).unwrap();
        let mut driver = Driver::new(Timestamp(0));
        let both = vantages(&world, &[4, 5]);
        driver.step(Timestamp(1_000), world.state(), &both);
        driver.unreached(order, AgentId(5));
        let again = asked(&driver.step(Timestamp(1_100), world.state(), &both));
        assert_eq!(again, [5]);
    }

    #[test]
    fn an_order_ends_at_its_deadline_and_before_when_nobody_is_left_to_ask() {
        let mut world = suspected();
        let order = world.order(check(1)).unwrap();
        let mut driver = Driver::new(Timestamp(1_000));
        let alone = vantages(&world, &[1]);
        assert!(
            driver
                .step(Timestamp(2_999), world.state(), &alone)
                .is_empty(),
            "the term is young"
        );
        let early = driver.step(Timestamp(3_000), world.state(), &alone);
        assert_eq!(
            early,
            [Effect::Expire(vec![Expired { order, vantages: 0 }])]
        );
        let mut settled = Driver::new(Timestamp(-10_000));
        assert!(
            settled
                .step(Timestamp(1_499), world.state(), &alone)
                .is_empty(),
            "the order is young"
        );
        let soon = settled.step(Timestamp(1_500), world.state(), &alone);
        assert_eq!(soon, early, "an old leader knows who is there");
        let late = Driver::new(Timestamp(6_000)).step(Timestamp(6_000), world.state(), &[]);
        assert_eq!(late, [Effect::Expire(vec![Expired { order, vantages: 0 }])]);
        let orders = vec![Expired { order, vantages: 0 }];
        world
            .at(3_000)
            .apply(Command::ExpireOrders(ExpireOrders { orders }));
        assert_ne!(
            world.order(check(1)),
            Some(order),
            "it was decided, and is asked again later"
        );
        assert!(
            driver
                .step(Timestamp(3_000), world.state(), &alone)
                .is_empty()
        );
        let next = driver.deadline(Timestamp(3_000), world.state());
        assert_eq!(next, Some(Timestamp(13_000)));
    }
}
