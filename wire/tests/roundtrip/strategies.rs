//! Every value that a message may hold, for property tests.

use std::net::IpAddr;

use picket_wire::assignment::Assigned;
use picket_wire::blob::ShardCatalogue;
use picket_wire::check::http::{Handshake, HttpSpec, Method};
use picket_wire::check::{Cadence, CheckKind, CheckSpec};
use picket_wire::control::{
    Beliefs, EnrolRequest, FromAgent, Hello, ProbeOrder, Refusal, Renew, Schedule, ToAgent,
};
use picket_wire::evidence::{CheckRef, Evidence, EvidenceBatch, Role, TraceContext};
use picket_wire::id::{
    AgentId, BlobHash, CatalogueVersion, CheckId, EndpointId, Epoch, GroupId, Incarnation,
    MemberId, OrderId, Seq, ShardId, ShardSlot, SiteId, Slot,
};
use picket_wire::lane::live::{LiveRun, LiveSecond};
use picket_wire::lane::rollup::{CheckRollup, RollupBatch, ShardRollup};
use picket_wire::latency::BUCKETS;
use picket_wire::limits::{
    DETAIL_MAX_BYTES, GROUP_MAX, INTERVALS_SECS, SHARDS_MAX, SLOTS_MAX, SPAN_MAX, TIMEOUT_MAX,
    TIMEOUT_MIN,
};
use picket_wire::name::Name;
use picket_wire::outcome::{Phases, Probe, bounded_detail};
use picket_wire::peer::{LeaderHint, PeerReply, PeerRequest, RaftMessage};
use picket_wire::reason::Reason;
use picket_wire::time::{Interval, Span, Timestamp};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

fn instant() -> impl Strategy<Value = Timestamp> {
    (Timestamp::CALENDAR_START.0..Timestamp::CALENDAR_END.0).prop_map(Timestamp)
}

fn span() -> impl Strategy<Value = Span> {
    (0..=SPAN_MAX.0).prop_map(Span)
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9][a-z0-9._-]{0,62}".prop_map(|text| Name::parse(&text).unwrap())
}

fn detail() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..DETAIL_MAX_BYTES)
        .prop_map(|chars| bounded_detail(&chars.into_iter().collect::<String>()))
}

fn slot() -> impl Strategy<Value = ShardSlot> {
    (0..=GROUP_MAX, 0..SHARDS_MAX, 0..SLOTS_MAX).prop_map(|(group, shard, slot)| ShardSlot {
        group: GroupId(group),
        shard: ShardId(shard),
        slot: Slot(slot),
    })
}

fn cadence() -> impl Strategy<Value = Cadence> {
    prop::sample::select(&INTERVALS_SECS[..]).prop_map(|secs| Cadence::from_secs(secs).unwrap())
}

fn reason() -> impl Strategy<Value = Reason> {
    prop::sample::select(Reason::ALL)
}

fn trace() -> impl Strategy<Value = TraceContext> {
    any::<([u8; 16], [u8; 8])>().prop_map(|(trace, span)| TraceContext { trace, span })
}

fn http() -> impl Strategy<Value = HttpSpec> {
    let texts = ("[!-~]{1,40}", "/[!-~]{0,40}", option::of("\\PC{1,20}"));
    let numbers = (1..=u16::MAX, 100..=599_u16, 100..=599_u16);
    (any::<[bool; 3]>(), texts, numbers).prop_map(
        |([tls, head, resumed], (host, target, body_contains), (port, a, b))| HttpSpec {
            tls,
            host,
            port,
            target,
            method: if head { Method::Head } else { Method::Get },
            status_min: a.min(b),
            status_max: a.max(b),
            body_contains,
            handshake: if resumed {
                Handshake::Resumed
            } else {
                Handshake::Full
            },
        },
    )
}

fn check() -> impl Strategy<Value = CheckSpec> {
    let timeout = TIMEOUT_MIN.0..=TIMEOUT_MAX.0;
    (any::<[u64; 3]>(), cadence(), timeout, http()).prop_map(
        |([id, endpoint, site], cadence, timeout, http)| CheckSpec {
            id: CheckId(id),
            endpoint: EndpointId(endpoint),
            site: SiteId(site),
            cadence,
            timeout: Span(timeout),
            kind: CheckKind::Http(http),
        },
    )
}

fn digest() -> impl Strategy<Value = Vec<Assigned>> {
    btree_map(slot(), any::<(u32, u64, [u8; 32])>(), 0..20).prop_map(|slots| {
        let assigned = |(slot, (epoch, version, blob))| Assigned {
            slot,
            epoch: Epoch(epoch),
            version: CatalogueVersion(version),
            blob: BlobHash(blob),
        };
        slots.into_iter().map(assigned).collect()
    })
}

