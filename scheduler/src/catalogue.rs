//! The catalogue builder: what changed in Postgres becomes blobs that agents are pointed at.
//!
//! Runs where the leader is. A new leader compares every shard's version with its pointer once, and
//! follows the change feed from there. A pointer is proposed only after its blob is stored. With
//! Postgres away the catalogue stands still and probing goes on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use picket_rt::stop::Stop;
use picket_scheduler_core::command::Command;
use picket_scheduler_core::command::{PointCatalogue, Pointed};
use picket_scheduler_core::reply::Reply;
use picket_storage::pg::PgError;
use picket_storage::pg::catalogue::{Catalogue, ShardChange};
use picket_wire::blob::{EncodeBlobError, ShardCatalogue, encode_blob};
use picket_wire::id::{BlobHash, CatalogueVersion, CheckId, GroupId, ShardId};

use crate::context::Context;
use crate::replica::ProposeError;

/// How often Postgres is asked for changes: a new endpoint is probed within a second or two.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// Shards read and pointed at in one go: some 50,000 checks of a million over 4,096 shards, or
/// some 30 MB in memory.
const SHARDS_AT_ONCE: usize = 256;

/// Why a round of building ended early.
#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error("postgres")]
    Pg(#[from] PgError),
    #[error("shard {shard} of {group} cannot be a blob")]
    Encode {
        group: GroupId,
        shard: ShardId,
        #[source]
        source: EncodeBlobError,
    },
    #[error("propose")]
    Propose(#[from] ProposeError),
    #[error("the machine refused the pointers: {0}")]
    Rejected(String),
}

/// Builds until `stop`; runs only while this member leads.
pub(crate) async fn run(ctx: Arc<Context>, stop: Stop) {
    let Some(shards) = wait_for_settings(&ctx, &stop).await else {
        return;
    };
    let builder = Builder {
        catalogue: Catalogue::new(ctx.pg.clone(), shards),
        ctx,
    };
    let mut failing = false;
    let mut feed = Feed {
        since: CatalogueVersion::default(),
        missing: builder.missing_blobs().await,
    };
    while !stop.is_requested() {
        let built = tokio::select! {
            biased;
            () = stop.requested() => return,
            built = builder.build(&mut feed) => built,
        };
        match built {
            Ok(shards) => {
                if shards > 0 {
                    tracing::info!(shards, "catalogue built");
                }
                failing = false;
            }
            Err(error) if !failing => {
                tracing::warn!(error = %picket_rt::chain(&error), "the catalogue stands still; probing goes on");
                failing = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            biased;
            () = stop.requested() => return,
            () = tokio::time::sleep(POLL_EVERY) => {}
        }
    }
}

/// The cluster's number of shards, once it has one.
async fn wait_for_settings(ctx: &Context, stop: &Stop) -> Option<u32> {
    let mut applied = ctx.replica.applied();
    loop {
        if let Some(shards) = ctx
            .replica
            .read(|state| state.settings.as_ref().map(|settings| settings.shards))
        {
            return Some(shards);
        }
        tokio::select! {
            biased;
            () = stop.requested() => return None,
            changed = applied.changed() => changed.ok()?,
        }
    }
}

/// How far the change feed was followed, and what else is to be built.
struct Feed {
    since: CatalogueVersion,
    missing: BTreeSet<(GroupId, ShardId)>,
}

struct Builder {
    catalogue: Catalogue,
    ctx: Arc<Context>,
}

impl Builder {
    /// One round: what changed, and what is pointed at but held by no member. Returns how many
    /// shards were built.
    async fn build(&self, feed: &mut Feed) -> Result<usize, BuildError> {
        let changes = self.catalogue.changes_since(feed.since).await?;
        let newest = changes.last().map(|change| change.version);
        let mut wanted: BTreeSet<_> = changes
            .iter()
            .filter(|change| self.is_news(change))
            .map(place)
            .collect();
        wanted.append(&mut feed.missing.clone());
        let wanted: Vec<_> = wanted.into_iter().collect();
        for some in wanted.chunks(SHARDS_AT_ONCE) {
            self.build_shards(some).await?;
        }
        feed.missing.clear();
        feed.since = newest.unwrap_or(feed.since);
        Ok(wanted.len())
    }

    /// Whether the machine does not point at this version yet.
    fn is_news(&self, change: &ShardChange) -> bool {
        let pointed = self.ctx.replica.read(|state| {
            state
                .catalogue
                .get(&place(change))
                .map(|pointer| pointer.version)
        });
        pointed.is_none_or(|pointed| change.version > pointed)
    }

    /// Shards that are pointed at whose blob nobody has: every cache may lose its oldest.
    async fn missing_blobs(&self) -> BTreeSet<(GroupId, ShardId)> {
        let pointers: Vec<_> = self.ctx.replica.read(|state| {
            let each = state
                .catalogue
                .iter()
                .filter(|(_, pointer)| pointer.checks > 0);
            each.map(|(&place, pointer)| (place, pointer.blob))
                .collect()
        });
        let mut missing = BTreeSet::new();
        for (place, blob) in pointers {
            if self.ctx.blobs.get(&blob).await.is_none() {
                missing.insert(place);
            }
        }
        missing
    }

    /// Reads shards, stores their blobs, then points at those that are new. A blob that was only
    /// missing has the version, the bytes and the name that are pointed at already.
    async fn build_shards(&self, wanted: &[(GroupId, ShardId)]) -> Result<(), BuildError> {
        let mut pointers = Vec::with_capacity(wanted.len());
        for shard in &self.catalogue.shards_checks(wanted).await? {
            let pointed = self.store(shard)?;
            let change = ShardChange {
                group: pointed.group,
                shard: pointed.shard,
                version: pointed.version,
            };
            if self.is_news(&change) {
                pointers.push(pointed);
            }
        }
        if pointers.is_empty() {
            return Ok(());
        }
        match self
            .ctx
            .replica
            .propose(Command::PointCatalogue(PointCatalogue { pointers }))
            .await?
        {
            Reply::Rejected(reject) => Err(BuildError::Rejected(reject.to_string())),
            _ => Ok(()),
        }
    }

    fn store(&self, shard: &ShardCatalogue) -> Result<Pointed, BuildError> {
        let &ShardCatalogue {
            group,
            shard: number,
            version,
            ref checks,
        } = shard;
        let bytes = encode_blob(shard).map_err(|source| BuildError::Encode {
            group,
            shard: number,
            source,
        })?;
        let blob: BlobHash = self.ctx.blobs.put(bytes);
        let present: BTreeSet<CheckId> = checks.iter().map(|check| check.id).collect();
        let gone = self.ctx.replica.read(|state| {
            state
                .index
                .open_in(group, number)
                .filter(|check| !present.contains(check))
                .collect()
        });
        let checks =
            u32::try_from(checks.len()).expect("a blob holds at most SHARD_CHECKS_MAX checks");
        Ok(Pointed {
            group,
            shard: number,
            version,
            blob,
            checks,
            gone,
        })
    }
}

const fn place(change: &ShardChange) -> (GroupId, ShardId) {
    (change.group, change.shard)
}
