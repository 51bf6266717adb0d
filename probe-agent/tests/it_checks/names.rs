//! What name servers do, and what is made of it.

use std::net::IpAddr;

use picket_agent::check::{Attempt, Prober, ProberSettings};
use picket_wire::check::http::HttpSpec;
use picket_wire::outcome::Probe;
use picket_wire::reason::Reason;
use picket_wire::time::Span;

use crate::name_server::{NameServer, Says};
use crate::target::{Manner, Target, ok};
use crate::{HASTY, PATIENT, check, nth_due, settings};

const SERVFAIL: u8 = 2;
const REFUSED: u8 = 5;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn asking(names: &NameServer) -> Prober {
    Prober::new(ProberSettings {
        resolvers: vec![names.address],
        ..settings()
    })
    .unwrap()
}

fn named(name: &str, port: u16) -> HttpSpec {
    HttpSpec::plain(false, name.to_owned(), port, "/".to_owned())
}

async fn told(says: Says, timeout: Span) -> Probe {
    let names = NameServer::start(&[("site.test", says)]).await;
    let spec = check(named("site.test", 80), timeout);
    asking(&names)
        .probe(&spec, nth_due(1), Attempt::Scheduled)
        .await
}

#[tokio::test]
async fn a_name_leads_to_its_address_and_its_resolution_is_a_phase() {
    let target = Target::plain(Manner::answer(&ok(""))).await;
    let says = Says::Addresses(vec![target.address.ip()]);
    let names = NameServer::start(&[("site.test", says)]).await;
    let spec = check(named("site.test", target.address.port()), PATIENT);
    let found = asking(&names)
        .probe(&spec, nth_due(1), Attempt::Scheduled)
        .await;
    assert_eq!(
        (found.reason, found.remote),
        (None, Some(target.address.ip()))
    );
    assert!(
        found.phases.dns_us > 0 && found.phases.connect_us > 0,
        "{:?}",
        found.phases
    );
}

#[tokio::test]
async fn an_unknown_name_is_nxdomain() {
    let names = NameServer::start(&[]).await;
    let spec = check(named("nowhere.test", 80), PATIENT);
    let found = asking(&names)
        .probe(&spec, nth_due(1), Attempt::Scheduled)
        .await;
    assert_eq!(
        (found.reason, found.remote),
        (Some(Reason::DnsNxdomain), None)
    );
    assert!(
        found.phases.dns_us > 0 && found.phases.connect_us == 0,
        "{:?}",
        found.phases
    );
}

#[tokio::test]
async fn a_failing_name_server_is_servfail() {
    for code in [SERVFAIL, REFUSED] {
        let found = told(Says::Code(code), PATIENT).await;
        assert_eq!(found.reason, Some(Reason::DnsServfail), "{found:?}");
    }
}

#[tokio::test]
async fn a_silent_name_server_is_a_dns_timeout() {
    assert_eq!(
        told(Says::Nothing, HASTY).await.reason,
        Some(Reason::DnsTimeout)
    );
}

#[tokio::test]
async fn a_name_without_addresses_says_so() {
    let found = told(Says::Addresses(vec![]), PATIENT).await;
    assert_eq!(found.reason, Some(Reason::DnsNoAddress), "{found:?}");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_blocked() {
    for inside in [
        "10.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
    ] {
        let found = told(Says::Addresses(vec![ip(inside)]), PATIENT).await;
        assert_eq!(
            (found.reason, found.remote),
            (Some(Reason::AddressBlocked), None),
            "{inside}"
        );
    }
}

#[tokio::test]
async fn blocked_addresses_are_passed_over_and_dead_ones_too() {
    let target = Target::plain(Manner::answer(&ok(""))).await;
    let dead = ip("127.0.0.77");
    let says = Says::Addresses(vec![ip("10.0.0.1"), dead, target.address.ip()]);
    let names = NameServer::start(&[("site.test", says)]).await;
    let spec = check(named("site.test", target.address.port()), PATIENT);
    let found = asking(&names)
        .probe(&spec, nth_due(1), Attempt::Scheduled)
        .await;
    assert_eq!(
        (found.reason, found.remote),
        (None, Some(target.address.ip())),
        "{found:?}"
    );
}

#[tokio::test]
async fn an_answer_is_used_again_but_not_by_a_retry_or_a_vote() {
    let target = Target::plain(Manner::answer(&ok(""))).await;
    let says = Says::Addresses(vec![target.address.ip()]);
    let names = NameServer::start(&[("site.test", says)]).await;
    let prober = asking(&names);
    let spec = check(named("site.test", target.address.port()), PATIENT);
    for (attempt, n_asked) in [
        (Attempt::Scheduled, 1),
        (Attempt::Scheduled, 1),
        (Attempt::Retry, 2),
        (Attempt::Scheduled, 2),
        (Attempt::Vote, 3),
    ] {
        assert!(prober.probe(&spec, nth_due(1), attempt).await.is_ok());
        assert_eq!(names.n_asked("site.test"), n_asked, "{attempt:?}");
    }
}

#[tokio::test]
async fn a_name_that_is_rebound_after_it_was_judged_gains_nothing() {
    let target = Target::plain(Manner::answer(&ok(""))).await;
    let says = Says::FirstThen(target.address.ip(), ip("10.0.0.1"));
    let names = NameServer::start(&[("site.test", says)]).await;
    let prober = asking(&names);
    let spec = check(named("site.test", target.address.port()), PATIENT);
    let first = prober.probe(&spec, nth_due(1), Attempt::Retry).await;
    assert_eq!((first.reason, names.n_asked("site.test")), (None, 1));
    let second = prober.probe(&spec, nth_due(1), Attempt::Retry).await;
    assert_eq!(second.reason, Some(Reason::AddressBlocked));
}