fn probe() -> impl Strategy<Value = Probe> {
    let times = (instant(), span(), option::of(instant()));
    let rest = (option::of(reason()), any::<[u32; 5]>(), 0..=999_u16);
    (times, rest, any::<Option<IpAddr>>(), detail()).prop_map(
        |((at, lateness, certificate_expires), (reason, us, http_status), remote, detail)| {
            let [dns_us, connect_us, tls_us, ttfb_us, total_us] = us;
            Probe {
                at,
                lateness,
                reason,
                phases: Phases {
                    dns_us,
                    connect_us,
                    tls_us,
                    ttfb_us,
                    total_us,
                },
                http_status,
                remote,
                certificate_expires,
                detail,
            }
        },
    )
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![
        (slot(), any::<u32>()).prop_map(|(slot, epoch)| Role::Owner {
            slot,
            epoch: Epoch(epoch)
        }),
        any::<u64>().prop_map(|order| Role::Voter {
            order: OrderId(order)
        }),
    ]
}

pub(crate) fn evidence() -> impl Strategy<Value = EvidenceBatch> {
    let ids = any::<[u64; 3]>().prop_map(|[check, endpoint, site]| CheckRef {
        check: CheckId(check),
        endpoint: EndpointId(endpoint),
        site: SiteId(site),
    });
    let probes = (probe(), option::of(probe()));
    let record = (ids, probes, any::<bool>(), role(), option::of(trace())).prop_map(
        |(check, (probe, retry), vantage_healthy, role, trace)| Evidence {
            check,
            probe,
            retry,
            vantage_healthy,
            role,
            trace,
        },
    );
    (any::<(u32, u32, u64)>(), vec(record, 0..6)).prop_map(
        |((agent, incarnation, seq), records)| EvidenceBatch {
            agent: AgentId(agent),
            incarnation: Incarnation(incarnation),
            seq: Seq(seq),
            records,
        },
    )
}

fn check_rollups() -> impl Strategy<Value = Vec<CheckRollup>> {
    let latency = btree_map(0..BUCKETS, 1..=u32::MAX, 0..8);
    let counts = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
    btree_map(any::<u64>(), (any::<u64>(), counts, latency), 0..6).prop_map(|checks| {
        let row = |(check, (endpoint, (due, a, b, lateness_max_ms), latency))| CheckRollup {
            check: CheckId(check),
            endpoint: EndpointId(endpoint),
            due,
            ran: u32::max(a, b),
            ok: u32::min(a, b),
            lateness_max_ms,
            latency: Vec::from_iter::<std::collections::BTreeMap<u8, u32>>(latency),
        };
        checks.into_iter().map(row).collect()
    })
}

pub(crate) fn rollup() -> impl Strategy<Value = RollupBatch> {
    let times = (instant(), instant(), instant());
    let shard = (slot(), any::<u32>(), times, check_rollups()).prop_map(
        |(slot, epoch, (window, a, b), checks)| ShardRollup {
            slot,
            epoch: Epoch(epoch),
            window,
            covered: Interval::new(a.min(b), a.max(b)),
            checks,
        },
    );
    (any::<(u32, u32, u64)>(), vec(shard, 0..4)).prop_map(|((agent, incarnation, seq), shards)| {
        RollupBatch {
            agent: AgentId(agent),
            incarnation: Incarnation(incarnation),
            seq: Seq(seq),
            shards,
        }
    })
}

pub(crate) fn from_agent() -> impl Strategy<Value = FromAgent> {
    let hello = (any::<(u32, u32, u16, u16, u64, u64)>(), "[ -~]{0,40}").prop_map(
        |((agent, incarnation, a, b, evidence, rollup), build)| {
            FromAgent::Hello(Hello {
                agent: AgentId(agent),
                incarnation: Incarnation(incarnation),
                schema_min: a.min(b),
                schema_max: a.max(b),
                build,
                evidence_tail: Seq(evidence),
                rollup_tail: Seq(rollup),
            })
        },
    );
    let renew =
        (instant(), any::<bool>(), any::<u64>()).prop_map(|(sent_at, healthy, spool_bytes)| {
            FromAgent::Renew(Renew {
                sent_at,
                healthy,
                spool_bytes,
            })
        });
    prop_oneof![
        hello,
        renew,
        vec(any::<[u8; 32]>().prop_map(BlobHash), 0..20).prop_map(FromAgent::WantBlobs),
        (any::<u32>(), digest())
            .prop_map(|(generation, held)| FromAgent::Schedule(Schedule { generation, held })),
    ]
}

