//! How fast the catalogue is imported, facts are projected and lists are read, beside a bare COPY.
//!
//! `cargo run --release -p picket-storage --features server --example pg_rates -- [endpoints]`
//! starts a private Postgres with fsync on, so figures include what durability costs. The reference
//! in the same run is a COPY of the same transitions, in transactions of the same size, into a
//! table without indexes: what this Postgres on this machine can take at best.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement prints its figures and fails where it cannot go on"
)]

use std::pin::pin;
use std::time::{Duration, Instant};

use picket_storage::pg::catalogue::{Catalogue, NewEndpoint};
use picket_storage::pg::private::{Fsync, PrivatePostgres};
use picket_storage::pg::projector::Projector;
use picket_storage::pg::read::endpoints::{EndpointFilter, EndpointRow};
use picket_storage::pg::read::{Page, Reads};
use picket_storage::pg::rollup::RollupStore;
use picket_storage::pg::{Pg, PgSettings};
use picket_wire::check::http::HttpSpec;
use picket_wire::check::{Cadence, CheckKind};
use picket_wire::evidence::CheckRef;
use picket_wire::fact::{Fact, FactBody, Transition};
use picket_wire::id::{
    AgentId, CatalogueVersion, Epoch, FactSeq, GroupId, Incarnation, Seq, ShardSlot, Slot,
};
use picket_wire::lane::rollup::{CheckRollup, RollupBatch, ShardRollup};
use picket_wire::reason::Reason;
use picket_wire::state::State;
use picket_wire::time::{Interval, Span, Timestamp};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

const SHARDS: u32 = 4_096;
/// Facts in one transaction, as the projector gets them in a storm.
const BATCH: usize = 5_000;
/// Transitions that are measured.
const TRANSITIONS: usize = 400_000;
/// Rows read back at most, a page each.
const PAGE: u32 = 1_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let count = std::env::args()
        .nth(1)
        .map_or(100_000, |n| n.parse().unwrap());
    let dir = std::env::temp_dir().join(format!("picket-rates-{}", std::process::id()));
    let server = PrivatePostgres::start(&dir, Fsync::On).await.unwrap();
    let settings = PgSettings {
        statement_timeout: Duration::from_secs(60),
        ..server.settings()
    };
    let pg = Pg::connect(&settings).unwrap();
    pg.migrate().await.unwrap();

    import(&pg, count).await;
    let endpoints = endpoints(&pg).await;
    shards(&pg).await;
    reference(&server.url(), &endpoints).await;
    project(&pg, &endpoints).await;
    rollups(&pg).await;
    lists(&pg).await;

    server.stop().await.unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

fn tell(what: &str, n: usize, took: Duration) {
    let rate = n as f64 / took.as_secs_f64();
    println!(
        "{what:<44} {n:>9} in {:>8.3} s  {rate:>11.0} /s",
        took.as_secs_f64()
    );
}

fn new_endpoint(n: usize) -> NewEndpoint {
    let http = HttpSpec::plain(
        true,
        format!("www{n}.customer-{}.example", n / 7),
        443,
        format!("/health?n={n}"),
    );
    NewEndpoint {
        site: format!("customer-{}", n / 7),
        group: GroupId(1),
        cadence: Cadence::from_secs(300).unwrap(),
        timeout: Span::from_secs(10),
        labels: vec![format!("tier-{}", n % 3).parse().unwrap()],
        kind: CheckKind::Http(http),
    }
}

async fn import(pg: &Pg, count: usize) {
    let rows: Vec<_> = (0..count).map(new_endpoint).collect();
    let catalogue = Catalogue::new(pg.clone(), SHARDS);
    for what in ["import of new endpoints", "import of the same again"] {
        let began = Instant::now();
        catalogue.import(&rows, Timestamp(0)).await.unwrap();
        tell(what, count, began.elapsed());
    }
}

/// Some endpoints, spread over the catalogue.
async fn endpoints(pg: &Pg) -> Vec<EndpointRow> {
    let reads = Reads::new(pg.clone());
    let (mut found, mut page) = (Vec::new(), Page::first(PAGE));
    loop {
        let listed = reads
            .endpoints(&EndpointFilter::default(), page)
            .await
            .unwrap();
        found.extend(listed.rows);
        match listed.next {
            Some(next) if found.len() < TRANSITIONS => page.after = Some(next),
            _ => return found,
        }
    }
}

async fn shards(pg: &Pg) {
    let catalogue = Catalogue::new(pg.clone(), SHARDS);
    let began = Instant::now();
    let changes = catalogue.changes_since(CatalogueVersion(0)).await.unwrap();
    let wanted: Vec<_> = changes
        .iter()
        .map(|change| (change.group, change.shard))
        .collect();
    let mut checks = 0;
    for some in wanted.chunks(256) {
        checks += catalogue
            .shards_checks(some)
            .await
            .unwrap()
            .iter()
            .map(|s| s.checks.len())
            .sum::<usize>();
    }
    tell("checks read by shard", checks, began.elapsed());
}

