//! From values to frames and back: envelope, archive, bounds.
//!
//! A frame is an envelope ([`crate::envelope`]) and its payload. Reading takes four steps, each of
//! which trusts only the ones before: the envelope with its length, the checksum, the archive's
//! own validation, and the bounds that an archive cannot express ([`Message::check`]). No input
//! makes any of them panic or allocate more than a small multiple of its length.

mod bounds;

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;

pub use crate::codec::bounds::Breach;
pub(crate) use crate::codec::bounds::rule;
use crate::envelope::{ENVELOPE_BYTES, Envelope, EnvelopeError, Head, Kind, seal};

/// Something that crosses a process boundary as one frame.
pub trait Message: Sized {
    /// Its number in the envelope.
    const KIND: Kind;

    /// Appends the payload.
    fn write(&self, out: &mut Vec<u8>);

    /// Reads a payload, bounds not checked yet.
    ///
    /// # Errors
    /// When the bytes are not a payload of this kind.
    fn read(payload: &[u8]) -> Result<Self, DecodeError>;

    /// Checks the bounds that the format does not express. [`decode`] does; senders may.
    ///
    /// # Errors
    /// Names the first field that breaks its bound.
    fn check(&self) -> Result<(), Breach>;
}

/// Bytes that are not a frame of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than an envelope.
    #[error("expected at least {ENVELOPE_BYTES} bytes, got {0}")]
    Short(usize),
    /// Not an envelope that this build reads.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// A frame of another kind.
    #[error("expected {expected:?}, got {got:?}")]
    Kind {
        /// What the reader wanted.
        expected: Kind,
        /// What came.
        got: Kind,
    },
    /// Cut off, or followed by something else.
    #[error("payload: {announced} bytes are announced, got {got}")]
    Length {
        /// By the envelope.
        announced: usize,
        /// What came.
        got: usize,
    },
    /// Damaged on the way or on disk.
    #[error("the checksum does not match")]
    Checksum,
    /// An archive that is not valid.
    #[error("archive: {0}")]
    Archive(String),
    /// Columns that are not valid.
    #[error("columns: {0}")]
    Columns(&'static str),
    /// A value out of its bounds.
    #[error(transparent)]
    Breach(#[from] Breach),
}

/// Writes a frame.
///
/// # Panics
/// When the payload or the head breaks its bounds. Senders keep to [`crate::limits`], so that
/// would be a bug.
#[must_use]
pub fn encode<M: Message>(message: &M, head: Head) -> Vec<u8> {
    let mut frame = vec![0; ENVELOPE_BYTES];
    message.write(&mut frame);
    seal(&mut frame, M::KIND, head);
    frame
}

/// Reads a frame.
///
/// # Errors
/// When the bytes are not one whole, undamaged frame of this kind with every value in its bounds.
pub fn decode<M: Message>(frame: &[u8]) -> Result<(Head, M), DecodeError> {
    let (head, payload) = open(M::KIND, frame)?;
    let message = M::read(payload)?;
    message.check()?;
    Ok((head, message))
}

/// A value that rkyv can write and read, validated: what most derives give.
pub trait Archivable: Sized {
    /// Appends the archive of this value.
    fn archive_into(&self, out: &mut Vec<u8>);

    /// Reads an archive.
    ///
    /// # Errors
    /// When the bytes are not a valid archive of this type.
    fn from_archive(bytes: &[u8]) -> Result<Self, DecodeError>;
}

impl<T> Archivable for T
where
    T: rkyv::Archive
        + for<'a> rkyv::Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, rancor::Error>>,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>>
        + rkyv::Deserialize<T, HighDeserializer<rancor::Error>>,
{
    fn archive_into(&self, out: &mut Vec<u8>) {
        // Pointers inside an archive are relative, so it may begin anywhere.
        *out = rkyv::api::high::to_bytes_in(self, std::mem::take(out))
            .expect("writing into memory fails only beyond 2 GiB, which the kinds' bounds exclude");
    }

    fn from_archive(bytes: &[u8]) -> Result<Self, DecodeError> {
        rkyv::from_bytes(bytes).map_err(|e: rancor::Error| DecodeError::Archive(e.to_string()))
    }
}

/// Writes a value that another package owns as a frame: log entries, snapshots, saved state.
///
/// # Panics
/// When the archive is longer than [`Kind::payload_max`]: a bug of the sender.
#[must_use]
pub fn to_bytes<T: Archivable>(kind: Kind, value: &T) -> Vec<u8> {
    let mut frame = vec![0; ENVELOPE_BYTES];
    value.archive_into(&mut frame);
    seal(&mut frame, kind, Head::NONE);
    frame
}

/// Reads what [`to_bytes`] wrote. Bounds inside the value are the caller's to check.
///
/// # Errors
/// When the bytes are not one whole, undamaged frame of this kind.
pub fn from_bytes<T: Archivable>(kind: Kind, frame: &[u8]) -> Result<T, DecodeError> {
    let (_, payload) = open(kind, frame)?;
    T::from_archive(payload)
}

/// Checks everything about a frame but the inside of its payload.
pub(crate) fn open(kind: Kind, frame: &[u8]) -> Result<(Head, &[u8]), DecodeError> {
    let (front, payload) = frame
        .split_first_chunk()
        .ok_or(DecodeError::Short(frame.len()))?;
    let envelope = Envelope::parse(front)?;
    if envelope.kind != kind {
        return Err(DecodeError::Kind {
            expected: kind,
            got: envelope.kind,
        });
    }
    if envelope.length != payload.len() {
        return Err(DecodeError::Length {
            announced: envelope.length,
            got: payload.len(),
        });
    }
    if !envelope.matches(payload) {
        return Err(DecodeError::Checksum);
    }
    Ok((envelope.head, payload))
}

macro_rules! archived_messages {
    ($($kind:ident = $message:ty;)*) => {
        $(impl Message for $message {
            const KIND: Kind = Kind::$kind;

            fn write(&self, out: &mut Vec<u8>) {
                self.archive_into(out);
            }

            fn read(payload: &[u8]) -> Result<Self, DecodeError> {
                Self::from_archive(payload)
            }

            fn check(&self) -> Result<(), Breach> {
                bounds::Bounded::bounds(self)
            }
        })*
    };
}

archived_messages! {
    FromAgent = crate::control::FromAgent;
    ToAgent = crate::control::ToAgent;
    Evidence = crate::evidence::EvidenceBatch;
    Rollup = crate::lane::rollup::RollupBatch;
    EnrolRequest = crate::control::EnrolRequest;
    EnrolReply = crate::control::EnrolReply;
    PeerRequest = crate::peer::PeerRequest;
    PeerReply = crate::peer::PeerReply;
}

// The archive format follows from rkyv's cargo features, which any crate in the graph could widen
// or change. These fail to compile when integers are not little-endian, pointers not 32 bit, or
// fields aligned: an `Assigned` is then not its 53 bytes in a row.
const _: () = {
    type Digest = <crate::assignment::Assigned as rkyv::Archive>::Archived;
    type Bytes = <Vec<u8> as rkyv::Archive>::Archived;
    let _: fn(<u32 as rkyv::Archive>::Archived) = little_endian_unaligned;
    assert!(size_of::<Digest>() == 4 + 4 + 1 + 4 + 8 + 32 && align_of::<Digest>() == 1);
    assert!(size_of::<Bytes>() == 8 && align_of::<Bytes>() == 1);
};

const fn little_endian_unaligned(_: rkyv::rend::unaligned::u32_ule) {}
