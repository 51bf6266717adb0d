//! A receiver of webhooks that keeps what it got.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use picket_wire::api::webhooks::Message;
use tokio::net::TcpListener;

/// What came, by the message's id: repeats of one message count once.
type Kept = Arc<Mutex<BTreeMap<String, Message>>>;

/// A listening receiver; it ends with the runtime.
#[derive(Debug, Clone)]
pub struct Receiver {
    url: String,
    kept: Kept,
}

impl Receiver {
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
        let url = format!("http://{}/hook", listener.local_addr()?);
        let kept = Kept::default();
        let shared = Arc::clone(&kept);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&shared);
                let service = service_fn(move |request| keep(request, Arc::clone(&kept)));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Ok(Self { url, kept })
    }

    /// Where messages are to be sent.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Every message so far, repeats left out.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }
}

async fn keep(
    request: Request<Incoming>,
    kept: Kept,
) -> Result<Response<Empty<Bytes>>, hyper::http::Error> {
    let id = request
        .headers()
        .get("webhook-id")
        .and_then(|id| id.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let signed = request.headers().contains_key("webhook-signature");
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let status = match serde_json::from_slice(&body) {
        Ok(message) if signed && !id.is_empty() => {
            kept.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(id, message);
            204
        }
        _ => 400,
    };
    Response::builder().status(status).body(Empty::new())
}
