//! One message of every kind with every field set, the same on every run.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use picket_wire::assignment::Assigned;
use picket_wire::blob::ShardCatalogue;
use picket_wire::check::http::{Handshake, HttpSpec, Method};
use picket_wire::check::{Cadence, CheckKind, CheckSpec};
use picket_wire::control::{
    Admission, Beliefs, EnrolRefusal, EnrolReply, EnrolRequest, FromAgent, Hello, ProbeOrder,
    Refusal, Renew, Schedule, ToAgent, Welcome,
};
use picket_wire::evidence::{CheckRef, Evidence, EvidenceBatch, Role, TraceContext};
use picket_wire::id::{
    AgentId, BlobHash, CatalogueVersion, CheckId, EndpointId, Epoch, GroupId, Incarnation,
    MemberId, OrderId, Seq, ShardId, ShardSlot, SiteId, Slot,
};
use picket_wire::lane::live::{LiveDue, LiveEncoder, LiveOrder, LiveOutcome, LiveSecond};
use picket_wire::lane::rollup::{CheckRollup, RollupBatch, ShardRollup};
use picket_wire::latency::bucket;
use picket_wire::name::Name;
use picket_wire::outcome::{Phases, Probe};
use picket_wire::peer::{
    AgentSeen, LatenessSeen, LeaderHint, Observed, PeerReply, PeerRequest, ProbeSeen, RaftMessage,
};
use picket_wire::reason::Reason;
use picket_wire::time::{Interval, Span, Timestamp};

/// 2026-11-21T09:30:00.250Z.
const NOW: Timestamp = Timestamp(1_795_253_400_250);

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn cadence(secs: u32) -> Cadence {
    Cadence::from_secs(secs).unwrap()
}

fn slot(shard: u32) -> ShardSlot {
    ShardSlot {
        group: GroupId(2),
        shard: ShardId(shard),
        slot: Slot(1),
    }
}

fn assigned(shard: u32) -> Assigned {
    Assigned {
        slot: slot(shard),
        epoch: Epoch(7),
        version: CatalogueVersion(11),
        blob: BlobHash([u8::try_from(shard).unwrap(); 32]),
    }
}

fn trace() -> TraceContext {
    TraceContext {
        trace: *b"0123456789abcdef",
        span: *b"01234567",
    }
}

fn plain_check(id: u64) -> CheckSpec {
    let host = format!("host{id}.example.org");
    CheckSpec {
        id: CheckId(id),
        endpoint: EndpointId(id + 100),
        site: SiteId(id / 2),
        cadence: cadence(60),
        timeout: Span(10_000),
        kind: CheckKind::Http(HttpSpec::plain(true, host, 443, "/".to_owned())),
    }
}

fn full_check() -> CheckSpec {
    CheckSpec {
        kind: CheckKind::Http(HttpSpec {
            tls: false,
            host: "::1".to_owned(),
            port: 8_080,
            target: "/health?full=1".to_owned(),
            method: Method::Head,
            status_min: 204,
            status_max: 204,
            body_contains: Some("ready ✓".to_owned()),
            handshake: Handshake::Resumed,
        }),
        cadence: cadence(1),
        ..plain_check(9)
    }
}

fn probe(reason: Option<Reason>, remote: Option<IpAddr>) -> Probe {
    Probe {
        at: NOW,
        lateness: Span(3),
        reason,
        phases: Phases {
            dns_us: 1_000,
            connect_us: 20_000,
            tls_us: 30_000,
            ttfb_us: 40_000,
            total_us: 91_500,
        },
        http_status: 503,
        remote,
        certificate_expires: Some(Timestamp(NOW.0 + 86_400_000)),
        detail: "503 Service Unavailable".to_owned(),
    }
}

