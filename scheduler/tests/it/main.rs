//! A scheduler of three members in one process, over real QUIC on loopback and real files.
//!
//! Postgres is away in all of these: watching, deciding and enrolling must not need it.

mod agent;
mod cluster;
mod enrolment;
mod evidence;
mod failover;
