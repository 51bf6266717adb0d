//! `/maintenance`: time that does not count.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use picket_scheduler_core::command::{Command, PutMaintenance, RemoveMaintenance};
use picket_scheduler_core::maintenance as core;
use picket_scheduler_core::reply::Reply;
use picket_wire::api::Page;
use picket_wire::api::instant::Instant;
use picket_wire::api::maintenance::{Maintenance, MaintenanceRequest, Selector};
use picket_wire::id::MaintenanceId;
use picket_wire::time::Interval;

use crate::api::extract::{Body, Path, Reader, Writer};
use crate::api::problem::ApiError;
use crate::api::unexpected;
use crate::context::Context;

/// Longest note.
const NOTE_MAX_BYTES: usize = 500;

/// Lists windows, past ones too.
#[utoipa::path(get, path = "/maintenance", tag = "maintenance", responses((status = 200, body = Page<Maintenance>)))]
pub(super) async fn list(_: Reader, State(ctx): State<Arc<Context>>) -> Json<Page<Maintenance>> {
    let items = ctx.replica.read(|state| {
        let windows = state.maintenance.iter();
        windows
            .flat_map(|(&id, window)| {
                selectors(&window.selector)
                    .into_iter()
                    .map(move |selector| body(id, selector, window))
            })
            .collect()
    });
    Json(Page { items, next: None })
}

/// Announces a window, before or after the fact.
#[utoipa::path(post, path = "/maintenance", tag = "maintenance", request_body = MaintenanceRequest,
    responses((status = 201, body = Maintenance)))]
pub(super) async fn add(
    _: Writer,
    State(ctx): State<Arc<Context>>,
    Body(request): Body<MaintenanceRequest>,
) -> Result<(StatusCode, Json<Maintenance>), ApiError> {
    let MaintenanceRequest {
        selector,
        from,
        until,
        note,
    } = request;
    if until <= from {
        return Err(ApiError::invalid(
            "until",
            format!("expected an instant after `from`, {from}"),
        ));
    }
    if note.len() > NOTE_MAX_BYTES {
        return Err(ApiError::invalid(
            "note",
            format!(
                "expected at most {NOTE_MAX_BYTES} bytes, got {}",
                note.len()
            ),
        ));
    }
    let window = core::Maintenance {
        interval: Interval::new(from.0, until.0),
        selector: match selector {
            Selector::All => core::Selector::All,
            Selector::Site(site) => core::Selector::Sites(vec![site]),
            Selector::Endpoint(endpoint) => core::Selector::Endpoints(vec![endpoint]),
        },
        note,
    };
    let command = PutMaintenance {
        id: None,
        window: window.clone(),
    };
    match ctx
        .replica
        .propose(Command::PutMaintenance(command))
        .await?
    {
        Reply::Maintenance(id) => Ok((StatusCode::CREATED, Json(body(id, selector, &window)))),
        other => Err(unexpected(other)),
    }
}

/// Removes a window: its time counts again.
#[utoipa::path(delete, path = "/maintenance/{id}", tag = "maintenance", params(("id" = MaintenanceId, Path)),
    responses((status = 204)))]
pub(super) async fn remove(
    _: Writer,
    State(ctx): State<Arc<Context>>,
    Path(id): Path<MaintenanceId>,
) -> Result<StatusCode, ApiError> {
    match ctx
        .replica
        .propose(Command::RemoveMaintenance(RemoveMaintenance { id }))
        .await?
    {
        Reply::Done => Ok(StatusCode::NO_CONTENT),
        other => Err(unexpected(other)),
    }
}

/// The machine's selectors may name many things; the API shows one line for each.
fn selectors(selector: &core::Selector) -> Vec<Selector> {
    match selector {
        core::Selector::All => vec![Selector::All],
        core::Selector::Sites(sites) => sites.iter().copied().map(Selector::Site).collect(),
        core::Selector::Endpoints(endpoints) => {
            endpoints.iter().copied().map(Selector::Endpoint).collect()
        }
    }
}

fn body(id: MaintenanceId, selector: Selector, window: &core::Maintenance) -> Maintenance {
    Maintenance {
        id,
        selector,
        from: Instant(window.interval.from),
        until: Instant(window.interval.until),
        note: window.note.clone(),
    }
}
