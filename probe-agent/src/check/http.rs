//! The HTTP and HTTPS check.
//!
//! An own HTTP/1.1 exchange over the bare socket: one request, one response, one connection. A
//! general client would pool, redirect, decode and allocate; a probe wants true phases, exact
//! faults and a cost near that of the system calls. What was seen is an [`Observation`]; what it
//! means is decided afterwards by `judge`, which does no I/O.

mod needle;
mod response;

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use picket_wire::check::CheckSpec;
use picket_wire::check::http::{Handshake, HttpSpec, Method};
use picket_wire::outcome::Phases;
use picket_wire::reason::Reason;
use picket_wire::time::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::check::detail;
use crate::check::http::response::{CutShort, Malformed, Reader};
use crate::check::tls::{Secured, TlsError};
use crate::check::{Attempt, Outcome, Prober};
use crate::dial::{DialError, reason_of_io};
use crate::resolve::Freshness;

/// Two tries of two seconds each, as the resolver makes them.
const DNS_MAX: Duration = Duration::from_secs(4);
/// The second retransmission of a SYN leaves after three seconds; a host that has not answered a
/// second later will not.
const CONNECT_MAX: Duration = Duration::from_secs(4);
/// The slowest honest handshakes (a cold server, half the globe away) take one.
const TLS_MAX: Duration = Duration::from_secs(4);
/// One read: a common head and a small body at once. Lives on the stack of one poll.
const READ_BYTES: usize = 8 * 1_024;
/// Every so many probes that resume sessions one looks at the certificate.
const FULL_HANDSHAKE_EVERY: i64 = 20;
/// Names who asks, so that an operator who finds it in a log knows.
const USER_AGENT: &str = concat!("Picket/", env!("CARGO_PKG_VERSION"));

/// What one probe saw.
#[derive(Debug, Default)]
struct Observation {
    phases: Phases,
    remote: Option<IpAddr>,
    certificate_expires: Option<Timestamp>,
    status: u16,
    has_needle: bool,
    failure: Option<Failure>,
}

/// What ended a probe before its time.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("TLS handshake took too long")]
    TlsTimeout,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("no complete response head in time")]
    HeadTimeout,
    #[error("no complete body in time")]
    BodyTimeout,
    #[error("connection failed during the exchange")]
    Io(#[source] io::Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    CutShort(#[from] CutShort),
}

impl Failure {
    fn reason(&self) -> Reason {
        match self {
            Self::Dial(error) => error.reason(),
            Self::TlsTimeout => Reason::TlsTimeout,
            Self::Tls(error) => error.reason(),
            Self::HeadTimeout => Reason::HttpTimeout,
            Self::BodyTimeout => Reason::BodyTimeout,
            Self::Io(error) => reason_of_io(error),
            Self::Malformed(_) => Reason::HttpMalformed,
            Self::CutShort(CutShort::Head { .. }) => Reason::HttpClosed,
            Self::CutShort(CutShort::Body { .. }) => Reason::BodyTruncated,
        }
    }
}

/// Performs and judges one probe.
pub(super) async fn probe(
    prober: &Prober,
    spec: &CheckSpec,
    http: &HttpSpec,
    due: Timestamp,
    attempt: Attempt,
) -> Outcome {
    let started = Instant::now();
    let mut seen = Observation::default();
    let plan = Plan {
        http,
        freshness: if attempt.is_fresh() {
            Freshness::Fresh
        } else {
            Freshness::Cached
        },
        handshake: handshake_of(spec, http, due, attempt),
        deadline: started + spec.timeout.to_std(),
    };
    seen.failure = perform(prober, &plan, started, &mut seen).await.err();
    seen.phases.total_us = micros(started, Instant::now());
    judge(http, seen)
}

/// How one probe is to be made.
struct Plan<'a> {
    http: &'a HttpSpec,
    freshness: Freshness,
    handshake: Handshake,
    deadline: Instant,
}

impl Plan<'_> {
    fn phase_ends(&self, from: Instant, longest: Duration) -> Instant {
        self.deadline.min(from + longest)
    }
}

