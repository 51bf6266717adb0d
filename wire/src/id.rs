//! Typed identifiers and the counters that order things.
//!
//! An id prints as `prefix_value` and parses from exactly that, so that an id copied from a log,
//! a table or a page says what it names. Counters only ever move forward.

#![allow(
    missing_debug_implementations,
    reason = "rkyv's derive writes resolvers without it; our own types have it"
)]

use std::fmt;
use std::str::FromStr;

use rkyv::{Archive, Deserialize, Serialize};

/// Text that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an id like `{prefix}_42`, got `{text}`")]
pub struct ParseIdError {
    /// The prefix that was expected.
    pub prefix: &'static str,
    /// What was given, cut at 64 characters.
    pub text: String,
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $int:ty, $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize,
        )]
        pub struct $name(pub $int);

        impl $name {
            /// The prefix of the text form.
            pub const PREFIX: &'static str = $prefix;
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                    .and_then(|digits| digits.parse().ok())
                    .map(Self)
                    .ok_or_else(|| ParseIdError {
                        prefix: $prefix,
                        text: text.chars().take(64).collect(),
                    })
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some(concat!("^", $prefix, "_[0-9]+$")))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

typed_id!(
    /// What a customer cares about; owns endpoints.
    SiteId, u64, "sit"
);
typed_id!(
    /// One address of a site.
    EndpointId, u64, "end"
);
typed_id!(
    /// One kind of probe of one endpoint; the unit that is scheduled.
    CheckId, u64, "chk"
);
typed_id!(
    /// The interval a human cares about.
    IncidentId, u64, "inc"
);
typed_id!(
    /// Incidents that share one cause and are told as one.
    NotificationGroupId, u64, "ngr"
);
typed_id!(
    /// One confirmation that the machine asked for.
    OrderId, u64, "ord"
);
typed_id!(
    /// An enrolled probe agent.
    AgentId, u32, "agt"
);
typed_id!(
    /// A scheduler process, voter or learner.
    MemberId, u64, "mem"
);
typed_id!(
    /// Endpoints with the same regions and replica count.
    GroupId, u32, "pgr"
);
typed_id!(
    /// A fixed hash bucket of endpoints inside one placement group.
    ShardId, u32, "shd"
);
typed_id!(
    /// A configured webhook receiver.
    WebhookId, u32, "whk"
);
typed_id!(
    /// A join token's or API token's public half.
    TokenId, u32, "tok"
);
typed_id!(
    /// A maintenance window or silence.
    MaintenanceId, u32, "mnt"
);

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize,
            Deserialize, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub $int);

        impl $name {
            /// The value after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }

            /// Moves forward.
            ///
            /// # Panics
            /// When `to` lies behind: a counter that runs backwards is a bug, never an input.
            pub fn advance_to(&mut self, to: Self) {
                assert!(to >= *self, "counter moved backwards: {self:?} to {to:?}");
                *self = to;
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// Raised at each change of a shard slot's owner; fences old owners at the sink. The first is 1.
    Epoch, u32
);
counter!(
    /// Raised when an agent enrols again or loses its spool. The first is 1.
    Incarnation, u32
);
counter!(
    /// Position in one lane of one incarnation: dense, the first is 1; 0 means “nothing yet”.
    Seq, u64
);
counter!(
    /// Position of a fact in the order of all facts: dense, the first is 1; 0 means “none yet”.
    FactSeq, u64
);
counter!(
    /// Version of one shard's catalogue: grows with every change. 0 means “none yet”.
    CatalogueVersion, u64
);

/// The n-th concurrent owner of a shard; two slots of one shard stand in different regions.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Slot(pub u8);

/// What is assigned: one slot of one shard of one placement group.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct ShardSlot {
    /// The placement group.
    pub group: GroupId,
    /// The shard inside it.
    pub shard: ShardId,
    /// The owner's number.
    pub slot: Slot,
}

impl fmt::Display for ShardSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.group, self.shard, self.slot.0)
    }
}

/// BLAKE3 of a blob's bytes: its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize)]
pub struct BlobHash(pub [u8; 32]);

impl BlobHash {
    /// Names `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The first eight bytes, which a digest carries in place of the whole.
    #[must_use]
    pub fn prefix(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blob {:016x}…", self.prefix().swap_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_prints() {
        let id = EndpointId(42);
        assert_eq!(id.to_string(), "end_42");
        assert_eq!("end_42".parse(), Ok(id));
    }

    #[test]
    fn a_foreign_prefix_a_sign_or_junk_is_refused() {
        for text in [
            "chk_42",
            "end_",
            "end_+1",
            "end_-1",
            "end_4 2",
            "42",
            "end_99999999999999999999",
        ] {
            let error = text.parse::<EndpointId>().expect_err(text);
            assert_eq!(error.prefix, "end");
        }
    }

    #[test]
    #[should_panic(expected = "counter moved backwards")]
    fn a_counter_never_moves_backwards() {
        let mut seq = Seq(4);
        seq.advance_to(Seq(3));
    }
}
