//! The 32 bytes in front of every payload: what it is, how long it is, whether it arrived whole.
//!
//! Written by hand, so that a reader of any schema can still tell a message of another one. All
//! integers are little-endian.
//!
//! | offset | bytes | field | meaning |
//! |---:|---:|---|---|
//! | 0 | 2 | magic | `0xF1 0x50`; the first byte begins no text and no TLS record |
//! | 2 | 2 | schema | format of everything behind it, [`SCHEMA_MIN`] to [`SCHEMA_MAX`] |
//! | 4 | 1 | kind | [`Kind`]: which message |
//! | 5 | 1 | codec and flags | low half [`Codec`]; high half flags, none defined, zero |
//! | 6 | 2 | group | placement group, 0 where the message concerns none |
//! | 8 | 2 | shard | shard, 0 where the message concerns none |
//! | 10 | 4 | epoch | epoch, 0 where none |
//! | 14 | 6 | seq | place in a lane, 0 where none |
//! | 20 | 4 | base time | Unix seconds, 1970 to 2106, 0 where none |
//! | 24 | 4 | length | bytes of payload |
//! | 28 | 4 | checksum | CRC32C of bytes 0 to 27 and the payload |
//!
//! Groups and shards fit two bytes by [`GROUP_MAX`] and [`SHARDS_MAX`]; six bytes of sequence
//! last nine million years at one batch a second.

use crate::id::{Epoch, GroupId, Seq, ShardId};
use crate::limits::{ENROL_MAX_BYTES, GROUP_MAX, PAYLOAD_MAX_BYTES, SHARDS_MAX};

/// Length of the envelope.
pub const ENVELOPE_BYTES: usize = 32;
/// Lowest schema that this build reads.
pub const SCHEMA_MIN: u16 = 1;
/// Highest schema that this build reads, and the one it writes.
pub const SCHEMA_MAX: u16 = 1;

const MAGIC: [u8; 2] = [0xF1, 0x50];
/// Bytes that the checksum covers before the payload.
const SUMMED_BYTES: usize = 28;
/// First sequence number that six bytes cannot hold.
const SEQ_END: u64 = 1 << 48;

const _: () = assert!(SHARDS_MAX - 1 <= u16::MAX as u32 && GROUP_MAX <= u16::MAX as u32);
const _: () = assert!(SCHEMA_MIN <= SCHEMA_MAX);

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $code:literal;)*) => {
        /// What a payload is. Numbers are part of the wire: never reuse one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $variant = $code,)*
        }

        impl Kind {
            /// Every kind, in the order of its code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number on the wire.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)* }
            }

            /// The kind with this number, if there is one.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

kinds! {
    /// [`crate::control::FromAgent`].
    FromAgent = 1;
    /// [`crate::control::ToAgent`].
    ToAgent = 2;
    /// [`crate::evidence::EvidenceBatch`].
    Evidence = 3;
    /// [`crate::lane::rollup::RollupBatch`].
    Rollup = 4;
    /// [`crate::lane::live::LiveSecond`].
    Live = 5;
    /// [`crate::control::EnrolRequest`].
    EnrolRequest = 6;
    /// [`crate::control::EnrolReply`].
    EnrolReply = 7;
    /// [`crate::blob::ShardCatalogue`].
    Catalogue = 8;
    /// [`crate::peer::PeerRequest`].
    PeerRequest = 9;
    /// [`crate::peer::PeerReply`].
    PeerReply = 10;
    /// An entry of the Raft log; disk and Raft messages only.
    RaftEntry = 32;
    /// What a member remembers besides the log: vote, committed; disk only.
    RaftState = 33;
    /// The whole state of the replicated machine; disk and Raft messages only.
    Snapshot = 34;
    /// What an agent remembers: identity, digest; disk only.
    AgentState = 35;
}

impl Kind {
    /// Longest payload of this kind; a longer one is refused before anything is allocated.
    #[must_use]
    pub const fn payload_max(self) -> usize {
        match self {
            Self::EnrolRequest => ENROL_MAX_BYTES,
            // Read from our own disk or in pieces that have their own bounds; archives reach
            // this far because their pointers are 32 bit and signed.
            Self::Snapshot => i32::MAX as usize,
            Self::FromAgent
            | Self::ToAgent
            | Self::Evidence
            | Self::Rollup
            | Self::Live
            | Self::EnrolReply
            | Self::Catalogue
            | Self::PeerRequest
            | Self::PeerReply
            | Self::RaftEntry
            | Self::RaftState
            | Self::AgentState => PAYLOAD_MAX_BYTES,
        }
    }

    /// How the payload of this kind is written.
    #[must_use]
    pub const fn codec(self) -> Codec {
        match self {
            Self::Live => Codec::Columns,
            Self::Catalogue => Codec::ZstdColumns,
            Self::FromAgent
            | Self::ToAgent
            | Self::Evidence
            | Self::Rollup
            | Self::EnrolRequest
            | Self::EnrolReply
            | Self::PeerRequest
            | Self::PeerReply
            | Self::RaftEntry
            | Self::RaftState
            | Self::Snapshot
            | Self::AgentState => Codec::Archive,
        }
    }
}

