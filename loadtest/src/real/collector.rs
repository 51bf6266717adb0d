//! A collector of spans: OTLP over gRPC, as an operator's collector takes it.
//!
//! A unary call of gRPC is one HTTP/2 request with a length before its message, so this is a small
//! server; the messages are the protocol's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span as WireSpan;
use prost::Message;
use tokio::net::TcpListener;

/// The method that takes spans.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// Largest request; the limit of gRPC's own servers.
const REQUEST_MAX_BYTES: usize = 4 << 20;
/// More spans than any test makes; what comes then is refused.
const SPANS_MAX: usize = 100_000;
/// gRPC's word for a call that was done, and for one that cannot be read.
const DONE: HeaderValue = HeaderValue::from_static("0");
const INVALID_ARGUMENT: HeaderValue = HeaderValue::from_static("3");

/// One finished span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Which trace it belongs to, hexadecimal.
    pub trace: String,
    /// Its own id, hexadecimal.
    pub id: String,
    /// The span it is part of; `None` for the one that a trace begins with.
    pub parent: Option<String>,
    /// What was done.
    pub name: String,
    /// Which program did it.
    pub service: String,
    /// Which of the program's processes did it.
    pub instance: String,
    /// What else is known, each value as text.
    pub attributes: BTreeMap<String, String>,
}

/// A listening collector; it ends with the runtime.
#[derive(Debug, Clone)]
pub struct Collector {
    endpoint: String,
    kept: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// When there is none.
    #[expect(
        clippy::disallowed_methods,
        reason = "the tasks end with the test's runtime"
    )]
    pub async fn listen() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let collector = Self {
            endpoint,
            kept: Arc::default(),
        };
        let shared = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let collector = shared.clone();
                let service = service_fn(move |request| answer(collector.clone(), request));
                let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(serving);
            }
        });
        Ok(collector)
    }

    /// Where spans are to be sent.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Every span so far, by trace.
    #[must_use]
    pub fn traces(&self) -> BTreeMap<String, Vec<Span>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
        for span in kept.iter() {
            let spans = traces.entry(span.trace.clone()).or_default();
            // An export that was not answered in time is sent again.
            if !spans.iter().any(|known| known.id == span.id) {
                spans.push(span.clone());
            }
        }
        traces
    }

    fn keep(&self, spans: Vec<Span>) -> anyhow::Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(kept.len() + spans.len() <= SPANS_MAX, "too many spans");
        kept.extend(spans);
        Ok(())
    }
}

async fn answer(
    collector: Collector,
    request: Request<Incoming>,
) -> Result<
    Response<impl hyper::body::Body<Data = Bytes, Error = std::convert::Infallible>>,
    hyper::http::Error,
> {
    let taken = match read(request).await {
        Ok(spans) => collector.keep(spans),
        Err(error) => Err(error),
    };
    let status = if taken.is_ok() {
        DONE
    } else {
        INVALID_ARGUMENT
    };
    // An answer without fields is an empty message: not compressed, no bytes.
    let message = Full::new(Bytes::from_static(&[0; 5]));
    let trailers = HeaderMap::from_iter([(
        hyper::header::HeaderName::from_static("grpc-status"),
        status,
    )]);
    Response::builder()
        .header(CONTENT_TYPE, "application/grpc")
        .body(message.with_trailers(async { Some(Ok(trailers)) }))
}

async fn read(request: Request<Incoming>) -> anyhow::Result<Vec<Span>> {
    ensure!(request.uri().path() == EXPORT, "no such method");
    let body = Limited::new(request.into_body(), REQUEST_MAX_BYTES)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!(error))?
        .to_bytes();
    let (head, message) = body.split_first_chunk::<5>().context("no message")?;
    ensure!(head[0] == 0, "a compressed message");
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    ensure!(message.len() == usize::try_from(length)?, "a torn message");
    Ok(spans(ExportTraceServiceRequest::decode(message)?))
}

fn spans(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in request.resource_spans {
        let who = texts(resource.resource.unwrap_or_default().attributes);
        let scopes = resource.scope_spans.into_iter();
        spans.extend(
            scopes
                .flat_map(|scope| scope.spans)
                .map(|span| one(span, &who)),
        );
    }
    spans
}

fn one(span: WireSpan, who: &BTreeMap<String, String>) -> Span {
    let told = |key: &str| who.get(key).cloned().unwrap_or_default();
    Span {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: (!span.parent_span_id.is_empty()).then(|| hex(&span.parent_span_id)),
        name: span.name,
        service: told("service.name"),
        instance: told("service.instance.id"),
        attributes: texts(span.attributes),
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    let each = attributes.into_iter();
    each.map(|pair| (pair.key, text(pair.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
