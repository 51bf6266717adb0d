//! Sites: what a customer cares about.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::instant::Instant;
use crate::id::SiteId;
use crate::state::State;

/// A site with its state, rolled up from its endpoints: the worst of them, where `down` is worse
/// than `seems_down`, `degraded`, `unknown`, `warning`, `up`; paused and in maintenance only when
/// all of them are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Site {
    /// Its id.
    pub id: SiteId,
    /// Its name, unique.
    pub name: String,
    /// Its state.
    pub state: State,
    /// Since when.
    pub since: Option<Instant>,
    /// How many endpoints it has.
    pub endpoints: u32,
}
