//! `picket maintenance`: time that does not count.

use clap::{ArgGroup, Subcommand};
use comfy_table::Cell;
use picket_wire::api::Page;
use picket_wire::api::instant::Instant;
use picket_wire::api::maintenance::{Maintenance as Body, MaintenanceRequest, Selector};
use picket_wire::id::{EndpointId, MaintenanceId, SiteId};

use crate::cmd::Context;
use crate::exit::Exit;
use crate::print::note;

#[derive(Debug, Subcommand)]
pub(crate) enum Maintenance {
    /// Lists windows.
    List,
    /// Announces a window, before or after the fact.
    #[command(group = ArgGroup::new("what").required(true))]
    Add {
        /// Everything.
        #[arg(long, group = "what")]
        all: bool,
        /// One site.
        #[arg(long, group = "what")]
        site: Option<SiteId>,
        /// One endpoint.
        #[arg(long, group = "what")]
        endpoint: Option<EndpointId>,
        /// Its first instant, RFC 3339.
        #[arg(long)]
        from: Instant,
        /// The first instant after it, RFC 3339.
        #[arg(long)]
        until: Instant,
        /// Why.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Removes a window.
    Remove {
        /// Its id, `mnt_…`.
        id: MaintenanceId,
    },
}

const HEADERS: [&str; 5] = ["id", "what", "from", "until", "note"];

impl Maintenance {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::List => {
                let page: Page<Body> = context.client.get("/api/v1/maintenance").await?;
                context.printer.page(&page, &HEADERS, row);
            }
            Self::Add {
                all: _,
                site,
                endpoint,
                from,
                until,
                note,
            } => {
                let selector = match (site, endpoint) {
                    (Some(site), _) => Selector::Site(site),
                    (None, Some(endpoint)) => Selector::Endpoint(endpoint),
                    (None, None) => Selector::All,
                };
                let request = MaintenanceRequest {
                    selector,
                    from,
                    until,
                    note,
                };
                let window: Body = context.client.post("/api/v1/maintenance", &request).await?;
                context.printer.one(&window, |window| {
                    context
                        .printer
                        .table(&HEADERS, std::iter::once(row(window)))
                        .to_string()
                });
            }
            Self::Remove { id } => {
                context
                    .client
                    .delete(&format!("/api/v1/maintenance/{id}"))
                    .await?;
                note(&format!("removed {id}"));
            }
        }
        Ok(Exit::Ok)
    }
}

fn row(window: &Body) -> Vec<Cell> {
    let what = match window.selector {
        Selector::All => "everything".to_owned(),
        Selector::Site(site) => site.to_string(),
        Selector::Endpoint(endpoint) => endpoint.to_string(),
    };
    vec![
        Cell::new(window.id),
        Cell::new(what),
        Cell::new(window.from),
        Cell::new(window.until),
        Cell::new(&window.note),
    ]
}
