//! The webhook: a message is rendered and signed, then sent once.
//!
//! Signed by the Standard Webhooks scheme 1.0.0: HMAC-SHA256 over `id.timestamp.body` with the
//! secret's bytes. The receiver's answer is read for its status alone.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use picket_wire::api::webhooks::Message;
use picket_wire::id::WebhookId;
use picket_wire::time::Timestamp;
use rustls::pki_types::ServerName;
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

/// A receiver that takes longer is taken for down; it gets the message again.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Prefix of a secret's text form; base64 of its bytes follows.
pub(crate) const SECRET_PREFIX: &str = "whsec_";

/// A message ready to send: the same for every try, but for the time and what it signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// `webhook-id`.
    pub(crate) id: String,
    /// `webhook-timestamp`.
    pub(crate) timestamp: String,
    /// `webhook-signature`.
    pub(crate) signature: String,
    /// The body.
    pub(crate) body: String,
}

/// A secret that is not `whsec_` and base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `whsec_` and 24 to 64 bytes in base64")]
pub(crate) struct SecretError;

/// The bytes of a secret's text form.
///
/// # Errors
/// When it is not `whsec_` followed by base64 of 24 to 64 bytes.
pub(crate) fn secret_bytes(text: &str) -> Result<Vec<u8>, SecretError> {
    text.strip_prefix(SECRET_PREFIX)
        .and_then(|rest| STANDARD.decode(rest).ok())
        .filter(|bytes| (24..=64).contains(&bytes.len()))
        .ok_or(SecretError)
}

/// The text form of a secret's bytes.
#[must_use]
pub(crate) fn secret_text(bytes: &[u8]) -> String {
    format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes))
}

/// Renders and signs a message.
///
/// # Errors
/// When the secret is not one.
pub(crate) fn render(
    webhook: WebhookId,
    message: &Message,
    secret: &str,
    now: Timestamp,
) -> Result<Rendered, SecretError> {
    let id = format!("msg_{}_{}_{}", message.fact, message.group, webhook);
    let id = if message.closed_at.is_some() {
        format!("{id}_closed")
    } else {
        id
    };
    let timestamp = (now.0 / 1_000).to_string();
    let body = serde_json::to_string(message).expect("a message has string keys only");
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&secret_bytes(secret)?).map_err(|_| SecretError)?;
    for part in [
        id.as_bytes(),
        b".",
        timestamp.as_bytes(),
        b".",
        body.as_bytes(),
    ] {
        mac.update(part);
    }
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    Ok(Rendered {
        id,
        timestamp,
        signature,
        body,
    })
}

/// Why a try failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The URL is not `http` or `https` with a host.
    #[error("expected an http or https URL with a host")]
    Url,
    /// No connection.
    #[error("connect")]
    Connect(#[source] std::io::Error),
    /// The request could not be sent or its answer not read.
    #[error("request")]
    Request(#[from] hyper::Error),
    /// The request could not be built.
    #[error("request")]
    Build(#[from] hyper::http::Error),
    /// The receiver says no.
    #[error("status {0}")]
    Status(u16),
    /// It took too long.
    #[error("no answer within {} s", SEND_TIMEOUT.as_secs())]
    Timeout,
}

/// Sends messages.
#[derive(Clone)]
pub(crate) struct Sender {
    tls: TlsConnector,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender")
    }
}

impl Sender {
    /// A sender that trusts the public roots.
    ///
    /// # Panics
    /// Never: the provider offers TLS 1.3 and 1.2.
    #[must_use]
    pub(crate) fn new() -> Self {
        let roots = rustls::RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider offers TLS 1.3 and 1.2")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            tls: TlsConnector::from(Arc::new(config)),
        }
    }

    /// Sends once; a status of 2xx is a success.
    ///
    /// # Errors
    /// When it was not taken.
    pub(crate) async fn send(&self, url: &str, rendered: Rendered) -> Result<u16, SendError> {
        tokio::time::timeout(SEND_TIMEOUT, self.send_untimed(url, rendered))
            .await
            .map_err(|_| SendError::Timeout)?
    }

    async fn send_untimed(&self, url: &str, rendered: Rendered) -> Result<u16, SendError> {
        let url = parse_url(url).ok_or(SendError::Url)?;
        let host = url.host_str().ok_or(SendError::Url)?.to_owned();
        let port = url.port_or_known_default().ok_or(SendError::Url)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, port))
            .await
            .map_err(SendError::Connect)?;
        if url.scheme() == "https" {
            let name = ServerName::try_from(bare.to_owned()).map_err(|_| SendError::Url)?;
            let stream = self
                .tls
                .connect(name, stream)
                .await
                .map_err(SendError::Connect)?;
            exchange(stream, &url, rendered).await
        } else {
            exchange(stream, &url, rendered).await
        }
    }
}

impl Default for Sender {
    fn default() -> Self {
        Self::new()
    }
}

/// The URL of a webhook, if it is one.
#[must_use]
pub(crate) fn parse_url(text: &str) -> Option<Url> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some())
}

async fn exchange<S>(stream: S, url: &Url, rendered: Rendered) -> Result<u16, SendError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let request = Request::builder()
        .method(Method::POST)
        .uri(target)
        .header(HOST, authority)
        .header(USER_AGENT, concat!("picket/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", rendered.id)
        .header("webhook-timestamp", rendered.timestamp)
        .header("webhook-signature", rendered.signature)
        .body(Full::new(Bytes::from(rendered.body)))?;
    // The connection is driven here and dropped with the answer's head: its body is of no use.
    let response = tokio::select! {
        response = sender.send_request(request) => response?,
        ended = connection => {
            ended?;
            return Err(SendError::Connect(std::io::ErrorKind::ConnectionAborted.into()));
        }
    };
    let status = response.status();
    if status.is_success() {
        Ok(status.as_u16())
    } else {
        Err(SendError::Status(status.as_u16()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_wire::api::instant::Instant;
    use picket_wire::api::webhooks::MessageEvent;
    use picket_wire::id::{FactSeq, NotificationGroupId};

    fn message() -> Message {
        Message {
            event: MessageEvent::Opened,
            group: NotificationGroupId(3),
            cause: "192.0.2.1".to_owned(),
            opened_at: Instant(Timestamp(0)),
            closed_at: None,
            open: 2,
            total: 2,
            fact: FactSeq(41),
        }
    }

    #[test]
    fn the_body_and_its_signature_are_these() {
        let secret = secret_text(&[7; 24]);
        let rendered = render(
            WebhookId(1),
            &message(),
            &secret,
            Timestamp(1_700_000_000_999),
        )
        .unwrap();
        assert_eq!(rendered.id, "msg_41_ngr_3_whk_1");
        assert_eq!(rendered.timestamp, "1700000000");
        assert_eq!(
            rendered.body,
            r#"{"event":"opened","group":"ngr_3","cause":"192.0.2.1","opened_at":"1970-01-01T00:00:00.000Z","closed_at":null,"open":2,"total":2,"fact":41}"#
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(&[7; 24]).unwrap();
        mac.update(format!("{}.{}.{}", rendered.id, rendered.timestamp, rendered.body).as_bytes());
        let given = STANDARD
            .decode(rendered.signature.strip_prefix("v1,").unwrap())
            .unwrap();
        mac.verify_slice(&given).unwrap();
    }

    #[test]
    fn a_secret_that_is_not_one_is_refused() {
        for text in [
            "",
            "whsec_",
            "whsec_AAAA",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "whsec_!!!",
        ] {
            assert_eq!(secret_bytes(text), Err(SecretError), "{text}");
        }
    }
}
