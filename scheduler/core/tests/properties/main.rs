//! What holds of every input: random histories of the machine, random problems of the planner,
//! and the interval algebra against a twin that counts milliseconds.

#![expect(clippy::unwrap_used, reason = "a test: a panic is a failure")]

mod intervals;
mod machine;
mod placement;

use proptest::test_runner::Config;

/// So many cases a run. A failure prints its input in full; a case worth keeping becomes a test
/// of its own.
fn config(cases: u32) -> Config {
    Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    }
}
