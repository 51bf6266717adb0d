//! `picket site`: sites and their rolled-up states.

use clap::Subcommand;
use comfy_table::Cell;
use picket_wire::api::Page;
use picket_wire::api::sites::Site as Body;
use picket_wire::id::SiteId;
use picket_wire::state::State;

use crate::cmd::{Context, Paging, Query, parse_state};
use crate::exit::Exit;
use crate::print::instant;

#[derive(Debug, Subcommand)]
pub(crate) enum Site {
    /// Lists sites, by name.
    List {
        /// Only sites whose name contains this.
        #[arg(long, short)]
        query: Option<String>,
        /// Only sites in this state.
        #[arg(long, value_parser = parse_state)]
        state: Option<State>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Shows one site.
    Get {
        /// Its id, `sit_…`.
        id: SiteId,
    },
}

impl Site {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::List {
                query,
                state,
                paging,
            } => {
                let query = Query::new("/api/v1/sites")
                    .with("q", query)
                    .with("state", state)
                    .paged(&paging);
                let page: Page<Body> = context.client.get(query.path()).await?;
                context.printer.page(
                    &page,
                    &["id", "name", "state", "since", "endpoints"],
                    |site| row(context, site),
                );
            }
            Self::Get { id } => {
                let site: Body = context.client.get(&format!("/api/v1/sites/{id}")).await?;
                context.printer.one(&site, |site| {
                    context
                        .printer
                        .table(
                            &["id", "name", "state", "since", "endpoints"],
                            std::iter::once(row(context, site)),
                        )
                        .to_string()
                });
            }
        }
        Ok(Exit::Ok)
    }
}

fn row(context: &Context, site: &Body) -> Vec<Cell> {
    vec![
        Cell::new(site.id),
        Cell::new(&site.name),
        context.printer.state(site.state),
        Cell::new(instant(site.since)),
        Cell::new(site.endpoints),
    ]
}
