//! Shards get other catalogues.

use picket_wire::id::{BlobHash, CatalogueVersion, CheckId, GroupId, ShardId};
use rkyv::{Archive, Deserialize, Serialize};

use crate::machine::Fold;
use crate::reply::{Reject, Reply};
use crate::state::Pointer;

/// Most pointers in one entry; a larger import is several entries.
pub const POINTERS_MAX: usize = 16_384;

/// Shards get other catalogues. All of them or, when one is refused, none.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PointCatalogue {
    /// At most [`POINTERS_MAX`].
    pub pointers: Vec<Pointed>,
}

/// One shard gets another catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Pointed {
    /// The placement group.
    pub group: GroupId,
    /// The shard.
    pub shard: ShardId,
    /// The catalogue's version; must grow.
    pub version: CatalogueVersion,
    /// The blob that holds it; stored before this is proposed.
    pub blob: BlobHash,
    /// How many checks it has.
    pub checks: u32,
    /// Checks of this shard that are open in the machine and not in this catalogue, because they
    /// were removed or paused: nobody will ever speak of them again, so their verdicts close.
    pub gone: Vec<CheckId>,
}

impl Pointed {
    /// The catalogue that the shard has, again: `gone` was opened after the change that removed it.
    #[must_use]
    pub fn again(group: GroupId, shard: ShardId, pointer: Pointer, gone: Vec<CheckId>) -> Self {
        let Pointer {
            version,
            blob,
            checks,
        } = pointer;
        Self {
            group,
            shard,
            version,
            blob,
            checks,
            gone,
        }
    }
}

impl PointCatalogue {
    pub(crate) fn apply(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        if self.pointers.len() > POINTERS_MAX {
            return Err(Reject::TooMany {
                what: "pointers".to_owned(),
                max: 16_384,
            });
        }
        for pointed in &self.pointers {
            pointed.check(fold)?;
        }
        for pointed in &self.pointers {
            pointed.apply(fold);
        }
        Ok(Reply::Done)
    }
}

impl Pointed {
    fn check(&self, fold: &Fold<'_>) -> Result<(), Reject> {
        if !fold.state.groups.contains_key(&self.group) {
            return Err(Reject::UnknownGroup(self.group));
        }
        if self.shard.0 >= fold.settings().shards {
            return Err(Reject::Setting {
                setting: "shard".to_owned(),
                expected: "a shard of this cluster".to_owned(),
            });
        }
        match fold.state.catalogue.get(&(self.group, self.shard)) {
            // The proposer did not hear that it was applied, and proposes the same again.
            Some(now) if now.version == self.version && now.blob == self.blob => Ok(()),
            Some(now) if self.version <= now.version => Err(Reject::StaleCatalogue {
                current: now.version,
                got: self.version,
            }),
            _ => Ok(()),
        }
    }

    fn apply(&self, fold: &mut Fold<'_>) {
        let Self {
            group,
            shard,
            version,
            blob,
            checks,
            ..
        } = *self;
        fold.state.catalogue.insert(
            (group, shard),
            Pointer {
                version,
                blob,
                checks,
            },
        );
        for &check in &self.gone {
            let here =
                |open: &crate::state::OpenVerdict| open.group == group && open.shard == shard;
            if fold.state.open.get(&check).is_some_and(here) {
                fold.retire(check);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::command::init_cluster::DEFAULT_GROUP;
    use crate::testing::World;

    fn point(version: u64, blob: u8) -> Command {
        let pointed = Pointed {
            group: DEFAULT_GROUP,
            shard: ShardId(1),
            version: CatalogueVersion(version),
            blob: BlobHash([blob; 32]),
            checks: 10,
            gone: Vec::new(),
        };
        Command::PointCatalogue(PointCatalogue {
            pointers: vec![pointed],
        })
    }

    #[test]
    fn a_pointer_only_moves_forward() {
        let mut world = World::started();
        assert_eq!(world.apply(point(4, 1)), Reply::Done);
        assert_eq!(world.apply(point(4, 1)), Reply::Done);
        let stale = Reject::StaleCatalogue {
            current: CatalogueVersion(4),
            got: CatalogueVersion(4),
        };
        assert_eq!(world.apply(point(4, 2)), Reply::Rejected(stale));
        assert!(matches!(world.apply(point(3, 2)), Reply::Rejected(_)));
        assert_eq!(world.apply(point(5, 2)), Reply::Done);
        let pointer = world.state().catalogue[&(DEFAULT_GROUP, ShardId(1))];
        assert_eq!(pointer.blob, BlobHash([2; 32]));
    }
}
