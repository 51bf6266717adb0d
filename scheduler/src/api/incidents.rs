//! `/incidents`: what went wrong, and who said so.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use picket_storage::pg::read::Reads;
use picket_storage::pg::read::incidents::{IncidentFilter, IncidentRow, TestimonyRow};
use picket_wire::api::Page;
use picket_wire::api::incidents::{Incident, IncidentExplained, Testimony};
use picket_wire::api::instant::Instant;
use picket_wire::id::{EndpointId, IncidentId, SiteId};
use picket_wire::state::Verdict;
use serde::Deserialize;

use crate::api::extract::{Path, Query, Reader};
use crate::api::paging;
use crate::api::problem::ApiError;
use crate::context::Context;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Which {
    Open,
    Closed,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Only open or only closed ones.
    #[param(inline)]
    which: Option<Which>,
    /// Only of this endpoint.
    endpoint: Option<EndpointId>,
    /// Only of this site.
    site: Option<SiteId>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// Items on the page, 1 to 1,000; 100 when absent.
    limit: Option<u32>,
}

/// Lists incidents, newest first.
#[utoipa::path(get, path = "/incidents", tag = "incidents", params(Filter),
    responses((status = 200, body = Page<Incident>)))]
pub(super) async fn list(
    _: Reader,
    State(ctx): State<Arc<Context>>,
    Query(query): Query<Filter>,
) -> Result<Json<Page<Incident>>, ApiError> {
    let page = paging::asked(query.cursor.as_deref(), query.limit)?;
    let filter = IncidentFilter {
        open: query.which.map(|which| which == Which::Open),
        endpoint: query.endpoint,
        site: query.site,
        ..IncidentFilter::default()
    };
    let listed = Reads::new(ctx.pg.clone()).incidents(&filter, page).await?;
    Ok(Json(paging::page(listed, body)))
}

/// Shows one incident with everything that was said about it.
#[utoipa::path(get, path = "/incidents/{id}", tag = "incidents", params(("id" = IncidentId, Path)),
    responses((status = 200, body = IncidentExplained)))]
pub(super) async fn get(
    _: Reader,
    State(ctx): State<Arc<Context>>,
    Path(id): Path<IncidentId>,
) -> Result<Json<IncidentExplained>, ApiError> {
    let found = Reads::new(ctx.pg.clone()).incident(id).await?;
    let (row, said) = found.ok_or_else(|| ApiError::not_found(id))?;
    let incident = body(row);
    Ok(Json(IncidentExplained {
        rule: rule(incident.verdict).to_owned(),
        incident,
        testimony: said.into_iter().map(testimony).collect(),
    }))
}

/// The rule behind a verdict, in a sentence.
const fn rule(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        None => {
            "Suspected: the owner failed twice; vantages of other regions and networks are asked before anything is decided."
        }
        Some(Verdict::ConfirmedDown) => {
            "Confirmed down: more than half of the healthy vantages that spoke, the owner included, failed, and at least two where two exist."
        }
        Some(Verdict::RegionalFailure) => {
            "Regional failure: some healthy vantages failed and others did not; public state is degraded."
        }
        Some(Verdict::FalseAlarm) => {
            "False alarm: no healthy vantage but the owner failed; the suspicion lasted no time at all."
        }
        Some(Verdict::Unknown) => {
            "Unknown: too few healthy vantages answered; the time leaves the SLA's denominator."
        }
        Some(Verdict::ConfirmedUp) => {
            "Confirmed up: the owner succeeded and a second vantage agreed, or none was left to ask."
        }
    }
}

fn body(row: IncidentRow) -> Incident {
    let IncidentRow { incident, url, .. } = row;
    Incident {
        id: incident.id,
        endpoint: incident.check.endpoint,
        site: incident.check.site,
        url: url.unwrap_or_default(),
        state: incident.state,
        started_at: Instant(incident.started_at),
        decided_at: incident.decided_at.map(Instant),
        ended_at: incident.ended_at.map(Instant),
        verdict: incident.verdict,
        reason: incident.reason,
        group: incident.group,
        trace_id: incident.trace.map(|trace| {
            trace
                .trace
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        }),
    }
}

fn testimony(row: TestimonyRow) -> Testimony {
    let said = row.testimony;
    let ok = said.evidence.is_ok();
    let first = &said.evidence.probe;
    let last = said.evidence.retry.as_ref().unwrap_or(first);
    Testimony {
        agent: said.agent,
        region: said.region.clone(),
        network: said.network.clone(),
        order: said.order,
        counted: said.counted,
        at: Instant(first.at),
        ok,
        reason: first.reason,
        retry_reason: said.evidence.retry.as_ref().and_then(|retry| retry.reason),
        http_status: last.http_status,
        remote: last.remote,
        phases: last.phases,
        detail: last.detail.clone(),
    }
}
