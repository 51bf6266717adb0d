//! `/webhooks`: who is told.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use picket_scheduler_core::command::{Command, PutWebhook, RemoveWebhook};
use picket_scheduler_core::reply::Reply;
use picket_wire::api::Page;
use picket_wire::api::webhooks::{Webhook, WebhookReply, WebhookRequest};
use picket_wire::id::WebhookId;

use crate::api::extract::{Body, Path, Reader, Writer};
use crate::api::problem::ApiError;
use crate::api::unexpected;
use crate::context::Context;
use crate::deliver::webhook::{parse_url, secret_bytes, secret_text};

/// Bytes of a secret that is made up: what the signing hash can use.
const SECRET_BYTES: usize = 32;

/// Lists webhooks, without their secrets.
#[utoipa::path(get, path = "/webhooks", tag = "webhooks", responses((status = 200, body = Page<Webhook>)))]
pub(super) async fn list(_: Reader, State(ctx): State<Arc<Context>>) -> Json<Page<Webhook>> {
    let items = ctx.replica.read(|state| {
        state
            .webhooks
            .iter()
            .map(|(&id, hook)| Webhook {
                id,
                url: hook.url.clone(),
            })
            .collect()
    });
    Json(Page { items, next: None })
}

/// Adds a webhook; the answer is the only place that shows its secret.
#[utoipa::path(post, path = "/webhooks", tag = "webhooks", request_body = WebhookRequest,
    responses((status = 201, body = WebhookReply)))]
pub(super) async fn add(
    _: Writer,
    State(ctx): State<Arc<Context>>,
    Body(request): Body<WebhookRequest>,
) -> Result<(StatusCode, Json<WebhookReply>), ApiError> {
    let WebhookRequest { url, secret } = request;
    parse_url(&url)
        .ok_or_else(|| ApiError::invalid("url", "expected an http or https URL with a host"))?;
    let secret = match secret {
        Some(secret) => secret_bytes(&secret)
            .map(|_| secret)
            .map_err(|error| ApiError::invalid("secret", error.to_string()))?,
        None => {
            let mut bytes = [0; SECRET_BYTES];
            getrandom::fill(&mut bytes).map_err(|_| ApiError::Internal)?;
            secret_text(&bytes)
        }
    };
    let command = PutWebhook {
        webhook: None,
        url: url.clone(),
        secret: secret.clone(),
    };
    match ctx.replica.propose(Command::PutWebhook(command)).await? {
        Reply::Webhook(id) => {
            let reply = WebhookReply {
                webhook: Webhook { id, url },
                secret,
            };
            Ok((StatusCode::CREATED, Json(reply)))
        }
        other => Err(unexpected(other)),
    }
}

/// Removes a webhook; what it has not been told yet is dropped.
#[utoipa::path(delete, path = "/webhooks/{id}", tag = "webhooks", params(("id" = WebhookId, Path)),
    responses((status = 204)))]
pub(super) async fn remove(
    _: Writer,
    State(ctx): State<Arc<Context>>,
    Path(webhook): Path<WebhookId>,
) -> Result<StatusCode, ApiError> {
    match ctx
        .replica
        .propose(Command::RemoveWebhook(RemoveWebhook { webhook }))
        .await?
    {
        Reply::Done => Ok(StatusCode::NO_CONTENT),
        other => Err(unexpected(other)),
    }
}
