//! Webhooks: signed messages about notification groups.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::instant::Instant;
use crate::id::{FactSeq, NotificationGroupId, WebhookId};

/// A configured receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// Where messages go.
    pub url: String,
}

/// Adds a receiver.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookRequest {
    /// `http` or `https` URL.
    pub url: String,
    /// Shared secret that messages are signed with; made up and answered when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl std::fmt::Debug for WebhookRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url, secret: _ } = self;
        f.debug_struct("WebhookRequest")
            .field("url", url)
            .finish_non_exhaustive()
    }
}

/// The receiver that was added, with its secret, which is shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookReply {
    /// The receiver.
    pub webhook: Webhook,
    /// The secret.
    pub secret: String,
}

impl std::fmt::Debug for WebhookReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { webhook, secret: _ } = self;
        f.debug_struct("WebhookReply")
            .field("webhook", webhook)
            .finish_non_exhaustive()
    }
}

/// What a webhook receives, signed by the Standard Webhooks scheme (headers `webhook-id`,
/// `webhook-timestamp`, `webhook-signature: v1,<base64 HMAC-SHA256>` over `id.timestamp.body`).
///
/// `webhook-id` stays the same over all tries of one message, so a receiver can drop repeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// What happened.
    pub event: MessageEvent,
    /// The group of incidents that share a cause.
    pub group: NotificationGroupId,
    /// The shared cause, for people.
    pub cause: String,
    /// When its first incident was confirmed.
    pub opened_at: Instant,
    /// When its last incident ended.
    pub closed_at: Option<Instant>,
    /// Incidents open now.
    pub open: u32,
    /// Incidents that ever belonged to it.
    pub total: u32,
    /// The fact this was made from.
    pub fact: FactSeq,
}

/// What happened to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageEvent {
    /// Incidents were confirmed.
    Opened,
    /// The last of them ended.
    Closed,
}
