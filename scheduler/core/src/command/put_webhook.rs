//! Adds or changes a webhook.

use std::fmt;

use picket_wire::id::WebhookId;
use picket_wire::limits::URL_MAX_BYTES;
use rkyv::{Archive, Deserialize, Serialize};

use crate::machine::Fold;
use crate::reply::{Reject, Reply};
use crate::state::Webhook;

/// Most webhooks: each is sent to at every change of a notification group.
const WEBHOOKS_MAX: usize = 256;
/// Longest secret: four times what the signature's hash can use.
const SECRET_MAX_BYTES: usize = 128;

/// Adds or changes a webhook.
#[derive(Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PutWebhook {
    /// Which one to change; `None` adds one.
    pub webhook: Option<WebhookId>,
    /// Its URL.
    pub url: String,
    /// The shared secret.
    pub secret: String,
}

impl fmt::Debug for PutWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            webhook,
            url,
            secret: _,
        } = self;
        f.debug_struct("PutWebhook")
            .field("webhook", webhook)
            .field("url", url)
            .finish_non_exhaustive()
    }
}

impl PutWebhook {
    pub(crate) fn apply(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        self.check()?;
        let (id, created_at) = match self.webhook {
            Some(id) => {
                let old = fold
                    .state
                    .webhooks
                    .get(&id)
                    .ok_or(Reject::UnknownWebhook(id))?;
                (id, old.created_at)
            }
            None if fold.state.webhooks.len() >= WEBHOOKS_MAX => {
                return Err(Reject::TooMany {
                    what: "webhooks".to_owned(),
                    max: 256,
                });
            }
            None => {
                fold.state.last_ids.webhook += 1;
                (WebhookId(fold.state.last_ids.webhook), fold.at)
            }
        };
        let (url, secret) = (self.url.clone(), self.secret.clone());
        fold.state.webhooks.insert(
            id,
            Webhook {
                url,
                secret,
                created_at,
            },
        );
        Ok(Reply::Webhook(id))
    }

    fn check(&self) -> Result<(), Reject> {
        let refuse = |setting: &str, expected: &str| {
            Err(Reject::Setting {
                setting: setting.to_owned(),
                expected: expected.to_owned(),
            })
        };
        let schemed = self.url.starts_with("https://") || self.url.starts_with("http://");
        let graphic = self.url.bytes().all(|b| b.is_ascii_graphic());
        if !schemed || !graphic || self.url.len() > URL_MAX_BYTES {
            return refuse(
                "url",
                "an http or https URL of at most 2048 visible ASCII characters",
            );
        }
        if self.secret.is_empty() || self.secret.len() > SECRET_MAX_BYTES {
            return refuse("secret", "1 to 128 bytes");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, RemoveWebhook};
    use crate::testing::World;

    fn put(webhook: Option<u32>, url: &str) -> Command {
        let (url, secret) = (url.to_owned(), "hush".to_owned());
        Command::PutWebhook(PutWebhook {
            webhook: webhook.map(WebhookId),
            url,
            secret,
        })
    }

    #[test]
    fn the_secret_is_never_printed() {
        let mut world = World::started();
        let command = put(None, "https://hooks.example/1");
        assert!(!format!("{command:?}").contains("hush"));
        assert_eq!(world.apply(command), Reply::Webhook(WebhookId(1)));
        assert!(!format!("{:?}", world.state()).contains("hush"));
    }

    #[test]
    fn a_webhook_is_changed_in_place_and_removed_once() {
        let mut world = World::started();
        world.at(5).apply(put(None, "https://hooks.example/1"));
        world.at(9).apply(put(Some(1), "https://hooks.example/2"));
        let webhook = &world.state().webhooks[&WebhookId(1)];
        assert_eq!(
            (webhook.url.as_str(), webhook.created_at.0),
            ("https://hooks.example/2", 5)
        );
        let remove = Command::RemoveWebhook(RemoveWebhook {
            webhook: WebhookId(1),
        });
        assert_eq!(world.apply(remove.clone()), Reply::Done);
        assert_eq!(
            world.apply(remove),
            Reply::Rejected(Reject::UnknownWebhook(WebhookId(1)))
        );
        assert!(matches!(
            world.apply(put(None, "ftp://x")),
            Reply::Rejected(_)
        ));
    }
}
