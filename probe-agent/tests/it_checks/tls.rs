//! What TLS servers do, and what is made of it.

use picket_agent::check::{Attempt, Prober, ProberSettings};
use picket_wire::check::http::{Handshake, HttpSpec};
use picket_wire::outcome::Probe;
use picket_wire::reason::Reason;
use picket_wire::time::{Span, Timestamp};
use rustls::version::{TLS12, TLS13};

use crate::secure::{Authority, Leaf, Shown, expired, for_clients_only, not_yet_valid};
use crate::target::{Manner, Target, ok};
use crate::{HASTY, PATIENT, check, nth_due, plain, probe, settings};

/// 2090-01-01, when a good certificate of the test authority expires.
const EXPIRES: Timestamp = Timestamp(3_786_912_000_000);
const HOST: &str = "127.0.0.1";

fn trusting(authority: &Authority) -> Prober {
    let trust_anchors = vec![authority.certificate.clone()];
    Prober::new(ProberSettings {
        trust_anchors,
        ..settings()
    })
    .unwrap()
}

async fn serving(shown: &Shown) -> Target {
    Target::secured(
        Manner::answer(&ok("hello")),
        shown.acceptor(&[&TLS13, &TLS12]),
    )
    .await
}

fn secured(target: &Target, handshake: Handshake) -> HttpSpec {
    HttpSpec {
        tls: true,
        handshake,
        ..plain(target.address)
    }
}

async fn shown(authority: &Authority, leaf: Leaf) -> Probe {
    let target = serving(&Shown::new(leaf)).await;
    probe(
        &trusting(authority),
        secured(&target, Handshake::Full),
        PATIENT,
    )
    .await
}

/// A full handshake with a target whose certificate never comes into it.
async fn reached(target: &Target, timeout: Span) -> Probe {
    probe(
        &trusting(&Authority::new()),
        secured(target, Handshake::Full),
        timeout,
    )
    .await
}

#[tokio::test]
async fn a_good_certificate_is_ok_in_both_versions_and_tells_when_it_expires() {
    let authority = Authority::new();
    let leaf = Shown::new(authority.issue(HOST, |_| {}));
    for version in [&TLS12, &TLS13] {
        let acceptor = leaf.acceptor(&[version]);
        let target = Target::secured(Manner::answer(&ok("hello")), acceptor).await;
        let http = secured(&target, Handshake::Full);
        let found = probe(&trusting(&authority), http, PATIENT).await;
        assert_eq!(
            (found.reason, found.http_status),
            (None, 200),
            "{version:?}: {found:?}"
        );
        assert_eq!(found.certificate_expires, Some(EXPIRES));
        let phases = found.phases;
        assert!(phases.tls_us > 0 && phases.total_us >= phases.tls_us + phases.ttfb_us);
    }
}

