//! Adds or changes a maintenance window, also one that is over.

use picket_wire::id::MaintenanceId;
use picket_wire::limits::DETAIL_MAX_BYTES;
use rkyv::{Archive, Deserialize, Serialize};

use crate::machine::Fold;
use crate::maintenance::{Maintenance, SELECTED_MAX};
use crate::reply::{Reject, Reply};

/// Most windows: twenty a day for two years.
const WINDOWS_MAX: usize = 16_384;

/// Adds or changes a maintenance window.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PutMaintenance {
    /// Which one to change; `None` adds one.
    pub id: Option<MaintenanceId>,
    /// What it is from now on.
    pub window: Maintenance,
}

impl PutMaintenance {
    pub(crate) fn apply(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        self.check()?;
        let id = match self.id {
            Some(id) if fold.state.maintenance.contains_key(&id) => id,
            Some(id) => return Err(Reject::UnknownMaintenance(id)),
            None if fold.state.maintenance.len() >= WINDOWS_MAX => {
                return Err(Reject::TooMany {
                    what: "maintenance windows".to_owned(),
                    max: 16_384,
                });
            }
            None => {
                fold.state.last_ids.maintenance += 1;
                MaintenanceId(fold.state.last_ids.maintenance)
            }
        };
        fold.state.maintenance.insert(id, self.window.clone());
        Ok(Reply::Maintenance(id))
    }

    fn check(&self) -> Result<(), Reject> {
        let refuse = |setting: &str, expected: &str| {
            Err(Reject::Setting {
                setting: setting.to_owned(),
                expected: expected.to_owned(),
            })
        };
        if self.window.interval.is_empty() {
            return refuse("until", "an instant after `from`");
        }
        if self.window.selector.is_empty() || self.window.selector.len() > SELECTED_MAX {
            return refuse("selector", "1 to 10000 sites or endpoints, or all");
        }
        if self.window.note.len() > DETAIL_MAX_BYTES {
            return refuse("note", "at most 256 bytes");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use picket_wire::id::SiteId;
    use picket_wire::time::{Interval, Timestamp};

    use super::*;
    use crate::command::{Command, RemoveMaintenance};
    use crate::maintenance::Selector;
    use crate::testing::World;

    fn put(id: Option<u32>, from: i64, until: i64) -> Command {
        let window = Maintenance {
            interval: Interval::new(Timestamp(from), Timestamp(until)),
            selector: Selector::Sites(vec![SiteId(1)]),
            note: String::new(),
        };
        Command::PutMaintenance(PutMaintenance {
            id: id.map(MaintenanceId),
            window,
        })
    }

    #[test]
    fn a_window_may_be_announced_after_the_fact() {
        let mut world = World::started();
        assert_eq!(
            world.at(100).apply(put(None, 10, 20)),
            Reply::Maintenance(MaintenanceId(1))
        );
        assert_eq!(
            world.apply(put(Some(1), 10, 30)),
            Reply::Maintenance(MaintenanceId(1))
        );
        assert!(matches!(world.apply(put(None, 20, 20)), Reply::Rejected(_)));
        let unknown = Reply::Rejected(Reject::UnknownMaintenance(MaintenanceId(7)));
        assert_eq!(world.apply(put(Some(7), 10, 20)), unknown);
        let remove = Command::RemoveMaintenance(RemoveMaintenance {
            id: MaintenanceId(1),
        });
        assert_eq!(world.apply(remove), Reply::Done);
        assert!(world.state().maintenance.is_empty());
    }
}
