//! `picket status`: the mesh on one screen.

use std::collections::BTreeMap;

use comfy_table::{Cell, Table};
use picket_wire::api::status::{Member, MeshStatus};

use crate::cmd::Context;
use crate::exit::Exit;
use crate::print::{Printer, labelled, maybe};

pub(crate) async fn run(context: &Context) -> anyhow::Result<Exit> {
    let status: MeshStatus = context.client.get("/api/v1/status").await?;
    context
        .printer
        .one(&status, |status| screen(context.printer, status));
    Ok(Exit::Ok)
}

/// The whole screen as text.
fn screen(printer: Printer, status: &MeshStatus) -> String {
    let mut lines = who_leads(status);
    lines.extend(what_waits(status));
    format!("{}\n{}", labelled(&lines), regions(printer, status))
}

fn who_leads(status: &MeshStatus) -> Vec<(&'static str, String)> {
    let member = |member: &Member| {
        let role = if member.voter { "" } else { " (learner)" };
        format!("{} {}{role}", member.id, member.address)
    };
    let members: Vec<String> = status.members.iter().map(member).collect();
    let leader = maybe(status.leader);
    let postgres = if status.postgres {
        "answers"
    } else {
        "away; watching, deciding and paging go on"
    };
    vec![
        ("cluster", format!("{}, {}", status.cluster, status.now)),
        (
            "leader",
            format!(
                "{leader} (term {}, applied {})",
                status.term, status.applied
            ),
        ),
        ("members", members.join(", ")),
        ("postgres", postgres.to_owned()),
    ]
}

fn what_waits(status: &MeshStatus) -> Vec<(&'static str, String)> {
    let listed = |counts: &BTreeMap<String, u64>| {
        let each: Vec<String> = counts
            .iter()
            .map(|(name, n)| format!("{name} {n}"))
            .collect();
        each.join(", ")
    };
    let (checks, unowned) = (status.checks, status.unowned_checks);
    let (incidents, orders) = (status.open_incidents, status.open_orders);
    let mut lines = vec![
        ("facts waiting", listed(&status.lag)),
        (
            "checks",
            format!("{checks}, {unowned} of them without an owner"),
        ),
        (
            "open",
            format!("{incidents} incidents, {orders} confirmations"),
        ),
    ];
    if let Some(endpoints) = &status.endpoints {
        lines.push(("endpoints", listed(endpoints)));
    }
    if let Some(lateness) = &status.lateness {
        let (p50, p99, max) = (lateness.p50_ms, lateness.p99_ms, lateness.max_ms);
        let value =
            format!("p50 {p50} ms, p99 {p99} ms, max {max} ms, latest per check and window");
        lines.push(("lateness", value));
    }
    lines
}

fn regions(printer: Printer, status: &MeshStatus) -> Table {
    let rows = status.regions.iter().map(|region| {
        let frozen = if region.frozen {
            "frozen: too many leases lost at once"
        } else {
            ""
        };
        vec![
            Cell::new(&region.name),
            Cell::new(format!("{} of {}", region.leased, region.agents)),
            Cell::new(region.checks),
            Cell::new(frozen),
        ]
    });
    printer.table(&["region", "agents leased", "checks", ""], rows)
}
