//! Asks a mesh's API, as a program of the user's would.

use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use picket_wire::api::Page;
use picket_wire::api::problem::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

/// Longer than any answer takes while nothing is down.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Where an API is and the token to use.
#[derive(Debug, Clone)]
pub struct Api {
    /// `host:port`.
    pub authority: String,
    /// Bearer token.
    pub token: String,
}

impl Api {
    /// Reads `path`.
    ///
    /// # Errors
    /// When nobody answers, or with a problem.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.call(Method::GET, path, Vec::new()).await
    }

    /// Sends `body` to `path`.
    ///
    /// # Errors
    /// When nobody answers, or with a problem.
    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> anyhow::Result<T> {
        self.call(Method::POST, path, serde_json::to_vec(body)?)
            .await
    }

    /// Every page of a list.
    ///
    /// # Errors
    /// When nobody answers, or with a problem.
    pub async fn all<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Vec<T>> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page: Page<T> = self
                .get(&format!("{path}{separator}limit=1000{cursor}"))
                .await?;
            items.extend(page.items);
            match page.next {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(items),
            }
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<T> {
        let answer = tokio::time::timeout(ANSWER_WITHIN, self.exchange(method, path, body)).await;
        answer
            .with_context(|| format!("{path}: no answer in time"))?
            .with_context(|| path.to_owned())
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<T> {
        let stream = TcpStream::connect(&self.authority).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.authority)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::new(Bytes::from(body)))?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let bytes = response.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>((status, bytes))
        };
        let (status, bytes) = tokio::select! {
            answered = exchange => answered?,
            ended = connection => {
                ended?;
                anyhow::bail!("the connection ended before the answer");
            }
        };
        if status.is_success() {
            return Ok(serde_json::from_slice(&bytes)?);
        }
        let problem: Problem =
            serde_json::from_slice(&bytes).with_context(|| status.to_string())?;
        anyhow::bail!("{}: {}", problem.title, problem.detail.unwrap_or_default())
    }
}