/// How a payload is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// An rkyv archive with the pinned format features.
    Archive = 0,
    /// Columns of the live lane.
    Columns = 1,
    /// Columns of a catalogue, compressed with zstd.
    ZstdColumns = 2,
}

/// What the envelope says of its payload, for those who route or log without decoding. Every
/// field is zero where the message concerns none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Placement group, at most [`GROUP_MAX`].
    pub group: GroupId,
    /// Shard, below [`SHARDS_MAX`].
    pub shard: ShardId,
    /// Epoch.
    pub epoch: Epoch,
    /// Place in the lane, below 2^48.
    pub seq: Seq,
    /// Unix seconds that times in the payload are near.
    pub base_secs: u32,
}

impl Head {
    /// A head that says nothing.
    pub const NONE: Self = Self {
        group: GroupId(0),
        shard: ShardId(0),
        epoch: Epoch(0),
        seq: Seq(0),
        base_secs: 0,
    };
}

impl Default for Head {
    fn default() -> Self {
        Self::NONE
    }
}

/// An envelope that was read, before its payload was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// Format of the payload.
    pub schema: u16,
    /// Which message.
    pub kind: Kind,
    /// What it concerns.
    pub head: Head,
    /// Bytes of payload, at most [`Kind::payload_max`].
    pub length: usize,
    /// CRC32C of the rest, by the sender.
    pub checksum: u32,
    /// CRC32C of the envelope without its checksum, by this side.
    pub head_sum: u32,
}

/// Bytes that are not an envelope this build can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not one of our messages at all.
    #[error("magic: expected f150, got {:02x}{:02x}", .0[0], .0[1])]
    Magic([u8; 2]),
    /// A schema of another time.
    #[error("schema {got} is not understood here; expected {min}..={max}")]
    Schema {
        /// What was announced.
        got: u16,
        /// [`SCHEMA_MIN`].
        min: u16,
        /// [`SCHEMA_MAX`].
        max: u16,
    },
    /// No such kind in this schema.
    #[error("kind {0} does not exist in this schema")]
    Kind(u8),
    /// Another codec than the kind's, or a flag that is not defined.
    #[error("codec and flags of {kind:?}: expected {expected:#04x}, got {got:#04x}")]
    Codec {
        /// The kind.
        kind: Kind,
        /// The byte that belongs to it.
        expected: u8,
        /// The byte that came.
        got: u8,
    },
    /// A payload longer than its kind allows.
    #[error("payload of {kind:?}: expected at most {max} bytes, {got} are announced")]
    TooLong {
        /// The kind.
        kind: Kind,
        /// [`Kind::payload_max`].
        max: usize,
        /// What was announced.
        got: usize,
    },
}

impl Envelope {
    /// Reads an envelope; its checksum is not looked at, because that needs the payload.
    ///
    /// # Errors
    /// Names the first field that this build cannot accept.
    pub fn parse(bytes: &[u8; ENVELOPE_BYTES]) -> Result<Self, EnvelopeError> {
        let (summed, _) = bytes.split_at(SUMMED_BYTES);
        let mut fields = Fields(bytes);
        let magic = fields.take();
        if magic != MAGIC {
            return Err(EnvelopeError::Magic(magic));
        }
        let schema = u16::from_le_bytes(fields.take());
        if !(SCHEMA_MIN..=SCHEMA_MAX).contains(&schema) {
            return Err(EnvelopeError::Schema {
                got: schema,
                min: SCHEMA_MIN,
                max: SCHEMA_MAX,
            });
        }
        let [code] = fields.take();
        let kind = Kind::from_code(code).ok_or(EnvelopeError::Kind(code))?;
        let [codec] = fields.take();
        let expected = kind.codec() as u8;
        if codec != expected {
            return Err(EnvelopeError::Codec {
                kind,
                expected,
                got: codec,
            });
        }
        let head = fields.head();
        // Saturates only where pointers are narrower than the wire's lengths: too long either way.
        let length = usize::try_from(u32::from_le_bytes(fields.take())).unwrap_or(usize::MAX);
        if length > kind.payload_max() {
            return Err(EnvelopeError::TooLong {
                kind,
                max: kind.payload_max(),
                got: length,
            });
        }
        let checksum = u32::from_le_bytes(fields.take());
        Ok(Self {
            schema,
            kind,
            head,
            length,
            checksum,
            head_sum: crc32c::crc32c(summed),
        })
    }

    /// Whether `payload` is what the sender summed up.
    #[must_use]
    pub fn matches(&self, payload: &[u8]) -> bool {
        crc32c::crc32c_append(self.head_sum, payload) == self.checksum
    }
}

