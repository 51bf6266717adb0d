//! `/endpoints`: addresses, their states, and why they are probed where they are.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use picket_storage::pg::catalogue::{Catalogue, Edit};
use picket_storage::pg::read::Reads;
use picket_storage::pg::read::endpoints::{EndpointFilter, EndpointRow};
use picket_wire::api::Page;
use picket_wire::api::endpoints::{AssignmentExplained, Endpoint};
use picket_wire::api::instant::Instant;
use picket_wire::id::{EndpointId, SiteId};
use picket_wire::name::Name;
use serde::Deserialize;

use crate::api::extract::{Path, Query, Reader, Writer};
use crate::api::paging;
use crate::api::problem::ApiError;
use crate::context::Context;
use crate::observed::{self, Observed};

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Text in the URL, in any case.
    q: Option<String>,
    /// One or more states, separated by commas.
    state: Option<String>,
    /// Only of this site.
    site: Option<SiteId>,
    /// Only with this label.
    label: Option<Name>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// Items on the page, 1 to 1,000; 100 when absent.
    limit: Option<u32>,
}

/// Lists endpoints by id.
#[utoipa::path(get, path = "/endpoints", tag = "endpoints", params(Filter),
    responses((status = 200, body = Page<Endpoint>)))]
pub(super) async fn list(
    _: Reader,
    State(ctx): State<Arc<Context>>,
    Query(query): Query<Filter>,
) -> Result<Json<Page<Endpoint>>, ApiError> {
    let page = paging::asked(query.cursor.as_deref(), query.limit)?;
    let filter = EndpointFilter {
        site: query.site,
        group: None,
        states: paging::state(query.state.as_deref())?,
        labels: query.label.into_iter().collect(),
        text: query.q,
    };
    let listed = Reads::new(ctx.pg.clone()).endpoints(&filter, page).await?;
    let checks: Vec<_> = listed.rows.iter().map(|row| row.check).collect();
    let observed = observed::now(&ctx, &checks).await;
    Ok(Json(paging::page(listed, |row| body(row, &observed))))
}

/// Shows one endpoint.
#[utoipa::path(get, path = "/endpoints/{id}", tag = "endpoints", params(("id" = EndpointId, Path)),
    responses((status = 200, body = Endpoint)))]
pub(super) async fn get(
    _: Reader,
    State(ctx): State<Arc<Context>>,
    Path(id): Path<EndpointId>,
) -> Result<Json<Endpoint>, ApiError> {
    one(&ctx, id).await
}

async fn one(ctx: &Context, id: EndpointId) -> Result<Json<Endpoint>, ApiError> {
    let found = Reads::new(ctx.pg.clone()).endpoint(id).await?;
    let (row, _checks) = found.ok_or_else(|| ApiError::not_found(id))?;
    let observed = observed::now(ctx, &[row.check]).await;
    Ok(Json(body(row, &observed)))
}

/// Stops probing an endpoint, on request; paused time does not count.
#[utoipa::path(post, path = "/endpoints/{id}/pause", tag = "endpoints", params(("id" = EndpointId, Path)),
    responses((status = 200, body = Endpoint)))]
pub(super) async fn pause(
    _: Writer,
    State(ctx): State<Arc<Context>>,
    Path(id): Path<EndpointId>,
) -> Result<Json<Endpoint>, ApiError> {
    done(id, catalogue(&ctx)?.pause(id, ctx.clock.now()).await?)?;
    one(&ctx, id).await
}

/// Probes a paused endpoint again.
#[utoipa::path(post, path = "/endpoints/{id}/resume", tag = "endpoints", params(("id" = EndpointId, Path)),
    responses((status = 200, body = Endpoint)))]
pub(super) async fn resume(
    _: Writer,
    State(ctx): State<Arc<Context>>,
    Path(id): Path<EndpointId>,
) -> Result<Json<Endpoint>, ApiError> {
    done(id, catalogue(&ctx)?.resume(id, ctx.clock.now()).await?)?;
    one(&ctx, id).await
}

/// Deletes an endpoint; its history stays.
#[utoipa::path(delete, path = "/endpoints/{id}", tag = "endpoints", params(("id" = EndpointId, Path)),
    responses((status = 204)))]
pub(super) async fn delete(
    _: Writer,
    State(ctx): State<Arc<Context>>,
    Path(id): Path<EndpointId>,
) -> Result<StatusCode, ApiError> {
    done(id, catalogue(&ctx)?.delete(id).await?)?;
    Ok(StatusCode::NO_CONTENT)
}

fn catalogue(ctx: &Context) -> Result<Catalogue, ApiError> {
    let shards = ctx
        .replica
        .read(|state| state.settings.as_ref().map(|settings| settings.shards));
    let shards = shards.ok_or_else(|| ApiError::Unavailable {
        code: "not_initialised",
        detail: "the cluster has no settings yet".to_owned(),
    })?;
    Ok(Catalogue::new(ctx.pg.clone(), shards))
}

fn done(id: EndpointId, edit: Edit) -> Result<(), ApiError> {
    match edit {
        Edit::Done(_) | Edit::Unchanged => Ok(()),
        Edit::NotFound => Err(ApiError::not_found(id)),
    }
}

/// Explains which agents probe an endpoint, and why those.
#[utoipa::path(get, path = "/endpoints/{id}/assignment", tag = "endpoints", params(("id" = EndpointId, Path)),
    responses((status = 200, body = AssignmentExplained)))]
pub(super) async fn assignment(
    _: Reader,
    State(ctx): State<Arc<Context>>,
    Path(id): Path<EndpointId>,
) -> Result<Json<AssignmentExplained>, ApiError> {
    let place = Reads::new(ctx.pg.clone()).place_of(id).await?;
    let (group, shard) = place.ok_or_else(|| ApiError::not_found(id))?;
    let observed = observed::now(&ctx, &[]).await;
    Ok(Json(ctx.replica.read(|state| {
        super::assignment::explain(state, &observed, id, group, shard)
    })))
}

fn body(row: EndpointRow, observed: &Observed) -> Endpoint {
    let probe = observed.probes.get(&row.check);
    Endpoint {
        id: row.id,
        site: row.site,
        site_name: row.site_name,
        check: row.check,
        kind: row.kind,
        url: row.url,
        every_s: u32::try_from(row.cadence.0 / 1_000).unwrap_or(u32::MAX),
        timeout_ms: row.timeout.0,
        labels: row.labels,
        state: row.state,
        since: row.since.map(Instant),
        incident: row.incident,
        last_probe: probe.map(|probe| Instant(probe.at)),
        last_latency_us: probe.and_then(|probe| probe.latency_us),
    }
}
