//! What a healthy result costs on the live lane: bytes on the wire, time at both ends.
//!
//! The results are synthetic and the same in every run: sites that answer in 10 to 400 ms with
//! log-normal noise, one spike in a hundred and one failure in five hundred. The references carry
//! the total latency too, in the two forms that come to mind first.

use std::mem::size_of;

use anyhow::{Context, ensure};
use picket_scheduler::gateway::live::LiveTable;
use picket_wire::check::Cadence;
use picket_wire::codec;
use picket_wire::envelope::Head;
use picket_wire::id::CheckId;
use picket_wire::lane::live::{
    LiveDecoder, LiveDue, LiveEncoder, LiveOrder, LiveOutcome, LiveSecond,
};
use picket_wire::latency::bucket;
use picket_wire::reason::Reason;
use picket_wire::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::bench::report::{Figure, Goal, Series};
use crate::bench::{Effort, cpu};

/// Checks of one agent, every five minutes: 1,200 results a second.
const CHECKS: u32 = 360_000;
const CADENCE_SECS: u32 = 300;
/// Intervals in one round, and the those before bytes count: in them both ends learn each site's
/// usual latency. That happens once per agent and leader.
const INTERVALS: u32 = 8;
const LEARNT_AFTER: u32 = 3;
/// Noise of a site's latency, as the standard deviation of its logarithm.
const SIGMA: f64 = 0.15;
const SEED: u64 = 7;
/// A second to begin with, at the start of an interval.
const BEGIN_SECS: u64 = 1_795_253_400;
/// Each second's batch, as the references would compress it.
const ZSTD_LEVEL: i32 = 3;

/// Bytes and processor time per result, against a line of JSON and compressed structs.
pub(super) fn measure(effort: &Effort) -> anyhow::Result<Vec<Figure>> {
    let traffic = Traffic::new(effort.of(CHECKS));
    let forms: [(&str, Box<dyn Form>); 3] = [
        ("live lane", Box::new(Lane)),
        ("a JSON line", Box::new(JsonLines)),
        ("32-byte structs, zstd 3", Box::new(Structs)),
    ];
    let series = |what| {
        forms
            .each_ref()
            .map(|(form, _)| Series::new(format!("{form}, {what}")))
    };
    let mut bytes = series("bytes per result");
    let (mut encode, mut decode) = (series("encode"), series("decode into the live table"));
    for round in 0..usize::from(effort.rounds) {
        for turn in 0..forms.len() {
            let at = (round + turn) % forms.len();
            let taken = take(&*forms[at].1, &traffic)?;
            bytes[at].push(taken.bytes);
            encode[at].push(taken.encode_ns);
            decode[at].push(taken.decode_per_sec);
        }
    }
    let figure = |all: &[Series; 3], unit, goal| {
        let [ours, json, structs] = all;
        Figure::new(ours, unit, goal, &[json, structs])
    };
    Ok(vec![
        figure(&bytes, "B", Some(Goal::AtMost(0.5))),
        figure(&encode, "ns/result", None),
        figure(&decode, "results/s/core", Some(Goal::AtLeast(5e6))),
    ])
}

/// One round of one form.
struct Taken {
    bytes: f64,
    encode_ns: f64,
    decode_per_sec: f64,
}

