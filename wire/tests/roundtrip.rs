//! Whatever is written reads back; whatever else arrives is refused or keeps its bounds.
//!
//! The properties about hostile bytes are the fuzz targets of this crate: they run with every test
//! run on the stable toolchain, seeded from valid frames, where a coverage-guided fuzzer would
//! need another one. `PROPTEST_CASES` lengthens them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "samples/messages.rs"]
mod messages;
#[path = "roundtrip/strategies.rs"]
mod strategies;

use std::fmt::Debug;

use picket_wire::blob::{decode_blob, encode_blob};
use picket_wire::check::Cadence;
use picket_wire::codec::{DecodeError, Message, decode, encode, from_bytes, to_bytes};
use picket_wire::control::{EnrolReply, EnrolRequest, FromAgent, ToAgent};
use picket_wire::envelope::{ENVELOPE_BYTES, Envelope, Head, Kind};
use picket_wire::evidence::EvidenceBatch;
use picket_wire::id::CheckId;
use picket_wire::lane::live::{
    LiveDecoder, LiveDue, LiveEncoder, LiveOrder, LiveOutcome, LiveResult, LiveSecond,
};
use picket_wire::lane::rollup::RollupBatch;
use picket_wire::latency::BUCKETS;
use picket_wire::peer::{PeerReply, PeerRequest};
use picket_wire::reason::Reason;
use picket_wire::time::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;

fn returns<M: Message + PartialEq + Debug>(message: &M) -> Result<(), TestCaseError> {
    prop_assert_eq!(message.check(), Ok(()));
    let (head, read) = decode::<M>(&encode(message, Head::NONE))?;
    prop_assert_eq!(head, Head::NONE);
    prop_assert_eq!(&read, message);
    Ok(())
}

proptest! {
    #[test]
    fn evidence_reads_back(message in strategies::evidence()) { returns(&message)?; }

    #[test]
    fn rollups_read_back(message in strategies::rollup()) { returns(&message)?; }

    #[test]
    fn messages_from_agents_read_back(message in strategies::from_agent()) { returns(&message)?; }

    #[test]
    fn messages_to_agents_read_back(message in strategies::to_agent()) { returns(&message)?; }

    #[test]
    fn enrolment_reads_back(message in strategies::enrol_request()) { returns(&message)?; }

    #[test]
    fn requests_of_members_read_back(message in strategies::peer_request()) { returns(&message)?; }

    #[test]
    fn replies_of_members_read_back(message in strategies::peer_reply()) { returns(&message)?; }

    #[test]
    fn live_seconds_read_back(message in strategies::live()) { returns(&message)?; }

    #[test]
    fn catalogues_read_back(catalogue in strategies::catalogue()) {
        let blob = encode_blob(&catalogue).unwrap();
        prop_assert_eq!(decode_blob(&blob), Ok(catalogue));
    }

    #[test]
    fn stored_values_read_back(value: (u64, Option<String>, Vec<(u8, u32)>)) {
        let bytes = to_bytes(Kind::RaftEntry, &value);
        prop_assert_eq!(from_bytes(Kind::RaftEntry, &bytes), Ok(value));
    }
}

