//! What Picket keeps in Postgres: the catalogue and history.
//!
//! Postgres may be away at the start and at any later time, so a [`Pg`] is only a promise: it opens
//! connections when they are needed, drops broken ones, and says of every error whether trying
//! again can help. Retrying is the caller's business.
//!
//! Ids and counters are stored by their bits (`u64` as `bigint`, `u32` as `integer`), which loses
//! nothing and cannot fail; instants are `bigint` milliseconds.
//!
//! Not here: TLS to Postgres. A Unix socket, or a network that is private by other means.

pub mod catalogue;
pub mod delivery;
pub mod migrate;
pub mod private;
pub mod projector;
pub mod read;
pub mod rollup;
mod rows;
pub mod sqlstate;

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Timeouts};
use tokio_postgres::{Config, NoTls};

pub use sqlstate::{Hold, PgError};

/// Connections that a scheduler keeps at most: one each for projector, rollups, catalogue and
/// delivery log, the rest for the API's readers.
pub const POOL_DEFAULT: usize = 8;
/// How long one statement may run: ten times what any list is allowed to take.
pub const STATEMENT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// How long to wait for a connection, and for a free one.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);

/// Where Postgres is and how patient we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgSettings {
    /// Connection string: `host=/run/postgresql user=picket dbname=picket` or `postgresql://…`.
    pub url: String,
    /// Most connections at once.
    pub pool: usize,
    /// How long one statement may run.
    pub statement_timeout: Duration,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
}

impl PgSettings {
    /// The defaults for the Postgres at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            pool: POOL_DEFAULT,
            statement_timeout: STATEMENT_TIMEOUT_DEFAULT,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
        }
    }
}

/// A handle on Postgres; clones share the connections.
#[derive(Clone)]
pub struct Pg {
    pool: Pool,
}

impl Pg {
    /// Takes note of where Postgres is; connects to nothing yet.
    ///
    /// # Errors
    /// When the connection string does not parse or names no host.
    pub fn connect(settings: &PgSettings) -> Result<Self, PgError> {
        let manager = Manager::from_config(
            config(settings)?,
            NoTls,
            // One round trip per checkout buys that a connection that died unseen is replaced
            // rather than handed out.
            ManagerConfig {
                recycling_method: RecyclingMethod::Verified,
            },
        );
        let patience = Some(settings.connect_timeout);
        let pool = Pool::builder(manager)
            .max_size(settings.pool)
            .timeouts(Timeouts {
                wait: patience,
                create: patience,
                recycle: patience,
            })
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a runtime is given, which is all that building can lack");
        Ok(Self { pool })
    }

    /// Whether Postgres answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), PgError> {
        Ok(self.client().await?.batch_execute("").await?)
    }

    /// Closes every connection; later calls fail.
    pub fn close(&self) {
        self.pool.close();
    }

    pub(crate) async fn client(&self) -> Result<Object, PgError> {
        Ok(self.pool.get().await?)
    }
}

impl std::fmt::Debug for Pg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pg")
            .field("pool", &self.pool.status())
            .finish()
    }
}

fn config(settings: &PgSettings) -> Result<Config, PgError> {
    let mut config: Config = settings.url.parse().map_err(PgError::Address)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(PgError::NoHost);
    }
    // Compiling a plan costs more than any of our statements runs.
    let own = format!(
        "-c statement_timeout={} -c idle_in_transaction_session_timeout=60000 -c jit=off",
        settings.statement_timeout.as_millis()
    );
    let options = match config.get_options() {
        // What the operator wrote comes last and wins.
        Some(theirs) => format!("{own} {theirs}"),
        None => own,
    };
    config
        .options(options)
        .connect_timeout(settings.connect_timeout)
        .tcp_user_timeout(settings.statement_timeout + settings.connect_timeout);
    if config.get_application_name().is_none() {
        config.application_name("picket");
    }
    Ok(config)
}
