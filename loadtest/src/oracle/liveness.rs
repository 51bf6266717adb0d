//! After the healing everything works again: owners, lanes, history, and what is believed of the
//! sites.

use picket_agent_core::Lane;
use picket_scheduler_core::command::init_cluster::DEFAULT_GROUP;
use picket_scheduler_core::state::{Assignment, Stage};
use picket_wire::id::{CheckId, MemberId, ShardSlot, Slot};
use picket_wire::time::{Interval, Span};

use crate::sim::world::World;

/// A batch counts, and a fact is projected, within this. Rollups are told some seconds after
/// their window, which is before they are synced.
const LANE_GRACE: Span = Span::from_secs(25);
/// A slot that was given away longer ago than this is probed by its owner.
const HANDOVER: Span = Span::from_secs(15);
/// A site that is down, or up, for so long is known to be: an interval, a retry, a deadline, and
/// the pauses after which open verdicts are looked at again.
const KNOWN_AFTER: Span = Span::from_secs(60);
/// Entries that a follower may be behind: those of a few heartbeats.
const BEHIND_MAX: u64 = 64;

/// Says what does not work.
pub(crate) fn check(world: &World) -> Result<(), String> {
    let leader = world.leader().ok_or("nobody leads")?;
    leads(world, leader)?;
    slots(world)?;
    lanes(world)?;
    sites(world)
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn leads(world: &World, leader: MemberId) -> Result<(), String> {
    let on_duty = world
        .members
        .get(&leader)
        .is_some_and(|member| member.term.is_some());
    ensure(on_duty, || format!("{leader} leads without duties"))?;
    let committed = world.env.oracles.committed();
    for member in world.members.values() {
        let applied = member.applied();
        ensure(member.up && applied + BEHIND_MAX >= committed, || {
            format!("{} has applied {applied} of {committed}", member.id)
        })?;
    }
    let waiting = world.requests.iter().flatten().next();
    ensure(waiting.is_none(), || format!("nobody answered {waiting:?}"))
}

/// Every slot has an owner that is alive, holds it under its epoch, and holds nothing else.
fn slots(world: &World) -> Result<(), String> {
    let state = world.env.oracles.state();
    for (&shard, edition) in world
        .env
        .catalogue
        .iter()
        .filter(|(_, edition)| !edition.checks.is_empty())
    {
        for slot in (0..world.env.scenario.replicas).map(Slot) {
            let slot = ShardSlot {
                group: DEFAULT_GROUP,
                shard,
                slot,
            };
            let assignment = state.assignments.get(&slot);
            let assignment = assignment.ok_or_else(|| format!("{slot} has no assignment"))?;
            held(world, slot, assignment, edition.version)?;
        }
    }
    for agent in world.agents.values() {
        let core = agent
            .core
            .as_ref()
            .ok_or_else(|| format!("{} is not alive", agent.id()))?;
        for line in core.table().assigned() {
            let assignment = state.assignments.get(&line.slot);
            let own = assignment.is_some_and(|assignment| assignment.agent == Some(agent.id()));
            let moved = assignment.is_some_and(|assignment| is_recent(world, assignment));
            ensure(own || moved, || {
                format!("{} holds {} that is {assignment:?}", agent.id(), line.slot)
            })?;
        }
    }
    Ok(())
}

fn is_recent(world: &World, assignment: &Assignment) -> bool {
    world.env.now.since(assignment.since) < HANDOVER
}

fn held(
    world: &World,
    slot: ShardSlot,
    assignment: &Assignment,
    version: picket_wire::id::CatalogueVersion,
) -> Result<(), String> {
    let owner = assignment.agent.and_then(|agent| world.agents.get(&agent));
    let core = owner.and_then(|owner| owner.core.as_ref());
    let core = core.ok_or_else(|| format!("{slot} has no living owner: {assignment:?}"))?;
    let line = core.table().slot(slot).map(|holding| holding.assigned);
    let right = line.is_some_and(|line| line.epoch == assignment.epoch && line.version == version);
    ensure(right || is_recent(world, assignment), || {
        format!(
            "the owner of {slot} holds {line:?}, not epoch {} of {version}",
            assignment.epoch
        )
    })
}

/// No batch waits, no fact waits.
fn lanes(world: &World) -> Result<(), String> {
    let oracles = &world.env.oracles;
    if let Some(batch) = oracles.delivery.overdue(world.env.now, LANE_GRACE) {
        return Err(format!("not counted: {batch}"));
    }
    let cursor = world.env.rows.cursor().ok_or("postgres is away")?;
    let waiting = oracles.recovery.fact(cursor.next());
    let old = waiting.is_some_and(|fact| world.env.now.since(fact.at) > LANE_GRACE);
    ensure(!old, || {
        format!(
            "not projected: {waiting:?} of {}",
            oracles.recovery.last_fact()
        )
    })?;
    for agent in world.agents.values() {
        let unacked = agent.disk.clone().spool(Lane::Evidence).unacked();
        ensure(unacked < 8, || {
            format!("{} keeps {unacked} batches of evidence", agent.id())
        })?;
    }
    Ok(())
}

/// What was down for long enough has an open incident that says so; what was up has none.
fn sites(world: &World) -> Result<(), String> {
    let state = world.env.oracles.state();
    let now = world.env.now;
    let lately = Interval::new(now - KNOWN_AFTER, now);
    let checks = || {
        world
            .env
            .catalogue
            .values()
            .flat_map(|edition| &edition.checks)
    };
    for check in checks().map(|spec| spec.id) {
        let stage = state.open.get(&check).map(|open| &open.stage);
        let down = matches!(stage, Some(Stage::Down { .. }));
        if world.env.targets.was_down(check, lately) {
            ensure(down, || {
                format!("{check} is down, and {stage:?} is believed")
            })?;
        }
        if world.env.targets.was_up(check, lately) {
            ensure(stage.is_none(), || {
                format!("{check} is up, and {stage:?} is believed")
            })?;
        }
    }
    let known = |check: &CheckId| checks().any(|spec| spec.id == *check);
    let orphan = state.open.keys().find(|check| !known(check));
    ensure(orphan.is_none(), || {
        format!("{orphan:?} was removed and is still open")
    })
}