fn take(form: &dyn Form, traffic: &Traffic) -> anyhow::Result<Taken> {
    let n_results = f64::from(traffic.n_results());
    let before = cpu::used()?;
    let frames = form.encode(traffic)?;
    let encoded = cpu::used()?;
    let table = LiveTable::default();
    let n_seen = form.decode(traffic, &frames, &table)?;
    let decoded = cpu::used()?;
    ensure!(
        n_seen == traffic.n_results(),
        "{n_seen} results of {n_results} arrived"
    );
    let n_learning = (LEARNT_AFTER * CADENCE_SECS) as usize;
    let learnt = frames.iter().skip(n_learning);
    let n_calm_bytes: usize = learnt.map(Vec::len).sum();
    let n_calm: usize = traffic
        .seconds
        .iter()
        .skip(n_learning)
        .map(|s| s.seen.len())
        .sum();
    Ok(Taken {
        bytes: float(n_calm_bytes) / float(n_calm),
        encode_ns: (encoded - before).as_secs_f64() * 1e9 / n_results,
        decode_per_sec: n_results / (decoded - encoded).as_secs_f64(),
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of bytes lie far below 2^53"
)]
const fn float(count: usize) -> f64 {
    count as f64
}

/// A way to write a second's results down: one frame per second.
trait Form {
    fn encode(&self, traffic: &Traffic) -> anyhow::Result<Vec<Vec<u8>>>;
    fn decode(
        &self,
        traffic: &Traffic,
        frames: &[Vec<u8>],
        table: &LiveTable,
    ) -> anyhow::Result<u32>;
}

/// Ours, envelope included.
struct Lane;

impl Form for Lane {
    fn encode(&self, traffic: &Traffic) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut encoder = LiveEncoder::new(1, &traffic.order.sizes());
        let frame = |second: &Second| {
            let outcomes: Vec<_> = second.seen.iter().map(|seen| seen.outcome()).collect();
            let due = LiveDue {
                cadence: traffic.cadence,
                first: second.first,
                outcomes: &outcomes,
            };
            codec::encode(&encoder.second(second.at, &[due]), Head::NONE)
        };
        Ok(traffic.seconds.iter().map(frame).collect())
    }

    /// As the leader's gateway does it.
    fn decode(
        &self,
        traffic: &Traffic,
        frames: &[Vec<u8>],
        table: &LiveTable,
    ) -> anyhow::Result<u32> {
        let mut decoder = LiveDecoder::new(1, &traffic.order.sizes());
        let mut n_seen = 0;
        for frame in frames {
            let (_head, second) = codec::decode::<LiveSecond>(frame)?;
            let mut results = Vec::new();
            decoder.second(&second, |result| {
                if let Some(check) = traffic.order.at(result.cadence, result.position) {
                    results.push((check, result.outcome));
                }
            })?;
            table.record(second.second, &results);
            n_seen += u32::try_from(results.len())?;
        }
        Ok(n_seen)
    }
}

/// A result as a line of JSON.
#[derive(Serialize, Deserialize)]
struct Line {
    check: u64,
    at: i64,
    ok: bool,
    total_us: u32,
}

struct JsonLines;

impl Form for JsonLines {
    fn encode(&self, traffic: &Traffic) -> anyhow::Result<Vec<Vec<u8>>> {
        let frame = |second: &Second| {
            let mut frame = Vec::new();
            for (check, seen) in traffic.checks(second) {
                let Seen { ok, total_us } = *seen;
                serde_json::to_writer(
                    &mut frame,
                    &Line {
                        check: check.0,
                        at: second.at.0,
                        ok,
                        total_us,
                    },
                )?;
                frame.push(b'\n');
            }
            Ok(frame)
        };
        traffic.seconds.iter().map(frame).collect()
    }

    fn decode(&self, _: &Traffic, frames: &[Vec<u8>], table: &LiveTable) -> anyhow::Result<u32> {
        let mut n_seen = 0;
        for frame in frames {
            let mut results = Vec::new();
            let mut at = Timestamp(0);
            for line in frame.split_inclusive(|&byte| byte == b'\n') {
                let Line {
                    check,
                    at: second,
                    ok,
                    total_us,
                } = serde_json::from_slice(line)?;
                at = Timestamp(second);
                results.push((CheckId(check), Seen { ok, total_us }.outcome()));
            }
            table.record(at, &results);
            n_seen += u32::try_from(results.len())?;
        }
        Ok(n_seen)
    }
}

/// A result as a struct of 32 bytes: check, time, latency, ok, and what else a record has.
struct Structs;

const STRUCT_BYTES: usize = 32;

