//! A configured receiver of notifications.

use std::fmt;

use picket_wire::time::Timestamp;
use rkyv::{Archive, Deserialize, Serialize};

/// Where notifications are sent, and the secret that signs them.
#[derive(Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Webhook {
    /// Its `http` or `https` URL.
    pub url: String,
    /// The shared secret. It must be readable to sign, so it is kept as it is; snapshots and the
    /// log are as secret as it.
    pub secret: String,
    /// When it was first put.
    pub created_at: Timestamp,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            url,
            secret: _,
            created_at,
        } = self;
        f.debug_struct("Webhook")
            .field("url", url)
            .field("created_at", created_at)
            .finish_non_exhaustive()
    }
}
