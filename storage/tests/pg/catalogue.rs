//! The catalogue: imports, edits, the feed of changes.

use std::collections::BTreeSet;

use picket_storage::pg::catalogue::{Catalogue, Edit, ImportError, Imported};
use picket_storage::pg::projector::Projector;
use picket_storage::pg::read::Page;
use picket_storage::pg::read::endpoints::EndpointFilter;
use picket_wire::check::{Cadence, CheckKind};
use picket_wire::dispersal::shard_of;
use picket_wire::fact::FactBody;
use picket_wire::id::{CatalogueVersion, EndpointId, GroupId};
use picket_wire::state::State;
use picket_wire::time::{Interval, Span, Timestamp};

use crate::support::{NOW, SHARDS, Server, check_ref, endpoint, numbered, transition};

#[tokio::test]
async fn ten_thousand_endpoints_are_imported_once_and_spread_by_hash() {
    let server = Server::start().await;
    let catalogue = server.catalogue();
    let rows: Vec<_> = (0..10_000)
        .map(|n| endpoint(&format!("site-{}", n % 100), n))
        .collect();

    let first = catalogue.import(&rows, NOW).await.unwrap();
    assert_eq!(
        (
            first.created,
            first.changed,
            first.unchanged,
            first.repeated
        ),
        (10_000, 0, 0, 0)
    );
    let again = catalogue.import(&rows, NOW).await.unwrap();
    assert_eq!(
        (
            again.created,
            again.changed,
            again.unchanged,
            again.repeated
        ),
        (0, 0, 10_000, 0)
    );
    assert_eq!(catalogue.changes_since(first.version).await.unwrap(), []);

    let changed = catalogue.changes_since(CatalogueVersion(0)).await.unwrap();
    assert_eq!(changed.len(), SHARDS as usize);
    let wanted: Vec<_> = changed
        .iter()
        .map(|change| (change.group, change.shard))
        .collect();
    let shards = catalogue.shards_checks(&wanted).await.unwrap();
    let mut seen = BTreeSet::new();
    for (shard, change) in shards.iter().zip(&changed) {
        assert_eq!((shard.shard, shard.version), (change.shard, first.version));
        for check in &shard.checks {
            assert_eq!(check.validate(), Ok(()));
            assert_eq!(shard_of(check.endpoint, SHARDS), shard.shard);
            assert!(seen.insert(check.id));
        }
    }
    assert_eq!(seen.len(), 10_000);
}

#[tokio::test]
async fn a_check_reads_back_as_it_was_imported() {
    let server = Server::start().await;
    let mut new = endpoint("site", 1);
    let CheckKind::Http(http) = &mut new.kind;
    (http.port, http.body_contains, http.status_max) =
        (8443, Some("it's \"fine\"".to_owned()), 204);
    server
        .catalogue()
        .import(std::slice::from_ref(&new), NOW)
        .await
        .unwrap();
    let row = server
        .reads()
        .endpoint(EndpointId(1))
        .await
        .unwrap()
        .unwrap();
    let (row, checks) = row;
    assert_eq!(
        (row.url.as_str(), row.site_name.as_str()),
        ("https://h1.example.org:8443/", "site")
    );
    assert_eq!((checks.len(), &checks[0].kind), (1, &new.kind));
    assert_eq!(
        (checks[0].cadence, checks[0].timeout),
        (new.cadence, new.timeout)
    );
    assert_eq!(
        server.catalogue().check(row.check).await.unwrap().as_ref(),
        Some(&checks[0])
    );
}

#[tokio::test]
async fn the_last_of_equal_rows_wins_and_only_its_shard_changes() {
    let server = Server::start().await;
    let catalogue = server.catalogue();
    let rows: Vec<_> = (0..50).map(|n| endpoint("site", n)).collect();
    let first = catalogue.import(&rows, NOW).await.unwrap();

    let slower = |secs| {
        let mut row = endpoint("site", 7);
        row.cadence = Cadence::from_secs(secs).unwrap();
        row
    };
    let second = catalogue
        .import(&[slower(60), slower(600)], NOW)
        .await
        .unwrap();
    let counts = Imported {
        changed: 1,
        repeated: 1,
        version: second.version,
        ..Imported::default()
    };
    assert_eq!(second, counts);
    let changed = catalogue.changes_since(first.version).await.unwrap();
    assert_eq!(changed.len(), 1);
    let shard = catalogue
        .shard_checks(changed[0].group, changed[0].shard)
        .await
        .unwrap();
    let cadences: Vec<_> = shard
        .checks
        .iter()
        .filter(|check| check.cadence.secs() == 600)
        .collect();
    assert_eq!(cadences.len(), 1);
}

#[tokio::test]
async fn labels_change_nothing_for_agents_and_a_group_changes_two_shards() {
    let server = Server::start().await;
    let catalogue = server.catalogue();
    let first = catalogue
        .import(&[endpoint("site", 1), endpoint("site", 2)], NOW)
        .await
        .unwrap();

    let mut row = endpoint("site", 1);
    row.labels.push("gold".parse().unwrap());
    let labelled = catalogue
        .import(std::slice::from_ref(&row), NOW)
        .await
        .unwrap();
    assert_eq!(labelled.changed, 1);
    assert_eq!(catalogue.changes_since(first.version).await.unwrap(), []);

    row.group = GroupId(2);
    catalogue.import(&[row], NOW).await.unwrap();
    let changed = catalogue.changes_since(first.version).await.unwrap();
    let groups: Vec<_> = changed.iter().map(|change| change.group).collect();
    assert_eq!(groups, [GroupId(1), GroupId(2)]);
    let old = catalogue
        .shard_checks(GroupId(1), changed[0].shard)
        .await
        .unwrap();
    let new = catalogue
        .shard_checks(GroupId(2), changed[0].shard)
        .await
        .unwrap();
    assert!(
        old.checks
            .iter()
            .all(|check| check.endpoint != new.checks[0].endpoint)
    );
    let counts = server.reads().counts_by_state().await.unwrap();
    assert_eq!(counts[&State::Unknown], 2);
}

