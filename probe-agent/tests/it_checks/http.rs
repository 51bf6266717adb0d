//! What HTTP servers do, and what is made of it.

use std::net::IpAddr;
use std::time::Duration;

use picket_agent::check::{Attempt, Prober, ProberSettings};
use picket_rt::clock::Clock;
use picket_wire::check::http::{HttpSpec, Method};
use picket_wire::limits::{BODY_MAX_BYTES, DETAIL_MAX_BYTES, HEAD_MAX_BYTES};
use picket_wire::outcome::Probe;
use picket_wire::reason::Reason;
use picket_wire::time::Span;

use crate::target::{Manner, Target, ok, refusing, unanswering};
use crate::{HASTY, NO_NAME_SERVER, PATIENT, check, plain, probe, prober, settings};

/// Far above what sockets buffer between two processes, far below "everything".
const BUFFERED_MAX_BYTES: u64 = 32 * 1024 * 1024;

async fn met(manner: Manner, timeout: Span) -> Probe {
    let target = Target::plain(manner).await;
    probe(&prober(), plain(target.address), timeout).await
}

async fn answered(text: &str) -> Probe {
    met(Manner::answer(text), PATIENT).await
}

#[tokio::test]
async fn a_healthy_target_is_ok_with_plausible_phases() {
    let pause = Duration::from_millis(50);
    let target = Target::plain(Manner::AnswerAfter(pause, ok("hello").into_bytes())).await;
    let found = probe(&prober(), plain(target.address), PATIENT).await;
    assert_eq!(
        (found.reason, found.http_status, found.detail.as_str()),
        (None, 200, "")
    );
    assert_eq!(found.remote, Some(target.address.ip()));
    let phases = found.phases;
    assert_eq!((phases.dns_us, phases.tls_us), (0, 0));
    assert!(
        phases.connect_us > 0 && phases.ttfb_us >= 50_000,
        "{phases:?}"
    );
    assert!(
        phases.total_us >= phases.connect_us + phases.ttfb_us,
        "{phases:?}"
    );
    assert_eq!(target.n_connections(), 1);
}

#[tokio::test]
async fn the_request_says_who_asks_and_closes() {
    let target = Target::plain(Manner::answer(&ok(""))).await;
    let http = HttpSpec {
        method: Method::Head,
        ..plain(target.address)
    };
    assert!(probe(&prober(), http, PATIENT).await.is_ok());
    let requests = target.requests();
    assert!(
        requests[0].starts_with("HEAD / HTTP/1.1\r\n"),
        "{requests:?}"
    );
    for field in [
        format!("Host: {}", target.address),
        "Connection: close".to_owned(),
    ] {
        assert!(
            requests[0].contains(&format!("\r\n{field}\r\n")),
            "{requests:?}"
        );
    }
    assert!(
        requests[0].contains("\r\nUser-Agent: Picket/"),
        "{requests:?}"
    );
}

#[tokio::test]
async fn lateness_is_counted_from_when_it_was_due() {
    let target = Target::plain(Manner::answer(&ok(""))).await;
    let due = Clock::system().now() - Span::from_secs(5);
    let spec = check(plain(target.address), PATIENT);
    let found = prober().probe(&spec, due, Attempt::Scheduled).await;
    assert!(found.lateness >= Span::from_secs(5), "{found:?}");
    assert_eq!(found.at.since(due), found.lateness);
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    let address = refusing();
    let found = probe(&prober(), plain(address), PATIENT).await;
    assert_eq!(found.reason, Some(Reason::ConnectRefused));
    assert_eq!((found.remote, found.http_status), (Some(address.ip()), 0));
    assert!(found.detail.contains("refused"), "{}", found.detail);
}

#[tokio::test]
async fn a_full_accept_queue_is_a_connect_timeout() {
    let (listener, _fillers) = unanswering().await;
    let address = listener.local_addr().unwrap();
    let found = probe(&prober(), plain(address), HASTY).await;
    assert_eq!(found.reason, Some(Reason::ConnectTimeout));
    assert_eq!(found.remote, Some(address.ip()));
}

#[tokio::test]
async fn a_target_that_never_answers_is_an_http_timeout() {
    assert_eq!(
        met(Manner::Hang, HASTY).await.reason,
        Some(Reason::HttpTimeout)
    );
    let half_a_head = Manner::AnswerThenHang(b"HTTP/1.1 200 OK\r\nServer: x\r\n".to_vec());
    let found = met(half_a_head, HASTY).await;
    assert_eq!(
        (found.reason, found.http_status),
        (Some(Reason::HttpTimeout), 0)
    );
    assert!(found.phases.ttfb_us > 0);
}

#[tokio::test]
async fn a_body_that_does_not_end_is_a_body_timeout() {
    let half_a_body = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".to_vec();
    let found = met(Manner::AnswerThenHang(half_a_body), HASTY).await;
    assert_eq!(
        (found.reason, found.http_status),
        (Some(Reason::BodyTimeout), 200)
    );
}

