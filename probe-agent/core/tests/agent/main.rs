//! The whole core, driven by a world of virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

mod calm;
mod clock;
mod live;
mod news;
mod restart;
mod rollups;
mod shards;
mod talk;
mod world;
