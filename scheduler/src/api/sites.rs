//! `/sites`: what a customer cares about.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use picket_storage::pg::read::Reads;
use picket_storage::pg::read::sites::{SiteFilter, SiteRow};
use picket_wire::api::Page;
use picket_wire::api::instant::Instant;
use picket_wire::api::sites::Site;
use picket_wire::id::SiteId;
use serde::Deserialize;

use crate::api::extract::{Path, Query, Reader};
use crate::api::paging;
use crate::api::problem::ApiError;
use crate::context::Context;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Text in the name, in any case.
    q: Option<String>,
    /// One or more states, separated by commas.
    state: Option<String>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// Items on the page, 1 to 1,000; 100 when absent.
    limit: Option<u32>,
}

/// Lists sites by id.
#[utoipa::path(get, path = "/sites", tag = "sites", params(Filter), responses((status = 200, body = Page<Site>)))]
pub(super) async fn list(
    _: Reader,
    State(ctx): State<Arc<Context>>,
    Query(query): Query<Filter>,
) -> Result<Json<Page<Site>>, ApiError> {
    let page = paging::asked(query.cursor.as_deref(), query.limit)?;
    let filter = SiteFilter {
        states: paging::state(query.state.as_deref())?,
        text: query.q,
    };
    let listed = Reads::new(ctx.pg.clone()).sites(&filter, page).await?;
    Ok(Json(paging::page(listed, body)))
}

/// Shows one site.
#[utoipa::path(get, path = "/sites/{id}", tag = "sites", params(("id" = SiteId, Path)),
    responses((status = 200, body = Site)))]
pub(super) async fn get(
    _: Reader,
    State(ctx): State<Arc<Context>>,
    Path(id): Path<SiteId>,
) -> Result<Json<Site>, ApiError> {
    let row = Reads::new(ctx.pg.clone())
        .site(id)
        .await?
        .ok_or_else(|| ApiError::not_found(id))?;
    Ok(Json(body(row)))
}

fn body(row: SiteRow) -> Site {
    Site {
        id: row.id,
        name: row.name,
        state: row.state,
        since: row.since.map(Instant),
        endpoints: row.endpoints,
    }
}