impl Form for Structs {
    fn encode(&self, traffic: &Traffic) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        let mut frame = |second: &Second| {
            let mut plain = Vec::with_capacity(second.seen.len() * STRUCT_BYTES);
            for (check, seen) in traffic.checks(second) {
                plain.extend(check.0.to_le_bytes());
                plain.extend(second.at.0.to_le_bytes());
                plain.extend(seen.total_us.to_le_bytes());
                plain.extend(u32::from(seen.ok).to_le_bytes());
                plain.extend([0; STRUCT_BYTES - 24]);
            }
            Ok(zstd.compress(&plain)?)
        };
        traffic.seconds.iter().map(&mut frame).collect()
    }

    fn decode(&self, _: &Traffic, frames: &[Vec<u8>], table: &LiveTable) -> anyhow::Result<u32> {
        let mut zstd = zstd::bulk::Decompressor::new()?;
        let mut n_seen = 0;
        for frame in frames {
            let plain = zstd.decompress(frame, 1 << 20)?;
            let mut results = Vec::new();
            let mut at = Timestamp(0);
            for record in plain.chunks_exact(STRUCT_BYTES) {
                let (check, rest) = record.split_first_chunk().context("eight bytes")?;
                let (second, rest) = rest.split_first_chunk().context("eight bytes")?;
                let (total_us, rest) = rest.split_first_chunk().context("four bytes")?;
                at = Timestamp(i64::from_le_bytes(*second));
                let seen = Seen {
                    ok: rest[0] == 1,
                    total_us: u32::from_le_bytes(*total_us),
                };
                results.push((CheckId(u64::from_le_bytes(*check)), seen.outcome()));
            }
            table.record(at, &results);
            n_seen += u32::try_from(results.len())?;
        }
        Ok(n_seen)
    }
}

/// What an agent sees in three intervals.
struct Traffic {
    order: LiveOrder,
    cadence: Cadence,
    seconds: Vec<Second>,
}

/// What was due in one second and what became of it.
struct Second {
    at: Timestamp,
    first: u32,
    seen: Vec<Seen>,
}

/// One result.
#[derive(Clone, Copy)]
struct Seen {
    ok: bool,
    total_us: u32,
}

const _: () = assert!(size_of::<Seen>() == 8);

impl Seen {
    const fn outcome(self) -> LiveOutcome {
        if self.ok {
            LiveOutcome::Ok(bucket(self.total_us))
        } else {
            LiveOutcome::Failed(Reason::ConnectTimeout)
        }
    }
}

impl Traffic {
    fn new(n_checks: u32) -> Self {
        let cadence =
            Cadence::from_secs(CADENCE_SECS).expect("five minutes are one of the intervals");
        let order = LiveOrder::new((1..=n_checks).map(|id| (CheckId(id.into()), cadence)));
        let mut sites = Sites::new(n_checks);
        let second = |unix_secs: u64| {
            let (first, n_due) = order.due(cadence, unix_secs);
            let seen = (first..first + n_due)
                .map(|position| sites.probe(position))
                .collect();
            let at = Timestamp(unix_secs.cast_signed() * 1_000);
            Second { at, first, seen }
        };
        let end = BEGIN_SECS + u64::from(INTERVALS * CADENCE_SECS);
        let seconds = (BEGIN_SECS..end).map(second).collect();
        Self {
            order,
            cadence,
            seconds,
        }
    }

    fn n_results(&self) -> u32 {
        self.seconds
            .iter()
            .map(|second| u32::try_from(second.seen.len()).unwrap_or(u32::MAX))
            .sum()
    }

    fn checks<'a>(&'a self, second: &'a Second) -> impl Iterator<Item = (CheckId, &'a Seen)> {
        let check = |(position, seen)| Some((self.order.at(self.cadence, position)?, seen));
        (second.first..).zip(&second.seen).filter_map(check)
    }
}

/// Sites with a latency each and noise on top.
struct Sites {
    random: Random,
    base_us: Vec<f64>,
}

impl Sites {
    fn new(count: u32) -> Self {
        let mut random = Random(SEED);
        let base_us = (0..count)
            .map(|_| 10_000.0 * 40_f64.powf(random.uniform()))
            .collect();
        Self { random, base_us }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some seconds at most, in microseconds; negative is none of them"
    )]
    fn probe(&mut self, position: u32) -> Seen {
        let ok = self.random.uniform() >= 0.002;
        let spiking = self.random.uniform() < 0.01;
        let spike = if spiking {
            3.0 + 7.0 * self.random.uniform()
        } else {
            1.0
        };
        let noise = (SIGMA * self.random.normal()).exp();
        let total_us = (self.base_us[position as usize] * noise * spike) as u32;
        Seen { ok, total_us }
    }
}

/// splitmix64: a seed names a whole run.
struct Random(u64);

impl Random {
    /// In [0, 1).
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}
