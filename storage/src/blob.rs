//! Catalogue blobs by content: memory in front of disk, both bounded.
//!
//! A blob is named by the BLAKE3 of its bytes, so it never changes and can come from anywhere. The
//! cache underneath (foyer) may drop an entry at any time, loses what was not flushed when the
//! process is killed, and has been known to return the wrong bytes; so every read is verified, a
//! mismatch is a miss, and a miss means: build the blob again from Postgres or ask a peer. Nothing
//! that cannot be had again belongs here.
//!
//! Owner: clonable; each call takes `&self`. [`BlobStore::close`] flushes memory to disk and is the
//! last call.

use std::io::{Read, Write};
use std::path::PathBuf;

use bytes::Bytes;
use foyer::{
    BlockEngineConfig, Code, DeviceBuilder as _, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy, PsyncIoEngineConfig, RecoverMode,
};
use picket_wire::id::BlobHash;
use picket_wire::limits::PAYLOAD_MAX_BYTES;

/// Disk space is given back in blocks of this size, and an entry must fit one: the longest blob
/// and its framing do.
const BLOCK_BYTES: usize = 2 * PAYLOAD_MAX_BYTES;
/// Fewer blocks than this and the writer waits for the reclaimer at every turn.
const BLOCKS_MIN: usize = 4;
/// Locks that the memory part is split by. A blob counts against its part alone, so a part must
/// hold the longest blob several times over.
const MEMORY_SHARDS: usize = 4;
/// Memory below which a part of the cache could not hold a single blob of the longest kind.
const MEMORY_MIN_BYTES: usize = MEMORY_SHARDS * 2 * PAYLOAD_MAX_BYTES;
/// Reads answered, by what answered them.
const READS: &str = "picket_blob_reads_total";
/// Entries whose bytes did not match their name.
const MISMATCHES: &str = "picket_blob_mismatches_total";

/// Where blobs are kept and how many.
#[derive(Debug, Clone)]
pub struct BlobSettings {
    /// A directory of its own.
    pub dir: PathBuf,
    /// Bytes kept in memory; at least 64 MiB, which is only taken when there are blobs to fill it.
    pub memory_bytes: usize,
    /// Bytes kept on disk; at least 64 MiB. The files grow as they are written to.
    pub disk_bytes: usize,
}

/// The cache.
#[derive(Debug, Clone)]
pub struct BlobStore {
    cache: HybridCache<Key, Blob>,
}

impl BlobStore {
    /// Opens or creates the cache. What cannot be recovered is forgotten.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub async fn open(settings: BlobSettings) -> Result<Self, OpenBlobsError> {
        let device = FsDeviceBuilder::new(&settings.dir)
            .with_capacity(settings.disk_bytes.max(BLOCKS_MIN * BLOCK_BYTES))
            .build()?;
        let cache = HybridCacheBuilder::new()
            .with_name("blobs")
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .memory(settings.memory_bytes.max(MEMORY_MIN_BYTES))
            .with_shards(MEMORY_SHARDS)
            .with_weighter(|_: &Key, blob: &Blob| size_of::<Key>() + blob.0.len())
            .storage()
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(BlockEngineConfig::new(device).with_block_size(BLOCK_BYTES))
            .with_recover_mode(RecoverMode::Quiet)
            .build()
            .await?;
        Ok(Self { cache })
    }

    /// Keeps a blob and returns its name. A blob longer than a message may be is named and not
    /// kept.
    pub fn put(&self, blob: Bytes) -> BlobHash {
        let hash = BlobHash::of(&blob);
        if blob.len() <= PAYLOAD_MAX_BYTES {
            drop(self.cache.insert(Key(hash.0), Blob(blob)));
        }
        hash
    }

    /// Whether the cache seems to have the blob: cheap, and wrong now and then.
    #[must_use]
    pub fn may_have(&self, hash: &BlobHash) -> bool {
        self.cache.contains(&Key(hash.0))
    }

    /// The blob of that name, if the cache still has it.
    pub async fn get(&self, hash: &BlobHash) -> Option<Bytes> {
        let key = Key(hash.0);
        let found = match self.cache.get(&key).await {
            Ok(found) => found.map(|entry| entry.value().0.clone()),
            Err(error) => {
                tracing::warn!(blob = %hash, %error, "blob cache cannot read; taken as a miss");
                None
            }
        };
        let blob = found.filter(|blob| {
            let matches = BlobHash::of(blob) == *hash;
            if !matches {
                metrics::counter!(MISMATCHES).increment(1);
                tracing::warn!(blob = %hash, "blob cache returned other bytes; forgotten");
                self.cache.remove(&key);
            }
            matches
        });
        let answer = if blob.is_some() { "hit" } else { "miss" };
        metrics::counter!(READS, "answer" => answer).increment(1);
        blob
    }

    /// Writes what is only in memory to disk and stops. What a killed process had not written is
    /// a miss afterwards.
    ///
    /// # Errors
    /// When the disk refuses; the cache is then merely colder at the next start.
    pub async fn close(&self) -> Result<(), CloseBlobsError> {
        Ok(self.cache.close().await?)
    }
}

/// The cache could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the blob cache")]
pub struct OpenBlobsError(#[from] foyer::Error);

/// The cache could not be flushed.
#[derive(Debug, thiserror::Error)]
#[error("cannot flush the blob cache")]
pub struct CloseBlobsError(#[from] foyer::Error);

/// A blob's name as the cache stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key([u8; 32]);

impl Code for Key {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        writer.write_all(&self.0).map_err(foyer::Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut bytes = [0; 32];
        reader
            .read_exact(&mut bytes)
            .map_err(foyer::Error::io_error)?;
        Ok(Self(bytes))
    }

    fn estimated_size(&self) -> usize {
        size_of::<Self>()
    }
}

/// A blob as the cache stores it: the length is checked before anything is allocated, which the
/// cache's own coding of bytes does not do.
#[derive(Debug, Clone)]
struct Blob(Bytes);

impl Code for Blob {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        (self.0.len() as u64).encode(writer)?;
        writer.write_all(&self.0).map_err(foyer::Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let len = u64::decode(reader)?;
        let mut bytes = Vec::new();
        if len <= PAYLOAD_MAX_BYTES as u64 {
            reader
                .take(len)
                .read_to_end(&mut bytes)
                .map_err(foyer::Error::io_error)?;
        }
        if bytes.len() as u64 == len {
            return Ok(Self(bytes.into()));
        }
        Err(foyer::Error::new(
            foyer::ErrorKind::Parse,
            "a blob has another length than it says",
        ))
    }

    fn estimated_size(&self) -> usize {
        size_of::<u64>() + self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn other_bytes_under_a_name_are_a_miss_and_forgotten() {
        let dir = std::env::temp_dir().join(format!("picket-blob-{}", std::process::id()));
        let settings = BlobSettings {
            dir: dir.clone(),
            memory_bytes: 0,
            disk_bytes: 0,
        };
        let store = BlobStore::open(settings).await.expect("the cache opens");
        let hash = BlobHash::of(b"right");
        drop(
            store
                .cache
                .insert(Key(hash.0), Blob(Bytes::from_static(b"wrong"))),
        );
        assert_eq!(store.get(&hash).await, None);
        assert_eq!(store.put(Bytes::from_static(b"right")), hash);
        assert_eq!(store.get(&hash).await, Some(Bytes::from_static(b"right")));
        store.close().await.expect("flushed");
        drop(std::fs::remove_dir_all(dir));
    }
}
