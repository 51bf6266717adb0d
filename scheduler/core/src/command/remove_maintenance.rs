//! Removes a maintenance window: its time counts again.

use picket_wire::id::MaintenanceId;
use rkyv::{Archive, Deserialize, Serialize};

use crate::machine::Fold;
use crate::reply::{Reject, Reply};

/// Removes a maintenance window.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct RemoveMaintenance {
    /// Which one.
    pub id: MaintenanceId,
}

impl RemoveMaintenance {
    pub(crate) fn apply(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        let removed = fold.state.maintenance.remove(&self.id);
        removed
            .map(|_| Reply::Done)
            .ok_or(Reject::UnknownMaintenance(self.id))
    }
}
