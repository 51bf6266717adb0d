//! Removes a webhook.

use picket_wire::id::WebhookId;
use rkyv::{Archive, Deserialize, Serialize};

use crate::machine::Fold;
use crate::reply::{Reject, Reply};

/// Removes a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct RemoveWebhook {
    /// Which one.
    pub webhook: WebhookId,
}

impl RemoveWebhook {
    pub(crate) fn apply(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        let removed = fold.state.webhooks.remove(&self.webhook);
        removed
            .map(|_| Reply::Done)
            .ok_or(Reject::UnknownWebhook(self.webhook))
    }
}
