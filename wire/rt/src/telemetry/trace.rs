//! Spans that leave over OTLP, and the context that ties a probe to its incident.
//!
//! The exporter has a runtime of its own, so that the last spans can still leave when the
//! process's own tasks have ended.

use std::time::Duration;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider,
};
use picket_wire::evidence::TraceContext;
use tokio::runtime::Runtime;
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
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

    /// Turns spans of our own code into OpenTelemetry spans. The exporter's own crates are left
    /// out: their spans would make new spans without end.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    {
        let ours = Targets::new().with_target("picket", LevelFilter::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(SCOPE))
            .with_filter(ours)
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

/// The context of the current span, to be sent along; `None` when it is not traced.
#[must_use]
pub fn current_trace() -> Option<TraceContext> {
    let context = Span::current().context();
    let span = context.span();
    let own = span.span_context();
    (own.is_valid() && own.is_sampled()).then(|| TraceContext {
        trace: own.trace_id().to_bytes(),
        span: own.span_id().to_bytes(),
    })
}

/// Makes `span` continue a trace that began elsewhere. Works until the span is first entered;
/// without a collector it does nothing.
pub fn set_parent(span: &Span, parent: TraceContext) {
    let context = SpanContext::new(
        TraceId::from_bytes(parent.trace),
        SpanId::from_bytes(parent.span),
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    );
    if let Err(error) = span.set_parent(Context::new().with_remote_span_context(context)) {
        tracing::trace!(%error, "the span does not continue its trace");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn a_span_continues_the_trace_it_was_given() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer(SCOPE));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let parent = TraceContext {
                trace: [7; 16],
                span: [9; 8],
            };
            let span = tracing::info_span!("confirm");
            set_parent(&span, parent);
            let own = span.in_scope(current_trace).expect("the span is sampled");
            assert_eq!(own.trace, parent.trace);
            assert_ne!(own.span, parent.span);
        });
    }

    #[test]
    fn a_finished_span_leaves_for_the_collector_before_the_flush_is_over() {
        let collector = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = collector.local_addr().expect("it is bound");
        let otlp = Some(format!("http://{addr}"));
        let settings = TelemetrySettings {
            otlp,
            ..TelemetrySettings::default()
        };
        let export = Export::start("picket-test", "one", &settings)
            .expect("valid")
            .expect("configured");
        let subscriber = tracing_subscriber::registry().with(export.layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!(target: "picket_test", "probe")
                .in_scope(|| assert!(current_trace().is_some()));
            tracing::info_span!(target: "h2", "noise")
                .in_scope(|| assert!(current_trace().is_none()));
        });
        // Nobody answers it, so the flush ends by its deadline; what counts is that it was tried.
        export.flush(Duration::from_secs(1));
        let (mut stream, _) = collector.accept().expect("the exporter has dialled");
        let mut preface = [0; 14];
        stream.read_exact(&mut preface).expect("it speaks first");
        assert_eq!(&preface, b"PRI * HTTP/2.0");
    }

    #[test]
    fn nobody_waits_for_a_collector_that_does_not_answer() {
        let collector = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = collector.local_addr().expect("it is bound");
        let otlp = Some(format!("http://{addr}"));
        let settings = TelemetrySettings {
            otlp,
            ..TelemetrySettings::default()
        };
        let export = Export::start("picket-test", "one", &settings)
            .expect("valid")
            .expect("configured");
        let subscriber = tracing_subscriber::registry().with(export.layer());
        let began = std::time::Instant::now();
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..4 * QUEUE_MAX {
                tracing::info_span!(target: "picket_test", "probe").in_scope(|| {});
            }
        });
        assert!(
            began.elapsed() < EXPORT_TIMEOUT,
            "some span waited for an export to end"
        );
        export.flush(Duration::from_millis(1));
    }

    #[test]
    fn without_a_collector_there_is_no_trace() {
        let span = tracing::info_span!("probe");
        set_parent(
            &span,
            TraceContext {
                trace: [7; 16],
                span: [9; 8],
            },
        );
        assert_eq!(span.in_scope(current_trace), None);
    }
}
