//! Bytes of what members say to one another about the log, and of what the log keeps.
//!
//! Little-endian integers and length-prefixed bytes; openraft's types have no stable form of their
//! own. The transport's envelope carries version, length and checksum, so that this file only has to
//! refuse what is malformed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use openraft::{BasicNode, EntryPayload};

use super::types::{
    LogId, Membership, Proposal, RaftEntry, SnapshotMeta, StoredMembership, TypeConfig, Vote,
    log_id,
};

/// Most entries in one append; twice what openraft is told to send.
const ENTRIES_MAX: u32 = 1_024;
/// Most members in a membership; clusters have five.
const MEMBERS_MAX: u32 = 64;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub(crate) struct FrameError(pub(crate) &'static str);

/// A value with a form in bytes.
pub(crate) trait Frame: Sized {
    /// Appends the form.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads it back, from the front.
    fn read(input: &mut Bytes) -> Result<Self, FrameError>;

    /// The form alone.
    fn to_frame(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }

    /// Reads a form that fills `input` exactly.
    fn from_frame(mut input: Bytes) -> Result<Self, FrameError> {
        let value = Self::read(&mut input)?;
        if input.is_empty() {
            Ok(value)
        } else {
            Err(FrameError("frame: bytes left over"))
        }
    }
}

impl Frame for u8 {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(*self);
    }

    fn read(input: &mut Bytes) -> Result<Self, FrameError> {
        input.try_get_u8().map_err(|_short| FrameError("byte"))
    }
}

impl Frame for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u64_le(*self);
    }

    fn read(input: &mut Bytes) -> Result<Self, FrameError> {
        input
            .try_get_u64_le()
            .map_err(|_short| FrameError("integer"))
    }
}

impl Frame for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(*self));
    }

    fn read(input: &mut Bytes) -> Result<Self, FrameError> {
        match u8::read(input)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FrameError("flag")),
        }
    }
}

impl<T: Frame> Frame for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn read(input: &mut Bytes) -> Result<Self, FrameError> {
        if bool::read(input)? {
            T::read(input).map(Some)
        } else {
            Ok(None)
        }
    }
}

impl Frame for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self, out);
    }

    fn read(input: &mut Bytes) -> Result<Self, FrameError> {
        let len = take_u32(input)?;
        let len = usize::try_from(len).map_err(|_wide| FrameError("length"))?;
        if len > input.len() {
            Err(FrameError("length"))
        } else {
            Ok(input.split_to(len))
        }
    }
}

impl Frame for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    fn read(input: &mut Bytes) -> Result<Self, FrameError> {
        Self::from_utf8(Bytes::read(input)?.into()).map_err(|_utf8| FrameError("text"))
    }
}

impl Frame for LogId {
    fn put(&self, out: &mut Vec<u8>) {
        [self.leader_id.term, self.leader_id.node_id, self.index]
            .iter()
            .for_each(|n| n.put(out));
    }

    fn read(input: &mut Bytes) -> Result<Self, FrameError> {
        Ok(log_id(
            u64::read(input)?,
            u64::read(input)?,
            u64::read(input)?,
        ))
    }
}

impl Frame for Vote {
    fn put(&self, out: &mut Vec<u8>) {
        self.leader_id.term.put(out);
        self.leader_id.node_id.put(out);
        self.committed.put(out);
    }

    fn read(input: &mut Bytes) -> Result<Self, FrameError> {
        let (term, node) = (u64::read(input)?, u64::read(input)?);
        let vote = if bool::read(input)? {
            Self::new_committed(term, node)
        } else {
            Self::new(term, node)
        };
        Ok(vote)
    }
}

impl Frame for Membership {
    fn put(&self, out: &mut Vec<u8>) {
        put_len(self.get_joint_config().len(), out);
        for voters in self.get_joint_config() {
            put_len(voters.len(), out);
            voters.iter().for_each(|id| id.put(out));
        }
        put_len(self.nodes().count(), out);
        for (id, node) in self.nodes() {
            id.put(out);
            node.addr.put(out);
        }
    }