#[tokio::test]
async fn a_probe_ends_within_its_timeout() {
    let found = met(Manner::Hang, HASTY).await;
    let timeout_us = u32::try_from(HASTY.0 * 1_000).unwrap();
    // Half a minute is what a machine under any load of tests still manages.
    assert!(
        (timeout_us..timeout_us + 30_000_000).contains(&found.phases.total_us),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_connection_that_is_reset_says_so_before_and_within_the_response() {
    for sent in ["", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"] {
        let found = met(Manner::AnswerThenReset(sent.as_bytes().to_vec()), PATIENT).await;
        assert_eq!(
            found.reason,
            Some(Reason::ConnectionReset),
            "after `{sent}`: {found:?}"
        );
    }
}

#[tokio::test]
async fn a_connection_closed_before_the_head_ends_is_http_closed() {
    for sent in ["", "HTTP/1.1 200 OK\r\nServer"] {
        assert_eq!(
            answered(sent).await.reason,
            Some(Reason::HttpClosed),
            "after `{sent}`"
        );
    }
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_truncated() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let found = answered(text).await;
        assert_eq!(
            (found.reason, found.http_status),
            (Some(Reason::BodyTruncated), 200),
            "{text}"
        );
    }
}

#[tokio::test]
async fn other_statuses_than_expected_are_told_apart() {
    for (status, reason) in [
        (404, Reason::Http4xx),
        (500, Reason::Http5xx),
        (503, Reason::Http5xx),
        (999, Reason::HttpStatus),
    ] {
        let found = answered(&format!(
            "HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
        assert_eq!((found.reason, found.http_status), (Some(reason), status));
        assert!(
            found.detail.contains(&status.to_string()),
            "{}",
            found.detail
        );
    }
    let moved = "HTTP/1.1 301 Moved\r\nLocation: http://169.254.169.254/\r\n\r\n";
    assert_eq!(
        answered(moved).await.reason,
        None,
        "a redirect is an answer, not an order"
    );
}

#[tokio::test]
async fn what_is_not_http_is_malformed_and_quoted_in_one_line() {
    let found = answered("SSH-2.0-OpenSSH_9.2\u{1b}[31m\r\n").await;
    assert_eq!(found.reason, Some(Reason::HttpMalformed));
    assert!(found.detail.contains("SSH-2.0"), "{}", found.detail);
    assert!(!found.detail.contains(char::is_control) && found.detail.len() <= DETAIL_MAX_BYTES);
}

#[tokio::test]
async fn the_expected_text_is_found_or_missed() {
    let target = Target::plain(Manner::answer(&ok("all systems nominal"))).await;
    for (needle, reason) in [("nominal", None), ("abnormal", Some(Reason::BodyMismatch))] {
        let http = HttpSpec {
            body_contains: Some(needle.to_owned()),
            ..plain(target.address)
        };
        assert_eq!(
            probe(&prober(), http, PATIENT).await.reason,
            reason,
            "{needle}"
        );
    }
}

#[tokio::test]
async fn an_endless_body_is_read_to_its_cap() {
    let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let target = Target::plain(Manner::AnswerEndlessly(head, vec![b'x'; BODY_MAX_BYTES])).await;
    let http = HttpSpec {
        body_contains: Some("y".to_owned()),
        ..plain(target.address)
    };
    let found = probe(&prober(), http, PATIENT).await;
    assert_eq!(
        (found.reason, found.http_status),
        (Some(Reason::BodyMismatch), 200)
    );
    assert!(
        target.n_written() < BUFFERED_MAX_BYTES,
        "{}",
        target.n_written()
    );
}

#[tokio::test]
async fn endless_headers_are_refused() {
    let head = b"HTTP/1.1 200 OK\r\n".to_vec();
    let field = b"X-Filler: abcdefghijklmnopqrstuvwxyz\r\n".repeat(HEAD_MAX_BYTES / 32);
    let target = Target::plain(Manner::AnswerEndlessly(head, field)).await;
    let found = probe(&prober(), plain(target.address), PATIENT).await;
    assert_eq!(found.reason, Some(Reason::HttpMalformed));
    assert!(
        target.n_written() < BUFFERED_MAX_BYTES,
        "{}",
        target.n_written()
    );
}

#[tokio::test]
async fn a_blocked_address_is_not_touched() {
    let target = Target::plain(Manner::answer(&ok(""))).await;
    let strict = ProberSettings {
        allow: vec![],
        ..settings()
    };
    let found = probe(
        &Prober::new(strict).unwrap(),
        plain(target.address),
        PATIENT,
    )
    .await;
    assert_eq!(
        (found.reason, found.remote),
        (Some(Reason::AddressBlocked), None)
    );
    assert!(found.detail.contains("loopback"), "{}", found.detail);
    assert_eq!(target.n_connections(), 0);
}

#[tokio::test]
async fn connections_leave_from_the_source_addresses_in_turn() {
    let target = Target::plain(Manner::answer(&ok(""))).await;
    let sources: Vec<IpAddr> = ["127.0.0.2", "127.0.0.3"]
        .map(|s| s.parse().unwrap())
        .to_vec();
    let prober = Prober::new(ProberSettings {
        source_addresses: sources.clone(),
        resolvers: vec![NO_NAME_SERVER.parse().unwrap()],
        ..settings()
    })
    .unwrap();
    for _ in 0..2 {
        assert!(probe(&prober, plain(target.address), PATIENT).await.is_ok());
    }
    assert_eq!(target.peers(), sources);
}
