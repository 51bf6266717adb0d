//! Secrets that admit: join tokens for agents, API tokens for people and programs.
//!
//! Only hashes are kept. A secret has at least 128 random bits, so a plain SHA-256 needs no salt.

use picket_wire::id::AgentId;
use picket_wire::name::Name;
use picket_wire::time::Timestamp;
use rkyv::{Archive, Deserialize, Serialize};

/// Admits one agent, once.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct JoinToken {
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// From when on it admits nobody.
    pub expires_at: Timestamp,
    /// The only region it admits to, when it is bound to one.
    pub region: Option<Name>,
    /// Whom it admitted.
    pub used_by: Option<AgentId>,
}

/// Lets its bearer use the API.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ApiToken {
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// What it is for, for people.
    pub name: Name,
    /// What it allows.
    pub scope: Scope,
    /// When it was issued.
    pub issued_at: Timestamp,
}

/// What an API token allows; each includes the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Archive, Serialize, Deserialize)]
pub enum Scope {
    /// Look.
    Read,
    /// Change sites, maintenance and webhooks.
    Write,
    /// Change the mesh: agents, tokens, groups.
    Admin,
}
