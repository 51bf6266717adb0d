//! What Picket keeps: Raft log and snapshot, spool, blob cache, Postgres.
//!
//! Comes in: opaque bytes (and, for Postgres, facts and rollups) from one owner each. Goes out:
//! the same bytes, or a typed error that names file and offset. Never here: what the bytes mean,
//! who may send them, and any retry after a failed sync.
//!
//! Everything on disk but the cache stands on one thing, the [`segment`] log. All of it is
//! blocking `std::fs` behind `&mut self`: the owner is one thread or one blocking task, and
//! decides when a sync is worth its price.

mod checksum;
mod durable;
mod slots;

pub mod segment;
pub mod spool;

#[cfg(feature = "disk")]
pub mod blob;
#[cfg(feature = "server")]
pub mod pg;
#[cfg(feature = "disk")]
pub mod raft_log;
#[cfg(feature = "disk")]
pub mod snapshot;

pub use durable::{Damage, FileFault, UnsealError};