/// Whether this probe may resume a TLS session. The n-th probe of a check is the n-th for every
/// agent, so that after a change of owner the certificate is still seen in time.
fn handshake_of(spec: &CheckSpec, http: &HttpSpec, due: Timestamp, attempt: Attempt) -> Handshake {
    let cadence_ms = i64::from(spec.cadence.secs()) * 1_000;
    let nth = due
        .0
        .div_euclid(cadence_ms)
        .wrapping_add(spec.id.0.cast_signed());
    let sees_certificate = attempt.is_fresh() || nth.rem_euclid(FULL_HANDSHAKE_EVERY) == 0;
    if sees_certificate {
        Handshake::Full
    } else {
        http.handshake
    }
}

async fn perform(
    prober: &Prober,
    plan: &Plan<'_>,
    started: Instant,
    seen: &mut Observation,
) -> Result<(), Failure> {
    let (stream, connected) = connect(prober, plan, started, seen).await?;
    if plan.http.tls {
        // Boxed, so that the many plain probes in flight do not carry room for a TLS session.
        Box::pin(exchange_secured(prober, plan, stream, connected, seen)).await
    } else {
        let mut stream = stream;
        exchange(&mut stream, plan, seen).await
    }
}

async fn connect(
    prober: &Prober,
    plan: &Plan<'_>,
    started: Instant,
    seen: &mut Observation,
) -> Result<(TcpStream, Instant), Failure> {
    let dns_ends = plan.phase_ends(started, DNS_MAX);
    let located = prober
        .dialer
        .locate(&plan.http.host, plan.freshness, dns_ends)
        .await;
    let mut resolved = started;
    if plan.http.host.parse::<IpAddr>().is_err() {
        resolved = Instant::now();
        seen.phases.dns_us = micros(started, resolved);
    }
    let targets = located?;
    let connect_ends = plan.phase_ends(resolved, CONNECT_MAX);
    let connecting = prober
        .dialer
        .connect(&targets, plan.http.port, connect_ends)
        .await;
    let connected = Instant::now();
    seen.phases.connect_us = micros(resolved, connected);
    match connecting {
        Ok((stream, remote)) => {
            seen.remote = Some(remote);
            Ok((stream, connected))
        }
        Err(error) => {
            seen.remote = error.remote();
            Err(error.into())
        }
    }
}

async fn exchange_secured(
    prober: &Prober,
    plan: &Plan<'_>,
    stream: TcpStream,
    connected: Instant,
    seen: &mut Observation,
) -> Result<(), Failure> {
    let handshake = prober
        .tls
        .handshake(&plan.http.host, stream, plan.handshake);
    let shaken = timeout_at(plan.phase_ends(connected, TLS_MAX), handshake).await;
    seen.phases.tls_us = micros(connected, Instant::now());
    let Secured {
        mut stream,
        expires,
    } = match shaken {
        Ok(Ok(secured)) => secured,
        Ok(Err(error)) => {
            seen.certificate_expires = error.expires();
            return Err(error.into());
        }
        Err(_late) => return Err(Failure::TlsTimeout),
    };
    seen.certificate_expires = expires;
    exchange(&mut stream, plan, seen).await
}

/// Sends the request and reads the response.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    plan: &Plan<'_>,
    seen: &mut Observation,
) -> Result<(), Failure> {
    let http = plan.http;
    let expected = http.status_min..=http.status_max;
    let mut reader = Reader::new(http.method, expected, http.body_contains.as_deref());
    let mut clock = FirstByte::default();
    let talking = async {
        let request = render_request(http);
        stream.write_all(&request).await.map_err(Failure::Io)?;
        stream.flush().await.map_err(Failure::Io)?;
        clock.asked = Some(Instant::now());
        poll_fn(|cx| poll_response(stream, cx, &mut reader, &mut clock.answered)).await
    };
    let talked = timeout_at(plan.deadline, talking).await;
    seen.status = reader.status();
    seen.has_needle = reader.has_needle();
    seen.phases.ttfb_us = clock.micros();
    match talked {
        Ok(Err(Failure::Io(error))) => Err(explain_io(error, &reader)),
        Ok(result) => result,
        Err(_late) if reader.is_in_head() => Err(Failure::HeadTimeout),
        Err(_late) => Err(Failure::BodyTimeout),
    }
}