#[tokio::test]
async fn faults_of_certificates_are_told_apart() {
    let authority = Authority::new();
    for (leaf, reason) in [
        (authority.issue(HOST, expired), Reason::TlsExpired),
        (authority.issue(HOST, not_yet_valid), Reason::TlsNotYetValid),
        (authority.issue("other.test", |_| {}), Reason::TlsWrongHost),
        (Leaf::self_signed(HOST), Reason::TlsUntrusted),
        (Authority::new().issue(HOST, |_| {}), Reason::TlsUntrusted),
        (
            authority.issue(HOST, for_clients_only),
            Reason::TlsBadCertificate,
        ),
    ] {
        let found = shown(&authority, leaf).await;
        assert_eq!(
            (found.reason, found.http_status),
            (Some(reason), 0),
            "{found:?}"
        );
        assert!(
            found.certificate_expires.is_some() && !found.detail.is_empty(),
            "{found:?}"
        );
        assert!(
            found.phases.tls_us > 0 && found.phases.ttfb_us == 0,
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn an_expired_certificate_tells_when_it_expired() {
    let authority = Authority::new();
    let found = shown(&authority, authority.issue(HOST, expired)).await;
    assert_eq!(
        found.certificate_expires,
        Some(Timestamp(1_609_459_200_000))
    );
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_fails_the_handshake() {
    let greeter = Target::greeting(b"220 mail ready\r\n").await;
    let found = reached(&greeter, PATIENT).await;
    assert_eq!(found.reason, Some(Reason::TlsHandshake));
}

#[tokio::test]
async fn a_server_that_closes_during_the_handshake_fails_it() {
    let found = reached(&Target::greeting(b"").await, PATIENT).await;
    // The hello may still be on its way when the server closes; then the system resets.
    let reasons = [Some(Reason::TlsHandshake), Some(Reason::ConnectionReset)];
    assert!(reasons.contains(&found.reason), "{found:?}");
}

#[tokio::test]
async fn a_silent_server_is_a_tls_timeout() {
    let found = reached(&Target::plain(Manner::Hang).await, HASTY).await;
    assert_eq!(found.reason, Some(Reason::TlsTimeout));
}

#[tokio::test]
async fn a_body_cut_short_without_a_tls_goodbye_is_truncated() {
    let authority = Authority::new();
    let leaf = Shown::new(authority.issue(HOST, |_| {}));
    let cut = Manner::answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    let target = Target::secured(cut, leaf.acceptor(&[&TLS13])).await;
    let found = probe(
        &trusting(&authority),
        secured(&target, Handshake::Full),
        PATIENT,
    )
    .await;
    assert_eq!(found.reason, Some(Reason::BodyTruncated), "{found:?}");
}

#[tokio::test]
async fn sessions_are_resumed_where_the_check_says_so_and_never_by_a_retry() {
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        let leaf = Shown::new(authority.issue(HOST, |_| {}));
        let target = Target::secured(Manner::answer(&ok("hello")), leaf.acceptor(&[version])).await;
        let prober = trusting(&authority);
        for (handshake, attempt, resumed) in [
            (Handshake::Resumed, Attempt::Scheduled, false),
            (Handshake::Resumed, Attempt::Scheduled, true),
            (Handshake::Resumed, Attempt::Retry, false),
            (Handshake::Full, Attempt::Scheduled, false),
            (Handshake::Resumed, Attempt::Scheduled, true),
        ] {
            let n_before = target.n_resumed();
            let spec = check(secured(&target, handshake), PATIENT);
            let found = prober.probe(&spec, nth_due(1), attempt).await;
            assert_eq!(found.reason, None, "{found:?}");
            assert_eq!(found.certificate_expires, Some(EXPIRES));
            let n_resumed = target.n_resumed() - n_before;
            assert_eq!(
                n_resumed == 1,
                resumed,
                "{version:?} {handshake:?} {attempt:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_certificate_once_seen_to_be_bad_is_not_hidden_by_a_resumed_session() {
    let authority = Authority::new();
    let leaf = Shown::new(authority.issue(HOST, |_| {}));
    let target = serving(&leaf).await;
    let prober = trusting(&authority);
    let spec = check(secured(&target, Handshake::Resumed), PATIENT);
    let probe = |attempt| prober.probe(&spec, nth_due(1), attempt);
    assert_eq!(probe(Attempt::Scheduled).await.reason, None);
    leaf.replace(authority.issue(HOST, expired));
    assert_eq!(probe(Attempt::Retry).await.reason, Some(Reason::TlsExpired));
    assert_eq!(
        probe(Attempt::Scheduled).await.reason,
        Some(Reason::TlsExpired)
    );
    leaf.replace(authority.issue(HOST, |_| {}));
    assert_eq!(probe(Attempt::Scheduled).await.reason, None);
}

#[tokio::test]
async fn a_known_chain_does_not_stand_for_the_key_behind_it() {
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        let leaf = authority.issue(HOST, |_| {});
        let shown = Shown::new(leaf.clone());
        let answer = Manner::answer(&ok("hello"));
        let target = Target::secured(answer, shown.acceptor(&[version])).await;
        let prober = trusting(&authority);
        let probe = || probe(&prober, secured(&target, Handshake::Full), PATIENT);
        assert_eq!(probe().await.reason, None);
        shown.replace(leaf.with_a_wrong_key());
        assert_eq!(
            probe().await.reason,
            Some(Reason::TlsBadCertificate),
            "{version:?}"
        );
        shown.replace(leaf);
        assert_eq!(probe().await.reason, None);
    }
}

#[tokio::test]
async fn every_twentieth_probe_looks_at_the_certificate() {
    let authority = Authority::new();
    let leaf = Shown::new(authority.issue(HOST, |_| {}));
    let target = serving(&leaf).await;
    let prober = trusting(&authority);
    let spec = check(secured(&target, Handshake::Resumed), PATIENT);
    assert_eq!(
        prober
            .probe(&spec, nth_due(1), Attempt::Scheduled)
            .await
            .reason,
        None
    );
    leaf.replace(authority.issue(HOST, expired));
    let mut n_unseen = 0;
    for n in 2..=22 {
        match prober
            .probe(&spec, nth_due(n), Attempt::Scheduled)
            .await
            .reason
        {
            None => n_unseen += 1,
            reason => {
                assert_eq!(reason, Some(Reason::TlsExpired));
                break;
            }
        }
    }
    assert!((1..20).contains(&n_unseen), "{n_unseen}");
}
