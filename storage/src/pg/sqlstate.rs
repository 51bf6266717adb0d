//! What went wrong with Postgres, and whether trying again can help.
//!
//! Every fault falls into one [`Hold`]: Postgres is away, it is busy, or it refused what we said.
//! The first two pass by themselves; the third will be refused again and is ours to mend.

use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::error::SqlState;

/// An operation on Postgres that did not happen, or (when the connection was lost during commit)
/// may have happened; every write in this module may be repeated in both cases.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// The connection string does not parse.
    #[error("parse the Postgres connection string")]
    Address(#[source] tokio_postgres::Error),
    /// The connection string leaves open where Postgres is.
    #[error(
        "the Postgres connection string names no host; expected `host=…` or `postgresql://host/…`"
    )]
    NoHost,
    /// No connection, or none became free in time.
    #[error("get a connection to Postgres")]
    Connect(#[source] Box<PoolError>),
    /// A statement failed, or the connection was lost under it.
    #[error("run a statement on Postgres")]
    Statement(#[source] tokio_postgres::Error),
    /// A stored value is not one that we write.
    #[error("Postgres holds {column} = {value}, which nobody here writes")]
    Stored {
        /// Table and column.
        column: &'static str,
        /// What stands there, cut short.
        value: String,
    },
}

/// What stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Postgres does not answer, starts, stops, or is a read-only standby.
    Away,
    /// It answers but cannot now: locks, limits, a statement that took too long.
    Busy,
    /// It understood and refused, or we did not understand it: the same call fails again.
    Refused,
}

impl PgError {
    /// What stands in the way.
    #[must_use]
    pub fn hold(&self) -> Hold {
        match self {
            Self::Address(_) | Self::NoHost | Self::Stored { .. } => Hold::Refused,
            Self::Connect(error) => match error.as_ref() {
                PoolError::Backend(error) => hold_of(error),
                // Ours are all in use.
                PoolError::Timeout(TimeoutType::Wait) => Hold::Busy,
                PoolError::Timeout(_) | PoolError::PostCreateHook(_) => Hold::Away,
                PoolError::Closed | PoolError::NoRuntimeSpecified => Hold::Refused,
            },
            Self::Statement(error) => hold_of(error),
        }
    }

    /// Whether the same call can succeed later without anything being mended.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.hold() != Hold::Refused
    }

    pub(crate) fn stored(column: &'static str, value: impl std::fmt::Display) -> Self {
        let value = value.to_string().chars().take(64).collect();
        Self::Stored { column, value }
    }
}

pub(crate) fn hold_of(error: &tokio_postgres::Error) -> Hold {
    match error.code() {
        Some(code) => hold_of_state(code),
        // Without a code the error is ours (a wrong parameter, an unreadable column) or the
        // connection's; only the latter carries an I/O error or says that it is closed.
        None if error.is_closed() || caused_by_io(error) => Hold::Away,
        None => Hold::Refused,
    }
}

fn caused_by_io(error: &tokio_postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if inner.is::<std::io::Error>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// Sorts an SQLSTATE (PostgreSQL manual, appendix A) by its class, with the exceptions spelt out.
fn hold_of_state(state: &SqlState) -> Hold {
    match state.code() {
        // read_only_sql_transaction: we reached a standby; a failover is under way.
        "25006" => Hold::Away,
        // serialization_failure, deadlock_detected; lock_not_available; query_canceled, which is
        // what the statement timeout says.
        "40001" | "40P01" | "55P03" | "57014" => Hold::Busy,
        // Connection exceptions; operator intervention (shutdown, crash, starting up); I/O errors
        // of the server.
        code if code.starts_with("08") || code.starts_with("57P") || code.starts_with("58") => {
            Hold::Away
        }
        // Out of disk, memory or connections.
        code if code.starts_with("53") => Hold::Busy,
        _ => Hold::Refused,
    }
}

impl From<tokio_postgres::Error> for PgError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Statement(error)
    }
}

impl From<PoolError> for PgError {
    fn from(error: PoolError) -> Self {
        Self::Connect(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shutdown_is_away_a_timeout_is_busy_and_a_constraint_is_refused() {
        for (state, hold) in [
            (SqlState::ADMIN_SHUTDOWN, Hold::Away),
            (SqlState::CANNOT_CONNECT_NOW, Hold::Away),
            (SqlState::READ_ONLY_SQL_TRANSACTION, Hold::Away),
            (SqlState::QUERY_CANCELED, Hold::Busy),
            (SqlState::T_R_DEADLOCK_DETECTED, Hold::Busy),
            (SqlState::TOO_MANY_CONNECTIONS, Hold::Busy),
            (SqlState::UNIQUE_VIOLATION, Hold::Refused),
            (SqlState::UNDEFINED_TABLE, Hold::Refused),
        ] {
            assert_eq!(hold_of_state(&state), hold, "{state:?}");
        }
    }
}
