//! Everything that crosses a process boundary: bounded, versioned, pure.
//!
//! Three dialects: the control stream and the lanes between agent and scheduler ([`control`],
//! [`evidence`], [`lane`]), the facts that the replicated machine emits ([`fact`]), and the bodies
//! of the HTTP API ([`api`]). Comes in: bytes from strangers. Goes out: values that keep their
//! bounds, or an error that names what was wrong. Never here: sockets, clocks, files.

#![warn(
    clippy::iter_over_hash_type,
    clippy::float_arithmetic,
    clippy::wildcard_enum_match_arm
)]
#![warn(clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::indexing_slicing, reason = "a test may panic"))]

pub mod api;
pub mod assignment;
pub mod blob;
pub mod check;
pub mod codec;
pub mod control;
pub mod dispersal;
pub mod envelope;
pub mod evidence;
pub mod fact;
pub mod id;
pub mod lane;
pub mod latency;
pub mod limits;
pub mod name;
pub mod outcome;
pub mod peer;
pub mod reason;
pub mod state;
pub mod time;
mod varint;
