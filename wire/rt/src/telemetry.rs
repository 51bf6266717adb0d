//! What a process tells about itself: log lines, spans, metrics.
//!
//! Log lines go to standard error, for people or as JSON. Spans leave over OTLP when a collector
//! is configured. Metrics are kept in process and rendered as Prometheus text, by the API or over a
//! Unix socket, since an agent listens on no network.

mod metrics_text;
mod serve;
mod trace;

use std::io::IsTerminal;
use std::time::Duration;

use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

pub use metrics_text::Metrics;
pub use serve::{ServeMetricsError, serve_metrics_unix};
pub use trace::PastSpan;

/// How long the last spans may take to leave: a process that stops must not wait for a collector.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// What is told, how and where to.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// Which log lines are written: a level, or `tracing` directives such as
    /// `info,picket_agent=debug`. Default `info`: one line per change, none per probe.
    pub log: String,
    /// For people or for machines. Default `human`.
    pub format: LogFormat,
    /// The OTLP/gRPC endpoint of a collector, `http://host:4317`. Default none: no spans leave.
    /// Plain HTTP only: a collector runs beside the process and forwards.
    pub otlp: Option<String>,
    /// Which share of traces that begin here is kept, 0 to 1. Default 1: spans are made for what
    /// changes, not for every probe.
    pub trace_ratio: f64,
}

/// Consensus tells at its seams what it does; what the library says of itself, several lines a
/// second while a member is away, is for who asks for it.
const LOG_DEFAULT: &str = "info,openraft=off";

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            log: LOG_DEFAULT.to_owned(),
            format: LogFormat::Human,
            otlp: None,
            trace_ratio: 1.0,
        }
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One readable line; coloured on a terminal unless `NO_COLOR` is set.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Keeps telemetry running; what has not left yet is flushed when it is dropped.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Metrics,
    export: Option<trace::Export>,
}

impl Telemetry {
    /// The process's metrics.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(export) = self.export.take() {
            export.flush(FLUSH_TIMEOUT);
        }
    }
}

/// Why telemetry could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The directives cannot be read.
    #[error("`log` is not a level or a list of directives: `{text}`")]
    Filter {
        /// What was given.
        text: String,
        /// What the parser says.
        #[source]
        source: ParseError,
    },
    /// The endpoint is not a plain HTTP address.
    #[error("`otlp` must be an address like `http://127.0.0.1:4317`, got `{endpoint}`")]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// The ratio is not a share.
    #[error("`trace_ratio` must lie between 0 and 1, got {0}")]
    Ratio(f64),
    /// The exporter could not be made.
    #[error("start the span exporter")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    /// The exporter's runtime could not be made.
    #[error("start the span exporter's runtime")]
    Runtime(#[source] std::io::Error),
    /// This process has telemetry already.
    #[error("log lines are set up already")]
    LogsTwice(#[source] TryInitError),
    /// This process has a metrics recorder already.
    #[error("metrics are set up already")]
    MetricsTwice,
}

/// Starts telemetry for this process, once. `service` is the program's name, such as
/// `picket-agent`; `instance` tells this process from its siblings wherever spans come together.
///
/// # Errors
/// When a setting is wrong, or when telemetry runs already.
pub fn init(
    service: &'static str,
    instance: &str,
    settings: &TelemetrySettings,
) -> Result<Telemetry, TelemetryError> {
    let filter = filter(&settings.log)?;
    let export = trace::Export::start(service, instance, settings)?;
    if let Some(export) = &export {
        export.install();
    }
    tracing_subscriber::registry()
        .with(export.as_ref().map(trace::Export::layer))
        .with(lines(settings.format).with_filter(filter))
        .try_init()
        .map_err(TelemetryError::LogsTwice)?;
    let metrics = Metrics::install().ok_or(TelemetryError::MetricsTwice)?;
    Ok(Telemetry { metrics, export })
}

fn filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        .parse(text)
        .map_err(|source| TelemetryError::Filter {
            text: text.to_owned(),
            source,
        })
}

fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Human => {
            let colour = std::io::stderr().is_terminal() && !no_color();
            layer.with_ansi(colour).with_target(false).compact().boxed()
        }
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// The convention of <https://no-color.org>: set and not empty.
fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_say_nothing_are_quiet_and_local() {
        let settings: TelemetrySettings = toml::from_str("").expect("every field has a default");
        assert_eq!(settings, TelemetrySettings::default());
        assert!(settings.otlp.is_none());
    }

    #[test]
    fn directives_that_cannot_be_read_are_refused_with_their_text() {
        let error = filter("info,picket=loudly").expect_err("`loudly` is no level");
        assert!(error.to_string().contains("picket=loudly"), "{error}");
    }

    #[test]
    fn an_endpoint_that_is_not_plain_http_is_refused() {
        for endpoint in ["https://collector:4317", "collector:4317", "http://"] {
            let otlp = Some(endpoint.to_owned());
            let settings = TelemetrySettings {
                otlp,
                ..TelemetrySettings::default()
            };
            let error = trace::Export::start("picket-test", "one", &settings).expect_err(endpoint);
            assert!(matches!(error, TelemetryError::Endpoint { .. }), "{error}");
        }
    }

    #[test]
    fn a_ratio_outside_its_range_is_refused() {
        for trace_ratio in [-0.1, 1.1, f64::NAN] {
            let settings = TelemetrySettings {
                trace_ratio,
                ..TelemetrySettings::default()
            };
            let error =
                trace::Export::start("picket-test", "one", &settings).expect_err("not a share");
            assert!(matches!(error, TelemetryError::Ratio(_)), "{error}");
        }
    }
}
