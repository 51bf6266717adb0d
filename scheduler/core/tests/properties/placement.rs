//! The planner against its promises and a naive twin.

use std::collections::{BTreeMap, BTreeSet};

use picket_scheduler_core::command::Move;
use picket_scheduler_core::placement::{Candidate, Fitness, Problem, Shape, plan};
use picket_scheduler_core::state::Assignment;
use picket_wire::fact::AssignCause;
use picket_wire::id::{AgentId, GroupId, ShardId, ShardSlot};
use picket_wire::name::Name;
use picket_wire::time::Timestamp;
use proptest::prelude::*;

const GROUP: GroupId = GroupId(1);
/// A budget that never binds.
const AMPLE: usize = 1_000_000;

fn region(n: usize) -> Name {
    Name::parse(["ap", "eu", "us"][n % 3]).unwrap()
}

/// A problem where nothing is assigned yet and everybody is eligible.
fn fresh(max_weight: u32) -> impl Strategy<Value = Problem> {
    let agent = (0_usize..3, prop::sample::select(vec![50_u16, 100, 200]));
    let agents = prop::collection::vec(agent, 1..9);
    let shards = prop::collection::vec(1..=max_weight, 1..80);
    (agents, shards, 1_u8..=2).prop_map(|(agents, shards, replicas)| {
        let agents: BTreeMap<_, _> = (1..)
            .map(AgentId)
            .zip(agents)
            .map(|(id, (place, weight))| {
                let region = region(place);
                (
                    id,
                    Candidate {
                        region,
                        weight,
                        fitness: Fitness::Eligible,
                    },
                )
            })
            .collect();
        let regions: BTreeSet<_> = agents.values().map(|agent| agent.region.clone()).collect();
        let shape = Shape {
            regions: regions.into_iter().collect(),
            replicas,
        };
        Problem {
            groups: BTreeMap::from([(GROUP, shape)]),
            shards: (0..).map(|n| (GROUP, ShardId(n))).zip(shards).collect(),
            agents,
            current: BTreeMap::new(),
            frozen: BTreeSet::new(),
            budget: AMPLE,
        }
    })
}

/// The same after its first plan, and then with other agents and shards.
fn disturbed() -> impl Strategy<Value = Problem> {
    let fitness = prop::sample::select(vec![
        Fitness::Eligible,
        Fitness::Eligible,
        Fitness::Eligible,
        Fitness::Draining,
        Fitness::Lost,
        Fitness::Revoked,
    ]);
    let changes = prop::collection::vec((fitness, any::<bool>()), 9);
    let budget = prop::sample::select(vec![0, 1, 5, AMPLE]);
    (
        fresh(20),
        changes,
        prop::option::of(0_usize..3),
        budget,
        0_usize..4,
    )
        .prop_map(|(mut problem, changes, frozen, budget, emptied)| {
            // Some agents come only now, some shards are empty now.
            let newcomers: Vec<_> = problem
                .agents
                .iter()
                .zip(&changes)
                .filter(|(_, (_, newcomer))| *newcomer)
                .map(|((&id, agent), _)| (id, agent.clone()))
                .collect();
            problem
                .agents
                .retain(|id, _| newcomers.iter().all(|(new, _)| new != id));
            let mut problem = applied(&problem);
            problem.agents.extend(newcomers);
            for (agent, (fitness, newcomer)) in problem.agents.values_mut().zip(&changes) {
                agent.fitness = if *newcomer {
                    Fitness::Eligible
                } else {
                    *fitness
                };
            }
            let gone: Vec<_> = problem.shards.keys().take(emptied).copied().collect();
            gone.iter().for_each(|shard| {
                problem.shards.remove(shard);
            });
            problem.frozen = frozen.into_iter().map(region).collect();
            problem.budget = budget;
            problem
        })
}

fn after(problem: &Problem, moves: &[Move]) -> Problem {
    let mut problem = problem.clone();
    for planned in moves {
        let before = problem.current.get(&planned.slot).copied();
        assert_eq!(before.map_or(0, |before| before.epoch.0), planned.seen.0);
        let moved = before.is_none_or(|before| before.agent != planned.agent);
        let assignment = Assignment {
            agent: planned.agent,
            standby: planned.standby,
            epoch: if moved {
                planned.seen.next()
            } else {
                planned.seen
            },
            since: Timestamp(0),
            cause: planned.cause,
        };
        problem.current.insert(planned.slot, assignment);
    }
    problem
}

fn applied(problem: &Problem) -> Problem {
    after(problem, &plan(problem))
}

fn slots(problem: &Problem) -> Vec<ShardSlot> {
    let replicas = problem.groups[&GROUP].replicas;
    let of = |&(group, shard): &(GroupId, ShardId)| {
        (0..replicas).map(move |slot| ShardSlot {
            group,
            shard,
            slot: picket_wire::id::Slot(slot),
        })
    };
    problem.shards.keys().flat_map(of).collect()
}

