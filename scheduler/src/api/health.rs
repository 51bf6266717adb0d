//! `/healthz`, `/readyz` and `/metrics`: for machines that watch this process. No token: they tell
//! nothing about what is watched.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::context::Context;

/// The process runs.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// The member knows a leader and is not stopping. Postgres may be away: that is no reason to send
/// requests elsewhere.
pub(super) async fn ready(State(ctx): State<Arc<Context>>) -> (StatusCode, &'static str) {
    if ctx.stop.is_requested() {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else if ctx.replica.leader().is_none() {
        (StatusCode::SERVICE_UNAVAILABLE, "no leader\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

/// Prometheus metrics.
pub(super) async fn metrics(State(ctx): State<Arc<Context>>) -> impl IntoResponse {
    let text = ctx
        .metrics
        .as_ref()
        .map(picket_rt::telemetry::Metrics::render)
        .unwrap_or_default();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
