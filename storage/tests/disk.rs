//! What is on disk survives what disks and power do to it.

#[path = "disk/blob.rs"]
#[cfg(feature = "disk")]
mod blob;
#[path = "disk/raft_log.rs"]
#[cfg(feature = "disk")]
mod raft_log;
#[path = "disk/scratch.rs"]
mod scratch;
#[path = "disk/segment.rs"]
mod segment;
#[path = "disk/snapshot.rs"]
#[cfg(feature = "disk")]
mod snapshot;
#[path = "disk/spool.rs"]
mod spool;
