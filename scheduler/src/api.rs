//! The HTTP API, `/api/v1`: the table of routes and the listener.
//!
//! A route is a few lines in the file of its resource: parse, authorise, propose or read, render.
//! Errors become problems in `problem`. Every member serves every route.

mod agents;
mod assignment;
mod endpoints;
mod events;
mod extract;
mod health;
mod import;
mod incidents;
mod listener;
mod maintenance;
mod paging;
mod problem;
mod sites;
mod sla;
mod status;
mod webhooks;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use picket_rt::stop::Stop;
use picket_scheduler_core::reply::Reply;
use tracing::Instrument as _;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use crate::api::listener::ServeError;
use crate::api::problem::ApiError;
use crate::context::Context;

/// Largest body of a route that says nothing else.
const BODY_MAX_BYTES: usize = 64 * 1024;

#[derive(OpenApi)]
#[openapi(
    info(title = "Picket", description = "Sites, incidents and SLA figures of a Picket mesh."),
    security(("token" = []))
)]
struct Doc;

/// Every route but the unauthenticated ones, with its description.
fn routes() -> OpenApiRouter<Arc<Context>> {
    let import = OpenApiRouter::new()
        .routes(routes!(import::import))
        .layer(DefaultBodyLimit::max(
            picket_wire::api::import::BODY_MAX_BYTES,
        ));
    OpenApiRouter::new()
        .routes(routes!(status::status))
        .routes(routes!(sites::list))
        .routes(routes!(sites::get))
        .routes(routes!(sla::site))
        .routes(routes!(endpoints::list))
        .routes(routes!(endpoints::get, endpoints::delete))
        .routes(routes!(endpoints::pause))
        .routes(routes!(endpoints::resume))
        .routes(routes!(endpoints::assignment))
        .routes(routes!(sla::endpoint))
        .routes(routes!(incidents::list))
        .routes(routes!(incidents::get))
        .routes(routes!(events::follow))
        .routes(routes!(agents::list))
        .routes(routes!(agents::token))
        .routes(routes!(agents::drain))
        .routes(routes!(agents::resume))
        .routes(routes!(agents::revoke))
        .routes(routes!(webhooks::list, webhooks::add))
        .routes(routes!(webhooks::remove))
        .routes(routes!(maintenance::list, maintenance::add))
        .routes(routes!(maintenance::remove))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .merge(import)
}

/// The OpenAPI 3.1 description of the API.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let (_, mut api) = OpenApiRouter::with_openapi(Doc::openapi())
        .nest("/api/v1", routes())
        .split_for_parts();
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    api.components
        .get_or_insert_default()
        .add_security_scheme("token", bearer);
    api
}

fn router(ctx: Arc<Context>) -> Router {
    let (api, _) = OpenApiRouter::new()
        .nest("/api/v1", routes())
        .split_for_parts();
    api.route_layer(middleware::from_fn(traced))
        .route("/api/v1/openapi.json", get(async || Json(openapi())))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(async |uri: axum::http::Uri| {
            ApiError::not_found(format!("no route {}", uri.path()))
        })
        .with_state(ctx)
}

/// A span around each answer; it ends when the head is ready, not when the last byte was read.
async fn traced(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let span = tracing::info_span!(
        "api",
        method = request.method().as_str(),
        route = route.map_or("", MatchedPath::as_str),
        status = tracing::field::Empty,
    );
    let response = next.run(request).instrument(span.clone()).await;
    span.record("status", response.status().as_u16());
    response
}

/// Serves the API until `stop`.
///
/// # Errors
/// When the address cannot be listened on, or the certificate does not read.
pub async fn serve(ctx: Arc<Context>, stop: Stop) -> Result<(), ServeError> {
    let settings = ctx.config.api.clone();
    listener::serve(&settings, router(ctx), stop).await
}

/// The error for a reply that is a refusal, or that no such command can have.
fn unexpected(reply: Reply) -> ApiError {
    match reply {
        Reply::Rejected(reject) => reject.into(),
        other => {
            tracing::error!(?other, "a command had a reply of another kind");
            ApiError::Internal
        }
    }
}