/// Fills in the envelope in front of a payload: `frame` is [`ENVELOPE_BYTES`] bytes of anything,
/// followed by the payload.
///
/// # Panics
/// When the head or the payload breaks its bounds: the sender owns both, so that is a bug.
pub(crate) fn seal(frame: &mut [u8], kind: Kind, head: Head) {
    let (front, payload) = frame.split_at_mut(ENVELOPE_BYTES);
    assert!(
        payload.len() <= kind.payload_max(),
        "{kind:?} of {} bytes",
        payload.len()
    );
    assert!(
        head.seq.0 < SEQ_END,
        "seq {} does not fit the envelope",
        head.seq
    );
    let group = u16::try_from(head.group.0).expect("groups are bounded by GROUP_MAX");
    let shard = u16::try_from(head.shard.0).expect("shards are bounded by SHARDS_MAX");
    let length = u32::try_from(payload.len()).expect("payload_max fits 32 bits");
    let [seq @ .., _, _] = head.seq.0.to_le_bytes();

    let (summed, checksum) = front.split_at_mut(SUMMED_BYTES);
    let mut rest = &mut *summed;
    let mut put = |bytes: &[u8]| {
        let (to, after) = std::mem::take(&mut rest).split_at_mut(bytes.len());
        to.copy_from_slice(bytes);
        rest = after;
    };
    put(&MAGIC);
    put(&SCHEMA_MAX.to_le_bytes());
    put(&[kind.code(), kind.codec() as u8]);
    put(&group.to_le_bytes());
    put(&shard.to_le_bytes());
    put(&head.epoch.0.to_le_bytes());
    put(&seq);
    put(&head.base_secs.to_le_bytes());
    put(&length.to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(summed), payload);
    checksum.copy_from_slice(&sum.to_le_bytes());
}

/// A cursor over the fixed fields.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self
            .0
            .split_first_chunk()
            .expect("the fields of the table add up to the envelope");
        self.0 = rest;
        *field
    }

    fn head(&mut self) -> Head {
        let group = GroupId(u16::from_le_bytes(self.take()).into());
        let shard = ShardId(u16::from_le_bytes(self.take()).into());
        let epoch = Epoch(u32::from_le_bytes(self.take()));
        let [a, b, c, d, e, f] = self.take();
        let seq = Seq(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]));
        Head {
            group,
            shard,
            epoch,
            seq,
            base_secs: u32::from_le_bytes(self.take()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let head = Head {
            group: GroupId(GROUP_MAX),
            shard: ShardId(SHARDS_MAX - 1),
            epoch: Epoch(u32::MAX),
            seq: Seq(SEQ_END - 1),
            base_secs: u32::MAX,
        };
        let mut frame = vec![0; ENVELOPE_BYTES];
        frame.extend_from_slice(payload);
        seal(&mut frame, Kind::Evidence, head);
        frame
    }

    fn parse(frame: &[u8]) -> Result<Envelope, EnvelopeError> {
        Envelope::parse(frame.first_chunk().unwrap())
    }

    #[test]
    fn the_largest_values_come_back() {
        let envelope = parse(&frame(b"abc")).unwrap();
        assert_eq!((envelope.kind, envelope.length), (Kind::Evidence, 3));
        assert_eq!(envelope.head.group, GroupId(GROUP_MAX));
        assert_eq!(envelope.head.shard, ShardId(SHARDS_MAX - 1));
        assert_eq!(envelope.head.epoch, Epoch(u32::MAX));
        assert_eq!(envelope.head.seq, Seq(SEQ_END - 1));
        assert_eq!(envelope.head.base_secs, u32::MAX);
        assert!(envelope.matches(b"abc"));
        assert!(!envelope.matches(b"abd"));
    }

    #[test]
    fn an_unknown_schema_is_refused_with_the_range_that_is_known() {
        let mut frame = frame(b"");
        frame[2] = 9;
        let error = parse(&frame).unwrap_err();
        assert_eq!(
            error,
            EnvelopeError::Schema {
                got: 9,
                min: SCHEMA_MIN,
                max: SCHEMA_MAX
            }
        );
        assert_eq!(
            error.to_string(),
            "schema 9 is not understood here; expected 1..=1"
        );
    }

    #[test]
    fn a_length_beyond_the_kind_is_refused_before_any_payload() {
        let mut frame = frame(b"");
        frame[4] = Kind::EnrolRequest.code();
        frame[24..28].copy_from_slice(&0x0100_0000_u32.to_le_bytes());
        assert!(matches!(parse(&frame), Err(EnvelopeError::TooLong { .. })));
    }

    #[test]
    fn a_flag_that_is_not_defined_is_refused() {
        let mut frame = frame(b"");
        frame[5] |= 0x10;
        assert!(matches!(
            parse(&frame),
            Err(EnvelopeError::Codec { got: 0x10, .. })
        ));
    }

    #[test]
    fn codes_lead_back_to_their_kind() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(Kind::from_code(0), None);
    }
}