pub(crate) fn to_agent() -> impl Strategy<Value = ToAgent> {
    let beliefs = (vec(slot(), 0..8), vec(any::<u64>().prop_map(CheckId), 0..8));
    let order = (any::<u64>(), check(), span(), option::of(trace())).prop_map(
        |(order, check, within, trace)| {
            ToAgent::Probe(ProbeOrder {
                order: OrderId(order),
                check,
                within,
                trace,
            })
        },
    );
    prop_oneof![
        option::of(any::<u64>().prop_map(MemberId))
            .prop_map(|leader| ToAgent::NotLeader { leader }),
        (instant(), span()).prop_map(|(renewed_at, ttl)| ToAgent::Lease { renewed_at, ttl }),
        digest().prop_map(ToAgent::Digest),
        beliefs.prop_map(|(slots, failing)| ToAgent::Beliefs(Beliefs { slots, failing })),
        order,
        Just(ToAgent::ResetLive),
        detail().prop_map(|text| ToAgent::Refused(Refusal::Malformed(text))),
    ]
}

pub(crate) fn enrol_request() -> impl Strategy<Value = EnrolRequest> {
    let names = (name(), name(), name(), name());
    ("[ -~]{0,128}", vec(any::<u8>(), 0..500), names).prop_map(
        |(token, csr, (name, region, zone, network))| EnrolRequest {
            token,
            csr,
            name,
            region,
            zone,
            network,
        },
    )
}

pub(crate) fn peer_request() -> impl Strategy<Value = PeerRequest> {
    prop_oneof![
        (any::<u8>(), vec(any::<u8>(), 0..200))
            .prop_map(|(kind, bytes)| PeerRequest::Raft(RaftMessage { kind, bytes })),
        vec(any::<u8>(), 0..200).prop_map(PeerRequest::Propose),
        any::<[u8; 32]>().prop_map(|hash| PeerRequest::Blob(BlobHash(hash))),
    ]
}

pub(crate) fn peer_reply() -> impl Strategy<Value = PeerReply> {
    prop_oneof![
        vec(any::<u8>(), 0..200).prop_map(PeerReply::Proposed),
        option::of(vec(any::<u8>(), 0..200)).prop_map(PeerReply::Blob),
        option::of(any::<u64>().prop_map(MemberId))
            .prop_map(|leader| PeerReply::NotLeader(LeaderHint { leader })),
        detail().prop_map(PeerReply::Failed),
    ]
}

fn live_run() -> impl Strategy<Value = (Cadence, LiveRun)> {
    let exceptions = btree_map(0..400_u32, option::of(reason()), 0..20);
    (
        cadence(),
        any::<u32>(),
        exceptions,
        0..=7_u8,
        vec(any::<u8>(), 50..80),
    )
        .prop_map(|(cadence, first, exceptions, rice, residuals)| {
            let skipped = exceptions.iter().filter(|(_, reason)| reason.is_none());
            let run = LiveRun {
                cadence,
                first: first / 2,
                due: 400,
                skipped: skipped.map(|(&at, _)| at).collect(),
                failed: exceptions
                    .iter()
                    .filter_map(|(&at, &r)| Some((at, r?)))
                    .collect(),
                rice,
                residuals,
            };
            (cadence, run)
        })
}

pub(crate) fn live() -> impl Strategy<Value = LiveSecond> {
    (any::<[u32; 4]>(), vec(live_run(), 0..4)).prop_map(
        |([generation, era, secs, memory], runs)| {
            let runs: std::collections::BTreeMap<_, _> = runs.into_iter().collect();
            let second = Timestamp(i64::from(secs) * 1_000);
            LiveSecond {
                generation,
                era,
                second,
                memory,
                runs: runs.into_values().collect(),
            }
        },
    )
}

pub(crate) fn catalogue() -> impl Strategy<Value = ShardCatalogue> {
    let ids = btree_set(any::<u64>(), 0..12);
    (
        0..=GROUP_MAX,
        0..SHARDS_MAX,
        any::<u64>(),
        ids,
        vec(check(), 12),
    )
        .prop_map(|(group, shard, version, ids, checks)| ShardCatalogue {
            group: GroupId(group),
            shard: ShardId(shard),
            version: CatalogueVersion(version),
            checks: ids
                .into_iter()
                .zip(checks)
                .map(|(id, check)| CheckSpec {
                    id: CheckId(id),
                    ..check
                })
                .collect(),
        })
}
