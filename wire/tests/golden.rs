//! The bytes of every message, pinned: a change of the format shows here first.
//!
//! Each file holds a frame as hexadecimal text, 32 bytes a line; the first line is the envelope.
//! `UPDATE_GOLDEN=1` rewrites them. A change is right only together with a higher schema, or
//! before the first release.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "samples/messages.rs"]
mod messages;

use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};
use std::path::PathBuf;

use picket_wire::blob::{decode_blob, encode_blob};
use picket_wire::codec::{Message, decode, encode, from_bytes, to_bytes};
use picket_wire::envelope::{Head, Kind};
use picket_wire::id::{Epoch, GroupId, Seq, ShardId};

const HEAD: Head = Head {
    group: GroupId(2),
    shard: ShardId(5),
    epoch: Epoch(7),
    seq: Seq(41),
    base_secs: 1_795_253_400,
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(32) {
        line.iter()
            .for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    text
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Compares `bytes` with the file and returns what the file holds.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = folder().join(format!("{name}.hex"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, hex(bytes)).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(hex(bytes), text, "{name} is written otherwise than before");
    unhex(&text)
}

fn pinned<M: Message + PartialEq + Debug>(name: &str, message: &M) {
    let bytes = golden(name, &encode(message, HEAD));
    let (head, read) = decode::<M>(&bytes).unwrap();
    assert_eq!(
        (head, &read),
        (HEAD, message),
        "{name} is read otherwise than before"
    );
}

#[test]
fn messages_of_agents_keep_their_bytes() {
    messages::from_agent()
        .iter()
        .for_each(|(name, message)| pinned(name, message));
    pinned("evidence", &messages::evidence());
    pinned("rollup", &messages::rollup());
    pinned("live", &messages::live());
}

#[test]
fn messages_to_agents_keep_their_bytes() {
    messages::to_agent()
        .iter()
        .for_each(|(name, message)| pinned(name, message));
}

#[test]
fn enrolment_keeps_its_bytes() {
    pinned("enrol_request", &messages::enrol_request());
    messages::enrol_replies()
        .iter()
        .for_each(|(name, message)| pinned(name, message));
}

#[test]
fn messages_between_members_keep_their_bytes() {
    messages::peer_requests()
        .iter()
        .for_each(|(name, message)| pinned(name, message));
    messages::peer_replies()
        .iter()
        .for_each(|(name, message)| pinned(name, message));
}

/// A new version of zstd may find fewer bytes: then the file changes and the schema does not, as
/// long as the old file still reads.
#[test]
fn a_catalogue_keeps_its_bytes() {
    let catalogue = messages::catalogue();
    let bytes = golden("catalogue", &encode_blob(&catalogue).unwrap());
    assert_eq!(decode_blob(&bytes), Ok(catalogue));
}

#[test]
fn what_other_packages_store_keeps_its_frame() {
    let value = (7_u64, "vote".to_owned(), vec![Some(1_u32), None]);
    let bytes = golden("stored", &to_bytes(Kind::RaftState, &value));
    assert_eq!(from_bytes(Kind::RaftState, &bytes), Ok(value));
}

#[test]
fn no_golden_file_is_left_over() {
    let single = [
        "evidence",
        "rollup",
        "live",
        "enrol_request",
        "catalogue",
        "stored",
    ];
    let mut known: BTreeSet<String> = single.map(str::to_owned).into();
    known.extend(messages::from_agent().map(|(name, _)| name.to_owned()));
    known.extend(messages::to_agent().map(|(name, _)| name.to_owned()));
    known.extend(messages::enrol_replies().map(|(name, _)| name.to_owned()));
    known.extend(messages::peer_requests().map(|(name, _)| name.to_owned()));
    known.extend(messages::peer_replies().map(|(name, _)| name.to_owned()));
    for file in std::fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            known.contains(stem),
            "{} belongs to no message",
            path.display()
        );
    }
}
