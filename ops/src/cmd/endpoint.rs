//! `picket endpoint`: addresses, their states, and why they are probed where they are.

use std::fmt::Write as _;

use clap::Subcommand;
use comfy_table::Cell;
use picket_wire::api::Page;
use picket_wire::api::endpoints::{AssignmentExplained, Endpoint as Body};
use picket_wire::id::{EndpointId, SiteId};
use picket_wire::state::State;

use crate::cmd::{Context, Paging, Query, parse_state};
use crate::exit::Exit;
use crate::print::{instant, maybe};

#[derive(Debug, Subcommand)]
pub(crate) enum Endpoint {
    /// Lists endpoints, by id.
    List {
        /// Only endpoints whose URL contains this.
        #[arg(long, short)]
        query: Option<String>,
        /// Only endpoints in this state.
        #[arg(long, value_parser = parse_state)]
        state: Option<State>,
        /// Only endpoints of this site.
        #[arg(long)]
        site: Option<SiteId>,
        /// Only endpoints with this label.
        #[arg(long)]
        label: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Shows one endpoint.
    Get {
        /// Its id, `end_…`.
        id: EndpointId,
    },
    /// Explains which agent probes it and why that one.
    Explain {
        /// Its id, `end_…`.
        id: EndpointId,
    },
}

const HEADERS: [&str; 7] = [
    "id",
    "url",
    "state",
    "since",
    "every",
    "last probe",
    "latency",
];

impl Endpoint {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::List {
                query,
                state,
                site,
                label,
                paging,
            } => {
                let query = Query::new("/api/v1/endpoints")
                    .with("q", query)
                    .with("state", state)
                    .with("site", site)
                    .with("label", label)
                    .paged(&paging);
                let page: Page<Body> = context.client.get(query.path()).await?;
                context
                    .printer
                    .page(&page, &HEADERS, |endpoint| row(context, endpoint));
            }
            Self::Get { id } => {
                let endpoint: Body = context
                    .client
                    .get(&format!("/api/v1/endpoints/{id}"))
                    .await?;
                context.printer.one(&endpoint, |endpoint| {
                    context
                        .printer
                        .table(&HEADERS, std::iter::once(row(context, endpoint)))
                        .to_string()
                });
            }
            Self::Explain { id } => {
                let explained: AssignmentExplained = context
                    .client
                    .get(&format!("/api/v1/endpoints/{id}/assignment"))
                    .await?;
                context
                    .printer
                    .one(&explained, |explained| explain(context, explained));
            }
        }
        Ok(Exit::Ok)
    }
}

fn row(context: &Context, endpoint: &Body) -> Vec<Cell> {
    vec![
        Cell::new(endpoint.id),
        Cell::new(&endpoint.url),
        context.printer.state(endpoint.state),
        Cell::new(instant(endpoint.since)),
        Cell::new(format!("{} s", endpoint.every_s)),
        Cell::new(instant(endpoint.last_probe)),
        Cell::new(maybe(
            endpoint
                .last_latency_us
                .map(|us| format!("{}.{:03} ms", us / 1_000, us % 1_000)),
        )),
    ]
}

fn explain(context: &Context, explained: &AssignmentExplained) -> String {
    let mut text = format!(
        "{} lies in shard {} of placement group {}, catalogue version {}\n",
        explained.endpoint, explained.shard, explained.group, explained.catalogue_version
    );
    for slot in &explained.slots {
        writeln!(
            text,
            "\nslot {}: {} owns it (epoch {}, {}); standby {}; preferred region {}",
            slot.slot,
            maybe(slot.agent),
            slot.epoch,
            slot.cause.map_or_else(
                || "never moved".to_owned(),
                |cause| format!("{cause:?}").to_lowercase()
            ),
            maybe(slot.standby),
            maybe(slot.preferred_region.as_ref()),
        )
        .expect("a string takes every write");
        let rows = slot.candidates.iter().map(|candidate| {
            vec![
                Cell::new(candidate.rank),
                Cell::new(candidate.agent),
                Cell::new(&candidate.region),
                Cell::new(if candidate.eligible { "yes" } else { "no" }),
            ]
        });
        text.push_str(
            &context
                .printer
                .table(&["rank", "agent", "region", "eligible"], rows)
                .to_string(),
        );
    }
    text
}
