//! The solver: keep what can stay, place what has no owner, even out, name standbys.

mod balance;
mod standby;

use std::collections::BTreeMap;

use picket_wire::fact::AssignCause;
use picket_wire::id::{AgentId, Epoch, GroupId, ShardId, ShardSlot, Slot};
use picket_wire::name::Name;

use crate::command::Move;
use crate::placement::problem::{Fitness, Problem};
use crate::placement::score::score;

/// Rounds of placing and evening out. Hardly ever more than two; the bound makes the end certain.
const ROUNDS_MAX: usize = 8;

/// An agent's place in the solver's list.
type AgentIndex = usize;
/// A region's place in the solver's list.
type RegionIndex = usize;

/// An agent, as the solver goes.
#[derive(Debug)]
struct Worker {
    id: AgentId,
    region: RegionIndex,
    weight: u16,
    fitness: Fitness,
    /// Checks in the slots it has so far.
    load: u64,
    /// Most checks it should have.
    cap: u64,
    /// Its proportional share.
    fair: u64,
}

/// A region, as the solver goes.
#[derive(Debug, Default)]
struct Region {
    /// Agents that may be given slots.
    eligible: Vec<AgentIndex>,
    frozen: bool,
}

/// A slot to be placed.
#[derive(Debug)]
struct Place {
    slot: ShardSlot,
    weight: u32,
    /// Its owner before the plan.
    was: Option<AgentIndex>,
    /// Its owner so far.
    owner: Option<AgentIndex>,
    /// Why it was moved; `None` as long as it has not been.
    cause: Option<AssignCause>,
    /// Whether nothing about it may change.
    pinned: bool,
}

impl Place {
    /// Whether moving it once more costs nothing, because it moves anyway.
    const fn is_free(&self) -> bool {
        self.cause.is_some()
    }
}

/// What becomes of a slot's owner before anything is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It stays.
    Stays,
    /// It goes, and the slot stays with it if nobody else can have it.
    Leaves(AssignCause),
    /// It is gone: the slot is with nobody until somebody can have it.
    Gone(AssignCause),
}

pub(super) struct Solver<'a> {
    problem: &'a Problem,
    workers: Vec<Worker>,
    regions: Vec<Region>,
    region_names: BTreeMap<&'a Name, RegionIndex>,
    places: Vec<Place>,
    drain_budget: usize,
    rebalance_budget: usize,
}

impl<'a> Solver<'a> {
    pub(super) fn new(problem: &'a Problem) -> Self {
        let mut region_names: BTreeMap<&Name, RegionIndex> = BTreeMap::new();
        let named = problem.groups.values().flat_map(|shape| &shape.regions);
        for name in named.chain(problem.agents.values().map(|agent| &agent.region)) {
            let next = region_names.len();
            region_names.entry(name).or_insert(next);
        }
        let mut regions: Vec<Region> = region_names.iter().map(|_| Region::default()).collect();
        for (name, &index) in &region_names {
            regions[index].frozen = problem.frozen.contains(*name);
        }
        let mut workers = Vec::with_capacity(problem.agents.len());
        let mut indexes = BTreeMap::new();
        for (&id, agent) in &problem.agents {
            let region = region_names[&agent.region];
            if agent.fitness == Fitness::Eligible && !regions[region].frozen {
                regions[region].eligible.push(workers.len());
            }
            indexes.insert(id, workers.len());
            let (weight, fitness) = (agent.weight, agent.fitness);
            workers.push(Worker {
                id,
                region,
                weight,
                fitness,
                load: 0,
                cap: 0,
                fair: 0,
            });
        }
        let places = places(problem, &indexes);
        let drained = places.iter().filter_map(|place| place.was);
        let drained = drained
            .filter(|&was| workers[was].fitness == Fitness::Draining)
            .count();
        let drain_budget = drained.min(problem.budget);
        let rebalance_budget = problem.budget - drain_budget;
        Self {
            problem,
            workers,
            regions,
            region_names,
            places,
            drain_budget,
            rebalance_budget,
        }
    }

    pub(super) fn solve(mut self) -> Vec<Move> {
        let shards = self.shards();
        let mut waiting = Vec::new();
        for shard in &shards {
            self.settle(shard.clone(), &mut waiting);
        }
        self.place_all(&mut waiting);
        for orphan in waiting {
            self.leave_unplaced(orphan);
        }
        self.moves(&shards)
    }

