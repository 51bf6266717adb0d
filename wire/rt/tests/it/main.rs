//! The runtime over real sockets and files.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod enrol;
mod hostile;
mod identity;
mod impostor;
mod mesh;
mod metrics_socket;
mod resumption;
mod stop;
mod world;
