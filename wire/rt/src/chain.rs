//! An error printed with its causes.
//!
//! An error's own text speaks for its own layer only; whoever handles it prints the whole way down.

use std::error::Error;
use std::fmt;

/// Shows `error` and each of its sources, separated by `: `.
pub fn chain(error: &dyn Error) -> impl fmt::Display + '_ {
    Chain(error)
}

struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("load snapshot")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn the_cause_follows_the_statement() {
        let error = Outer(std::io::Error::other("disk is gone"));
        assert_eq!(chain(&error).to_string(), "load snapshot: disk is gone");
    }
}
