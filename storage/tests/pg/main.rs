//! What is kept in Postgres, against a real server that each test starts for itself.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test that cannot go on fails, and its name says what it is for"
)]

mod catalogue;
mod delivery;
mod history;
mod migrations;
mod outage;
mod rollups;
mod support;
