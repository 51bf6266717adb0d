//! What the scheduler decides: the replicated machine, and what its leader needs to drive it.
//!
//! Comes in: log entries with the leader's time in them, and plain values that describe the mesh
//! (who is alive, what is assigned, what was covered). Goes out: replies, numbered facts, moves,
//! choices, figures. Never here: sockets, files, a clock, randomness, floating point, or a map
//! whose order differs between replicas. The same input gives the same output on every machine
//! and in every build that speaks the same snapshot format.
//!
//! Replicated: [`machine`] with [`state`], [`command`], [`verdict`], [`incident`], [`cause`].
//! Leader memory: [`lease`], [`confirm`], [`placement`], [`digest`]. Questions: [`admission`],
//! [`coverage`], [`sla`], [`maintenance`], [`rollup`], [`invariant`].

#![warn(
    clippy::iter_over_hash_type,
    clippy::float_arithmetic,
    clippy::wildcard_enum_match_arm
)]

pub mod admission;
pub mod cause;
pub mod command;
pub mod confirm;
pub mod coverage;
pub mod digest;
pub mod incident;
pub mod interval_set;
pub mod invariant;
pub mod lease;
pub mod machine;
pub mod maintenance;
pub mod placement;
pub mod reply;
pub mod rollup;
pub mod sla;
pub mod snapshot;
pub mod state;
pub mod verdict;

pub use crate::command::Command;
pub use crate::machine::{Entry, Machine};
pub use crate::reply::Reply;

#[cfg(test)]
mod testing;
