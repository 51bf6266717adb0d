//! An enrolled agent, as the machine knows it.

use picket_wire::id::{Incarnation, Seq};
use picket_wire::name::Name;
use picket_wire::time::Timestamp;
use rkyv::{Archive, Deserialize, Serialize};

/// An enrolled agent. It is never forgotten: its id appears in facts.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Agent {
    /// Name for people; unique among agents that are not revoked.
    pub name: Name,
    /// Where it stands.
    pub region: Name,
    /// Where inside the region.
    pub zone: Name,
    /// Its ASN or provider.
    pub network: Name,
    /// SHA-256 of its public key.
    pub fingerprint: [u8; 32],
    /// Its share of the load, relative to other agents of its region; 100 is plain.
    pub weight: u16,
    /// The incarnation that counts.
    pub incarnation: Incarnation,
    /// Last batch of that incarnation's evidence lane whose effect is in this state.
    pub watermark: Seq,
    /// What it may do.
    pub standing: Standing,
    /// When it was first admitted.
    pub admitted_at: Timestamp,
}

impl Agent {
    /// The weight of an agent that says nothing else.
    pub const WEIGHT_PLAIN: u16 = 100;

    /// Whether its certificate counts no more.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.standing == Standing::Revoked
    }

    /// Whether it gives its shards away.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.standing == Standing::Drained
    }

    /// The vantage it looks from.
    #[must_use]
    pub fn vantage(&self) -> (&Name, &Name) {
        (&self.region, &self.network)
    }
}

/// What an agent may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Standing {
    /// It takes shards and votes.
    Serving,
    /// It gives its shards away, and is no longer counted on as a voter.
    Drained,
    /// Nothing; final.
    Revoked,
}
