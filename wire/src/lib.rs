//! Everything that crosses a process boundary: bounded, versioned, pure.
//!
//! Three dialects: the control stream and the lanes between agent and scheduler ([`control`],
//! [`evidence`], [`lane`]), the facts that the replicated machine emits ([`fact`]), and the bodies
//! of the HTTP API ([`api`]). Comes in: bytes from strangers. Goes out: values that keep their
//! bounds, or an error that names what was wrong. Never here: sockets, clocks, files.

#![warn(clippy::iter_over_hash_type, clippy::float_arithmetic, clippy::wildcard_enum_match_arm)]
#![warn(clippy::indexing_slicing)]

pub mod id;
pub mod time;
pub mod name;
pub mod limits;
pub mod check;
pub mod reason;
pub mod outcome;
pub mod state;
pub mod evidence;
pub mod assignment;
pub mod lane;
pub mod fact;
pub mod control;
pub mod latency;
pub mod blob;
pub mod envelope;
pub mod codec;
