//! Creates the cluster: settings that never change, and the default placement group.

use picket_wire::id::GroupId;
use picket_wire::name::Name;
use rkyv::{Archive, Deserialize, Serialize};

use crate::machine::Fold;
use crate::reply::{Reject, Reply};
use crate::state::{PlacementGroup, Settings};

/// The placement group of endpoints that name none: every region, one owner.
pub const DEFAULT_GROUP: GroupId = GroupId(1);

/// Creates the cluster; accepted once.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct InitCluster {
    /// What all members agree on from now on.
    pub settings: Settings,
}

impl InitCluster {
    pub(crate) fn apply(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        if fold.state.settings.is_some() {
            return Err(Reject::AlreadyInitialised);
        }
        self.settings.validate()?;
        let name = Name::parse("default").expect("the name keeps the rule for names");
        fold.state.settings = Some(self.settings.clone());
        fold.state.last_ids.group = DEFAULT_GROUP.0;
        fold.state.groups.insert(
            DEFAULT_GROUP,
            PlacementGroup {
                name,
                regions: Vec::new(),
                replicas: 1,
            },
        );
        Ok(Reply::Done)
    }
}

#[cfg(test)]
mod tests {
    use crate::command::Command;
    use crate::reply::{Reject, Reply};
    use crate::state::Settings;
    use crate::testing::World;

    #[test]
    fn a_cluster_is_created_once_and_nothing_works_before() {
        let mut world = World::empty();
        let settings = Settings::standard(crate::testing::name("demo"));
        let init = Command::InitCluster(super::InitCluster { settings });
        let early = world.apply(Command::DrainAgent(crate::command::DrainAgent {
            agent: picket_wire::id::AgentId(1),
            drain: true,
        }));
        assert_eq!(early, Reply::Rejected(Reject::NotInitialised));
        assert_eq!(world.apply(init.clone()), Reply::Done);
        assert_eq!(
            world.apply(init),
            Reply::Rejected(Reject::AlreadyInitialised)
        );
    }
}
