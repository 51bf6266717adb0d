//! Migrations, also by three at once.

use crate::support::Server;

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let server = Server::start_empty().await;
    assert!(server.pg.migrate().await.unwrap() > 0);
    assert_eq!(server.pg.migrate().await.unwrap(), 0);
}

#[tokio::test]
async fn of_three_that_migrate_at_once_one_does_the_work() {
    let server = Server::start_empty().await;
    let pg = &server.pg;
    let (a, b, c) = tokio::join!(pg.migrate(), pg.migrate(), pg.migrate());
    let mut done = [a.unwrap(), b.unwrap(), c.unwrap()];
    done.sort_unstable();
    assert_eq!(done[..2], [0, 0]);
    assert!(done[2] > 0);
}