    /// Places what waits, and evens out. Each can free an agent for a slot that could not have it
    /// before; where nothing moves any more, slots that must go somewhere go anywhere.
    fn place_all(&mut self, waiting: &mut Vec<Orphan>) {
        let mut anywhere = false;
        for _ in 0..ROUNDS_MAX {
            let demand = self.demand(waiting);
            self.set_caps(&demand);
            let mut progress = false;
            waiting.retain_mut(|orphan| {
                let placed = self.place(orphan, anywhere);
                progress |= placed != Placed::Nowhere;
                placed != Placed::AtTarget
            });
            let demand = self.demand(&[]);
            self.set_caps(&demand);
            progress |= self.balance();
            if waiting.is_empty() || (anywhere && !progress) {
                break;
            }
            anywhere |= !progress;
        }
    }

    /// The places of each shard.
    fn shards(&self) -> Vec<std::ops::Range<usize>> {
        let mut shards: Vec<std::ops::Range<usize>> = Vec::new();
        let same = |a: ShardSlot, b: ShardSlot| a.group == b.group && a.shard == b.shard;
        for (index, place) in self.places.iter().enumerate() {
            match shards.last_mut() {
                Some(last) if same(self.places[last.start].slot, place.slot) => {
                    last.end = index + 1
                }
                _ => shards.push(index..index + 1),
            }
        }
        shards
    }

    /// Decides for the slots of one shard who stays, and where those go that cannot stay.
    fn settle(&mut self, shard: std::ops::Range<usize>, waiting: &mut Vec<Orphan>) {
        let targets = self.targets(shard.clone());
        for (index, target) in shard.zip(targets) {
            let (cause, keeps) = match self.fate(index, target) {
                Fate::Stays => {
                    if let Some(was) = self.places[index].was {
                        self.give(index, was);
                    }
                    continue;
                }
                // Until somebody else has it.
                Fate::Leaves(cause) => {
                    if let Some(was) = self.places[index].was {
                        self.give(index, was);
                    }
                    (cause, true)
                }
                Fate::Gone(cause) => (cause, false),
            };
            self.spend(cause);
            let must_go = cause != AssignCause::Rebalanced;
            waiting.push(Orphan {
                index,
                target,
                cause,
                keeps,
                must_go,
            });
        }
    }

    /// The region in which each slot of a shard should stand.
    ///
    /// A slot stands in the region it prefers where somebody can have it there; so the slots of
    /// a shard stand apart by themselves. One that cannot falls to the next region in its order
    /// that no other slot has, and shares one only where none is left.
    fn targets(&mut self, shard: std::ops::Range<usize>) -> Vec<Option<RegionIndex>> {
        let mut targets: Vec<Option<RegionIndex>> = vec![None; shard.len()];
        for (index, target) in shard.clone().zip(&mut targets) {
            if let Some(was) = self.places[index].was.filter(|&was| self.is_pinned(was)) {
                self.places[index].pinned = true;
                *target = Some(self.workers[was].region);
            }
        }
        for (place, index) in shard.clone().enumerate() {
            let preferred = self.order(self.places[index].slot).next();
            let free = preferred.filter(|&region| {
                !self.regions[region].eligible.is_empty() && !targets.contains(&Some(region))
            });
            targets[place] = targets[place].or(free);
        }
        for (place, index) in shard.enumerate() {
            if targets[place].is_none() {
                targets[place] = self.fallback(self.places[index].slot, &targets);
            }
        }
        targets
    }

    /// The next region of a slot that cannot stand in the one it prefers.
    fn fallback(&self, slot: ShardSlot, used: &[Option<RegionIndex>]) -> Option<RegionIndex> {
        let taken = |region: RegionIndex| used.iter().filter(|&&u| u == Some(region)).count();
        let left = |region: RegionIndex| self.regions[region].eligible.len() > taken(region);
        let open = || self.order(slot).filter(|&region| left(region));
        open()
            .find(|&region| taken(region) == 0)
            .or_else(|| open().next())
    }