/// When the request had left and when the first byte of the response came.
#[derive(Debug, Default)]
struct FirstByte {
    asked: Option<Instant>,
    answered: Option<Instant>,
}

impl FirstByte {
    fn micros(&self) -> u32 {
        self.asked
            .zip(self.answered)
            .map_or(0, |(asked, answered)| micros(asked, answered))
    }
}

/// Reads until the response is complete, wrong, or at its end. The buffer lives on the stack of
/// one poll: a probe that waits holds no memory for what it waits for.
fn poll_response<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    reader: &mut Reader<'_>,
    answered: &mut Option<Instant>,
) -> Poll<Result<(), Failure>> {
    while !reader.is_done() {
        let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut space);
        match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)) {
            // TLS closed without saying so: common, and judged like any end of the connection.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Poll::Ready(reader.end().map_err(Failure::from));
            }
            Err(error) => return Poll::Ready(Err(Failure::Io(error))),
            Ok(()) if buffer.filled().is_empty() => {
                return Poll::Ready(reader.end().map_err(Failure::from));
            }
            Ok(()) => {}
        }
        if answered.is_none() {
            *answered = Some(Instant::now());
        }
        if let Err(malformed) = reader.feed(buffer.filled()) {
            return Poll::Ready(Err(malformed.into()));
        }
    }
    Poll::Ready(Ok(()))
}

/// An error of an established connection: the peer may have sent a TLS alert, or gone silent.
fn explain_io(error: io::Error, reader: &Reader<'_>) -> Failure {
    match error.kind() {
        io::ErrorKind::TimedOut if reader.is_in_head() => Failure::HeadTimeout,
        io::ErrorKind::TimedOut => Failure::BodyTimeout,
        io::ErrorKind::InvalidData => Failure::Tls(TlsError::from_io(error)),
        _ => Failure::Io(error),
    }
}

fn render_request(http: &HttpSpec) -> Vec<u8> {
    let method = match http.method {
        Method::Get => "GET ",
        Method::Head => "HEAD ",
    };
    let default_port = if http.tls { 443 } else { 80 };
    // The fixed parts are some 130 bytes.
    let mut request = Vec::with_capacity(160 + http.target.len() + http.host.len());
    let mut put = |text: &str| request.extend_from_slice(text.as_bytes());
    put(method);
    put(&http.target);
    put(" HTTP/1.1\r\nHost: ");
    let is_v6_literal = http.host.contains(':');
    put(if is_v6_literal { "[" } else { "" });
    put(&http.host);
    put(if is_v6_literal { "]" } else { "" });
    if http.port != default_port {
        put(":");
        put(&http.port.to_string());
    }
    put("\r\nUser-Agent: ");
    put(USER_AGENT);
    put("\r\nAccept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n");
    request
}

/// What an observation means. A status is an answer, whatever became of the body behind it.
fn judge(http: &HttpSpec, seen: Observation) -> Outcome {
    let expected = http.status_min..=http.status_max;
    let fault = if seen.status != 0 && !expected.contains(&seen.status) {
        let Observation { status, .. } = seen;
        let text = format!(
            "status {status}, expected {} to {}",
            http.status_min, http.status_max
        );
        Some((reason_of_status(status), text))
    } else if let Some(failure) = &seen.failure {
        Some((failure.reason(), detail::of_error(failure)))
    } else if !seen.has_needle {
        Some((
            Reason::BodyMismatch,
            "the body lacks the expected text".to_owned(),
        ))
    } else {
        None
    };
    let (reason, detail) =
        fault.map_or((None, String::new()), |(reason, text)| (Some(reason), text));
    Outcome {
        reason,
        phases: seen.phases,
        http_status: seen.status,
        remote: seen.remote,
        certificate_expires: seen.certificate_expires,
        detail,
    }
}

