//! `/…/sla`: figures that can be defended.
//!
//! Transitions and coverage come from Postgres, maintenance from the machine, the algebra from the
//! core. The end of the window is cut to the end of coverage: what was not watched yet is neither
//! up nor down.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use picket_scheduler_core::interval_set::IntervalSet;
use picket_scheduler_core::sla::{self, Account, account};
use picket_scheduler_core::{coverage, maintenance, rollup};
use picket_storage::pg::read::Page;
use picket_storage::pg::read::Reads;
use picket_storage::pg::read::endpoints::{EndpointFilter, EndpointRow};
use picket_storage::pg::read::latency::Sketch;
use picket_wire::api::instant::Instant;
use picket_wire::api::sla::{Coverage, Excluded, Exclusion, Latency, RULE_VERSION, Sla, Stretch};
use picket_wire::id::{EndpointId, SiteId};
use picket_wire::state::State;
use picket_wire::time::{Interval, Span, Timestamp};
use serde::Deserialize;

use crate::api::extract::{Path, Query, Reader};
use crate::api::problem::ApiError;
use crate::context::Context;

/// Length of a window that has no beginning.
const WINDOW_DEFAULT: Span = Span::from_secs(30 * 86_400);
/// Longest window: a leap year and a day.
const WINDOW_MAX: Span = Span::from_secs(367 * 86_400);
/// Most endpoints of a site whose figure is made; each costs three queries.
const SITE_ENDPOINTS_MAX: u32 = 1_000;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    /// Start of the window; 30 days before its end when absent.
    from: Option<Instant>,
    /// End of the window; now when absent.
    until: Option<Instant>,
}

impl Range {
    fn interval(&self, now: Timestamp) -> Result<Interval, ApiError> {
        let until = self.until.map_or(now, |until| until.0);
        let from = self.from.map_or(until - WINDOW_DEFAULT, |from| from.0);
        let window = Interval::new(from, until);
        if window.is_empty() {
            return Err(ApiError::invalid(
                "from",
                format!("expected an instant before `until`, {}", Instant(until)),
            ));
        }
        if window.len() > WINDOW_MAX {
            return Err(ApiError::invalid(
                "from",
                format!("expected a window of at most {WINDOW_MAX}"),
            ));
        }
        Ok(window)
    }
}

/// SLA of an endpoint.
#[utoipa::path(get, path = "/endpoints/{id}/sla", tag = "sla", params(("id" = EndpointId, Path), Range),
    responses((status = 200, body = Sla)))]
pub(super) async fn endpoint(
    _: Reader,
    Extract(ctx): Extract<Arc<Context>>,
    Path(id): Path<EndpointId>,
    Query(range): Query<Range>,
) -> Result<Json<Sla>, ApiError> {
    let window = range.interval(ctx.clock.now())?;
    let reads = Reads::new(ctx.pg.clone());
    let found = reads.endpoint(id).await?;
    let (row, _) = found.ok_or_else(|| ApiError::not_found(id))?;
    let watched = Watched::read(&ctx, &reads, &row, window).await?;
    Ok(Json(figure(id.to_string(), window, &[watched])))
}

/// SLA of a site: at each instant it is in the worst state of its endpoints.
#[utoipa::path(get, path = "/sites/{id}/sla", tag = "sla", params(("id" = SiteId, Path), Range),
    responses((status = 200, body = Sla)))]
pub(super) async fn site(
    _: Reader,
    Extract(ctx): Extract<Arc<Context>>,
    Path(id): Path<SiteId>,
    Query(range): Query<Range>,
) -> Result<Json<Sla>, ApiError> {
    let window = range.interval(ctx.clock.now())?;
    let reads = Reads::new(ctx.pg.clone());
    reads
        .site(id)
        .await?
        .ok_or_else(|| ApiError::not_found(id))?;
    let filter = EndpointFilter {
        site: Some(id),
        ..EndpointFilter::default()
    };
    let listed = reads
        .endpoints(&filter, Page::first(SITE_ENDPOINTS_MAX))
        .await?;
    if listed.next.is_some() {
        return Err(ApiError::Conflict(format!(
            "the site has more than {SITE_ENDPOINTS_MAX} endpoints; ask for theirs"
        )));
    }
    let mut all = Vec::with_capacity(listed.rows.len());
    for row in &listed.rows {
        all.push(Watched::read(&ctx, &reads, row, window).await?);
    }
    Ok(Json(figure(id.to_string(), window, &all)))
}

/// What is known of one endpoint in a window.
struct Watched {
    timeline: Vec<(Timestamp, State)>,
    covered: IntervalSet,
    maintenance: IntervalSet,
    due: u64,
    ran: u64,
    latency: Sketch,
}