    fn is_pinned(&self, owner: AgentIndex) -> bool {
        let worker = &self.workers[owner];
        self.regions[worker.region].frozen && worker.fitness != Fitness::Revoked
    }

    fn order(&self, slot: ShardSlot) -> impl Iterator<Item = RegionIndex> {
        let regions = self.problem.regions_of(slot);
        regions
            .into_iter()
            .filter_map(|name| self.region_names.get(name).copied())
    }

    fn fate(&self, index: usize, target: Option<RegionIndex>) -> Fate {
        let Some(was) = self.places[index].was else {
            return Fate::Gone(AssignCause::Initial);
        };
        let worker = &self.workers[was];
        match (worker.fitness, target) {
            _ if self.places[index].pinned => Fate::Stays,
            (Fitness::Revoked, _) => Fate::Gone(AssignCause::Revoked),
            (_, None) => Fate::Stays,
            (Fitness::Lost, Some(_)) => Fate::Leaves(AssignCause::LeaseExpired),
            (Fitness::Draining, Some(_)) if self.drain_budget > 0 => {
                Fate::Leaves(AssignCause::Drained)
            }
            (Fitness::Eligible, Some(target))
                if worker.region != target && self.rebalance_budget > 0 =>
            {
                Fate::Leaves(AssignCause::Rebalanced)
            }
            (Fitness::Draining | Fitness::Eligible, Some(_)) => Fate::Stays,
        }
    }

    const fn spend(&mut self, cause: AssignCause) {
        match cause {
            AssignCause::Drained => self.drain_budget -= 1,
            AssignCause::Rebalanced => self.rebalance_budget -= 1,
            AssignCause::Initial
            | AssignCause::LeaseExpired
            | AssignCause::Revoked
            | AssignCause::Emptied => {}
        }
    }

    /// Gives a slot to an agent, and takes it from whoever has it.
    fn give(&mut self, index: usize, owner: AgentIndex) {
        let weight = u64::from(self.places[index].weight);
        if let Some(before) = self.places[index].owner.replace(owner) {
            self.workers[before].load -= weight;
        }
        self.workers[owner].load += weight;
    }

    /// Gives a slot that waits to the best agent that can have it: where it should stand, or else
    /// `anywhere`, if it must go.
    fn place(&mut self, orphan: &mut Orphan, anywhere: bool) -> Placed {
        let index = orphan.index;
        if let Some(owner) = orphan.target.and_then(|region| self.best(index, region)) {
            self.give(index, owner);
            self.places[index].cause = Some(orphan.cause);
            return Placed::AtTarget;
        }
        if !anywhere || !orphan.must_go {
            return Placed::Nowhere;
        }
        let regions: Vec<_> = self.order(self.places[index].slot).collect();
        let Some(owner) = regions
            .into_iter()
            .find_map(|region| self.best(index, region))
        else {
            return Placed::Nowhere;
        };
        self.give(index, owner);
        self.places[index].cause = Some(orphan.cause);
        orphan.must_go = false;
        orphan.keeps = true;
        Placed::Elsewhere
    }

    /// Nobody can have it: its owner keeps it, or it has none.
    fn leave_unplaced(&mut self, orphan: Orphan) {
        if !orphan.keeps {
            self.places[orphan.index].cause = Some(orphan.cause);
        }
    }

    /// The agent of a region that should have a slot: its standby, which has the blob ready, or
    /// the best by rendezvous, among those that have room; else the least loaded.
    fn best(&self, index: usize, region: RegionIndex) -> Option<AgentIndex> {
        let place = &self.places[index];
        let weight = u64::from(place.weight);
        let candidates = || {
            let eligible = self.regions[region].eligible.iter().copied();
            eligible.filter(|&agent| !self.holds_other(index, agent))
        };
        let roomy = || {
            candidates()
                .filter(|&agent| self.workers[agent].load + weight <= self.workers[agent].cap)
        };
        let current = self.problem.current.get(&place.slot);
        let standby = current.and_then(|assignment| assignment.standby);
        roomy()
            .find(|&agent| Some(self.workers[agent].id) == standby)
            .or_else(|| roomy().min_by_key(|&agent| (self.score(place.slot, agent), agent)))
            .or_else(|| candidates().min_by_key(|&agent| (self.fullness(agent), agent)))
    }

