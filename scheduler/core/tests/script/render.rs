//! Replies and facts as one line of text each.

use std::fmt::Write as _;

use picket_scheduler_core::reply::{Ingested, Reply};
use picket_scheduler_core::state::State;
use picket_wire::fact::{Fact, FactBody, Incident, NotificationGroup, Testimony};
use picket_wire::id::CheckId;

/// What the machine answered; nothing when all went as it should.
pub(crate) fn reply(reply: &Reply) -> Vec<String> {
    match reply {
        Reply::Done | Reply::Assigned { stale: 0, .. } => Vec::new(),
        Reply::Ingested(all) => all.iter().map(ingested).collect(),
        Reply::Rejected(reject) => vec![format!("rejected: {reject}")],
        Reply::Admitted { agent, incarnation } => {
            vec![format!("admitted {agent} incarnation {incarnation}")]
        }
        Reply::Assigned { applied, stale } => vec![format!("assigned {applied} stale {stale}")],
        Reply::Group(id) => vec![format!("group {id}")],
        Reply::Token(id) => vec![format!("token {id}")],
        Reply::Webhook(id) => vec![format!("webhook {id}")],
        Reply::Maintenance(id) => vec![format!("maintenance {id}")],
    }
}

fn ingested(ingested: &Ingested) -> String {
    let Ingested {
        agent,
        watermark,
        refused,
    } = ingested;
    match refused {
        None => format!("ack {agent} {watermark}"),
        Some(refusal) => format!("refused {agent} at {watermark}: {refusal}"),
    }
}

pub(crate) fn fact(fact: &Fact) -> String {
    match &fact.body {
        FactBody::Transition(t) => {
            let mut text = format!(
                "transition {} {} -> {} at {}",
                t.check.check, t.from, t.to, t.at.0
            );
            append(&mut text, "", t.reason);
            append(&mut text, "", t.incident);
            text
        }
        FactBody::Incident(i) => incident(i),
        FactBody::Testimony(t) => testimony(t),
        FactBody::Group(g) => group(g),
        FactBody::Agent(a) => format!("agent {} {:?}", a.agent, a.change).to_lowercase(),
        FactBody::Assigned(a) => {
            let owner = a
                .agent
                .map_or_else(|| "nobody".to_owned(), |agent| agent.to_string());
            let cause = format!("{:?}", a.cause).to_lowercase();
            format!("assigned {} to {owner} epoch {} {cause}", a.slot, a.epoch)
        }
    }
}

fn append(text: &mut String, label: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        write!(text, " {label}{value}").unwrap();
    }
}

fn incident(incident: &Incident) -> String {
    let Incident {
        id,
        check,
        state,
        started_at,
        reason,
        ..
    } = incident;
    let mut text = format!(
        "incident {id} {} {state} since {} {reason}",
        check.check, started_at.0
    );
    append(&mut text, "decided ", incident.decided_at.map(|at| at.0));
    append(&mut text, "", incident.verdict);
    append(&mut text, "ended ", incident.ended_at.map(|at| at.0));
    append(&mut text, "", incident.group);
    text
}

fn testimony(testimony: &Testimony) -> String {
    let Testimony {
        incident,
        agent,
        region,
        network,
        ..
    } = testimony;
    let found = testimony
        .evidence
        .retry
        .as_ref()
        .unwrap_or(&testimony.evidence.probe)
        .reason;
    let found = found.map_or("ok", |reason| reason.name());
    let counted = format!("{:?}", testimony.counted).to_lowercase();
    let mut text =
        format!("testimony {incident} {agent} {region}/{network} {found} counted {counted}");
    append(&mut text, "", testimony.order);
    text
}

fn group(group: &NotificationGroup) -> String {
    let NotificationGroup {
        id,
        cause,
        open,
        total,
        ..
    } = group;
    let mut text = format!("group {id} `{cause}` open {open} of {total}");
    append(&mut text, "closed ", group.closed_at.map(|at| at.0));
    text
}

/// Where deciding about a check stands.
pub(crate) fn open(state: &State, check: CheckId) -> String {
    let Some(open) = state.open.get(&check) else {
        return format!("{check} is plainly up");
    };
    let stage = format!("{:?}", open.stage);
    let stage = stage
        .split([' ', '{'])
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let mut text = format!(
        "{check} {stage} ({}) since {}",
        open.stage.state(),
        open.since.0
    );
    if let Some((id, order)) = open
        .stage
        .order()
        .and_then(|id| Some((id, state.orders.get(&id)?)))
    {
        let (asked, deadline) = (order.asked_at.0, order.deadline.0);
        write!(
            text,
            ", {id} wants {} from {asked} to {deadline}",
            order.wanted
        )
        .unwrap();
    }
    text
}
