//! `/agents`: the probe agents and the tokens they join with.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use picket_rt::join_token::JoinToken;
use picket_scheduler_core::command::{Command, DrainAgent, IssueJoinToken, RevokeAgent};
use picket_scheduler_core::reply::Reply;
use picket_scheduler_core::state;
use picket_wire::api::Page;
use picket_wire::api::agents::{Agent, JoinTokenReply, JoinTokenRequest, Standing};
use picket_wire::api::instant::Instant;
use picket_wire::id::AgentId;
use picket_wire::time::Span;

use crate::api::extract::{Admin, Body, Path, Reader};
use crate::api::problem::ApiError;
use crate::api::unexpected;
use crate::context::Context;
use crate::observed::{self, Observed};

/// Longest life of a join token.
const TTL_MAX_S: u64 = 86_400;

/// Lists every agent that was ever admitted.
#[utoipa::path(get, path = "/agents", tag = "agents", responses((status = 200, body = Page<Agent>)))]
pub(super) async fn list(_: Reader, State(ctx): State<Arc<Context>>) -> Json<Page<Agent>> {
    let observed = observed::now(&ctx, &[]).await;
    let items = ctx.replica.read(|state| {
        state
            .agents
            .keys()
            .map(|&id| body(state, &observed, id))
            .collect()
    });
    Json(Page { items, next: None })
}

/// Makes a join token: single use; the answer is the only place that shows it.
#[utoipa::path(post, path = "/agents/tokens", tag = "agents", request_body = JoinTokenRequest,
    responses((status = 201, body = JoinTokenReply)))]
pub(super) async fn token(
    _: Admin,
    State(ctx): State<Arc<Context>>,
    Body(request): Body<JoinTokenRequest>,
) -> Result<(StatusCode, Json<JoinTokenReply>), ApiError> {
    let JoinTokenRequest { region, ttl_s } = request;
    if ttl_s == 0 || ttl_s > TTL_MAX_S {
        return Err(ApiError::invalid(
            "ttl_s",
            format!("expected 1 to {TTL_MAX_S}, got {ttl_s}"),
        ));
    }
    let token = JoinToken::generate(ctx.mesh.ca_fingerprint).map_err(|_| ApiError::Internal)?;
    let expires_at = ctx.clock.now() + Span::from_secs(ttl_s);
    let command = IssueJoinToken {
        hash: token.hash(),
        expires_at,
        region,
    };
    match ctx
        .replica
        .propose(Command::IssueJoinToken(command))
        .await?
    {
        Reply::Token(_) => {
            let reply = JoinTokenReply {
                token: token.to_string(),
                expires_at: Instant(expires_at),
            };
            Ok((StatusCode::CREATED, Json(reply)))
        }
        other => Err(unexpected(other)),
    }
}

/// Gives an agent's shards to others and assigns it none.
#[utoipa::path(post, path = "/agents/{id}/drain", tag = "agents", params(("id" = AgentId, Path)),
    responses((status = 200, body = Agent)))]
pub(super) async fn drain(
    _: Admin,
    State(ctx): State<Arc<Context>>,
    Path(agent): Path<AgentId>,
) -> Result<Json<Agent>, ApiError> {
    change(
        &ctx,
        agent,
        Command::DrainAgent(DrainAgent { agent, drain: true }),
    )
    .await
}

/// Lets a drained agent take shards again.
#[utoipa::path(post, path = "/agents/{id}/resume", tag = "agents", params(("id" = AgentId, Path)),
    responses((status = 200, body = Agent)))]
pub(super) async fn resume(
    _: Admin,
    State(ctx): State<Arc<Context>>,
    Path(agent): Path<AgentId>,
) -> Result<Json<Agent>, ApiError> {
    change(
        &ctx,
        agent,
        Command::DrainAgent(DrainAgent {
            agent,
            drain: false,
        }),
    )
    .await
}

/// Ends an agent's certificate for good.
#[utoipa::path(post, path = "/agents/{id}/revoke", tag = "agents", params(("id" = AgentId, Path)),
    responses((status = 200, body = Agent)))]
pub(super) async fn revoke(
    _: Admin,
    State(ctx): State<Arc<Context>>,
    Path(agent): Path<AgentId>,
) -> Result<Json<Agent>, ApiError> {
    change(&ctx, agent, Command::RevokeAgent(RevokeAgent { agent })).await
}

async fn change(ctx: &Context, agent: AgentId, command: Command) -> Result<Json<Agent>, ApiError> {
    match ctx.replica.propose(command).await? {
        Reply::Done => {}
        other => return Err(unexpected(other)),
    }
    ctx.replica.linearizable().await?;
    let observed = observed::now(ctx, &[]).await;
    Ok(Json(
        ctx.replica.read(|state| body(state, &observed, agent)),
    ))
}

/// An agent that is in `state`, as the API shows it.
fn body(state: &state::State, observed: &Observed, id: AgentId) -> Agent {
    let agent = &state.agents[&id];
    let slots: Vec<_> = state.slots_of(id).collect();
    let checks = checks_by_slot(state, &slots);
    let seen = observed.agents.get(&id);
    Agent {
        id,
        name: agent.name.clone(),
        region: agent.region.clone(),
        zone: agent.zone.clone(),
        network: agent.network.clone(),
        standing: match agent.standing {
            state::Standing::Serving => Standing::Active,
            state::Standing::Drained => Standing::Drained,
            state::Standing::Revoked => Standing::Revoked,
        },
        leased: observed.leases.contains_key(&id),
        healthy: seen.is_some_and(|seen| seen.healthy),
        incarnation: agent.incarnation.0,
        slots: u32::try_from(slots.len()).unwrap_or(u32::MAX),
        checks: checks.values().sum(),
        build: seen.map(|seen| seen.build.clone()),
        spool_bytes: seen.map(|seen| seen.spool_bytes),
    }
}

fn checks_by_slot(
    state: &state::State,
    slots: &[picket_wire::id::ShardSlot],
) -> BTreeMap<picket_wire::id::ShardSlot, u64> {
    let checks = |slot: &picket_wire::id::ShardSlot| {
        state
            .catalogue
            .get(&(slot.group, slot.shard))
            .map_or(0, |pointer| u64::from(pointer.checks))
    };
    slots.iter().map(|slot| (*slot, checks(slot))).collect()
}