/// One frame of every message.
fn frames() -> Vec<Vec<u8>> {
    fn all<M: Message, const N: usize>(named: [(&'static str, M); N]) -> Vec<Vec<u8>> {
        named
            .iter()
            .map(|(_, message)| encode(message, Head::NONE))
            .collect()
    }
    let mut frames = vec![
        encode(&messages::evidence(), Head::NONE),
        encode(&messages::rollup(), Head::NONE),
        encode(&messages::live(), Head::NONE),
        encode(&messages::enrol_request(), Head::NONE),
        encode_blob(&messages::catalogue()).unwrap(),
    ];
    frames.extend(all(messages::from_agent()));
    frames.extend(all(messages::to_agent()));
    frames.extend(all(messages::enrol_replies()));
    frames.extend(all(messages::peer_requests()));
    frames.extend(all(messages::peer_replies()));
    frames
}

fn attempt<M: Message>(frame: &[u8]) -> Option<DecodeError> {
    match decode::<M>(frame) {
        Ok((_, message)) => {
            assert_eq!(message.check(), Ok(()), "what was read keeps its bounds");
            let (_, again) = decode::<M>(&encode(&message, Head::NONE)).unwrap();
            assert_eq!(again.check(), Ok(()));
            None
        }
        Err(error) => Some(error),
    }
}

/// Reads a frame as what it says it is; `None` when it is accepted.
fn read_any(frame: &[u8]) -> Option<DecodeError> {
    let Some(front) = frame.first_chunk::<ENVELOPE_BYTES>() else {
        return Some(DecodeError::Short(frame.len()));
    };
    let envelope = match Envelope::parse(front) {
        Ok(envelope) => envelope,
        Err(error) => return Some(error.into()),
    };
    match envelope.kind {
        Kind::FromAgent => attempt::<FromAgent>(frame),
        Kind::ToAgent => attempt::<ToAgent>(frame),
        Kind::Evidence => attempt::<EvidenceBatch>(frame),
        Kind::Rollup => attempt::<RollupBatch>(frame),
        Kind::Live => attempt::<LiveSecond>(frame),
        Kind::EnrolRequest => attempt::<EnrolRequest>(frame),
        Kind::EnrolReply => attempt::<EnrolReply>(frame),
        Kind::PeerRequest => attempt::<PeerRequest>(frame),
        Kind::PeerReply => attempt::<PeerReply>(frame),
        Kind::Catalogue => match decode_blob(frame) {
            Ok(catalogue) => {
                assert!(
                    catalogue
                        .checks
                        .iter()
                        .all(|check| check.validate().is_ok())
                );
                assert!(encode_blob(&catalogue).is_ok());
                None
            }
            Err(error) => Some(error),
        },
        Kind::RaftEntry | Kind::RaftState | Kind::Snapshot | Kind::AgentState => {
            from_bytes::<(u64, Vec<String>)>(envelope.kind, frame).err()
        }
    }
}

/// A change of some bytes.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Repeat(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (
            any::<Index>(),
            prop::sample::select(&[0, 1, 0x7f, 0x80, 0xff][..])
        )
            .prop_map(|(at, byte)| Damage::Set(at, byte)),
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Repeat(from, to)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    match damage {
        Damage::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
        Damage::Set(at, byte) => bytes[at.index(len)] = *byte,
        Damage::Cut(at) => bytes.truncate(at.index(len)),
        Damage::Insert(at, new) => {
            let at = at.index(len);
            bytes.splice(at..at, new.iter().copied());
        }
        Damage::Repeat(from, to) => {
            let copy = bytes[from.index(len)..]
                .iter()
                .copied()
                .take(16)
                .collect::<Vec<_>>();
            let to = to.index(len);
            bytes.splice(to..to, copy);
        }
    }
}

