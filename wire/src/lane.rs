//! The lanes from agent to scheduler that carry figures rather than evidence.

pub mod live;
pub mod rollup;