#[tokio::test]
async fn a_bad_row_or_another_number_of_shards_imports_nothing() {
    let server = Server::start().await;
    let catalogue = server.catalogue();
    let mut bad = endpoint("site", 2);
    bad.timeout = Span::from_secs(3_600);
    let refused = catalogue.import(&[endpoint("site", 1), bad], NOW).await;
    assert!(
        matches!(refused, Err(ImportError::Row { row: 1, .. })),
        "{refused:?}"
    );
    let mut nameless = endpoint("", 2);
    nameless.site.clear();
    assert!(nameless.validate().is_err());

    catalogue.import(&[endpoint("site", 1)], NOW).await.unwrap();
    let other = Catalogue::new(server.pg.clone(), SHARDS * 2);
    let refused = other.import(&[endpoint("site", 2)], NOW).await;
    assert!(
        matches!(refused, Err(ImportError::Shards { stored: SHARDS, .. })),
        "{refused:?}"
    );
    let all = server
        .reads()
        .endpoints(&EndpointFilter::default(), Page::first(10))
        .await
        .unwrap();
    assert_eq!(all.rows.len(), 1);
}

#[tokio::test]
async fn pausing_and_deleting_take_an_endpoint_out_of_its_shard_and_its_site() {
    let server = Server::start().await;
    let (catalogue, reads) = (server.catalogue(), server.reads());
    let rows = server.with_endpoints(2, 2).await;
    let down = &rows[0];
    let projector = Projector::new(server.pg.clone(), SHARDS);
    let body = transition(check_ref(down), State::Up, State::Down, 5);
    projector
        .apply(&numbered([FactBody::Transition(body)]))
        .await
        .unwrap();
    let site_state = || async { reads.site(down.site).await.unwrap().unwrap().state };
    assert_eq!(site_state().await, State::Down);

    let Edit::Done(version) = catalogue.pause(down.id, NOW).await.unwrap() else {
        panic!("the endpoint exists and was not paused");
    };
    assert_eq!(
        catalogue.pause(down.id, NOW).await.unwrap(),
        Edit::Unchanged
    );
    let shard = catalogue
        .shard_checks(down.group, down.shard)
        .await
        .unwrap();
    assert_eq!(shard.version, version);
    assert!(shard.checks.iter().all(|check| check.endpoint != down.id));
    assert_eq!(
        reads.endpoint(down.id).await.unwrap().unwrap().0.state,
        State::Paused
    );
    assert_eq!(site_state().await, State::Unknown);

    assert!(matches!(
        catalogue.resume(down.id, NOW).await.unwrap(),
        Edit::Done(_)
    ));
    assert_eq!(site_state().await, State::Down);

    assert!(matches!(
        catalogue.delete(down.id).await.unwrap(),
        Edit::Done(_)
    ));
    assert_eq!(catalogue.delete(down.id).await.unwrap(), Edit::NotFound);
    assert_eq!(site_state().await, State::Unknown);
    assert_eq!(reads.endpoint(down.id).await.unwrap(), None);
    let counts = reads.counts_by_state().await.unwrap();
    assert_eq!(
        counts.into_iter().collect::<Vec<_>>(),
        [(State::Unknown, 1)]
    );
    let range = Interval::new(Timestamp(0), Timestamp::MAX);
    assert_eq!(
        reads
            .timeline(down.id, range)
            .await
            .unwrap()
            .transitions
            .len(),
        1,
        "history stays"
    );
}

#[tokio::test]
async fn lists_are_filtered_and_paged_without_loss() {
    let server = Server::start().await;
    let rows = server.with_endpoints(95, 10).await;
    let reads = server.reads();

    let mut paged = Vec::new();
    let mut page = Page::first(10);
    loop {
        let listed = reads
            .endpoints(&EndpointFilter::default(), page)
            .await
            .unwrap();
        paged.extend(listed.rows);
        match listed.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    assert_eq!(paged, rows);

    let urls = |filter: EndpointFilter| {
        let reads = reads.clone();
        async move {
            let listed = reads.endpoints(&filter, Page::first(1_000)).await.unwrap();
            listed
                .rows
                .into_iter()
                .map(|row| row.url)
                .collect::<Vec<_>>()
        }
    };
    let text = EndpointFilter {
        text: Some("H93.EXAMPLE".to_owned()),
        ..EndpointFilter::default()
    };
    assert_eq!(urls(text).await, ["https://h93.example.org/"]);
    let wildcard = EndpointFilter {
        text: Some("h%".to_owned()),
        ..EndpointFilter::default()
    };
    assert_eq!(urls(wildcard).await, Vec::<String>::new());
    let labels = vec!["all".parse().unwrap(), "mod-3".parse().unwrap()];
    assert_eq!(
        urls(EndpointFilter {
            labels,
            ..EndpointFilter::default()
        })
        .await
        .len(),
        10
    );
    let site = EndpointFilter {
        site: Some(rows[94].site),
        ..EndpointFilter::default()
    };
    assert_eq!(urls(site).await.len(), 5);
    let states = EndpointFilter {
        states: vec![State::Down],
        ..EndpointFilter::default()
    };
    assert_eq!(urls(states).await.len(), 0);
}