    fn read(input: &mut Bytes) -> Result<Self, FrameError> {
        let mut configs = Vec::new();
        for _ in 0..take_len(input, MEMBERS_MAX)? {
            let voters = (0..take_len(input, MEMBERS_MAX)?).map(|_| u64::read(input));
            configs.push(voters.collect::<Result<BTreeSet<u64>, FrameError>>()?);
        }
        let nodes = (0..take_len(input, MEMBERS_MAX)?)
            .map(|_| Ok((u64::read(input)?, BasicNode::new(String::read(input)?))));
        let nodes = nodes.collect::<Result<BTreeMap<u64, BasicNode>, FrameError>>()?;
        Ok(Self::new(configs, nodes))
    }
}

impl Frame for StoredMembership {
    fn put(&self, out: &mut Vec<u8>) {
        self.log_id().put(out);
        self.membership().put(out);
    }

    fn read(input: &mut Bytes) -> Result<Self, FrameError> {
        Ok(Self::new(Option::read(input)?, Membership::read(input)?))
    }
}

impl Frame for SnapshotMeta {
    fn put(&self, out: &mut Vec<u8>) {
        self.last_log_id.put(out);
        self.last_membership.put(out);
        self.snapshot_id.put(out);
    }

    fn read(input: &mut Bytes) -> Result<Self, FrameError> {
        Ok(Self {
            last_log_id: Option::read(input)?,
            last_membership: StoredMembership::read(input)?,
            snapshot_id: String::read(input)?,
        })
    }
}

impl Frame for RaftEntry {
    fn put(&self, out: &mut Vec<u8>) {
        self.log_id.put(out);
        put_payload(&self.payload, out);
    }

    fn read(input: &mut Bytes) -> Result<Self, FrameError> {
        Ok(Self {
            log_id: LogId::read(input)?,
            payload: take_payload(input)?,
        })
    }
}

/// Appends what an entry carries.
fn put_payload(payload: &EntryPayload<TypeConfig>, out: &mut Vec<u8>) {
    match payload {
        EntryPayload::Blank => 0_u8.put(out),
        EntryPayload::Normal(Proposal(bytes)) => {
            1_u8.put(out);
            bytes.put(out);
        }
        EntryPayload::Membership(membership) => {
            2_u8.put(out);
            membership.put(out);
        }
    }
}

/// Reads what an entry carries.
fn take_payload(input: &mut Bytes) -> Result<EntryPayload<TypeConfig>, FrameError> {
    match u8::read(input)? {
        0 => Ok(EntryPayload::Blank),
        1 => Bytes::read(input).map(|bytes| EntryPayload::Normal(Proposal(bytes))),
        2 => Membership::read(input).map(EntryPayload::Membership),
        _ => Err(FrameError("entry payload")),
    }
}

impl Frame for AppendEntriesRequest<TypeConfig> {
    fn put(&self, out: &mut Vec<u8>) {
        self.vote.put(out);
        self.prev_log_id.put(out);
        self.leader_commit.put(out);
        put_len(self.entries.len(), out);
        self.entries.iter().for_each(|entry| entry.put(out));
    }

    fn read(input: &mut Bytes) -> Result<Self, FrameError> {
        let (vote, prev_log_id) = (Vote::read(input)?, Option::read(input)?);
        let leader_commit = Option::read(input)?;
        let entries = (0..take_len(input, ENTRIES_MAX)?).map(|_| RaftEntry::read(input));
        let entries = entries.collect::<Result<Vec<_>, FrameError>>()?;
        Ok(Self {
            vote,
            prev_log_id,
            entries,
            leader_commit,
        })
    }
}

