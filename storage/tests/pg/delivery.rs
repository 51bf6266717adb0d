//! The log of deliveries.

use picket_storage::pg::delivery::{Attempt, DeliveryLog};
use picket_storage::pg::read::Page;
use picket_storage::pg::read::deliveries::DeliveryFilter;
use picket_wire::id::{FactSeq, NotificationGroupId, WebhookId};
use picket_wire::time::{Span, Timestamp};

use crate::support::Server;

fn attempt(fact: u64, attempt: u32) -> Attempt {
    Attempt {
        at: Timestamp(9),
        webhook: WebhookId(1),
        group: NotificationGroupId(fact % 2),
        fact: FactSeq(fact),
        attempt,
        delivered: attempt == 2,
        status: (attempt == 2).then_some(204),
        took: Span(12),
        error: (attempt == 1).then(|| "connection refused".to_owned()),
    }
}

#[tokio::test]
async fn attempts_are_kept_once_and_found_by_filter() {
    let server = Server::start().await;
    let log = DeliveryLog::new(server.pg.clone());
    let all = [attempt(1, 1), attempt(1, 2), attempt(2, 1)];
    log.record(&all).await.unwrap();
    log.record(&all[1..]).await.unwrap();
    let found = async |filter| {
        let listed = server
            .reads()
            .deliveries(filter, Page::first(10))
            .await
            .unwrap();
        listed
            .rows
            .into_iter()
            .map(|row| row.attempt)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        found(DeliveryFilter::default()).await,
        [all[2].clone(), all[1].clone(), all[0].clone()]
    );
    let delivered = DeliveryFilter {
        delivered: Some(true),
        ..DeliveryFilter::default()
    };
    assert_eq!(found(delivered).await, [all[1].clone()]);
    let group = DeliveryFilter {
        group: Some(NotificationGroupId(0)),
        ..DeliveryFilter::default()
    };
    assert_eq!(found(group).await, [all[2].clone()]);
}
