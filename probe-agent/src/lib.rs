//! The regional probe agent: small, dials out only, listens on nothing.
//!
//! Decisions are `picket-agent-core`'s; here is what touches the world. Start reading at
//! `agent`, the one loop that owns the core; then `uplink` (schedulers) and `check` (targets).

pub mod check;
pub mod dial;
pub mod resolve;
