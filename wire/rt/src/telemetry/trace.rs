//! Spans that leave over OTLP, and the context that ties a probe to its incident.
//!
//! Spans of `tracing` that stand around work, such as an answer of the API, leave as they are.
//! Whether a probe or an order is worth a span is known only when it is over: one that went as ever
//! leaves none. Those are told afterwards, with their beginning and their end, and nothing is
//! prepared for the many that never will be. The exporter has a runtime of its own, so that the last
//! spans can still leave when the process's own tasks have ended.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer as _, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use picket_wire::evidence::TraceContext;
use picket_wire::time::Timestamp;
use tokio::runtime::Runtime;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use super::{TelemetryError, TelemetrySettings};
use crate::build_info;

/// How long one export may take before its batch is dropped.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Spans that wait for the collector. Where it is away or slow the queue is full, and what comes
/// then is dropped: nobody who makes a span ever waits. A span has about 500 bytes.
const QUEUE_MAX: usize = 4_096;

/// Spans in one export; the default of the protocol's SDKs.
const BATCH_MAX: usize = 512;

/// How long a span waits for company.
const EXPORT_EVERY: Duration = Duration::from_secs(2);

/// The name of our instrumentation in every span.
const SCOPE: &str = "picket";

/// Where spans are told; empty when no collector is configured.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// The way out for spans.
#[derive(Debug)]
pub(super) struct Export {
    provider: SdkTracerProvider,
    runtime: Runtime,
}

impl Export {
    /// Starts the exporter; `None` when no collector is configured.
    pub(super) fn start(
        service: &'static str,
        instance: &str,
        settings: &TelemetrySettings,
    ) -> Result<Option<Self>, TelemetryError> {
        if !(0.0..=1.0).contains(&settings.trace_ratio) {
            return Err(TelemetryError::Ratio(settings.trace_ratio));
        }
        let Some(endpoint) = &settings.otlp else {
            return Ok(None);
        };
        if endpoint.strip_prefix("http://").is_none_or(str::is_empty) {
            return Err(TelemetryError::Endpoint {
                endpoint: endpoint.clone(),
            });
        }
        let runtime = runtime().map_err(TelemetryError::Runtime)?;
        let exporter = exporter(&runtime, endpoint).map_err(TelemetryError::Exporter)?;
        let sampler = Sampler::TraceIdRatioBased(settings.trace_ratio);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue(exporter))
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_resource(resource(service, instance))
            .build();
        Ok(Some(Self { provider, runtime }))
    }

    /// Lets spans of our own code leave. The exporter's own crates are left out: their spans would
    /// make new spans without end.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    {
        let ours = Targets::new().with_target("picket", LevelFilter::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(self.tracer())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(ours)
    }

    /// Takes the process's past spans from now on.
    pub(super) fn install(&self) {
        // There is one exporter per process; a second one would only be made by a test.
        let _first = TRACER.set(self.tracer());
    }

    fn tracer(&self) -> SdkTracer {
        self.provider.tracer(SCOPE)
    }

    /// Sends what is left, for at most `timeout`.
    pub(super) fn flush(self, timeout: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(timeout) {
            tracing::debug!(%error, "the last spans were lost");
        }
        self.runtime.shutdown_background();
    }
}

fn queue(exporter: SpanExporter) -> BatchSpanProcessor {
    let bounds = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_MAX)
        .with_max_export_batch_size(BATCH_MAX)
        .with_scheduled_delay(EXPORT_EVERY);
    BatchSpanProcessor::builder(exporter)
        .with_batch_config(bounds.build())
        .build()
}

/// Who made the spans, by the names of the semantic conventions.
fn resource(service: &'static str, instance: &str) -> Resource {
    Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
        .with_attribute(KeyValue::new("service.version", build_info::VERSION))
        .build()
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("picket-otlp")
        .enable_all()
        .build()
}

fn exporter(
    runtime: &Runtime,
    endpoint: &str,
) -> Result<SpanExporter, opentelemetry_otlp::ExporterBuildError> {
    let _inside = runtime.enter();
    SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
}

/// Something that was done, told when it is over.
pub struct PastSpan<'a> {
    /// What was done; one of a small set of words.
    pub name: &'static str,
    /// When it began.
    pub began: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// The span that it is part of; without one a trace begins.
    pub parent: Option<TraceContext>,
    /// Why it went wrong, when it did.
    pub error: Option<&'static str>,
    /// What else is known; turned into text only where somebody listens.
    pub attributes: &'a [(&'static str, &'a dyn fmt::Display)],
}

impl fmt::Debug for PastSpan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.name).finish_non_exhaustive()
    }
}

