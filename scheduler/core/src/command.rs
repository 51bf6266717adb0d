//! What a log entry may ask for; one variant is one file below.
//!
//! The archive numbers variants by their order here: add new ones at the end, never reorder.

pub mod admit_agent;
pub mod advance_cursor;
pub mod assign_shards;
pub mod define_group;
pub mod drain_agent;
pub mod expire_orders;
pub mod ingest_evidence;
pub mod init_cluster;
pub mod issue_api_token;
pub mod issue_join_token;
pub mod point_catalogue;
pub mod put_maintenance;
pub mod put_webhook;
pub mod remove_maintenance;
pub mod remove_webhook;
pub mod revoke_agent;
pub mod revoke_api_token;

use rkyv::{Archive, Deserialize, Serialize};

pub use crate::command::admit_agent::AdmitAgent;
pub use crate::command::advance_cursor::AdvanceCursor;
pub use crate::command::assign_shards::{AssignShards, Move};
pub use crate::command::define_group::DefineGroup;
pub use crate::command::drain_agent::DrainAgent;
pub use crate::command::expire_orders::{ExpireOrders, Expired};
pub use crate::command::ingest_evidence::IngestEvidence;
pub use crate::command::init_cluster::InitCluster;
pub use crate::command::issue_api_token::IssueApiToken;
pub use crate::command::issue_join_token::IssueJoinToken;
pub use crate::command::point_catalogue::{PointCatalogue, Pointed};
pub use crate::command::put_maintenance::PutMaintenance;
pub use crate::command::put_webhook::PutWebhook;
pub use crate::command::remove_maintenance::RemoveMaintenance;
pub use crate::command::remove_webhook::RemoveWebhook;
pub use crate::command::revoke_agent::RevokeAgent;
pub use crate::command::revoke_api_token::RevokeApiToken;

/// What a log entry asks for.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Command {
    /// Creates the cluster; accepted once.
    InitCluster(InitCluster),
    /// Lets one agent enrol.
    IssueJoinToken(IssueJoinToken),
    /// An agent enrols.
    AdmitAgent(AdmitAgent),
    /// An agent's certificate counts no more.
    RevokeAgent(RevokeAgent),
    /// An agent gives its shards away, or takes shards again.
    DrainAgent(DrainAgent),
    /// Creates or changes a placement group.
    DefineGroup(DefineGroup),
    /// Shard slots get other owners.
    AssignShards(AssignShards),
    /// Shards get other catalogues.
    PointCatalogue(PointCatalogue),
    /// Agents said something.
    IngestEvidence(IngestEvidence),
    /// Nobody else will vote on these orders.
    ExpireOrders(ExpireOrders),
    /// A consumer has passed facts durably.
    AdvanceCursor(AdvanceCursor),
    /// Adds or changes a webhook.
    PutWebhook(PutWebhook),
    /// Removes a webhook.
    RemoveWebhook(RemoveWebhook),
    /// Adds or changes a maintenance window.
    PutMaintenance(PutMaintenance),
    /// Removes a maintenance window.
    RemoveMaintenance(RemoveMaintenance),
    /// Lets somebody use the API.
    IssueApiToken(IssueApiToken),
    /// Lets somebody use the API no more.
    RevokeApiToken(RevokeApiToken),
}

impl Command {
    /// The file stem and metric label.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::InitCluster(_) => "init_cluster",
            Self::IssueJoinToken(_) => "issue_join_token",
            Self::AdmitAgent(_) => "admit_agent",
            Self::RevokeAgent(_) => "revoke_agent",
            Self::DrainAgent(_) => "drain_agent",
            Self::DefineGroup(_) => "define_group",
            Self::AssignShards(_) => "assign_shards",
            Self::PointCatalogue(_) => "point_catalogue",
            Self::IngestEvidence(_) => "ingest_evidence",
            Self::ExpireOrders(_) => "expire_orders",
            Self::AdvanceCursor(_) => "advance_cursor",
            Self::PutWebhook(_) => "put_webhook",
            Self::RemoveWebhook(_) => "remove_webhook",
            Self::PutMaintenance(_) => "put_maintenance",
            Self::RemoveMaintenance(_) => "remove_maintenance",
            Self::IssueApiToken(_) => "issue_api_token",
            Self::RevokeApiToken(_) => "revoke_api_token",
        }
    }
}