const fn reason_of_status(status: u16) -> Reason {
    match status {
        400..=499 => Reason::Http4xx,
        500..=599 => Reason::Http5xx,
        _ => Reason::HttpStatus,
    }
}

/// A phase that happened took at least a microsecond; zero says that it did not.
fn micros(from: Instant, until: Instant) -> u32 {
    u32::try_from(until.duration_since(from).as_micros())
        .unwrap_or(u32::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use picket_wire::check::Cadence;
    use picket_wire::id::{CheckId, EndpointId, SiteId};
    use picket_wire::time::Span;

    use super::*;
    use crate::check::CheckKind;

    fn http() -> HttpSpec {
        HttpSpec::plain(true, "example.org".to_owned(), 443, "/a?b".to_owned())
    }

    fn spec(handshake: Handshake) -> CheckSpec {
        CheckSpec {
            id: CheckId(7),
            endpoint: EndpointId(1),
            site: SiteId(1),
            cadence: Cadence::from_secs(60).unwrap(),
            timeout: Span::from_secs(10),
            kind: CheckKind::Http(HttpSpec {
                handshake,
                ..http()
            }),
        }
    }

    fn full_of_forty(handshake: Handshake, attempt: Attempt) -> usize {
        let spec = spec(handshake);
        let CheckKind::Http(http) = &spec.kind;
        let due = |n: i64| Timestamp(12_345 + n * 60_000);
        let modes = (0..40).map(|n| handshake_of(&spec, http, due(n), attempt));
        modes.filter(|&mode| mode == Handshake::Full).count()
    }

    #[test]
    fn every_twentieth_probe_and_every_retry_sees_the_certificate() {
        assert_eq!(full_of_forty(Handshake::Resumed, Attempt::Scheduled), 2);
        assert_eq!(full_of_forty(Handshake::Resumed, Attempt::Retry), 40);
        assert_eq!(full_of_forty(Handshake::Resumed, Attempt::Vote), 40);
        assert_eq!(full_of_forty(Handshake::Full, Attempt::Scheduled), 40);
    }

    #[test]
    fn the_request_names_host_port_and_who_asks() {
        let text = |http: &HttpSpec| String::from_utf8(render_request(http)).unwrap();
        assert_eq!(
            text(&http()),
            format!(
                "GET /a?b HTTP/1.1\r\nHost: example.org\r\nUser-Agent: {USER_AGENT}\r\n\
                 Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
            )
        );
        let odd = HttpSpec {
            method: Method::Head,
            host: "::1".to_owned(),
            port: 8080,
            ..http()
        };
        assert!(text(&odd).starts_with("HEAD /a?b HTTP/1.1\r\nHost: [::1]:8080\r\n"));
    }

    fn judged(status: u16, has_needle: bool, failure: Option<Failure>) -> Option<Reason> {
        judge(
            &http(),
            Observation {
                status,
                has_needle,
                failure,
                ..Observation::default()
            },
        )
        .reason
    }

    #[test]
    fn a_status_outweighs_what_became_of_the_body() {
        assert_eq!(judged(200, true, None), None);
        assert_eq!(judged(404, true, None), Some(Reason::Http4xx));
        assert_eq!(
            judged(503, false, Some(Failure::BodyTimeout)),
            Some(Reason::Http5xx)
        );
        assert_eq!(judged(999, true, None), Some(Reason::HttpStatus));
        assert_eq!(
            judged(200, false, Some(Failure::BodyTimeout)),
            Some(Reason::BodyTimeout)
        );
        assert_eq!(judged(200, false, None), Some(Reason::BodyMismatch));
    }

    #[test]
    fn what_this_machine_lacks_is_not_the_site_s_fault() {
        let out_of_files = io::Error::from_raw_os_error(24);
        assert_eq!(
            judged(0, false, Some(Failure::Io(out_of_files))),
            Some(Reason::AgentFault)
        );
    }
}