impl PastSpan<'_> {
    /// Tells it; returns the context to send along with what comes of it. `None` when no collector
    /// is configured, or when its trace is not one of those that are kept.
    #[must_use = "the context ties what comes of it to this"]
    pub fn tell(&self) -> Option<TraceContext> {
        self.tell_to(TRACER.get()?)
    }

    fn tell_to(&self, tracer: &SdkTracer) -> Option<TraceContext> {
        let began = instant(self.began);
        let attributes = self.attributes.iter();
        let builder = SpanBuilder::from_name(self.name)
            .with_start_time(began)
            .with_attributes(attributes.map(|(key, value)| KeyValue::new(*key, value.to_string())));
        let mut span = tracer.build_with_context(builder, &inside(self.parent));
        if let Some(error) = self.error {
            span.set_status(Status::error(error));
        }
        span.end_with_timestamp(began + self.took);
        let own = span.span_context();
        (own.is_valid() && own.is_sampled()).then(|| TraceContext {
            trace: own.trace_id().to_bytes(),
            span: own.span_id().to_bytes(),
        })
    }
}

/// What was done before 1970 is told as done then.
fn instant(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or(0))
}

/// Only what is kept is sent along, so a parent from elsewhere is always kept.
fn inside(parent: Option<TraceContext>) -> Context {
    let Some(parent) = parent else {
        return Context::new();
    };
    let context = SpanContext::new(
        TraceId::from_bytes(parent.trace),
        SpanId::from_bytes(parent.span),
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    );
    Context::new().with_remote_span_context(context)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const PARENT: TraceContext = TraceContext {
        trace: [7; 16],
        span: [9; 8],
    };

    fn probe(parent: Option<TraceContext>) -> PastSpan<'static> {
        PastSpan {
            name: "probe",
            began: Timestamp(1_000),
            took: Duration::from_millis(5),
            parent,
            error: Some("connect_refused"),
            attributes: &[("check", &"chk_1")],
        }
    }

    /// A collector that takes connections and says nothing, and an exporter that sends to it.
    fn silent() -> (std::net::TcpListener, Export) {
        let collector = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = collector.local_addr().expect("it is bound");
        let otlp = Some(format!("http://{addr}"));
        let settings = TelemetrySettings {
            otlp,
            ..TelemetrySettings::default()
        };
        let export = Export::start("picket-test", "one", &settings);
        (collector, export.expect("valid").expect("configured"))
    }

    #[test]
    fn a_span_continues_the_trace_it_was_given() {
        let provider = SdkTracerProvider::builder().build();
        let tracer = provider.tracer(SCOPE);
        let own = probe(Some(PARENT)).tell_to(&tracer).expect("it is kept");
        assert_eq!(own.trace, PARENT.trace);
        assert_ne!(own.span, PARENT.span);
        let other = probe(None).tell_to(&tracer).expect("it is kept");
        assert_ne!(other.trace, PARENT.trace);
    }

    #[test]
    fn a_trace_that_is_not_kept_gives_nothing_to_send_along() {
        let none = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(0.0)));
        let provider = SdkTracerProvider::builder().with_sampler(none).build();
        let tracer = provider.tracer(SCOPE);
        assert_eq!(probe(None).tell_to(&tracer), None);
        assert!(probe(Some(PARENT)).tell_to(&tracer).is_some());
    }

    #[test]
    fn a_finished_span_leaves_for_the_collector_before_the_flush_is_over() {
        let (collector, export) = silent();
        assert!(probe(None).tell_to(&export.tracer()).is_some());
        // Nobody answers it, so the flush ends by its deadline; what counts is that it was tried.
        export.flush(Duration::from_secs(1));
        let (mut stream, _) = collector.accept().expect("the exporter has dialled");
        let mut preface = [0; 14];
        stream.read_exact(&mut preface).expect("it speaks first");
        assert_eq!(&preface, b"PRI * HTTP/2.0");
    }

    #[test]
    fn nobody_waits_for_a_collector_that_does_not_answer() {
        let (_collector, export) = silent();
        let tracer = export.tracer();
        let began = std::time::Instant::now();
        for _ in 0..4 * QUEUE_MAX {
            assert!(probe(None).tell_to(&tracer).is_some());
        }
        assert!(
            began.elapsed() < EXPORT_TIMEOUT,
            "some span waited for an export to end"
        );
        export.flush(Duration::from_millis(1));
    }

    #[test]
    fn without_a_collector_there_is_no_trace() {
        assert_eq!(probe(Some(PARENT)).tell(), None);
    }
}
