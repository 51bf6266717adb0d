//! What people read: one story for each endpoint, told by events and by incidents.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use picket_load::real::mesh::Mesh;
use picket_wire::api::events::Event;
use picket_wire::api::incidents::Incident;
use picket_wire::id::EndpointId;
use picket_wire::state::State;

use super::{FRAIL, Outage, Truth};

/// A probe may have been on its way while nginx went down.
pub(super) const ON_ITS_WAY_MS: i64 = 500;

/// Reads everything and judges it.
pub(super) async fn judge(mesh: &Mesh, truth: &Truth) -> anyhow::Result<()> {
    let events = mesh.events().await?;
    let incidents: Vec<Incident> = mesh.api().all("/api/v1/incidents").await?;
    judge_events(&events, truth)?;
    judge_incidents(&incidents, truth)
}

/// Each fact is there once; states follow each other; time does not run backwards; nothing that
/// answered throughout was ever called down.
fn judge_events(events: &[Event], truth: &Truth) -> anyhow::Result<()> {
    let mut facts = BTreeSet::new();
    let mut stories: BTreeMap<EndpointId, Vec<&Event>> = BTreeMap::new();
    for event in events {
        ensure!(facts.insert(event.fact), "{} is there twice", event.fact);
        ensure!(
            event.to != State::Down || event.url.starts_with(&truth.frail),
            "{} was never away: {event:?}",
            event.url
        );
        stories.entry(event.endpoint).or_default().push(event);
    }
    for (endpoint, story) in stories {
        let first = story.first().context("a story has events")?;
        let last = story.last().context("a story has events")?;
        ensure!(
            (first.from, last.to) == (State::Up, State::Up),
            "{endpoint}: {story:#?}"
        );
        let follows = |pair: &[&Event]| {
            pair[0].to == pair[1].from
                && pair[0].at <= pair[1].at
                && pair[0].decided_at <= pair[1].decided_at
        };
        ensure!(
            story.windows(2).all(follows) && story.iter().all(|event| event.from != event.to),
            "{endpoint} has a broken chain: {story:#?}"
        );
        for down in story.iter().filter(|event| event.to == State::Down) {
            ensure!(
                truth
                    .outages
                    .iter()
                    .any(|outage| outage.shows_at(down.at.0.0)),
                "{endpoint} was not down then: {down:?}, {truth:?}"
            );
        }
    }
    Ok(())
}

/// No incident is left open, no two of one endpoint overlap, and both outages were noticed.
fn judge_incidents(incidents: &[Incident], truth: &Truth) -> anyhow::Result<()> {
    let mut ids = BTreeSet::new();
    let mut by_endpoint: BTreeMap<EndpointId, Vec<(i64, i64)>> = BTreeMap::new();
    for incident in incidents {
        ensure!(ids.insert(incident.id), "{} is there twice", incident.id);
        let ended = incident
            .ended_at
            .with_context(|| format!("open: {incident:?}"))?;
        let lasted = (incident.started_at.0.0, ended.0.0);
        ensure!(lasted.0 <= lasted.1, "ends before it begins: {incident:?}");
        by_endpoint
            .entry(incident.endpoint)
            .or_default()
            .push(lasted);
    }
    for (endpoint, lasted) in &mut by_endpoint {
        lasted.sort_unstable();
        ensure!(
            lasted.windows(2).all(|pair| pair[0].1 <= pair[1].0),
            "{endpoint} has incidents that overlap: {lasted:?}"
        );
    }
    for outage in &truth.outages {
        let noticed = by_endpoint
            .values()
            .filter(|lasted| lasted.iter().any(|(started, _)| outage.shows_at(*started)))
            .count();
        // An endpoint whose owner died and died again may have been looked at by nobody; the books
        // say which. This only says that there was something to be judged.
        ensure!(
            noticed > FRAIL / 2,
            "{outage:?} was noticed on {noticed} endpoints only"
        );
    }
    Ok(())
}

impl Outage {
    /// Whether a probe that began at `at` can have met this outage.
    fn shows_at(&self, at: i64) -> bool {
        (self.down.0 - ON_ITS_WAY_MS..=self.up.0).contains(&at)
    }
}
