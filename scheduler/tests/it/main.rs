//! A scheduler of three members in one process, over real QUIC on loopback and real files.
//!
//! Postgres is away in all of these: watching, deciding and enrolling must not need it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agent;
mod cluster;
mod enrolment;
mod evidence;
mod failover;