pub(crate) fn evidence() -> EvidenceBatch {
    let check = CheckRef {
        check: CheckId(9),
        endpoint: EndpointId(109),
        site: SiteId(4),
    };
    let owner = Evidence {
        check,
        probe: probe(
            Some(Reason::Http5xx),
            Some(Ipv4Addr::new(192, 0, 2, 1).into()),
        ),
        retry: Some(probe(Some(Reason::ConnectTimeout), None)),
        vantage_healthy: true,
        role: Role::Owner {
            slot: slot(5),
            epoch: Epoch(7),
        },
        trace: Some(trace()),
    };
    let voter = Evidence {
        check,
        probe: probe(None, Some(Ipv6Addr::LOCALHOST.into())),
        retry: None,
        vantage_healthy: false,
        role: Role::Voter { order: OrderId(3) },
        trace: None,
    };
    let (agent, incarnation) = (AgentId(3), Incarnation(2));
    EvidenceBatch {
        agent,
        incarnation,
        seq: Seq(40),
        records: vec![owner, voter],
    }
}

pub(crate) fn rollup() -> RollupBatch {
    let window = NOW.floor_to(Span::from_secs(300));
    let check = |id, latency| CheckRollup {
        check: CheckId(id),
        endpoint: EndpointId(id + 100),
        due: 5,
        ran: 4,
        ok: 3,
        lateness_max_ms: 12,
        latency,
    };
    let shard = ShardRollup {
        slot: slot(5),
        epoch: Epoch(7),
        window,
        covered: Interval::new(window, Timestamp(window.0 + 250_000)),
        checks: vec![check(8, vec![]), check(9, vec![(100, 2), (101, 1)])],
    };
    let (agent, incarnation) = (AgentId(3), Incarnation(2));
    RollupBatch {
        agent,
        incarnation,
        seq: Seq(41),
        shards: vec![shard],
    }
}

