//! `/status`: the mesh on one screen.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use picket_scheduler_core::state::{Consumer, State};
use picket_storage::pg::read::Reads;
use picket_wire::api::instant::Instant;
use picket_wire::api::status::{Lateness, Member, MeshStatus, Region};
use picket_wire::id::{GroupId, ShardId};

use crate::api::extract::Reader;
use crate::context::Context;
use crate::observed::{self, Observed};

/// Shows the mesh as the answering member sees it.
#[utoipa::path(get, path = "/status", tag = "mesh", responses((status = 200, body = MeshStatus)))]
pub(super) async fn status(_: Reader, Extract(ctx): Extract<Arc<Context>>) -> Json<MeshStatus> {
    let observed = observed::now(&ctx, &[]).await;
    let endpoints = Reads::new(ctx.pg.clone()).counts_by_state().await.ok();
    let raft = ctx.replica.raft();
    let members = ctx.replica.members();
    let postgres = endpoints.is_some();
    let endpoints = endpoints.map(|counts| {
        counts
            .into_iter()
            .map(|(state, n)| (state.name().to_owned(), n))
            .collect()
    });
    let lateness = observed.led.then_some(Lateness {
        count: observed.lateness.count,
        p50_ms: observed.lateness.p50_ms,
        p99_ms: observed.lateness.p99_ms,
        max_ms: observed.lateness.max_ms,
    });
    Json(ctx.replica.read(|state| {
        MeshStatus {
            cluster: state
                .settings
                .as_ref()
                .map(|settings| settings.cluster.to_string())
                .unwrap_or_default(),
            now: Instant(ctx.clock.now()),
            answered_by: ctx.member,
            leader: raft.leader,
            term: raft.term,
            applied: raft.applied.unwrap_or_default(),
            members: members
                .iter()
                .map(|(id, address)| Member {
                    id: *id,
                    address: address.clone(),
                    voter: true,
                })
                .collect(),
            regions: regions(state, &observed),
            endpoints,
            open_incidents: state
                .open
                .values()
                .filter(|open| open.stage.incident().is_some())
                .count() as u64,
            open_orders: state.orders.len() as u64,
            checks: state
                .catalogue
                .values()
                .map(|pointer| u64::from(pointer.checks))
                .sum(),
            unowned_checks: unowned_checks(state),
            lateness,
            lag: lag(state),
            postgres,
        }
    }))
}

fn checks_in(state: &State, place: (GroupId, ShardId)) -> u64 {
    state
        .catalogue
        .get(&place)
        .map_or(0, |pointer| u64::from(pointer.checks))
}

fn regions(state: &State, observed: &Observed) -> Vec<Region> {
    let mut regions: BTreeMap<&str, Region> = BTreeMap::new();
    for (&id, agent) in state.agents.iter().filter(|(_, agent)| !agent.is_revoked()) {
        let name = agent.region.as_str();
        let region = regions.entry(name).or_insert_with(|| Region {
            name: name.to_owned(),
            agents: 0,
            leased: 0,
            frozen: observed.frozen.contains(&agent.region),
            checks: 0,
        });
        region.agents += u32::from(!agent.is_drained());
        region.leased += u32::from(!agent.is_drained() && observed.leases.contains_key(&id));
        region.checks += state
            .slots_of(id)
            .map(|slot| checks_in(state, (slot.group, slot.shard)))
            .sum::<u64>();
    }
    regions.into_values().collect()
}

/// Checks of which no slot has an owner.
fn unowned_checks(state: &State) -> u64 {
    let owned = |group, shard| {
        let slot = |slot| picket_wire::id::ShardSlot {
            group,
            shard,
            slot: picket_wire::id::Slot(slot),
        };
        let mut slots = state.assignments.range(slot(0)..=slot(u8::MAX));
        slots.any(|(_, assignment)| assignment.agent.is_some())
    };
    let places = state
        .catalogue
        .iter()
        .filter(|&(&(group, shard), _)| !owned(group, shard));
    places.map(|(_, pointer)| u64::from(pointer.checks)).sum()
}

fn lag(state: &State) -> BTreeMap<String, u64> {
    let newest = state.last_ids.fact.0;
    Consumer::ALL
        .iter()
        .map(|&consumer| {
            let name = match consumer {
                Consumer::Projector => "projector",
                Consumer::Delivery => "delivery",
            };
            (name.to_owned(), newest - state.cursor(consumer).0)
        })
        .collect()
}
