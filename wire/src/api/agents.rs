//! Agents and the tokens they join with.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::instant::Instant;
use crate::id::AgentId;
use crate::name::Name;

/// An enrolled agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Its name.
    pub name: Name,
    /// Region.
    pub region: Name,
    /// Zone.
    pub zone: Name,
    /// Network.
    pub network: Name,
    /// What it is allowed to do.
    pub standing: Standing,
    /// Whether it holds a lease now.
    pub leased: bool,
    /// Whether its own reference checks are ok, as it said last.
    pub healthy: bool,
    /// Its incarnation.
    pub incarnation: u32,
    /// Shard slots it owns.
    pub slots: u32,
    /// Checks in them.
    pub checks: u64,
    /// Its build, as it said last.
    pub build: Option<String>,
    /// Bytes in its spool that wait for an ack.
    pub spool_bytes: Option<u64>,
}

/// What an agent is allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It takes shards.
    Active,
    /// It gives its shards away and takes none.
    Drained,
    /// Its certificate counts no more.
    Revoked,
}

/// Asks for a join token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// Restricts the token to one region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Name>,
    /// How long it is good for; at most a day.
    #[serde(default = "token_ttl_default")]
    pub ttl_s: u64,
}

/// Ten minutes: long enough to carry a token to a machine, short enough to lose it.
#[must_use]
pub const fn token_ttl_default() -> u64 {
    600
}

/// A fresh join token; it is shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinTokenReply {
    /// The token: single use, names the cluster's CA by its fingerprint.
    pub token: String,
    /// When it ends.
    pub expires_at: Instant,
}

impl std::fmt::Debug for JoinTokenReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            token: _,
            expires_at,
        } = self;
        f.debug_struct("JoinTokenReply")
            .field("token", &"…")
            .field("expires_at", expires_at)
            .finish()
    }
}