pub(crate) fn from_agent() -> [(&'static str, FromAgent); 4] {
    let hello = Hello {
        agent: AgentId(3),
        incarnation: Incarnation(2),
        schema_min: 1,
        schema_max: 1,
        build: "0.1.0".to_owned(),
        evidence_tail: Seq(40),
        rollup_tail: Seq(41),
    };
    let renew = Renew {
        sent_at: NOW,
        healthy: true,
        spool_bytes: 4_096,
    };
    let schedule = Schedule {
        generation: 6,
        held: vec![assigned(5), assigned(8)],
    };
    [
        ("hello", FromAgent::Hello(hello)),
        ("renew", FromAgent::Renew(renew)),
        ("want_blobs", FromAgent::WantBlobs(vec![BlobHash([5; 32])])),
        ("schedule", FromAgent::Schedule(schedule)),
    ]
}

pub(crate) fn to_agent() -> [(&'static str, ToAgent); 9] {
    let welcome = Welcome {
        member: MemberId(1),
        term: 12,
        now: NOW,
        window: Span::from_secs(300),
        evidence: Seq(39),
        rollup: Seq(41),
    };
    let beliefs = Beliefs {
        slots: vec![slot(5)],
        failing: vec![CheckId(9)],
    };
    let order = ProbeOrder {
        order: OrderId(3),
        check: full_check(),
        within: Span(3_000),
        trace: Some(trace()),
    };
    let refusal = Refusal::Schema {
        theirs_min: 4,
        theirs_max: 5,
        ours_min: 1,
        ours_max: 1,
    };
    [
        ("welcome", ToAgent::Welcome(welcome)),
        (
            "not_leader",
            ToAgent::NotLeader {
                leader: Some(MemberId(2)),
            },
        ),
        (
            "lease",
            ToAgent::Lease {
                renewed_at: NOW,
                ttl: Span(10_000),
            },
        ),
        ("digest", ToAgent::Digest(vec![assigned(5), assigned(8)])),
        ("beliefs", ToAgent::Beliefs(beliefs)),
        (
            "acks",
            ToAgent::Acks {
                evidence: Seq(40),
                rollup: Seq(41),
            },
        ),
        ("probe", ToAgent::Probe(order)),
        ("reset_live", ToAgent::ResetLive),
        ("refused", ToAgent::Refused(refusal)),
    ]
}

pub(crate) fn enrol_request() -> EnrolRequest {
    EnrolRequest {
        token: "secret".to_owned(),
        csr: b"not really DER".to_vec(),
        name: name("probe-1"),
        region: name("eu-west"),
        zone: name("a"),
        network: name("as64496"),
    }
}

pub(crate) fn enrol_replies() -> [(&'static str, EnrolReply); 3] {
    let admission = Admission {
        agent: AgentId(3),
        incarnation: Incarnation(1),
        certificate: b"leaf".to_vec(),
        ca: b"ca".to_vec(),
        members: vec![(MemberId(1), "scheduler-1.example.org:7700".to_owned())],
    };
    let refusal = EnrolRefusal::WrongRegion(name("us-east"));
    let leader = Some("scheduler-2.example.org:7700".to_owned());
    [
        ("enrol_admitted", EnrolReply::Admitted(admission)),
        ("enrol_refused", EnrolReply::Refused(refusal)),
        ("enrol_not_leader", EnrolReply::NotLeader { leader }),
    ]
}

pub(crate) fn peer_requests() -> [(&'static str, PeerRequest); 4] {
    let raft = RaftMessage {
        kind: 2,
        bytes: b"append".to_vec(),
    };
    [
        ("peer_raft", PeerRequest::Raft(raft)),
        ("peer_propose", PeerRequest::Propose(b"command".to_vec())),
        ("peer_blob", PeerRequest::Blob(BlobHash([9; 32]))),
        (
            "peer_observe",
            PeerRequest::Observe(vec![CheckId(9), CheckId(10)]),
        ),
    ]
}

pub(crate) fn peer_replies() -> [(&'static str, PeerReply); 6] {
    let observed = Observed {
        leases: vec![(AgentId(3), NOW)],
        frozen: vec![name("eu-west")],
        agents: vec![AgentSeen {
            agent: AgentId(3),
            build: "0.1.0".to_owned(),
            healthy: true,
            spool_bytes: 4_096,
        }],
        probes: vec![
            Some(ProbeSeen {
                at: NOW,
                latency_us: Some(40_959),
            }),
            None,
        ],
        lateness: LatenessSeen {
            count: 100,
            p50_ms: 1,
            p99_ms: 20,
            max_ms: 30,
        },
    };
    let hint = LeaderHint {
        leader: Some(MemberId(3)),
    };
    [
        ("peer_raft_reply", PeerReply::Raft(b"ok".to_vec())),
        ("peer_proposed", PeerReply::Proposed(b"done".to_vec())),
        ("peer_blob_reply", PeerReply::Blob(Some(b"blob".to_vec()))),
        ("peer_observed", PeerReply::Observed(observed)),
        ("peer_not_leader", PeerReply::NotLeader(hint)),
        ("peer_failed", PeerReply::Failed("disk full".to_owned())),
    ]
}

pub(crate) fn live() -> LiveSecond {
    let checks = (0..4_000).map(|id| (CheckId(id), cadence(60)));
    let order = LiveOrder::new(checks.chain([(CheckId(9_999), cadence(1))]));
    let mut encoder = LiveEncoder::new(6, &order.sizes());
    encoder.reset();
    let (first, due) = order.due(cadence(60), 1_795_253_400);
    let mut outcomes: Vec<_> = (0..due)
        .map(|i| LiveOutcome::Ok(bucket(40_000 + 700 * i)))
        .collect();
    outcomes[3] = LiveOutcome::Failed(Reason::ConnectRefused);
    outcomes[9] = LiveOutcome::Skipped;
    let every_second = LiveDue {
        cadence: cadence(1),
        first: 0,
        outcomes: &[LiveOutcome::Ok(90)],
    };
    let every_minute = LiveDue {
        cadence: cadence(60),
        first,
        outcomes: &outcomes,
    };
    encoder.second(Timestamp(1_795_253_400_000), &[every_second, every_minute])
}

pub(crate) fn catalogue() -> ShardCatalogue {
    let (group, shard, version) = (GroupId(2), ShardId(5), CatalogueVersion(11));
    ShardCatalogue {
        group,
        shard,
        version,
        checks: vec![plain_check(8), full_check()],
    }
}
