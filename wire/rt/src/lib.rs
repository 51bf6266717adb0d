//! How Picket's processes run and talk: tasks, stop, clock, telemetry, settings, identity, QUIC.
//!
//! Comes in: files, signals, sockets, certificates of strangers. Goes out: values that the shells
//! use without asking again. Never here: what the messages mean, who may do what, which agent
//! probes what. Everything cryptographic uses one provider, ring, and names it explicitly, so that
//! no other crate's default can change what a handshake does.

pub mod build_info;
mod chain;
pub mod clock;
pub mod files;
pub mod identity;
pub mod join_token;
pub mod quic;
pub mod settings;
pub mod stop;
pub mod task;
pub mod telemetry;

pub use chain::chain;
