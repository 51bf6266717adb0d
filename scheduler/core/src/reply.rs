//! What the machine answers to a command.
//!
//! A refusal is part of the protocol, not an error: every replica refuses the same command for
//! the same reason.

#![allow(
    missing_docs,
    reason = "rkyv's derive writes resolvers whose fields have no documentation; ours have"
)]

use picket_wire::control::Refusal;
use picket_wire::id::{
    AgentId, CatalogueVersion, FactSeq, GroupId, Incarnation, MaintenanceId, Seq, TokenId,
    WebhookId,
};
use picket_wire::name::Name;
use rkyv::{Archive, Deserialize, Serialize};

use crate::state::Consumer;

/// The answer to one command.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Reply {
    /// It was done.
    Done,
    /// The placement group that was defined.
    Group(GroupId),
    /// The join token or API token that was issued.
    Token(TokenId),
    /// The agent that was admitted.
    Admitted {
        /// Its id.
        agent: AgentId,
        /// Its incarnation from now on.
        incarnation: Incarnation,
    },
    /// The webhook that was put.
    Webhook(WebhookId),
    /// The maintenance window that was put.
    Maintenance(MaintenanceId),
    /// How many moves were made, and how many were planned from an assignment that has changed.
    Assigned {
        /// Moves made.
        applied: u32,
        /// Moves not made: the slot's epoch, or the agent, is not what the plan assumed.
        stale: u32,
    },
    /// One entry per batch, in order.
    Ingested(Vec<Ingested>),
    /// Nothing was done; says why.
    Rejected(Reject),
}

/// What became of one batch of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Ingested {
    /// Who sent it.
    pub agent: AgentId,
    /// The agent's watermark now: what may be acknowledged once this entry is durable.
    pub watermark: Seq,
    /// Why the batch was not taken; `None` also when it was taken before.
    pub refused: Option<Refusal>,
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize, thiserror::Error)]
pub enum Reject {
    /// No `InitCluster` yet.
    #[error("the cluster is not initialised")]
    NotInitialised,
    /// A second `InitCluster`.
    #[error("the cluster was initialised before")]
    AlreadyInitialised,
    /// A setting breaks its rule.
    #[error("{setting}: expected {expected}")]
    Setting {
        /// Which setting.
        setting: String,
        /// What is allowed.
        expected: String,
    },
    /// No such join token.
    #[error("the join token is unknown")]
    UnknownToken,
    /// The join token was used.
    #[error("the join token was used before")]
    UsedToken,
    /// The join token's time is over.
    #[error("the join token has expired")]
    ExpiredToken,
    /// The join token is for another region.
    #[error("the join token is for region {0}")]
    WrongRegion(Name),
    /// An agent that is not revoked has the name and another key.
    #[error("the name is taken by {0}, which has another key; revoke it first")]
    NameTaken(AgentId),
    /// No such agent.
    #[error("{0} is unknown")]
    UnknownAgent(AgentId),
    /// The agent was revoked, which is final.
    #[error("{0} is revoked")]
    RevokedAgent(AgentId),
    /// No such placement group.
    #[error("{0} is unknown")]
    UnknownGroup(GroupId),
    /// No such webhook.
    #[error("{0} is unknown")]
    UnknownWebhook(WebhookId),
    /// No such maintenance window.
    #[error("{0} is unknown")]
    UnknownMaintenance(MaintenanceId),
    /// No such API token.
    #[error("{0} is unknown")]
    UnknownApiToken(TokenId),
    /// Another API token has the same secret.
    #[error("a token with this secret exists")]
    TokenExists,
    /// The catalogue pointer would not move forward.
    #[error("catalogue version {got} does not follow {current}")]
    StaleCatalogue {
        /// The version pointed at.
        current: CatalogueVersion,
        /// The version in the command.
        got: CatalogueVersion,
    },
    /// The cursor would run backwards, or past the last fact.
    #[error("cursor of {consumer:?}: expected {current} to {last}, got {got}")]
    Cursor {
        /// Whose cursor.
        consumer: Consumer,
        /// Where it stands.
        current: FactSeq,
        /// The last fact.
        last: FactSeq,
        /// Where it was to go.
        got: FactSeq,
    },
    /// A list or a table has reached its bound.
    #[error("{what}: at most {max}")]
    TooMany {
        /// Of what.
        what: String,
        /// The bound.
        max: u32,
    },
}