impl Watched {
    async fn read(
        ctx: &Context,
        reads: &Reads,
        row: &EndpointRow,
        window: Interval,
    ) -> Result<Self, ApiError> {
        let timeline = reads.timeline(row.id, window).await?;
        if timeline.cut {
            return Err(ApiError::invalid(
                "from",
                "too many transitions in this window; ask for a shorter one",
            ));
        }
        let rows = reads
            .endpoint_windows(row.id, window)
            .await?
            .ok_or_else(|| ApiError::not_found(row.id))?;
        if rows.cut {
            return Err(ApiError::invalid(
                "from",
                "too many rollup windows in this window; ask for a shorter one",
            ));
        }
        let stretches = reads
            .endpoint_covered(row.id, window)
            .await?
            .unwrap_or_default();
        let covered = coverage::of(stretches.iter().map(|stretch| stretch.covered), row.cadence);
        let maintenance = ctx
            .replica
            .read(|state| maintenance::of(&state.maintenance, row.site, row.id));
        Ok(Self {
            timeline: timeline
                .transitions
                .iter()
                .map(|row| (row.transition.at, row.transition.to))
                .collect(),
            covered,
            maintenance,
            due: rows.windows.iter().map(|window| window.due).sum(),
            ran: rows.windows.iter().map(|window| window.ran).sum(),
            latency: reads.endpoint_latency(row.id, window).await?,
        })
    }
}

/// The figure over one endpoint, or over all endpoints of a site.
fn figure(subject: String, window: Interval, all: &[Watched]) -> Sla {
    let timeline = rolled_up(all);
    let covered = all
        .iter()
        .map(|watched| watched.covered.clone())
        .reduce(|a, b| a.intersection(&b))
        .unwrap_or_default();
    let maintenance = all
        .iter()
        .map(|watched| watched.maintenance.clone())
        .reduce(|a, b| a.intersection(&b))
        .unwrap_or_default();
    let window = coverage::clamp(window, &covered);
    let account = account(window, &timeline, &covered, &maintenance);
    let mut sketch = Sketch::default();
    all.iter()
        .for_each(|watched| sketch.merge(&watched.latency));
    let coverage = Coverage {
        due: all.iter().map(|watched| watched.due).sum(),
        ran: all.iter().map(|watched| watched.ran).sum(),
        ..covered_share(window, &covered)
    };
    body(subject, window, account, &sketch, coverage)
}

/// The state of the whole at each instant at which the state of a part changes.
fn rolled_up(all: &[Watched]) -> Vec<(Timestamp, State)> {
    if let [only] = all {
        return only.timeline.clone();
    }
    let mut instants: Vec<Timestamp> = all
        .iter()
        .flat_map(|watched| watched.timeline.iter().map(|&(at, _)| at))
        .collect();
    instants.sort_unstable();
    instants.dedup();
    let state_at = |watched: &Watched, at: Timestamp| {
        watched
            .timeline
            .iter()
            .rev()
            .find(|&&(since, _)| since <= at)
            .map_or(State::Up, |&(_, state)| state)
    };
    instants
        .into_iter()
        .map(|at| {
            (
                at,
                rollup::site(all.iter().map(|watched| state_at(watched, at))),
            )
        })
        .collect()
}

fn covered_share(window: Interval, covered: &IntervalSet) -> Coverage {
    let inside: IntervalSet = [window].into_iter().collect();
    let covered_ms = covered.intersection(&inside).len().0;
    let whole = window.len().0;
    let ppm = if whole == 0 {
        0
    } else {
        u128::from(covered_ms) * 1_000_000 / u128::from(whole)
    };
    Coverage {
        due: 0,
        ran: 0,
        covered_ms,
        covered_ppm: u32::try_from(ppm).unwrap_or(1_000_000),
    }
}

fn body(
    subject: String,
    window: Interval,
    account: Account,
    sketch: &Sketch,
    coverage: Coverage,
) -> Sla {
    let stretch = |interval: &Interval| Stretch {
        from: Instant(interval.from),
        until: Instant(interval.until),
    };
    Sla {
        subject,
        rule: RULE_VERSION,
        from: Instant(window.from),
        until: Instant(window.until),
        window_ms: window.len().0,
        up_ms: account.up_ms,
        down_ms: account.down_ms,
        degraded_ms: account.degraded_ms,
        unknown_ms: account.unknown_ms,
        maintenance_ms: account.maintenance_ms,
        paused_ms: account.paused_ms,
        uptime_ppm: account.uptime_ppm(),
        latency: sketch.percentiles().map(|percentiles| Latency {
            count: percentiles.count,
            p50_us: percentiles.p50_us,
            p95_us: percentiles.p95_us,
            p99_us: percentiles.p99_us,
        }),
        coverage,
        excluded: account
            .excluded
            .iter()
            .map(|excluded| Excluded {
                from: Instant(excluded.interval.from),
                until: Instant(excluded.interval.until),
                why: exclusion(excluded.why),
            })
            .collect(),
        down: account.down.iter().map(stretch).collect(),
    }
}

const fn exclusion(why: sla::Exclusion) -> Exclusion {
    match why {
        sla::Exclusion::NotObserved => Exclusion::NotObserved,
        sla::Exclusion::Undecided => Exclusion::Undecided,
        sla::Exclusion::Maintenance => Exclusion::Maintenance,
        sla::Exclusion::Paused => Exclusion::Paused,
    }
}
