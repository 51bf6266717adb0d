//! Postgres goes away and comes back.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use picket_storage::pg::private::{Fsync, PrivateError, PrivatePostgres};
use picket_storage::pg::{Hold, Pg, PgSettings};
use picket_wire::id::CatalogueVersion;

use crate::support::{NOW, ScratchDir, Server, endpoint};

#[tokio::test]
async fn a_pool_outlives_its_server() {
    let server = Server::start().await;
    server
        .catalogue()
        .import(&[endpoint("site", 1)], NOW)
        .await
        .unwrap();
    let server = server
        .restart(async |pg: Pg| {
            let error = pg.ping().await.unwrap_err();
            assert!(error.is_retryable(), "{error:?}");
            assert_eq!(error.hold(), Hold::Away);
        })
        .await;
    let changes = server
        .catalogue()
        .changes_since(CatalogueVersion(0))
        .await
        .unwrap();
    assert_eq!(changes.len(), 1);
}

#[tokio::test]
async fn a_server_that_never_was_is_away_and_not_a_reason_to_fail_at_start() {
    let pg = Pg::connect(&PgSettings::new("host=/nonexistent user=picket")).unwrap();
    let error = pg.migrate().await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    for nonsense in ["host=a nonsense=b", "", "user=picket dbname=picket"] {
        let error = Pg::connect(&PgSettings::new(nonsense)).unwrap_err();
        assert_eq!(error.hold(), Hold::Refused, "{nonsense:?}");
    }
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_cut_and_may_be_repeated() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    let held = raw.transaction().await.unwrap();
    held.batch_execute("LOCK TABLE catalogue_head IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let error = server
        .catalogue()
        .import(&[endpoint("site", 1)], NOW)
        .await
        .unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    held.rollback().await.unwrap();
    server
        .catalogue()
        .import(&[endpoint("site", 1)], NOW)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_a_killed_owner_left_running_is_stopped_and_taken_over() {
    let dir = ScratchDir::new();
    let left_behind = PrivatePostgres::start(&dir.0, Fsync::Off).await.unwrap();
    let pid = left_behind.pid();
    // The second start stops the first as if its owner had gone.
    let second = PrivatePostgres::start(&dir.0, Fsync::Off).await.unwrap();
    assert_ne!(second.pid(), pid);
    Pg::connect(&second.settings())
        .unwrap()
        .ping()
        .await
        .unwrap();
    drop(left_behind);
    Pg::connect(&second.settings())
        .unwrap()
        .ping()
        .await
        .unwrap();
    second.stop().await.unwrap();
}

#[tokio::test]
async fn what_was_killed_while_it_made_the_database_is_made_anew() {
    let dir = ScratchDir::new();
    let half_made = dir.0.join("data.new");
    std::fs::create_dir_all(&half_made).unwrap();
    std::fs::write(half_made.join("PG_VERSION"), "15\n").unwrap();
    let postgres = PrivatePostgres::start(&dir.0, Fsync::Off).await.unwrap();
    assert!(!half_made.exists());
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn the_private_server_has_no_tcp_and_a_socket_for_its_owner_alone() {
    let server = Server::start_empty().await;
    let row = server
        .raw()
        .await
        .query_one("SHOW listen_addresses", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, String>(0), "");
    let row = server
        .raw()
        .await
        .query_one("SHOW unix_socket_directories", &[])
        .await
        .unwrap();
    let socket = std::path::Path::new(&row.get::<_, String>(0)).join(".s.PGSQL.5432");
    let mode = std::fs::metadata(socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn a_socket_path_that_is_too_long_is_named() {
    let dir = ScratchDir::new();
    let deep = dir.0.join("d".repeat(100));
    let refused = PrivatePostgres::start(&deep, Fsync::Off).await;
    assert!(
        matches!(refused, Err(PrivateError::SocketPath { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_killed_server_is_noticed_by_its_owner() {
    let dir = ScratchDir::new();
    let mut postgres = PrivatePostgres::start(&dir.0, Fsync::Off).await.unwrap();
    let pid = rustix::process::Pid::from_raw(postgres.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), postgres.ended()).await;
    assert!(!ended.unwrap().unwrap().success());
}
