//! Evening out: nobody much above a fair share, nobody much below.
//!
//! Two thresholds far apart, so that a small change of load moves nothing: an agent gives away
//! what exceeds its cap, and receives when it has less than three quarters of its share, as an
//! agent that has just come. What moves anyway moves first and costs no budget.

use picket_wire::fact::AssignCause;

use super::{AgentIndex, Orphan, RegionIndex, Solver};

/// An agent has at most this many hundredths of its share: with 256 shards an agent, the bound
/// costs next to no moves (measured over 65,536 shards and 256 agents).
const CAP_PERCENT: u64 = 110;
/// An agent with less than this many hundredths of its share receives.
const POOR_PERCENT: u64 = 75;
/// It receives until it has this many.
const CONTENT_PERCENT: u64 = 95;
/// Nobody gives that has less than this many afterwards.
const GIVING_PERCENT: u64 = 90;
/// Rounds of giving and receiving. Each round ends either with nothing to do or with less
/// imbalance; a few suffice, the bound only makes the end certain.
const ROUNDS_MAX: usize = 32;

impl Solver<'_> {
    /// What each region has to carry: the slots in it, and those that wait to be placed there.
    pub(super) fn demand(&self, waiting: &[Orphan]) -> Vec<u64> {
        let mut demand = vec![0_u64; self.regions.len()];
        for place in &self.places {
            if let Some(region) = place.owner.and_then(|owner| self.regions_load(owner)) {
                demand[region] += u64::from(place.weight);
            }
        }
        for orphan in waiting {
            let place = &self.places[orphan.index];
            let stands = place.owner.and_then(|owner| self.regions_load(owner));
            if let Some(region) = stands {
                demand[region] -= u64::from(place.weight);
            }
            if let Some(region) = orphan.target {
                demand[region] += u64::from(place.weight);
            }
        }
        demand
    }

    /// Sets what each agent should have, from what its region has to carry.
    pub(super) fn set_caps(&mut self, demand: &[u64]) {
        for (region, &demand) in demand.iter().enumerate() {
            let eligible = self.regions[region].eligible.clone();
            let weights: u64 = eligible
                .iter()
                .map(|&a| u64::from(self.workers[a].weight))
                .sum();
            for agent in eligible {
                let worker = &mut self.workers[agent];
                let share = demand * u64::from(worker.weight);
                worker.fair = share / weights.max(1);
                worker.cap = (share * CAP_PERCENT).div_ceil(weights.max(1) * 100);
            }
        }
    }

    /// The region that carries what `owner` has; `None` for an owner that shares with nobody.
    fn regions_load(&self, owner: AgentIndex) -> Option<RegionIndex> {
        let region = self.workers[owner].region;
        self.regions[region]
            .eligible
            .contains(&owner)
            .then_some(region)
    }

    /// Moves slots from those that have too many and to those that have too few, and says whether
    /// any moved.
    pub(super) fn balance(&mut self) -> bool {
        let mut any = false;
        for region in 0..self.regions.len() {
            let agents = self.regions[region].eligible.clone();
            if agents.len() < 2 {
                continue;
            }
            for _ in 0..ROUNDS_MAX {
                // Everybody sheds, then everybody is fed: `any` would stop at the first.
                let shed = agents.iter().filter(|&&agent| self.shed(agent)).count();
                let fed = agents.iter().filter(|&&agent| self.feed(agent)).count();
                if shed + fed == 0 {
                    break;
                }
                any = true;
            }
        }
        any
    }

    /// Gives away what exceeds the agent's cap, where somebody has room for it.
    fn shed(&mut self, agent: AgentIndex) -> bool {
        if self.workers[agent].load <= self.workers[agent].cap {
            return false;
        }
        let mut moved = false;
        for index in self.slots_of(agent, |solver, index| {
            (
                !solver.places[index].is_free(),
                u64::MAX - solver.score(solver.places[index].slot, agent),
            )
        }) {
            if self.workers[agent].load <= self.workers[agent].cap {
                break;
            }
            if let Some(taker) = self.taker(index, agent) {
                moved |= self.shift(index, taker);
            }
        }
        moved
    }

    /// The agent of the same region that has room for a slot and suits it best.
    fn taker(&self, index: usize, giver: AgentIndex) -> Option<AgentIndex> {
        let place = &self.places[index];
        let region = &self.regions[self.workers[giver].region];
        let fits = |&agent: &AgentIndex| {
            let worker = &self.workers[agent];
            agent != giver
                && worker.load + u64::from(place.weight) <= worker.cap
                && !self.holds_other(index, agent)
        };
        let fitting = region.eligible.iter().copied().filter(fits);
        fitting.min_by_key(|&agent| (self.score(place.slot, agent), agent))
    }

    /// Takes slots for an agent that has far too few.
    fn feed(&mut self, agent: AgentIndex) -> bool {
        let worker = &self.workers[agent];
        if worker.load * 100 >= worker.fair * POOR_PERCENT {
            return false;
        }
        let region = worker.region;
        let mut moved = false;
        let mut slots: Vec<usize> = (0..self.places.len())
            .filter(|&index| self.in_region(index, region))
            .collect();
        slots.sort_by_key(|&index| {
            let place = &self.places[index];
            (!place.is_free(), self.score(place.slot, agent), index)
        });
        for index in slots {
            if self.workers[agent].load * 100 >= self.workers[agent].fair * CONTENT_PERCENT {
                break;
            }
            if self.may_give(index, agent) {
                moved |= self.shift(index, agent);
            }
        }
        moved
    }

    fn in_region(&self, index: usize, region: RegionIndex) -> bool {
        let place = &self.places[index];
        !place.pinned
            && place
                .owner
                .is_some_and(|owner| self.regions_load(owner) == Some(region))
    }

    /// Whether a slot's owner can spare it for `taker`.
    fn may_give(&self, index: usize, taker: AgentIndex) -> bool {
        let place = &self.places[index];
        let weight = u64::from(place.weight);
        let Some(giver) = place.owner.filter(|&owner| owner != taker) else {
            return false;
        };
        let (giver, receiver) = (&self.workers[giver], &self.workers[taker]);
        giver.load.saturating_sub(weight) * 100 >= giver.fair * GIVING_PERCENT
            && receiver.load + weight <= receiver.cap
            && !self.holds_other(index, taker)
    }

    /// The slots an agent has, in the order of `rank`.
    fn slots_of<K: Ord>(&self, agent: AgentIndex, rank: impl Fn(&Self, usize) -> K) -> Vec<usize> {
        let owned =
            |&index: &usize| self.places[index].owner == Some(agent) && !self.places[index].pinned;
        let mut slots: Vec<usize> = (0..self.places.len()).filter(owned).collect();
        slots.sort_by_key(|&index| (rank(self, index), index));
        slots
    }

    /// Moves a slot to another owner, if the budget allows.
    fn shift(&mut self, index: usize, taker: AgentIndex) -> bool {
        let returns = self.places[index].was == Some(taker);
        if !self.places[index].is_free() && !returns {
            if self.rebalance_budget == 0 {
                return false;
            }
            self.rebalance_budget -= 1;
            self.places[index].cause = Some(AssignCause::Rebalanced);
        }
        self.give(index, taker);
        true
    }
}
