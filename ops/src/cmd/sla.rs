//! `picket sla`: a figure that can be defended, with what was left out and why.

use std::time::Duration;

use clap::Args;
use picket_wire::api::instant::Instant;
use picket_wire::api::sla::{Coverage, Sla as Body};
use picket_wire::id::{EndpointId, SiteId};
use picket_wire::time::{Span, Timestamp};

use crate::cmd::{Context, Query};
use crate::exit::Exit;
use crate::print::{labelled, percent};

#[derive(Debug, Args)]
pub(crate) struct Sla {
    /// A site or an endpoint: `sit_…` or `end_…`.
    subject: String,
    /// Start of the range, RFC 3339; 30 days before its end when absent.
    #[arg(long)]
    from: Option<Instant>,
    /// End of the range, RFC 3339; now when absent.
    #[arg(long)]
    until: Option<Instant>,
    /// Length of a range that ends at `--until` or now, like `1h`, `30d`.
    #[arg(long, conflicts_with = "from", value_parser = parse_length)]
    last: Option<Duration>,
}

fn parse_length(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text
        .parse::<jiff::Span>()
        .and_then(|span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()))
        .map_err(|error| error.to_string())?;
    Duration::try_from(span).map_err(|_| "expected a length of time, like 1h or 30d".to_owned())
}

impl Sla {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let collection = if self.subject.parse::<SiteId>().is_ok() {
            "sites"
        } else if self.subject.parse::<EndpointId>().is_ok() {
            "endpoints"
        } else {
            anyhow::bail!(
                "subject: expected a site `sit_…` or an endpoint `end_…`, got `{}`",
                self.subject
            );
        };
        let from = match (self.from, self.last) {
            (Some(from), _) => Some(from),
            (None, Some(last)) => {
                let until = self.until.map_or_else(
                    || Timestamp(jiff::Timestamp::now().as_millisecond()),
                    |until| until.0,
                );
                Some(Instant(until - Span(u64::try_from(last.as_millis())?)))
            }
            (None, None) => None,
        };
        let query = Query::new(format!("/api/v1/{collection}/{}/sla", self.subject))
            .with("from", from)
            .with("until", self.until);
        let sla: Body = context.client.get(query.path()).await?;
        context.printer.one(&sla, explain);
        Ok(Exit::Ok)
    }
}

fn explain(sla: &Body) -> String {
    let mut lines = figures(sla);
    lines.extend(stretches(sla));
    labelled(&lines).trim_end().to_owned()
}

fn figures(sla: &Body) -> Vec<(&'static str, String)> {
    let uptime = sla
        .uptime_ppm
        .map_or_else(|| "nothing counts in this range".to_owned(), percent);
    let (unknown, maintenance, paused) = (
        Span(sla.unknown_ms),
        Span(sla.maintenance_ms),
        Span(sla.paused_ms),
    );
    let Coverage {
        due,
        ran,
        covered_ppm,
        ..
    } = sla.coverage;
    let covered = percent(covered_ppm);
    let mut lines = vec![
        ("subject", sla.subject.clone()),
        (
            "range",
            format!("{} to {}, {}", sla.from, sla.until, Span(sla.window_ms)),
        ),
        ("uptime", uptime),
        ("up", Span(sla.up_ms).to_string()),
        (
            "down",
            match sla.down.len() {
                0 => "0 ms".to_owned(),
                1 => format!("{} in one stretch", Span(sla.down_ms)),
                several => format!("{} in {several} stretches", Span(sla.down_ms)),
            },
        ),
        ("degraded", Span(sla.degraded_ms).to_string()),
        (
            "left out",
            format!("{unknown} unknown, {maintenance} maintenance, {paused} paused"),
        ),
        (
            "coverage",
            format!("{covered} of the range; {ran} of {due} due probes ran"),
        ),
        ("rule", format!("version {}", sla.rule)),
    ];
    if let Some(latency) = &sla.latency {
        let ms = |us: u64| format!("{}.{:03} ms", us / 1_000, us % 1_000);
        let (p50, p95, p99) = (ms(latency.p50_us), ms(latency.p95_us), ms(latency.p99_us));
        lines.push((
            "latency",
            format!(
                "p50 {p50}, p95 {p95}, p99 {p99} over {} probes",
                latency.count
            ),
        ));
    }
    lines
}

/// Every stretch that was down or was left out, one a line.
fn stretches(sla: &Body) -> impl Iterator<Item = (&'static str, String)> {
    let down = sla
        .down
        .iter()
        .map(|down| format!("down {} to {}", down.from, down.until));
    let left_out = sla.excluded.iter().map(|excluded| {
        let why = serde_json::to_value(excluded.why).ok();
        let why = why
            .as_ref()
            .and_then(|why| why.as_str())
            .unwrap_or_default()
            .replace('_', " ");
        format!("left out {} to {}: {why}", excluded.from, excluded.until)
    });
    down.chain(left_out).map(|line| ("", line))
}
