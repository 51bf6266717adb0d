//! The live line of a dev mesh, and the webhook that it sends its own notifications to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use picket_wire::api::status::MeshStatus;
use picket_wire::api::webhooks::{Message, MessageEvent};
use tokio::net::TcpListener;

/// Largest message that is read.
const MESSAGE_MAX_BYTES: usize = 64 * 1024;

/// Counts of messages the receiver got, repeats included.
#[derive(Debug, Default)]
pub(super) struct Told {
    opened: AtomicU64,
    closed: AtomicU64,
}

impl Told {
    fn count(&self, event: MessageEvent) {
        let counter = match event {
            MessageEvent::Opened => &self.opened,
            MessageEvent::Closed => &self.closed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages about groups that opened and that closed.
    pub(super) fn counts(&self) -> (u64, u64) {
        (
            self.opened.load(Ordering::Relaxed),
            self.closed.load(Ordering::Relaxed),
        )
    }
}

/// Starts a receiver of webhooks on loopback and returns its address. It ends with the runtime.
pub(super) async fn receive_webhooks(told: Arc<Told>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .context("webhook receiver")?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let told = Arc::clone(&told);
            let service = service_fn(move |request| take(request, Arc::clone(&told)));
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(tokio::time::timeout(Duration::from_secs(10), serving));
        }
    });
    Ok(address)
}

async fn take(
    request: Request<Incoming>,
    told: Arc<Told>,
) -> Result<Response<Empty<Bytes>>, hyper::http::Error> {
    let body = Limited::new(request.into_body(), MESSAGE_MAX_BYTES)
        .collect()
        .await;
    let message = body
        .ok()
        .and_then(|body| serde_json::from_slice::<Message>(&body.to_bytes()).ok());
    let status = match message {
        Some(message) => {
            told.count(message.event);
            204
        }
        None => 400,
    };
    Response::builder().status(status).body(Empty::new())
}

/// One line about the mesh.
pub(super) fn line(elapsed: Duration, status: &MeshStatus, told: &Told) -> String {
    let states = match &status.endpoints {
        Some(endpoints) => {
            let states: Vec<String> = endpoints
                .iter()
                .map(|(state, count)| format!("{state} {count}"))
                .collect();
            states.join(" ")
        }
        None => "postgres away".to_owned(),
    };
    let leased: u32 = status.regions.iter().map(|region| region.leased).sum();
    let agents: u32 = status.regions.iter().map(|region| region.agents).sum();
    let lateness = status
        .lateness
        .as_ref()
        .filter(|lateness| lateness.count > 0)
        .map_or_else(
            || "–".to_owned(),
            |lateness| format!("p99 ≤ {} ms", lateness.p99_ms),
        );
    let waiting: u64 = status.lag.values().sum();
    let (opened, closed) = told.counts();
    format!(
        "{:>4} s  agents {leased}/{agents}  checks {}  {states}  incidents {}  lateness {lateness}  facts waiting {waiting}  told {opened} opened, {closed} closed",
        elapsed.as_secs(),
        status.checks,
        status.open_incidents,
    )
}
