//! Catalogue blobs: kept here by name, fetched from another member when missing.
//!
//! A blob's name is the hash of its bytes, so a copy from anywhere is as good as the original and
//! nothing here is ever stale. Every member keeps what the machine points at, so that whoever is
//! elected can confirm and serve at once, with Postgres away too. Losing a blob costs a fetch,
//! losing all copies a rebuild from Postgres.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use picket_rt::stop::Stop;
use picket_storage::blob::BlobStore;
use picket_wire::blob::{ShardCatalogue, decode_blob};
use picket_wire::id::BlobHash;
use picket_wire::peer::{PeerReply, PeerRequest};

use crate::peers::Peers;
use crate::replica::ReplicaHandle;

/// How long one member may take to send a blob of some 100 KB.
const FETCH_WITHIN: Duration = Duration::from_secs(3);
/// Blobs fetched side by side: enough to hide the round trip, few beside what else a member sends.
const FETCH_AT_ONCE: usize = 8;
/// Pause between two looks at what is missing.
const KEEP_EVERY: Duration = Duration::from_secs(1);
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
            None => self.fetch(*hash).await,
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

    /// Asks every other member at once: one of them may have just died, and does not answer.
    async fn fetch(&self, hash: BlobHash) -> Option<Bytes> {
        let request = PeerRequest::Blob(hash);
        let ask = |member| self.peers.request(member, &request, FETCH_WITHIN);
        let mut replies: FuturesUnordered<_> = self.peers.ids().map(ask).collect();
        while let Some(reply) = replies.next().await {
            if let Ok(PeerReply::Blob(Some(bytes))) = reply
                && BlobHash::of(&bytes) == hash
            {
                let bytes = Bytes::from(bytes);
                self.store.put(bytes.clone());
                return Some(bytes);
            }
        }
        None
    }

    fn missing(&self, replica: &ReplicaHandle) -> BTreeSet<BlobHash> {
        let pointed: BTreeSet<_> = replica.read(|state| {
            let filled = state
                .catalogue
                .values()
                .filter(|pointer| pointer.checks > 0);
            filled.map(|pointer| pointer.blob).collect()
        });
        let missing = pointed.into_iter();
        missing.filter(|hash| !self.store.may_have(hash)).collect()
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

/// Keeps every blob that the machine points at, on every member, until `stop`.
pub(crate) async fn keep(blobs: Blobs, replica: ReplicaHandle, stop: Stop) {
    let mut applied = replica.applied();
    loop {
        let placement = applied.borrow_and_update().placement;
        let missing = blobs.missing(&replica);
        let fetched = stream::iter(missing.clone())
            .map(|hash| blobs.fetch(hash))
            .buffer_unordered(FETCH_AT_ONCE)
            .filter(|fetched| std::future::ready(fetched.is_some()))
            .count();
        let fetched = tokio::select! {
            biased;
            () = stop.requested() => return,
            fetched = fetched => fetched,
        };
        if fetched > 0 {
            tracing::debug!(
                fetched,
                missing = missing.len(),
                "catalogue blobs were fetched"
            );
        }
        let again = async {
            tokio::time::sleep(KEEP_EVERY).await;
            if fetched == missing.len() {
                let moved = applied.wait_for(|applied| applied.placement != placement);
                moved.await.is_ok()
            } else {
                true
            }
        };
        let again = tokio::select! {
            biased;
            () = stop.requested() => return,
            again = again => again,
        };
        if !again {
            return;
        }
    }
}
