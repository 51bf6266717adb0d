//! Probes against real servers on loopback: every reason comes from a server that behaves so.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot set up its server has failed"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a test's servers end with its runtime"
)]

mod http;
mod name_server;
mod names;
mod secure;
mod target;
mod tls;

use std::net::SocketAddr;

use picket_agent::check::{Attempt, Prober, ProberSettings};
use picket_rt::clock::Clock;
use picket_wire::check::http::HttpSpec;
use picket_wire::check::{Cadence, CheckKind, CheckSpec};
use picket_wire::id::{CheckId, EndpointId, SiteId};
use picket_wire::outcome::Probe;
use picket_wire::time::{Span, Timestamp};

/// Long enough for a loaded machine to do what it should, where the answer is not a timeout.
const PATIENT: Span = Span::from_secs(30);
/// The timeout of a probe whose target never answers.
const HASTY: Span = Span(400);
/// A name server that nobody asks in tests that use addresses only.
const NO_NAME_SERVER: &str = "127.0.0.1:9";

/// Settings that allow loopback and know no name server.
fn settings() -> ProberSettings {
    ProberSettings {
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        resolvers: vec![NO_NAME_SERVER.parse().unwrap()],
        ..ProberSettings::new(Clock::system())
    }
}

fn prober() -> Prober {
    Prober::new(settings()).unwrap()
}

/// A GET of `/` at `address`.
fn plain(address: SocketAddr) -> HttpSpec {
    HttpSpec::plain(
        false,
        address.ip().to_string(),
        address.port(),
        "/".to_owned(),
    )
}

fn check(http: HttpSpec, timeout: Span) -> CheckSpec {
    let spec = CheckSpec {
        id: CheckId(1),
        endpoint: EndpointId(1),
        site: SiteId(1),
        cadence: Cadence::from_secs(60).unwrap(),
        timeout,
        kind: CheckKind::Http(http),
    };
    assert_eq!(spec.validate(), Ok(()));
    spec
}

/// Probes once, as if due now.
async fn probe(prober: &Prober, http: HttpSpec, timeout: Span) -> Probe {
    let due = Clock::system().now();
    prober
        .probe(&check(http, timeout), due, Attempt::Scheduled)
        .await
}

/// The n-th instant at which the check above is due; of the first nineteen none is a full look at
/// the certificate.
fn nth_due(n: i64) -> Timestamp {
    Timestamp(n * 60_000)
}
