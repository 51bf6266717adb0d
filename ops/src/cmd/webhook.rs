//! `picket webhook`: who is told.

use clap::Subcommand;
use comfy_table::Cell;
use picket_wire::api::Page;
use picket_wire::api::webhooks::{Webhook as Body, WebhookReply, WebhookRequest};
use picket_wire::id::WebhookId;

use crate::cmd::Context;
use crate::exit::Exit;
use crate::print::note;

#[derive(Debug, Subcommand)]
pub(crate) enum Webhook {
    /// Lists webhooks.
    List,
    /// Adds a webhook; its signing secret is made up and shown once.
    Add {
        /// Where messages go.
        url: String,
    },
    /// Removes a webhook.
    Remove {
        /// Its id, `whk_…`.
        id: WebhookId,
    },
}

impl Webhook {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::List => {
                let page: Page<Body> = context.client.get("/api/v1/webhooks").await?;
                context.printer.page(&page, &["id", "url"], |webhook| {
                    vec![Cell::new(webhook.id), Cell::new(&webhook.url)]
                });
            }
            Self::Add { url } => {
                let request = WebhookRequest { url, secret: None };
                let reply: WebhookReply = context.client.post("/api/v1/webhooks", &request).await?;
                context.printer.one(&reply, |reply| {
                    format!(
                        "{} {}\nsecret {}",
                        reply.webhook.id, reply.webhook.url, reply.secret
                    )
                });
            }
            Self::Remove { id } => {
                context
                    .client
                    .delete(&format!("/api/v1/webhooks/{id}"))
                    .await?;
                note(&format!("removed {id}"));
            }
        }
        Ok(Exit::Ok)
    }
}
