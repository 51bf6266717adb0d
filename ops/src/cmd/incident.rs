//! `picket incident`: what went wrong, and who said so.

use std::fmt::Write as _;

use clap::{Subcommand, ValueEnum};
use comfy_table::Cell;
use picket_wire::api::Page;
use picket_wire::api::incidents::{Incident as Body, IncidentExplained};
use picket_wire::id::{EndpointId, IncidentId};

use crate::cmd::{Context, Paging, Query};
use crate::exit::Exit;
use crate::print::{instant, maybe};

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Which {
    /// Not ended yet.
    Open,
    /// Ended.
    Closed,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Incident {
    /// Lists incidents, newest first.
    List {
        /// Only open or only closed ones.
        #[arg(long, value_enum)]
        which: Option<Which>,
        /// Only of this endpoint.
        #[arg(long)]
        endpoint: Option<EndpointId>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Shows one incident with every vote: why the verdict is what it is.
    #[command(alias = "explain")]
    Get {
        /// Its id, `inc_…`.
        id: IncidentId,
    },
}

const HEADERS: [&str; 7] = [
    "id", "url", "state", "reason", "started", "ended", "verdict",
];

impl Incident {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::List {
                which,
                endpoint,
                paging,
            } => {
                let which = which.map(|which| match which {
                    Which::Open => "open",
                    Which::Closed => "closed",
                });
                let query = Query::new("/api/v1/incidents")
                    .with("which", which)
                    .with("endpoint", endpoint)
                    .paged(&paging);
                let page: Page<Body> = context.client.get(query.path()).await?;
                context
                    .printer
                    .page(&page, &HEADERS, |incident| row(context, incident));
            }
            Self::Get { id } => {
                let explained: IncidentExplained = context
                    .client
                    .get(&format!("/api/v1/incidents/{id}"))
                    .await?;
                context
                    .printer
                    .one(&explained, |explained| explain(context, explained));
            }
        }
        Ok(Exit::Ok)
    }
}

fn row(context: &Context, incident: &Body) -> Vec<Cell> {
    vec![
        Cell::new(incident.id),
        Cell::new(&incident.url),
        context.printer.state(incident.state),
        Cell::new(incident.reason),
        Cell::new(incident.started_at),
        Cell::new(instant(incident.ended_at)),
        Cell::new(maybe(incident.verdict)),
    ]
}

fn explain(context: &Context, explained: &IncidentExplained) -> String {
    let mut text = context
        .printer
        .table(&HEADERS, std::iter::once(row(context, &explained.incident)))
        .to_string();
    writeln!(text, "\n\n{}\n", explained.rule).expect("a string takes every write");
    let rows = explained.testimony.iter().map(|said| {
        vec![
            Cell::new(said.at),
            Cell::new(said.agent),
            Cell::new(format!("{}/{}", said.region, said.network)),
            Cell::new(
                said.order
                    .map_or_else(|| "owner".to_owned(), |order| format!("vote {order}")),
            ),
            Cell::new(if said.ok {
                "ok".to_owned()
            } else {
                maybe(said.retry_reason.or(said.reason))
            }),
            Cell::new(
                serde_json::to_value(said.counted)
                    .ok()
                    .and_then(|value| value.as_str().map(str::to_owned))
                    .unwrap_or_default(),
            ),
            Cell::new(&said.detail),
        ]
    });
    text.push_str(
        &context
            .printer
            .table(
                &["at", "agent", "from", "as", "saw", "counted", "detail"],
                rows,
            )
            .to_string(),
    );
    text
}