fn transitions(endpoints: &[EndpointRow]) -> Vec<Fact> {
    (0..TRANSITIONS)
        .map(|n| {
            // Strides through the catalogue, so that neighbours in a batch are not neighbours in it.
            let endpoint = &endpoints[n * 7_919 % endpoints.len()];
            let check = CheckRef {
                check: endpoint.check,
                endpoint: endpoint.id,
                site: endpoint.site,
            };
            let (from, to) = if n < TRANSITIONS / 2 {
                (State::Up, State::Down)
            } else {
                (State::Down, State::Up)
            };
            let at = Timestamp(i64::try_from(n).unwrap());
            let reason = Some(Reason::ConnectRefused);
            let body = Transition {
                check,
                from,
                to,
                at,
                reason,
                incident: None,
            };
            Fact {
                seq: FactSeq(n as u64 + 1),
                at,
                body: FactBody::Transition(body),
            }
        })
        .collect()
}

async fn reference(url: &str, endpoints: &[EndpointRow]) {
    let (mut client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
        .batch_execute("CREATE TABLE bare (seq bigint, at bigint, endpoint bigint, state smallint)")
        .await
        .unwrap();
    let facts = transitions(endpoints);
    let began = Instant::now();
    for batch in facts.chunks(BATCH) {
        let tx = client.transaction().await.unwrap();
        let sink = tx.copy_in("COPY bare FROM STDIN BINARY").await.unwrap();
        let types = [Type::INT8, Type::INT8, Type::INT8, Type::INT2];
        let mut copy = pin!(BinaryCopyInWriter::new(sink, &types));
        for fact in batch {
            let FactBody::Transition(body) = &fact.body else {
                continue;
            };
            let (seq, endpoint) = (
                fact.seq.0.cast_signed(),
                body.check.endpoint.0.cast_signed(),
            );
            copy.as_mut()
                .write(&[&seq, &body.at.0, &endpoint, &body.to.code()])
                .await
                .unwrap();
        }
        copy.finish().await.unwrap();
        tx.commit().await.unwrap();
    }
    tell(
        "reference: bare COPY of transitions",
        facts.len(),
        began.elapsed(),
    );
}

async fn project(pg: &Pg, endpoints: &[EndpointRow]) {
    let projector = Projector::new(pg.clone(), SHARDS);
    let facts = transitions(endpoints);
    let (down, up) = facts.split_at(TRANSITIONS / 2);
    for (what, facts) in [
        ("transitions up to down", down),
        ("transitions down to up", up),
    ] {
        let began = Instant::now();
        for batch in facts.chunks(BATCH) {
            projector.apply(batch).await.unwrap();
        }
        tell(what, facts.len(), began.elapsed());
    }
}

async fn rollups(pg: &Pg) {
    let catalogue = Catalogue::new(pg.clone(), SHARDS);
    let changes = catalogue.changes_since(CatalogueVersion(0)).await.unwrap();
    let wanted: Vec<_> = changes
        .iter()
        .map(|change| (change.group, change.shard))
        .collect();
    let (mut batches, mut checks) = (Vec::new(), 0);
    for some in wanted.chunks(64) {
        let shards = catalogue.shards_checks(some).await.unwrap();
        checks += shards.iter().map(|shard| shard.checks.len()).sum::<usize>();
        let shards = shards.iter().map(|shard| ShardRollup {
            slot: ShardSlot {
                group: shard.group,
                shard: shard.shard,
                slot: Slot(0),
            },
            epoch: Epoch(1),
            window: Timestamp(0),
            covered: Interval::new(Timestamp(0), Timestamp(300_000)),
            checks: shard
                .checks
                .iter()
                .map(|check| CheckRollup {
                    check: check.id,
                    endpoint: check.endpoint,
                    due: 1,
                    ran: 1,
                    ok: 1,
                    lateness_max_ms: 1,
                    latency: vec![(u8::try_from(80 + check.id.0 % 40).unwrap(), 1)],
                })
                .collect(),
        });
        let seq = Seq(batches.len() as u64 + 1);
        batches.push(RollupBatch {
            agent: AgentId(1),
            incarnation: Incarnation(1),
            seq,
            shards: shards.collect(),
        });
    }
    let store = RollupStore::new(pg.clone());
    let began = Instant::now();
    for some in batches.chunks(8) {
        store.store(some).await.unwrap();
    }
    tell("checks rolled up over one window", checks, began.elapsed());
}

async fn lists(pg: &Pg) {
    let reads = Reads::new(pg.clone());
    let filters = [
        ("first page", EndpointFilter::default()),
        (
            "text in the URL",
            EndpointFilter {
                text: Some("www777.".to_owned()),
                ..EndpointFilter::default()
            },
        ),
        (
            "label",
            EndpointFilter {
                labels: vec!["tier-1".parse().unwrap()],
                ..EndpointFilter::default()
            },
        ),
        (
            "state down",
            EndpointFilter {
                states: vec![State::Down],
                ..EndpointFilter::default()
            },
        ),
        (
            "state up",
            EndpointFilter {
                states: vec![State::Up],
                ..EndpointFilter::default()
            },
        ),
    ];
    for (what, filter) in filters {
        let began = Instant::now();
        let n = reads
            .endpoints(&filter, Page::first(100))
            .await
            .unwrap()
            .rows
            .len();
        tell(&format!("list: {what}"), n, began.elapsed());
    }
    let began = Instant::now();
    let counts = reads.counts_by_state().await.unwrap();
    tell("counts by state", counts.len(), began.elapsed());
}
