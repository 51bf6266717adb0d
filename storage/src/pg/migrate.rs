//! The schema's migrations, embedded.
//!
//! Three schedulers may start at once: an advisory lock lets one work while the others wait, find
//! everything applied and go on. A migration is never edited once released; its checksum is stored.

use deadpool_postgres::Object;
use refinery::{Migration, Runner};

use crate::pg::sqlstate::hold_of;
use crate::pg::{Hold, Pg, PgError};

/// A new migration is one new file and one line here.
const MIGRATIONS: [(&str, &str); 4] = [
    (
        "V1__catalogue",
        include_str!("../../migrations/V1__catalogue.sql"),
    ),
    (
        "V2__history",
        include_str!("../../migrations/V2__history.sql"),
    ),
    (
        "V3__rollups",
        include_str!("../../migrations/V3__rollups.sql"),
    ),
    (
        "V4__delivery",
        include_str!("../../migrations/V4__delivery.sql"),
    ),
];

/// Names our lock among all advisory locks of the database: "picket" in ASCII.
const LOCK: i64 = 0x7069_636b_6574;

/// The schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// Postgres did not do what was asked.
    #[error(transparent)]
    Pg(#[from] PgError),
    /// A migration failed, or the database holds others than this build.
    #[error("migrate the schema")]
    Schema(#[source] Box<refinery::Error>),
}

impl MigrateError {
    /// Whether the same call can succeed later without anything being mended.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Pg(error) => error.is_retryable(),
            Self::Schema(error) => match error.kind() {
                refinery::error::Kind::Connection(_, cause) => cause
                    .downcast_ref::<tokio_postgres::Error>()
                    .is_some_and(|cause| hold_of(cause) != Hold::Refused),
                _ => false,
            },
        }
    }
}

impl Pg {
    /// Brings the schema up to date and says how many migrations that took. May be called at any
    /// time, by any number of processes.
    ///
    /// # Errors
    /// When Postgres is away, or holds a schema that this build does not know.
    pub async fn migrate(&self) -> Result<usize, MigrateError> {
        // Out of the pool, so that lock and settings end with the connection whatever happens.
        let mut client = Object::take(self.client().await?);
        let lock = format!("SET statement_timeout = 0; SELECT pg_advisory_lock({LOCK})");
        client.batch_execute(&lock).await.map_err(PgError::from)?;
        let report = runner()
            .run_async(&mut *client)
            .await
            .map_err(|e| MigrateError::Schema(Box::new(e)))?;
        Ok(report.applied_migrations().len())
    }
}

fn runner() -> Runner {
    let migrations: Vec<Migration> = MIGRATIONS
        .iter()
        .map(|(name, sql)| {
            Migration::unapplied(name, sql).expect("the names above are well formed")
        })
        .collect();
    Runner::new(&migrations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_has_a_well_formed_name_and_its_place() {
        let versions: Vec<_> = runner()
            .get_migrations()
            .iter()
            .map(Migration::version)
            .collect();
        assert_eq!(
            versions,
            (1..=versions.len())
                .map(|v| i32::try_from(v).unwrap())
                .collect::<Vec<_>>()
        );
    }
}
