//! The regional probe agent: small, dials out only, listens on nothing.
//!
//! Decisions are `picket-agent-core`'s; here is what touches the world. Start reading at
//! [`agent`], the one loop that owns the core; then `uplink` (schedulers), `spool` and `cache`
//! (disk) and [`check`] (targets).

pub mod agent;
pub mod cache;
pub mod check;
pub mod config;
pub mod dial;
pub mod enrol;
mod prober;
mod reference;
pub mod resolve;
pub mod spool;
pub mod telemetry;
mod uplink;