fn owner(problem: &Problem, slot: ShardSlot) -> Option<AgentId> {
    problem.current.get(&slot)?.agent
}

fn may_have(problem: &Problem, agent: AgentId) -> bool {
    let candidate = &problem.agents[&agent];
    candidate.fitness == Fitness::Eligible && !problem.frozen.contains(&candidate.region)
}

/// Whether the agent owns another slot of the same shard.
fn holds_other(problem: &Problem, agent: AgentId, slot: ShardSlot) -> bool {
    let others = slots(problem).into_iter();
    others
        .filter(|other| other.shard == slot.shard && *other != slot)
        .any(|other| owner(problem, other) == Some(agent))
}

fn moved_owner(problem: &Problem, planned: &Move) -> bool {
    owner(problem, planned.slot) != planned.agent
}

fn load(problem: &Problem, agent: AgentId) -> u64 {
    let owned = slots(problem)
        .into_iter()
        .filter(|&slot| owner(problem, slot) == Some(agent));
    owned
        .map(|slot| u64::from(problem.shards[&(slot.group, slot.shard)]))
        .sum()
}

/// The naive twin: where a slot of a shard with one owner belongs.
fn naive_region(problem: &Problem, slot: ShardSlot) -> Option<&Name> {
    let regions = &problem.groups[&GROUP].regions;
    let first = slot.shard.0 as usize % regions.len();
    let turn = |n: usize| &regions[(first + n) % regions.len()];
    (0..regions.len()).map(turn).find(|&region| {
        problem
            .agents
            .iter()
            .any(|(&id, a)| a.region == *region && may_have(problem, id))
    })
}

