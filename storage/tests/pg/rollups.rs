//! Rollups: watermarks, gaps, coverage.

use picket_storage::pg::read::endpoints::EndpointRow;
use picket_storage::pg::rollup::{LaneAck, RollupStore};
use picket_wire::id::{AgentId, EndpointId, Epoch, Incarnation, Seq, ShardSlot, Slot};
use picket_wire::lane::rollup::{CheckRollup, RollupBatch, ShardRollup};
use picket_wire::latency::{bucket, midpoint_us};
use picket_wire::state::State;
use picket_wire::time::{Interval, Timestamp};

use crate::support::{NOW, Server};

const WINDOW_MS: i64 = 300_000;

fn window(endpoint: &EndpointRow, slot: u8, n: i64, part: (i64, i64)) -> ShardRollup {
    let start = Timestamp(NOW.0 + n * WINDOW_MS);
    let at = |ms| Timestamp(start.0 + ms);
    ShardRollup {
        slot: ShardSlot {
            group: endpoint.group,
            shard: endpoint.shard,
            slot: Slot(slot),
        },
        epoch: Epoch(1),
        window: start,
        covered: Interval::new(at(part.0), at(part.1)),
        checks: vec![
            CheckRollup {
                check: endpoint.check,
                endpoint: endpoint.id,
                due: 10,
                ran: 9,
                ok: 8,
                lateness_max_ms: 7,
                latency: vec![(bucket(1_000), 6), (bucket(50_000), 2)],
            },
            CheckRollup {
                check: picket_wire::id::CheckId(u64::MAX),
                endpoint: EndpointId(u64::MAX),
                due: 1,
                ran: 1,
                ok: 1,
                lateness_max_ms: 20,
                latency: vec![(bucket(2_000_000), 1)],
            },
        ],
    }
}

fn batch(agent: u32, seq: u64, shards: Vec<ShardRollup>) -> RollupBatch {
    RollupBatch {
        agent: AgentId(agent),
        incarnation: Incarnation(1),
        seq: Seq(seq),
        shards,
    }
}

fn ack(agent: u32, watermark: u64, gap: Option<u64>) -> LaneAck {
    LaneAck {
        agent: AgentId(agent),
        incarnation: Incarnation(1),
        watermark: Seq(watermark),
        gap: gap.map(Seq),
    }
}

fn always() -> Interval {
    Interval::new(Timestamp(0), Timestamp::MAX)
}

#[tokio::test]
async fn batches_count_once_and_gaps_wait() {
    let server = Server::start().await;
    let endpoint = &server.with_endpoints(1, 1).await[0];
    let store = RollupStore::new(server.pg.clone());
    let full = (0, WINDOW_MS);
    let one = batch(1, 1, vec![window(endpoint, 0, 0, full)]);
    let two = batch(1, 2, vec![window(endpoint, 0, 1, full)]);
    let four = batch(1, 4, vec![window(endpoint, 0, 3, full)]);
    let other = batch(2, 1, vec![window(endpoint, 1, 0, full)]);

    let acks = store
        .store(&[one.clone(), two.clone(), four.clone(), other.clone()])
        .await
        .unwrap();
    assert_eq!(acks, [ack(1, 2, Some(4)), ack(2, 1, None)]);
    let again = store.store(&[one, two, other]).await.unwrap();
    assert_eq!(again, [ack(1, 2, None), ack(2, 1, None)]);
    assert_eq!(
        store.watermark(AgentId(1), Incarnation(1)).await.unwrap(),
        Seq(2)
    );
    assert_eq!(
        store.watermark(AgentId(1), Incarnation(2)).await.unwrap(),
        Seq(0)
    );

    let windows = server
        .reads()
        .endpoint_windows(endpoint.id, always())
        .await
        .unwrap()
        .unwrap();
    let seen: Vec<_> = windows
        .windows
        .iter()
        .map(|w| (w.window.0 - NOW.0, w.slot.0, w.due))
        .collect();
    assert_eq!(seen, [(0, 0, 10), (0, 1, 10), (WINDOW_MS, 0, 10)]);

    let three = batch(1, 3, vec![window(endpoint, 0, 2, full)]);
    assert_eq!(
        store.store(&[three, four]).await.unwrap(),
        [ack(1, 4, None)]
    );
}

