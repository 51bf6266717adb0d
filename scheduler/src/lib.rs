//! A scheduler member: Raft, gateway, decider, projector, API, delivery.
//!
//! Comes in: agents, other members and people, over QUIC and HTTP; the catalogue, from Postgres.
//! Goes out: assignments, orders and acks to agents; history to Postgres; notifications to people.
//! Never here: rules. What is decided is `picket-scheduler-core`; what is kept is
//! `picket-storage`; this package drives both.

pub mod api;
mod blobs;
mod bootstrap;
mod catalogue;
pub mod config;
mod confirm;
mod consensus;
pub mod context;
mod deliver;
pub mod gateway;
mod leadership;
mod leases;
pub mod node;
pub mod observed;
mod peers;
mod project;
pub mod replica;
pub mod setup;
mod telemetry;

pub use blobs::Blobs;
pub use bootstrap::BootstrapError;
pub use consensus::{Applied, RaftStatus, RestoreReplicaError, StartConsensusError};
pub use leases::LeaderView;
