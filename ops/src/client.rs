//! The HTTP client of the API: one connection per request, bearer token, problem bodies as errors.

use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use picket_wire::api::problem::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use crate::exit::Exit;

/// Largest answer that is read: a page of a thousand endpoints with labels is some 500 KB.
const ANSWER_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Long enough for an import chunk to be written to Postgres.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// A scheduler that does not accept within this time is taken for absent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A request that brought no answer of the expected kind.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The address is not one.
    #[error("server `{server}`: expected an address like http://127.0.0.1:7600")]
    Server {
        /// What was given.
        server: String,
    },
    /// The token file cannot be read.
    #[error("token file {path}")]
    TokenFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nobody listens, or not in time.
    #[error("no scheduler answers at {server}; is it running? `picket dev` starts one")]
    Unreachable {
        /// Where it was tried.
        server: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke or the answer was not HTTP.
    #[error("the connection to {server} broke")]
    Broken {
        /// Where.
        server: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The scheduler does not know the token.
    #[error(
        "{server} does not accept the API token in {path}; is it of another cluster, or revoked?"
    )]
    Token {
        /// Who refused.
        server: String,
        /// Where the token was read.
        path: PathBuf,
    },
    /// There was none.
    #[error("no API token was given: pass `--token-file FILE` or set PICKET_TOKEN_FILE")]
    NoToken,
    /// The scheduler says no.
    #[error("{}", describe(.0))]
    Refused(Box<Problem>),
    /// The answer does not have the expected shape: another version perhaps.
    #[error("the answer of {path} is not what this version of picket expects")]
    Shape {
        /// Which route.
        path: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

fn describe(problem: &Problem) -> String {
    match &problem.detail {
        Some(detail) => format!("{}: {detail}", problem.title),
        None => problem.title.clone(),
    }
}

impl CallError {
    /// The exit code this error ends a command with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } => Exit::Unavailable,
            Self::Token { .. } | Self::NoToken => Exit::Forbidden,
            Self::Refused(problem) => match problem.status {
                403 => Exit::Forbidden,
                404 => Exit::NotFound,
                409 | 412 => Exit::Conflict,
                429 | 503 | 504 => Exit::Unavailable,
                _ => Exit::Failure,
            },
            Self::Server { .. } | Self::TokenFile { .. } | Self::Shape { .. } => Exit::Failure,
        }
    }
}

/// Where the API is and who asks.
#[derive(Clone)]
pub(crate) struct Client {
    server: String,
    authority: String,
    token: Option<Token>,
}

/// A token and the file that it was read from.
#[derive(Clone)]
struct Token {
    text: String,
    path: PathBuf,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of `server`, an `http://host:port` URL, with the token in `token_file`.
    ///
    /// # Errors
    /// When the address is not one or the file cannot be read.
    pub(crate) fn new(server: &str, token_file: Option<&PathBuf>) -> Result<Self, CallError> {
        let authority = url::Url::parse(server)
            .ok()
            .filter(|url| url.scheme() == "http")
            .and_then(|url| {
                Some(format!(
                    "{}:{}",
                    url.host_str()?,
                    url.port_or_known_default()?
                ))
            })
            .ok_or_else(|| CallError::Server {
                server: server.to_owned(),
            })?;
        let token = token_file
            .map(|path| {
                std::fs::read_to_string(path)
                    .map(|text| Token {
                        text: text.trim().to_owned(),
                        path: path.clone(),
                    })
                    .map_err(|source| CallError::TokenFile {
                        path: path.clone(),
                        source,
                    })
            })
            .transpose()?;
        Ok(Self {
            server: server.to_owned(),
            authority,
            token,
        })
    }

    /// Reads `path`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.call(Method::GET, path, "application/json", Bytes::new())
            .await
    }

    /// Sends `body` to `path`.
    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, CallError> {
        let body = serde_json::to_vec(body).map_err(|source| CallError::Shape {
            path: path.to_owned(),
            source,
        })?;
        self.call(Method::POST, path, "application/json", body.into())
            .await
    }

    /// Deletes what `path` names.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), CallError> {
        let response = self
            .send(Method::DELETE, path, "application/json", Bytes::new())
            .await?;
        self.read(response).await.map(drop)
    }

    /// Opens `path` and leaves the body to the caller: a stream of events.
    pub(crate) async fn stream(&self, path: &str) -> Result<Incoming, CallError> {
        let response = self
            .send(Method::GET, path, "application/json", Bytes::new())
            .await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        match self.read(response).await {
            Ok(_) => unreachable!("read answers an unsuccessful status with an error"),
            Err(error) => Err(error),
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<T, CallError> {
        let response = self.send(method, path, content_type, body).await?;
        let bytes = self.read(response).await?;
        serde_json::from_slice(&bytes).map_err(|source| CallError::Shape {
            path: path.to_owned(),
            source,
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Response<Incoming>, CallError> {
        let broken = |source| self.broken(source);
        let connect = TcpStream::connect(&self.authority);
        let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(source)) => return Err(self.unreachable(source)),
            Err(_) => return Err(self.unreachable(std::io::ErrorKind::TimedOut.into())),
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(error.into()))?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("picket/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, content_type);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.text));
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| broken(error.into()))?;
        match tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(request)).await {
            Ok(answer) => answer.map_err(|error| broken(error.into())),
            Err(_) => Err(broken("no answer in time".into())),
        }
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, CallError> {
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES);
        let bytes = match tokio::time::timeout(ANSWER_TIMEOUT, body.collect()).await {
            Ok(body) => body.map_err(|error| self.broken(error))?.to_bytes(),
            Err(_) => return Err(self.broken("the answer did not end in time".into())),
        };
        match status {
            _ if status.is_success() => Ok(bytes),
            StatusCode::UNAUTHORIZED => Err(self.unknown_token()),
            _ => Err(CallError::Refused(Box::new(problem(status, &bytes)))),
        }
    }

    fn unknown_token(&self) -> CallError {
        match &self.token {
            None => CallError::NoToken,
            Some(Token { path, .. }) => CallError::Token {
                server: self.server.clone(),
                path: path.clone(),
            },
        }
    }

    fn unreachable(&self, source: std::io::Error) -> CallError {
        CallError::Unreachable {
            server: self.server.clone(),
            source,
        }
    }

    fn broken(&self, source: Box<dyn std::error::Error + Send + Sync>) -> CallError {
        CallError::Broken {
            server: self.server.clone(),
            source,
        }
    }
}

/// The problem in the body, or one made of the status where a proxy answered in its own way.
fn problem(status: StatusCode, body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_else(|_| Problem {
        code: "unexpected_answer".to_owned(),
        title: status.to_string(),
        status: status.as_u16(),
        detail: None,
        field: None,
    })
}

/// Makes text safe as a value in a query string.
pub(crate) fn query_value(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