#[tokio::test]
async fn windows_tell_of_the_endpoint_or_of_its_whole_shard() {
    let server = Server::start().await;
    let endpoint = &server.with_endpoints(1, 1).await[0];
    let shards = vec![
        window(endpoint, 0, 0, (0, WINDOW_MS)),
        window(endpoint, 0, 1, (0, 100)),
    ];
    RollupStore::new(server.pg.clone())
        .store(&[batch(1, 1, shards)])
        .await
        .unwrap();
    let reads = server.reads();

    let of_endpoint = reads
        .endpoint_windows(endpoint.id, always())
        .await
        .unwrap()
        .unwrap();
    let of_shard = reads
        .shard_windows(endpoint.group, endpoint.shard, always())
        .await
        .unwrap();
    let figures =
        |w: &picket_storage::pg::read::coverage::WindowRow| (w.due, w.ran, w.ok, w.lateness_max_ms);
    assert_eq!(
        of_endpoint.windows.iter().map(figures).collect::<Vec<_>>(),
        [(10, 9, 8, 7); 2]
    );
    assert_eq!(
        of_shard.windows.iter().map(figures).collect::<Vec<_>>(),
        [(11, 10, 9, 20); 2]
    );
    assert!(!of_shard.cut);

    let late = Interval::new(Timestamp(NOW.0 + WINDOW_MS + 100), Timestamp::MAX);
    let after = reads
        .shard_windows(endpoint.group, endpoint.shard, late)
        .await
        .unwrap();
    assert_eq!(after.windows, [], "its covered part ends before");
    assert_eq!(
        reads
            .endpoint_windows(EndpointId(99), always())
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn coverage_is_the_union_of_what_was_watched_and_joins_in_place() {
    let server = Server::start().await;
    let endpoint = &server.with_endpoints(1, 1).await[0];
    let store = RollupStore::new(server.pg.clone());
    let full = (0, WINDOW_MS);
    for n in 0..20 {
        let shards = vec![window(endpoint, 0, n, full)];
        store
            .store(&[batch(1, n.unsigned_abs() + 1, shards)])
            .await
            .unwrap();
    }
    // A gap, then two that touch within one batch, then what fills the gap but for its end.
    let pieces = vec![
        window(endpoint, 0, 22, (50, 90)),
        window(endpoint, 0, 22, (90, 200)),
    ];
    store.store(&[batch(1, 21, pieces)]).await.unwrap();
    store
        .store(&[batch(1, 22, vec![window(endpoint, 0, 20, (0, 10))])])
        .await
        .unwrap();

    let range = Interval::new(Timestamp(NOW.0 + 5), Timestamp::MAX);
    let covered = server
        .reads()
        .endpoint_covered(endpoint.id, range)
        .await
        .unwrap()
        .unwrap();
    let stretches: Vec<_> = covered
        .iter()
        .map(|c| (c.covered.from.0 - NOW.0, c.covered.until.0 - NOW.0))
        .collect();
    let start = 22 * WINDOW_MS;
    assert_eq!(
        stretches,
        [(5, 20 * WINDOW_MS + 10), (start + 50, start + 200)]
    );
}

#[tokio::test]
async fn an_endpoint_is_up_only_once_its_shard_was_watched() {
    let server = Server::start().await;
    let endpoints = server.with_endpoints(40, 4).await;
    let seen = &endpoints[0];
    let store = RollupStore::new(server.pg.clone());
    store
        .store(&[batch(1, 1, vec![window(seen, 0, 0, (0, 60_000))])])
        .await
        .unwrap();

    let reads = server.reads();
    let row = reads.endpoint(seen.id).await.unwrap().unwrap().0;
    assert_eq!(
        (row.state, row.observed_until),
        (State::Up, Some(Timestamp(NOW.0 + 60_000)))
    );
    assert_eq!(
        reads.site(seen.site).await.unwrap().unwrap().state,
        State::Up
    );
    let up = endpoints.iter().filter(|e| e.shard == seen.shard).count() as u64;
    let counts = reads.counts_by_state().await.unwrap();
    assert_eq!((counts[&State::Up], counts[&State::Unknown]), (up, 40 - up));

    // One that is made after the watching ended is unknown again.
    let later = Timestamp(NOW.0 + 60_000);
    let rows: Vec<_> = (40..80)
        .map(|n| crate::support::endpoint("later", n))
        .collect();
    server.catalogue().import(&rows, later).await.unwrap();
    assert_eq!(reads.counts_by_state().await.unwrap()[&State::Up], up);
}

#[tokio::test]
async fn latency_sketches_add_up_over_windows_and_slots() {
    let server = Server::start().await;
    let endpoint = &server.with_endpoints(1, 1).await[0];
    let shards = (0..10)
        .flat_map(|n| [0, 1].map(|slot| window(endpoint, slot, n, (0, WINDOW_MS))))
        .collect();
    RollupStore::new(server.pg.clone())
        .store(&[batch(1, 1, shards)])
        .await
        .unwrap();
    let reads = server.reads();

    let sketch = reads.endpoint_latency(endpoint.id, always()).await.unwrap();
    let found = sketch.percentiles().unwrap();
    let close =
        |value: u64, bucket: u8| value.abs_diff(u64::from(midpoint_us(bucket))) * 100 <= value;
    assert_eq!(found.count, 20 * 8);
    assert!(close(found.p50_us, bucket(1_000)), "{found:?}");
    assert!(close(found.p99_us, bucket(50_000)), "{found:?}");

    let shard = reads
        .shard_latency(endpoint.group, endpoint.shard, always())
        .await
        .unwrap();
    assert_eq!(shard.count(), 20 * 9);
    let two = Interval::new(Timestamp(NOW.0), Timestamp(NOW.0 + 2 * WINDOW_MS));
    assert_eq!(
        reads
            .endpoint_latency(endpoint.id, two)
            .await
            .unwrap()
            .count(),
        2 * 2 * 8
    );
    assert_eq!(
        reads
            .endpoint_latency(EndpointId(99), always())
            .await
            .unwrap()
            .count(),
        0
    );
}
