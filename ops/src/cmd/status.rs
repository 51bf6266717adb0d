//! `picket status`: the mesh on one screen.

use std::fmt::Write as _;

use comfy_table::Cell;
use picket_wire::api::status::MeshStatus;

use crate::cmd::Context;
use crate::exit::Exit;
use crate::print::{Printer, maybe};

pub(crate) async fn run(context: &Context) -> anyhow::Result<Exit> {
    let status: MeshStatus = context.client.get("/api/v1/status").await?;
    context
        .printer
        .one(&status, |status| screen(context.printer, status));
    Ok(Exit::Ok)
}

/// The whole screen as text; `picket dev` shows the same.
pub(crate) fn screen(printer: Printer, status: &MeshStatus) -> String {
    let mut text = String::new();
    line(
        &mut text,
        "cluster",
        format!("{}, {}", status.cluster, status.now),
    );
    line(
        &mut text,
        "leader",
        format!(
            "{} (term {}, applied {})",
            maybe(status.leader),
            status.term,
            status.applied
        ),
    );
    let members: Vec<String> = status
        .members
        .iter()
        .map(|member| {
            format!(
                "{} {}{}",
                member.id,
                member.address,
                if member.voter { "" } else { " (learner)" }
            )
        })
        .collect();
    line(&mut text, "members", members.join(", "));
    line(
        &mut text,
        "postgres",
        if status.postgres {
            "answers".to_owned()
        } else {
            "away; watching, deciding and paging go on".to_owned()
        },
    );
    let lag: Vec<String> = status
        .lag
        .iter()
        .map(|(consumer, facts)| format!("{consumer} {facts}"))
        .collect();
    line(&mut text, "facts waiting", lag.join(", "));
    line(
        &mut text,
        "checks",
        format!(
            "{}, {} of them without an owner",
            status.checks, status.unowned_checks
        ),
    );
    line(
        &mut text,
        "open",
        format!(
            "{} incidents, {} confirmations",
            status.open_incidents, status.open_orders
        ),
    );
    if let Some(endpoints) = &status.endpoints {
        let states: Vec<String> = endpoints
            .iter()
            .map(|(state, count)| format!("{state} {count}"))
            .collect();
        line(&mut text, "endpoints", states.join(", "));
    }
    if let Some(lateness) = &status.lateness {
        let (p50, p99, max) = (lateness.p50_ms, lateness.p99_ms, lateness.max_ms);
        line(
            &mut text,
            "lateness",
            format!("p50 {p50} ms, p99 {p99} ms, max {max} ms, latest per check and window"),
        );
    }
    let rows = status.regions.iter().map(|region| {
        vec![
            Cell::new(&region.name),
            Cell::new(format!("{} of {}", region.leased, region.agents)),
            Cell::new(region.checks),
            Cell::new(if region.frozen {
                "frozen: too many leases lost at once"
            } else {
                ""
            }),
        ]
    });
    text.push('\n');
    text.push_str(
        &printer
            .table(&["region", "agents leased", "checks", ""], rows)
            .to_string(),
    );
    text
}

fn line(text: &mut String, label: &str, value: String) {
    writeln!(text, "{label:<14} {value}").expect("a string takes every write");
}
