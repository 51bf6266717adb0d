//! Catalogue blobs: kept here by name, fetched from another member when missing.
//!
//! A blob's name is the hash of its bytes, so a copy from anywhere is as good as the original and
//! nothing here is ever stale. Losing one costs a fetch, losing all of them a rebuild from Postgres.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use picket_storage::blob::BlobStore;
use picket_wire::blob::{ShardCatalogue, decode_blob};
use picket_wire::id::BlobHash;
use picket_wire::peer::{PeerReply, PeerRequest};

use crate::peers::Peers;

/// How long one member may take to send a blob of some 100 KB.
const FETCH_WITHIN: Duration = Duration::from_secs(3);
/// Decoded shards kept at hand: a storm's orders ask for few shards again and again, and a decoded
/// shard of a full cell has some 300 KB.
const DECODED_MAX: usize = 64;

/// The last shards that were decoded, oldest first.
type Decoded = VecDeque<(BlobHash, Arc<ShardCatalogue>)>;

/// A handle on the blobs. Clones share everything.
#[derive(Clone)]
pub struct Blobs {
    store: Arc<BlobStore>,
    peers: Peers,
    decoded: Arc<Mutex<Decoded>>,
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blobs")
    }
}

impl Blobs {
    pub(crate) fn new(store: BlobStore, peers: Peers) -> Self {
        Self {
            store: Arc::new(store),
            peers,
            decoded: Arc::default(),
        }
    }

    /// Keeps `bytes`; returns their name.
    pub fn put(&self, bytes: Vec<u8>) -> BlobHash {
        self.store.put(Bytes::from(bytes))
    }

    /// The blob of this name, from here or from another member.
    pub async fn get(&self, hash: &BlobHash) -> Option<Bytes> {
        match self.local(hash).await {
            Some(bytes) => Some(bytes),
            None => self.fetch(hash).await,
        }
    }

    /// The blob of this name, if it is here.
    pub(crate) async fn local(&self, hash: &BlobHash) -> Option<Bytes> {
        self.store.get(hash).await
    }

    /// The shard that a blob describes. A few are kept decoded.
    pub async fn shard(&self, hash: &BlobHash) -> Option<Arc<ShardCatalogue>> {
        if let Some(shard) = self.at_hand(hash) {
            return Some(shard);
        }
        let bytes = self.get(hash).await?;
        match decode_blob(&bytes) {
            Ok(shard) => Some(self.remember(*hash, Arc::new(shard))),
            Err(error) => {
                tracing::error!(?hash, %error, "a catalogue blob does not read");
                None
            }
        }
    }

    async fn fetch(&self, hash: &BlobHash) -> Option<Bytes> {
        for member in self.peers.ids() {
            let reply = self
                .peers
                .request(member, &PeerRequest::Blob(*hash), FETCH_WITHIN)
                .await;
            if let Ok(PeerReply::Blob(Some(bytes))) = reply
                && BlobHash::of(&bytes) == *hash
            {
                let bytes = Bytes::from(bytes);
                self.store.put(bytes.clone());
                return Some(bytes);
            }
        }
        None
    }

    fn at_hand(&self, hash: &BlobHash) -> Option<Arc<ShardCatalogue>> {
        let decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        decoded
            .iter()
            .find(|(name, _)| name == hash)
            .map(|(_, shard)| Arc::clone(shard))
    }

    fn remember(&self, hash: BlobHash, shard: Arc<ShardCatalogue>) -> Arc<ShardCatalogue> {
        let mut decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        if decoded.len() == DECODED_MAX {
            decoded.pop_front();
        }
        decoded.push_back((hash, Arc::clone(&shard)));
        shard
    }

    /// Writes what is still on its way to disk.
    pub(crate) async fn close(&self) {
        if let Err(error) = self.store.close().await {
            tracing::warn!(error = %picket_rt::chain(&error), "the blob cache did not close cleanly");
        }
    }
}