proptest! {
    #![proptest_config(crate::config(256))]

    #[test]
    fn no_slot_is_unowned_while_somebody_can_have_it(problem in disturbed()) {
        let planned = applied(&problem);
        for slot in slots(&planned) {
            let owner = owner(&planned, slot);
            if let Some(owner) = owner {
                prop_assert_ne!(planned.agents[&owner].fitness, Fitness::Revoked);
                continue;
            }
            let able = planned.agents.keys().find(|&&agent| {
                may_have(&planned, agent) && !holds_other(&planned, agent, slot)
            });
            prop_assert_eq!(able, None, "{} has no owner", slot);
        }
    }

    #[test]
    fn the_plan_of_an_applied_plan_is_empty(mut problem in disturbed()) {
        problem.budget = AMPLE;
        let planned = applied(&problem);
        prop_assert_eq!(plan(&planned), []);
    }

    #[test]
    fn no_agent_has_two_slots_of_one_shard(problem in disturbed()) {
        let planned = applied(&problem);
        for slot in slots(&planned) {
            if let Some(owner) = owner(&planned, slot) {
                prop_assert!(!holds_other(&planned, owner, slot), "{} {}", slot, owner);
            }
        }
    }

    #[test]
    fn load_is_bounded(problem in fresh(20)) {
        let planned = applied(&problem);
        let heaviest = planned.shards.values().max().copied().map_or(0, u64::from);
        for (&agent, candidate) in &planned.agents {
            let peers = planned.agents.iter().filter(|(_, peer)| peer.region == candidate.region);
            let (mut demand, mut weights) = (0, 0);
            for (&id, peer) in peers {
                demand += load(&planned, id);
                weights += u64::from(peer.weight);
            }
            let share = demand * u64::from(candidate.weight);
            let cap = (share * 110).div_ceil(weights * 100);
            let load = load(&planned, agent);
            // A slot that fits nowhere makes the least loaded agent exceed its cap by one slot.
            // Two slots of one shard cannot share an agent, which can force more in small regions.
            let slack = heaviest * if planned.groups[&GROUP].replicas == 1 { 1 } else { 80 };
            prop_assert!(load <= cap + slack, "{} has {}, cap {}", agent, load, cap);
        }
    }

    #[test]
    fn only_the_slots_of_an_agent_that_leaves_move(problem in fresh(1), leaver in 0_usize..9, budget in prop::sample::select(vec![0, AMPLE])) {
        let mut settled = applied(&problem);
        let leaver = *settled.agents.keys().nth(leaver % settled.agents.len()).unwrap();
        settled.agents.get_mut(&leaver).unwrap().fitness = Fitness::Lost;
        settled.budget = budget;
        let moves = plan(&settled);
        let others = moves.iter().filter(|planned| moved_owner(&settled, planned))
            .filter(|planned| owner(&settled, planned.slot) != Some(leaver)).count();
        // Evening out may cost a slot or two where a region has only a handful of them.
        prop_assert!(others <= if budget == 0 { 0 } else { 2 }, "{} others move", others);
    }

    #[test]
    fn replicas_stand_in_different_regions(mut problem in fresh(20)) {
        problem.groups.get_mut(&GROUP).unwrap().replicas = 2;
        let several = problem.groups[&GROUP].regions.len() >= 2;
        let planned = applied(&problem);
        let mut regions: BTreeMap<ShardId, BTreeSet<&Name>> = BTreeMap::new();
        for slot in slots(&planned) {
            let owner = owner(&planned, slot);
            regions.entry(slot.shard).or_default().extend(owner.map(|o| &planned.agents[&o].region));
        }
        prop_assert!(!several || regions.values().all(|regions| regions.len() == 2));
    }

    #[test]
    fn a_single_owner_stands_where_the_naive_twin_says(mut problem in disturbed()) {
        problem.groups.get_mut(&GROUP).unwrap().replicas = 1;
        problem.current.retain(|slot, _| slot.slot.0 == 0);
        problem.frozen.clear();
        problem.budget = AMPLE;
        let planned = applied(&problem);
        for slot in slots(&planned) {
            let Some(expected) = naive_region(&planned, slot) else { continue };
            let owner = owner(&planned, slot).unwrap();
            prop_assert_eq!(&planned.agents[&owner].region, expected, "{}", slot);
        }
    }

    #[test]
    fn moves_that_need_not_be_stay_within_the_budget(problem in disturbed()) {
        let optional = plan(&problem).into_iter().filter(|planned| {
            let owner = owner(&problem, planned.slot).map(|owner| problem.agents[&owner].fitness);
            let could_stay = matches!(owner, Some(Fitness::Eligible | Fitness::Draining));
            could_stay && moved_owner(&problem, planned) && planned.cause != AssignCause::Emptied
        });
        prop_assert!(optional.count() <= problem.budget);
    }

    #[test]
    fn nothing_moves_out_of_into_or_within_a_frozen_region(problem in disturbed()) {
        let frozen = |agent: Option<AgentId>| agent.is_some_and(|agent| {
            let agent = &problem.agents[&agent];
            problem.frozen.contains(&agent.region) && agent.fitness != Fitness::Revoked
        });
        for planned in plan(&problem) {
            prop_assert!(!frozen(owner(&problem, planned.slot)), "{:?}", planned);
            prop_assert!(!frozen(planned.agent), "{:?}", planned);
        }
    }

    #[test]
    fn a_drained_agent_is_empty_when_anybody_else_is_there(problem in fresh(20), drained in 0_usize..9) {
        let mut settled = applied(&problem);
        let drained = *settled.agents.keys().nth(drained % settled.agents.len()).unwrap();
        settled.agents.get_mut(&drained).unwrap().fitness = Fitness::Draining;
        let moves = plan(&settled);
        for planned in &moves {
            if owner(&settled, planned.slot) == Some(drained) && moved_owner(&settled, planned) {
                prop_assert_eq!(planned.cause, AssignCause::Drained);
            }
        }
        let planned = after(&settled, &moves);
        for slot in slots(&planned).into_iter().filter(|&slot| owner(&planned, slot) == Some(drained)) {
            let able = planned.agents.keys().any(|&agent| {
                may_have(&planned, agent) && !holds_other(&planned, agent, slot)
            });
            prop_assert!(!able, "{} stays although somebody can have it", slot);
        }
    }

    #[test]
    fn standbys_are_others_and_can_have_it(problem in disturbed()) {
        let planned = applied(&problem);
        for planned_move in plan(&problem) {
            let Some(standby) = planned_move.standby else { continue };
            prop_assert!(may_have(&planned, standby));
            prop_assert_ne!(planned_move.agent, Some(standby));
            prop_assert!(!holds_other(&planned, standby, planned_move.slot));
        }
    }
}

#[test]
fn a_newcomer_receives_its_share() {
    let candidate = Candidate {
        region: region(0),
        weight: 100,
        fitness: Fitness::Eligible,
    };
    let mut problem = Problem {
        groups: BTreeMap::from([(
            GROUP,
            Shape {
                regions: vec![region(0)],
                replicas: 1,
            },
        )]),
        shards: (0..1_000).map(|n| ((GROUP, ShardId(n)), 1)).collect(),
        agents: (1..=20).map(|n| (AgentId(n), candidate.clone())).collect(),
        budget: AMPLE,
        ..Problem::default()
    };
    problem = applied(&problem);
    problem.agents.insert(AgentId(21), candidate);
    let moves = plan(&problem);
    let planned = after(&problem, &moves);
    let newcomer = load(&planned, AgentId(21));
    assert!((40..=53).contains(&newcomer), "{newcomer} of a share of 47");
    let moved = moves
        .iter()
        .filter(|planned| moved_owner(&problem, planned))
        .count();
    assert!(moved <= 53, "{moved} moves");
}
