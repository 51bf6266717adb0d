//! What is kept in Postgres, against a real server that each test starts for itself.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;
