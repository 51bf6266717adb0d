//! Who probes what: the assignment and what an agent is told of it.

use rkyv::{Archive, Deserialize, Serialize};

use crate::id::{BlobHash, CatalogueVersion, Epoch, ShardSlot};

/// One line of an agent's digest: probe this slot, under this epoch, from this blob.
///
/// The digest is always complete, so it corrects whatever was lost before it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize,
)]
pub struct Assigned {
    /// What to probe.
    pub slot: ShardSlot,
    /// Under which epoch.
    pub epoch: Epoch,
    /// Which version of the shard's catalogue.
    pub version: CatalogueVersion,
    /// The blob that holds it.
    pub blob: BlobHash,
}