/// Gives a payload the envelope that its sender would, however broken it is.
fn reseal(envelope: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = envelope.to_vec();
    frame[24..28].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&frame[..28]), payload);
    frame[28..].copy_from_slice(&sum.to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Twin of a fuzz target: damage on the way. The checksum finds all of it.
    #[test]
    fn a_damaged_frame_is_always_refused(
        which: Index,
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let frames = frames();
        let frame = which.get(&frames);
        let mut damaged = frame.clone();
        damages.iter().for_each(|damage| apply(&mut damaged, damage));
        prop_assert!(damaged == *frame || read_any(&damaged).is_some());
    }

    /// Twin of a fuzz target: a hostile sender, who gets the checksum right.
    #[test]
    fn a_hostile_payload_is_refused_or_keeps_its_bounds(
        which: Index,
        damages in prop::collection::vec(damage(), 1..6),
    ) {
        let frames = frames();
        let (envelope, payload) = which.get(&frames).split_at(ENVELOPE_BYTES);
        let mut payload = payload.to_vec();
        damages.iter().for_each(|damage| apply(&mut payload, damage));
        read_any(&reseal(envelope, &payload));
    }

    /// Twin of a fuzz target: damage to a catalogue below its compression.
    #[test]
    fn hostile_columns_are_refused_or_keep_their_bounds(
        damages in prop::collection::vec(damage(), 1..6),
    ) {
        let blob = encode_blob(&messages::catalogue()).unwrap();
        let (envelope, payload) = blob.split_at(ENVELOPE_BYTES);
        let mut raw = zstd::bulk::decompress(&payload[4..], 1 << 20).unwrap();
        damages.iter().for_each(|damage| apply(&mut raw, damage));
        let mut payload = u32::try_from(raw.len()).unwrap().to_le_bytes().to_vec();
        payload.extend(zstd::bulk::compress(&raw, 3).unwrap());
        read_any(&reseal(envelope, &payload));
    }

    /// Twin of a fuzz target: noise.
    #[test]
    fn noise_is_refused(
        which: Index,
        noise in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        prop_assert!(read_any(&noise).is_some());
        let frames = frames();
        let (envelope, _) = which.get(&frames).split_at(ENVELOPE_BYTES);
        read_any(&reseal(envelope, &noise));
    }

    /// Twin of a fuzz target: a second that contradicts the schedule, the memory or itself.
    #[test]
    fn a_hostile_second_is_refused_or_leads_to_existing_latencies(
        mut second in strategies::live(),
        memory_fits: bool,
    ) {
        let sizes = [1_000; _];
        second.generation = 1;
        for run in &mut second.runs {
            run.first %= 1_000;
        }
        if memory_fits {
            let due: usize = second.runs.iter().map(|run| run.due as usize).sum();
            second.memory = crc32c::crc32c(&vec![u8::MAX; due]);
        }
        let mut seen = Vec::new();
        let read = LiveDecoder::new(1, &sizes).second(&second, |result| seen.push(result));
        prop_assert!(read.is_ok() || seen.is_empty());
        let exists = |result: &LiveResult| match result.outcome {
            LiveOutcome::Ok(latency) => latency < BUCKETS,
            LiveOutcome::Failed(_) | LiveOutcome::Skipped => true,
        };
        prop_assert!(seen.iter().all(exists));
    }
}

#[test]
fn every_single_bit_counts() {
    for frame in frames() {
        for bit in 0..8 * frame.len() {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read_any(&damaged).is_some(), "bit {bit}");
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    for frame in frames() {
        assert!((0..frame.len()).all(|len| read_any(&frame[..len]).is_some()));
    }
}

#[test]
fn a_frame_of_another_kind_is_named() {
    let frame = encode(&messages::evidence(), Head::NONE);
    let error = decode::<RollupBatch>(&frame).unwrap_err();
    assert_eq!(
        error,
        DecodeError::Kind {
            expected: Kind::Rollup,
            got: Kind::Evidence
        }
    );
}

fn outcome() -> impl Strategy<Value = LiveOutcome> {
    prop_oneof![
        8 => (0..BUCKETS).prop_map(LiveOutcome::Ok),
        1 => prop::sample::select(Reason::ALL).prop_map(LiveOutcome::Failed),
        1 => Just(LiveOutcome::Skipped),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The naive twin of the lane is the list of outcomes itself.
    #[test]
    fn the_lane_carries_what_it_was_given(
        seconds in prop::collection::vec((prop::collection::vec(outcome(), 40), any::<bool>()), 1..30),
    ) {
        let cadences = [1, 5].map(|secs| Cadence::from_secs(secs).unwrap());
        let checks = (0..40).map(|id| (CheckId(id), cadences[usize::from(id >= 10)]));
        let order = LiveOrder::new(checks);
        let mut encoder = LiveEncoder::new(9, &order.sizes());
        let mut decoder = LiveDecoder::new(9, &order.sizes());
        for (now, (outcomes, reset)) in (1_000_u64..).zip(&seconds) {
            if *reset {
                encoder.reset();
            }
            let dues = cadences.map(|cadence| {
                let (first, due) = order.due(cadence, now);
                LiveDue { cadence, first, outcomes: &outcomes[..due as usize] }
            });
            let at = Timestamp(i64::try_from(now).unwrap() * 1_000);
            let frame = encode(&encoder.second(at, &dues), Head::NONE);
            let (_, second) = decode::<LiveSecond>(&frame)?;
            prop_assert_eq!(second.second, at);
            let mut seen = Vec::new();
            decoder.second(&second, |result| seen.push(result))?;
            let given: Vec<_> = dues.iter().flat_map(|due| {
                (due.first..).zip(due.outcomes).map(|(position, &outcome)| LiveResult {
                    cadence: due.cadence,
                    position,
                    outcome,
                })
            }).collect();
            prop_assert_eq!(seen, given);
        }
    }
}
