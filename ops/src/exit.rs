//! Exit codes: what a script may rely on.
//!
//! The table is printed by `picket --help` and held in `docs/operations.md`.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked.
    Ok = 0,
    /// It failed in a way no other code names.
    Failure = 1,
    /// No such thing.
    NotFound = 3,
    /// No token, a wrong one, or one without the right.
    Forbidden = 4,
    /// The present state does not allow it.
    Conflict = 5,
    /// The scheduler cannot be reached or cannot answer now; trying again may help.
    Unavailable = 6,
    /// It waited and what it waited for did not come.
    TimedOut = 7,
    /// Some of many were refused; the rest is done.
    Partial = 8,
    /// Stopped by a signal.
    Interrupted = 130,
}

/// The table for `--help`; 2 is what the argument parser itself ends with.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done
  1    failed
  2    wrong usage
  3    not found
  4    not authenticated or not allowed
  5    conflict with the present state
  6    unreachable or unavailable; trying again may help
  7    waited in vain
  8    partly done: some rows were refused
  130  interrupted";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "all codes lie within a byte"
        )]
        Self::from(exit as i32 as u8)
    }
}
