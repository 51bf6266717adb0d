//! The farm as a watcher sees it: real probes of real targets.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot set up its farm has failed"
)]

use std::path::Path;
use std::sync::Arc;

use picket_agent::check::{Attempt, Prober, ProberSettings};
use picket_load::farm::authority::Authority;
use picket_load::farm::bulk::{Bulk, BulkSettings};
use picket_load::farm::plan::Expected;
use picket_load::farm::target::{Kind, Surroundings, Target};
use picket_rt::clock::Clock;
use picket_rt::stop::Stop;
use picket_rt::task::TaskSet;
use picket_wire::check::http::HttpSpec;
use picket_wire::check::{Cadence, CheckKind, CheckSpec};
use picket_wire::id::{CheckId, EndpointId, SiteId};
use picket_wire::outcome::Probe;
use picket_wire::reason::Reason;
use picket_wire::time::Span;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::Semaphore;

const PATIENT: Span = Span::from_secs(30);
const HASTY: Span = Span(400);

/// A watcher that leaves from `source` and trusts the farm.
fn watcher(ca: &Path, source: &str) -> Prober {
    let settings = ProberSettings {
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        resolvers: vec!["127.0.0.1:9".parse().unwrap()],
        source_addresses: vec![source.parse().unwrap()],
        trust_anchors: vec![CertificateDer::from_pem_file(ca).unwrap()],
        ..ProberSettings::new(Clock::system())
    };
    Prober::new(settings).unwrap()
}

async fn look(prober: &Prober, url: &str, timeout: Span) -> Probe {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (origin, path) = rest.split_once('/').unwrap();
    let (host, port) = origin.split_once(':').unwrap();
    let target = format!("/{path}");
    let http = HttpSpec::plain(
        scheme == "https",
        host.to_owned(),
        port.parse().unwrap(),
        target,
    );
    let spec = CheckSpec {
        id: CheckId(1),
        endpoint: EndpointId(1),
        site: SiteId(1),
        cadence: Cadence::from_secs(60).unwrap(),
        timeout,
        kind: CheckKind::Http(http),
    };
    prober
        .probe(&spec, Clock::system().now(), Attempt::Scheduled)
        .await
}

/// What each kind's fault is to a watcher that is not in the afflicted region.
fn reason_of(kind: Kind) -> Option<Reason> {
    match kind {
        Kind::Healthy | Kind::Slow | Kind::Regional => None,
        Kind::Flapping | Kind::Unavailable => Some(Reason::Http5xx),
        Kind::Refused => Some(Reason::ConnectRefused),
        Kind::Hanging => Some(Reason::HttpTimeout),
        Kind::Truncated => Some(Reason::BodyTruncated),
        Kind::ExpiredCertificate => Some(Reason::TlsExpired),
        Kind::WrongHost => Some(Reason::TlsWrongHost),
    }
}

struct Field {
    stop: Stop,
    authority: Authority,
    around: Surroundings,
    near: Prober,
    afflicted: Prober,
}

impl Field {
    fn new(name: &str) -> Self {
        let stop = Stop::new();
        let authority = Authority::new().unwrap();
        let ca =
            std::env::temp_dir().join(format!("picket-farm-{name}-{}.pem", std::process::id()));
        authority.save(&ca).unwrap();
        let around = Surroundings {
            regional_for: vec!["127.0.0.2".parse().unwrap()],
            connections: Arc::new(Semaphore::new(64)),
            stop: stop.clone(),
            tasks: TaskSet::new(stop.clone()),
        };
        let (near, afflicted) = (watcher(&ca, "127.0.0.1"), watcher(&ca, "127.0.0.2"));
        std::fs::remove_file(ca).unwrap();
        Self {
            stop,
            authority,
            around,
            near,
            afflicted,
        }
    }

    fn target(&self, kind: Kind) -> Arc<Target> {
        let ip = "127.0.0.1".parse().unwrap();
        Target::start(kind, ip, &self.authority, self.around.clone()).unwrap()
    }
}

#[tokio::test]
async fn every_kind_is_healthy_then_faulty_in_its_way_then_healthy() {
    let field = Field::new("kinds");
    for kind in Kind::ALL {
        let target = field.target(kind);
        let healthy = look(&field.near, &target.url(), PATIENT).await;
        assert_eq!(healthy.reason, None, "{kind:?}: {healthy:?}");
        target.set_faulty(true);
        let reason = reason_of(kind);
        let timeout = if reason == Some(Reason::HttpTimeout) {
            HASTY
        } else {
            PATIENT
        };
        let faulty = until_applied(&field.near, &target, timeout, reason).await;
        assert_eq!(faulty.reason, reason, "{kind:?}: {faulty:?}");
        target.set_faulty(false);
        let healthy = until_applied(&field.near, &target, PATIENT, None).await;
        assert_eq!(healthy.reason, None, "{kind:?}: {healthy:?}");
    }
    field.stop.request();
}

/// A listener closes and opens a moment after the switch; everything else changes with it.
async fn until_applied(
    prober: &Prober,
    target: &Target,
    timeout: Span,
    reason: Option<Reason>,
) -> Probe {
    let mut n_looks_left = if target.kind() == Kind::Refused {
        1_000
    } else {
        1
    };
    loop {
        let found = look(prober, &target.url(), timeout).await;
        n_looks_left -= 1;
        if found.reason == reason || n_looks_left == 0 {
            return found;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_slow_target_is_slow_and_ok() {
    let field = Field::new("slow");
    let target = field.target(Kind::Slow);
    target.set_faulty(true);
    let found = look(&field.near, &target.url(), PATIENT).await;
    assert_eq!(found.reason, None);
    assert!(found.phases.ttfb_us > 500_000, "{found:?}");
}

#[tokio::test]
async fn a_flapping_target_works_for_whoever_looks_twice() {
    let field = Field::new("flapping");
    let target = field.target(Kind::Flapping);
    target.set_faulty(true);
    for _ in 0..3 {
        assert!(!look(&field.near, &target.url(), PATIENT).await.is_ok());
        assert!(look(&field.near, &target.url(), PATIENT).await.is_ok());
    }
}

#[tokio::test]
async fn a_regional_target_fails_for_the_afflicted_only() {
    let field = Field::new("regional");
    let target = field.target(Kind::Regional);
    assert!(look(&field.afflicted, &target.url(), PATIENT).await.is_ok());
    target.set_faulty(true);
    let afflicted = look(&field.afflicted, &target.url(), PATIENT).await;
    assert_eq!(afflicted.reason, Some(Reason::Http5xx));
    assert!(look(&field.near, &target.url(), PATIENT).await.is_ok());
    assert_eq!(target.kind().expected(), Expected::Regional);
}

#[tokio::test]
async fn bulk_urls_answer_up_to_their_number() {
    let field = Field::new("bulk");
    let ip = "127.0.0.1".parse().unwrap();
    let settings = BulkSettings {
        ip,
        n_urls: 100,
        n_ports: 3,
        n_threads: 2,
    };
    let bulk = Bulk::start(settings, &field.stop).unwrap();
    for address in bulk.addresses() {
        for (number, reason) in [(0, None), (99, None), (100, Some(Reason::Http4xx))] {
            let url = format!("http://{address}/t/{number}");
            assert_eq!(
                look(&field.near, &url, PATIENT).await.reason,
                reason,
                "{url}"
            );
        }
    }
    field.stop.request();
    bulk.join();
}
