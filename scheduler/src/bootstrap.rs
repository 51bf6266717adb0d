//! The first state of a new cluster: its settings, and the token of its first administrator.
//!
//! Repeated at every start of the member that is told to form the cluster, and without effect when
//! it was done before: whatever interrupted it, the next start finishes it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use picket_rt::stop::Stop;
use picket_scheduler_core::command::{Command, InitCluster, IssueApiToken};
use picket_scheduler_core::reply::{Reject, Reply};
use picket_scheduler_core::state::{Scope, Settings};
use picket_wire::name::Name;

use crate::config::ClusterSettings;
use crate::context::Context;

/// Pause between two attempts while no member leads.
const PAUSE: Duration = Duration::from_millis(200);

/// Why the first state cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// A setting breaks its rule.
    #[error("`cluster`: {0}")]
    Settings(Reject),
    /// The token's hash cannot be read.
    #[error("read `{}`; `picket-scheduler init` makes it", .path.display())]
    Token {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The token's hash is not one.
    #[error("`{}`: expected 64 hex digits", .path.display())]
    NotAHash {
        /// Which file.
        path: PathBuf,
    },
}

/// The first state.
#[derive(Debug, Clone)]
pub(crate) struct FirstState {
    settings: Settings,
    admin: [u8; 32],
}

impl FirstState {
    /// Reads what the settings point at.
    pub(crate) fn read(cluster: &ClusterSettings) -> Result<Self, BootstrapError> {
        let settings = cluster.to_state();
        settings.validate().map_err(BootstrapError::Settings)?;
        let path = cluster.admin_token_hash.clone();
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|source| BootstrapError::Token {
            path: path.clone(),
            source,
        })?;
        let admin = parse_hash(text.trim()).ok_or(BootstrapError::NotAHash { path })?;
        Ok(Self { settings, admin })
    }
}

/// Writes the first state, once some member leads; then waits for `stop`.
pub(crate) async fn run(context: Arc<Context>, first: FirstState, stop: Stop) {
    tokio::select! {
        biased;
        () = stop.requested() => return,
        () = write(&context, first) => {}
    }
    stop.requested().await;
}

async fn write(context: &Context, first: FirstState) {
    until_current(context).await;
    if context.replica.read(|state| state.settings.is_none()) {
        let settings = first.settings;
        until_decided(context, Command::InitCluster(InitCluster { settings })).await;
    }
    // A token that an administrator revoked must not come back with the next start.
    if context.replica.read(|state| state.last_ids.token == 0) {
        let name = Name::parse("first-admin").expect("the name keeps the rule for names");
        let token = IssueApiToken {
            hash: first.admin,
            name,
            scope: Scope::Admin,
        };
        until_decided(context, Command::IssueApiToken(token)).await;
    }
}

/// Proposes until the machine has decided, and until that decision is applied here.
async fn until_decided(context: &Context, command: Command) {
    loop {
        match context.replica.propose(command.clone()).await {
            Ok(Reply::Rejected(Reject::AlreadyInitialised | Reject::TokenExists)) => break,
            Ok(Reply::Rejected(reject)) => {
                tracing::error!(%reject, command = command.name(), "the cluster's first state was refused");
                break;
            }
            Ok(_) => {
                tracing::info!(
                    command = command.name(),
                    "the cluster's first state was written"
                );
                break;
            }
            Err(error) => tracing::debug!(%error, "the cluster's first state waits"),
        }
        tokio::time::sleep(PAUSE).await;
    }
    until_current(context).await;
}

/// Waits until everything decided before is applied here.
async fn until_current(context: &Context) {
    while context.replica.linearizable().await.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
}

/// 64 hex digits as bytes.
fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_has_sixty_four_hex_digits() {
        assert_eq!(parse_hash(&"0a".repeat(32)), Some([10; 32]));
        for text in [
            "",
            "0a",
            &"0g".repeat(32),
            &"0a".repeat(33),
            &"+1".repeat(32),
        ] {
            assert_eq!(parse_hash(text), None, "{text}");
        }
    }
}