impl Frame for AppendEntriesResponse<u64> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Success => 0_u8.put(out),
            Self::PartialSuccess(upto) => {
                1_u8.put(out);
                upto.put(out);
            }
            Self::Conflict => 2_u8.put(out),
            Self::HigherVote(vote) => {
                3_u8.put(out);
                vote.put(out);
            }
        }
    }

    fn read(input: &mut Bytes) -> Result<Self, FrameError> {
        match u8::read(input)? {
            0 => Ok(Self::Success),
            1 => Option::read(input).map(Self::PartialSuccess),
            2 => Ok(Self::Conflict),
            3 => Vote::read(input).map(Self::HigherVote),
            _ => Err(FrameError("append reply")),
        }
    }
}

impl Frame for VoteRequest<u64> {
    fn put(&self, out: &mut Vec<u8>) {
        self.vote.put(out);
        self.last_log_id.put(out);
    }

    fn read(input: &mut Bytes) -> Result<Self, FrameError> {
        Ok(Self {
            vote: Vote::read(input)?,
            last_log_id: Option::read(input)?,
        })
    }
}

impl Frame for VoteResponse<u64> {
    fn put(&self, out: &mut Vec<u8>) {
        self.vote.put(out);
        self.vote_granted.put(out);
        self.last_log_id.put(out);
    }

    fn read(input: &mut Bytes) -> Result<Self, FrameError> {
        Ok(Self {
            vote: Vote::read(input)?,
            vote_granted: bool::read(input)?,
            last_log_id: Option::read(input)?,
        })
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_len(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn put_len(len: usize, out: &mut Vec<u8>) {
    out.put_u32_le(u32::try_from(len).expect("messages are bounded far below four gigabytes"));
}

fn take_u32(input: &mut Bytes) -> Result<u32, FrameError> {
    input
        .try_get_u32_le()
        .map_err(|_short| FrameError("length"))
}

fn take_len(input: &mut Bytes, max: u32) -> Result<u32, FrameError> {
    take_u32(input).and_then(|len| {
        if len <= max {
            Ok(len)
        } else {
            Err(FrameError("count"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        let nodes = BTreeMap::from([(1, BasicNode::new("a:1")), (2, BasicNode::new("b:2"))]);
        Membership::new(vec![BTreeSet::from([1, 2])], nodes)
    }

    fn request() -> AppendEntriesRequest<TypeConfig> {
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(Proposal(Bytes::from_static(b"what is proposed"))),
            EntryPayload::Membership(membership()),
        ];
        let entries = payloads.into_iter().zip(8..);
        AppendEntriesRequest {
            vote: Vote::new_committed(3, 2),
            prev_log_id: Some(log_id(2, 1, 7)),
            entries: entries
                .map(|(payload, index)| RaftEntry {
                    log_id: log_id(3, 2, index),
                    payload,
                })
                .collect(),
            leader_commit: None,
        }
    }

    #[test]
    fn an_append_reads_back_what_it_wrote() {
        let frame = Bytes::from(request().to_frame());
        let back =
            AppendEntriesRequest::<TypeConfig>::from_frame(frame.clone()).expect("own frame");
        assert_eq!(back.to_frame(), frame);
        assert_eq!(back.entries.len(), 3);
        assert_eq!(
            back.entries[2].payload,
            EntryPayload::Membership(membership())
        );
    }

    #[test]
    fn every_shorter_frame_is_refused() {
        let frame = Bytes::from(request().to_frame());
        for len in 0..frame.len() {
            let cut = AppendEntriesRequest::<TypeConfig>::from_frame(frame.slice(..len));
            assert!(
                cut.is_err(),
                "{len} of {} bytes were taken for a frame",
                frame.len()
            );
        }
    }

    #[test]
    fn a_snapshot_head_reads_back() {
        let meta = SnapshotMeta {
            last_log_id: Some(log_id(4, 1, 99)),
            last_membership: StoredMembership::new(Some(log_id(1, 1, 0)), membership()),
            snapshot_id: "4-1-99".to_owned(),
        };
        assert_eq!(SnapshotMeta::from_frame(meta.to_frame().into()), Ok(meta));
    }
}