    /// Whether the agent has another slot of the same shard.
    fn holds_other(&self, index: usize, agent: AgentIndex) -> bool {
        let slot = self.places[index].slot;
        let replicas = self
            .problem
            .groups
            .get(&slot.group)
            .map_or(1, |shape| shape.replicas);
        let first = index - usize::from(slot.slot.0);
        (first..first + usize::from(replicas))
            .any(|other| other != index && self.places[other].owner == Some(agent))
    }

    fn score(&self, slot: ShardSlot, agent: AgentIndex) -> u64 {
        let worker = &self.workers[agent];
        score(slot, worker.id, worker.weight)
    }

    /// Load relative to weight, for comparison.
    fn fullness(&self, agent: AgentIndex) -> u64 {
        let worker = &self.workers[agent];
        (worker.load << 16) / u64::from(worker.weight)
    }

    fn moves(&self, shards: &[std::ops::Range<usize>]) -> Vec<Move> {
        let mut moves = Vec::new();
        for shard in shards {
            for index in shard.clone() {
                moves.extend(self.planned(index));
            }
        }
        moves.extend(self.emptied());
        moves
    }

    /// The move of one slot, if there is one.
    fn planned(&self, index: usize) -> Option<Move> {
        let place = &self.places[index];
        if place.pinned {
            return None;
        }
        let before = self.problem.current.get(&place.slot);
        let agent = place.owner.map(|owner| self.workers[owner].id);
        let standby = self.standby(index);
        let moved = before.and_then(|before| before.agent) != agent;
        if !moved && before.map_or_else(|| standby.is_none(), |before| before.standby == standby) {
            return None;
        }
        let kept = before.map_or(AssignCause::Initial, |before| before.cause);
        Some(Move {
            slot: place.slot,
            seen: before.map_or(Epoch(0), |before| before.epoch),
            agent,
            standby,
            cause: place.cause.filter(|_| moved).unwrap_or(kept),
        })
    }

    /// Slots whose shard has nothing left to probe.
    fn emptied(&self) -> impl Iterator<Item = Move> {
        let frozen = |agent: AgentId| {
            let region = self.problem.agents.get(&agent).map(|agent| &agent.region);
            region.is_some_and(|region| self.problem.frozen.contains(region))
        };
        self.problem
            .current
            .iter()
            .filter(|(slot, _)| !self.problem.shards.contains_key(&(slot.group, slot.shard)))
            .filter(move |(_, now)| now.agent.is_some_and(|agent| !frozen(agent)))
            .map(|(&slot, now)| Move {
                slot,
                seen: now.epoch,
                agent: None,
                standby: None,
                cause: AssignCause::Emptied,
            })
    }
}

/// A slot that has to be placed.
#[derive(Debug, Clone, Copy)]
struct Orphan {
    index: usize,
    target: Option<RegionIndex>,
    cause: AssignCause,
    /// Whether its owner keeps it when nobody else can have it.
    keeps: bool,
    /// Whether any place is better than where it is.
    must_go: bool,
}

/// What became of a slot that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placed {
    /// It stands where it should.
    AtTarget,
    /// It stands somewhere.
    Elsewhere,
    /// It waits.
    Nowhere,
}

/// Every slot of every shard that has checks, in order.
fn places(problem: &Problem, agents: &BTreeMap<AgentId, AgentIndex>) -> Vec<Place> {
    let slots = problem
        .shards
        .iter()
        .flat_map(|(&(group, shard), &weight)| {
            let replicas = problem.groups.get(&group).map_or(0, |shape| shape.replicas);
            (0..replicas).map(move |slot| (slot_of(group, shard, slot), weight))
        });
    let place = |(slot, weight)| {
        let assigned = problem
            .current
            .get(&slot)
            .and_then(|assignment| assignment.agent);
        let was = assigned.and_then(|agent| agents.get(&agent).copied());
        Place {
            slot,
            weight,
            was,
            owner: None,
            cause: None,
            pinned: false,
        }
    };
    slots.map(place).collect()
}

const fn slot_of(group: GroupId, shard: ShardId, slot: u8) -> ShardSlot {
    ShardSlot {
        group,
        shard,
        slot: Slot(slot),
    }
}
