//! The whole core, driven by a world of virtual time.

mod calm;
mod clock;
mod news;
mod restart;
mod rollups;
mod shards;
mod talk;
mod world;
