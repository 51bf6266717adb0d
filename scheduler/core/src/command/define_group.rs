//! Creates or changes a placement group.

use picket_wire::id::{GroupId, ShardId, ShardSlot, Slot};
use rkyv::{Archive, Deserialize, Serialize};

use crate::machine::Fold;
use crate::reply::{Reject, Reply};
use crate::state::PlacementGroup;

/// Most placement groups: each multiplies the shards.
const GROUPS_MAX: usize = 256;

/// Creates or changes a placement group.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DefineGroup {
    /// Which one to change; `None` creates one.
    pub group: Option<GroupId>,
    /// What it is from now on.
    pub definition: PlacementGroup,
}

impl DefineGroup {
    pub(crate) fn apply(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        self.definition.validate()?;
        let id = match self.group {
            Some(id) if fold.state.groups.contains_key(&id) => id,
            Some(id) => return Err(Reject::UnknownGroup(id)),
            None => Self::new_id(fold)?,
        };
        let namesake = |(&other, group): (&GroupId, &PlacementGroup)| {
            other != id && group.name == self.definition.name
        };
        if fold.state.groups.iter().any(namesake) {
            return Err(Reject::Setting {
                setting: "name".to_owned(),
                expected: "a name that no other group has".to_owned(),
            });
        }
        fold.state.last_ids.group = fold.state.last_ids.group.max(id.0);
        fold.state.groups.insert(id, self.definition.clone());
        drop_slots(fold, id, self.definition.replicas);
        Ok(Reply::Group(id))
    }

    fn new_id(fold: &Fold<'_>) -> Result<GroupId, Reject> {
        if fold.state.groups.len() >= GROUPS_MAX {
            return Err(Reject::TooMany {
                what: "placement groups".to_owned(),
                max: 256,
            });
        }
        Ok(GroupId(fold.state.last_ids.group + 1))
    }
}

/// Forgets the slots that a group has no more, with what their owners said.
fn drop_slots(fold: &mut Fold<'_>, group: GroupId, replicas: u8) {
    let first = ShardSlot {
        group,
        shard: ShardId(0),
        slot: Slot(0),
    };
    let last = ShardSlot {
        group,
        shard: ShardId(u32::MAX),
        slot: Slot(u8::MAX),
    };
    let gone: Vec<_> = fold
        .state
        .assignments
        .range(first..=last)
        .filter(|(slot, _)| slot.slot.0 >= replicas)
        .map(|(&slot, _)| slot)
        .collect();
    for slot in gone {
        if let Some(assignment) = fold.state.assignments.remove(&slot) {
            fold.state.index.owner_changed(slot, assignment.agent, None);
        }
        fold.forget_words(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::command::init_cluster::DEFAULT_GROUP;
    use crate::testing::{World, name};

    fn define(group: Option<GroupId>, called: &str, replicas: u8) -> Command {
        let definition = PlacementGroup {
            name: name(called),
            regions: Vec::new(),
            replicas,
        };
        Command::DefineGroup(DefineGroup { group, definition })
    }

    #[test]
    fn a_group_that_has_fewer_replicas_loses_its_last_slots() {
        let mut world = World::with_agents(&[("eu", "as1"), ("us", "as2")]);
        world.apply(define(Some(DEFAULT_GROUP), "default", 2));
        world.assign(0, 0, 1);
        world.assign(0, 1, 2);
        assert_eq!(world.state().assignments.len(), 2);
        world.apply(define(Some(DEFAULT_GROUP), "default", 1));
        assert_eq!(world.state().assignments.len(), 1);
        assert_eq!(
            world.state().slots_of(picket_wire::id::AgentId(2)).count(),
            0
        );
        world.check();
    }

    #[test]
    fn names_and_replicas_keep_their_rules() {
        let mut world = World::started();
        assert_eq!(
            world.apply(define(None, "gold", 3)),
            Reply::Group(GroupId(2))
        );
        assert!(matches!(
            world.apply(define(None, "gold", 3)),
            Reply::Rejected(_)
        ));
        assert!(matches!(
            world.apply(define(None, "none", 0)),
            Reply::Rejected(_)
        ));
        let unknown = world.apply(define(Some(GroupId(7)), "x", 1));
        assert_eq!(unknown, Reply::Rejected(Reject::UnknownGroup(GroupId(7))));
    }
}
