//! The live lane over whole schedules: what a result costs, and what happens when seconds go lost.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    reason = "a test may panic; synthetic latencies are floats; measured sizes are told"
)]

use picket_wire::check::Cadence;
use picket_wire::codec::{decode, encode};
use picket_wire::envelope::Head;
use picket_wire::id::CheckId;
use picket_wire::lane::live::{
    LiveDecoder, LiveDue, LiveEncoder, LiveError, LiveOrder, LiveOutcome, LiveSecond,
};
use picket_wire::latency::bucket;
use picket_wire::reason::Reason;
use picket_wire::time::Timestamp;

/// splitmix64; a seed names a whole run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// Sites that answer in 10 to 400 ms with log-normal noise, 1 % spikes and 0.2 % failures.
struct Sites {
    random: Random,
    sigma: f64,
    base_us: Vec<f64>,
}

impl Sites {
    fn new(seed: u64, sigma: f64, count: u32) -> Self {
        let mut random = Random(seed);
        let base_us = (0..count)
            .map(|_| 10_000.0 * 40_f64.powf(random.uniform()))
            .collect();
        Self {
            random,
            sigma,
            base_us,
        }
    }

    fn probe(&mut self, position: u32) -> LiveOutcome {
        if self.random.uniform() < 0.002 {
            return LiveOutcome::Failed(Reason::ConnectTimeout);
        }
        let spike = if self.random.uniform() < 0.01 {
            3.0 + 7.0 * self.random.uniform()
        } else {
            1.0
        };
        let noise = (self.sigma * self.random.normal()).exp();
        LiveOutcome::Ok(bucket(
            (self.base_us[position as usize] * noise * spike) as u32,
        ))
    }
}

/// Both ends of the lane over one schedule of checks that are all due every minute.
struct Lane {
    order: LiveOrder,
    sites: Sites,
    encoder: LiveEncoder,
    decoder: LiveDecoder,
    now: u64,
}

fn minute() -> Cadence {
    Cadence::from_secs(60).unwrap()
}

impl Lane {
    fn new(checks: u32, sigma: f64) -> Self {
        let order = LiveOrder::new((0..checks).map(|id| (CheckId(id.into()), minute())));
        Self {
            sites: Sites::new(7, sigma, checks),
            encoder: LiveEncoder::new(1, &order.sizes()),
            decoder: LiveDecoder::new(1, &order.sizes()),
            order,
            now: 1_795_253_400,
        }
    }

    /// Probes what is due in the next second; the outcomes and the second as it was sent.
    fn probe(&mut self) -> (Vec<LiveOutcome>, Vec<u8>) {
        let (first, due) = self.order.due(minute(), self.now);
        let outcomes: Vec<_> = (first..first + due)
            .map(|at| self.sites.probe(at))
            .collect();
        let second = Timestamp(i64::try_from(self.now).unwrap() * 1_000);
        let due = LiveDue {
            cadence: minute(),
            first,
            outcomes: &outcomes,
        };
        let second = self.encoder.second(second, &[due]);
        self.now += 1;
        (outcomes, encode(&second, Head::NONE))
    }

    fn receive(&mut self, frame: &[u8]) -> Result<Vec<LiveOutcome>, LiveError> {
        let (_, second) = decode::<LiveSecond>(frame).unwrap();
        let mut seen = Vec::new();
        self.decoder
            .second(&second, |result| seen.push(result.outcome))?;
        Ok(seen)
    }

    /// Bytes and results of a minute, envelopes included; every result must arrive.
    fn minute(&mut self) -> (usize, usize) {
        (0..60).fold((0, 0), |(bytes, results), _| {
            let (sent, frame) = self.probe();
            assert_eq!(self.receive(&frame).as_ref(), Ok(&sent));
            (bytes + frame.len(), results + sent.len())
        })
    }
}

#[test]
fn a_result_costs_half_a_byte() {
    let mut lane = Lane::new(72_000, 0.15);
    let (first_bytes, results) = lane.minute();
    assert_eq!(results, 72_000);
    assert!(
        first_bytes < results,
        "{first_bytes} bytes for {results} results at first"
    );
    let minutes: Vec<_> = (0..10).map(|_| lane.minute()).collect();
    let (bytes, results) = minutes.iter().fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    println!("first minute {first_bytes} bytes, then {minutes:?}");
    assert!(2 * bytes <= results, "{bytes} bytes for {results} results");
}

#[test]
fn a_small_second_costs_little_beside_its_envelope() {
    for due_per_second in [0, 10, 100] {
        let mut lane = Lane::new(60 * due_per_second, 0.15);
        let (bytes, results) = (0..10).map(|_| lane.minute()).last().unwrap();
        println!("{due_per_second} a second: {bytes} bytes for {results} results");
        // 32 of envelope, 11 of the second, 9 of its one run, and one or two bytes a failure.
        assert!(
            bytes <= 60 * 54 + results / 2,
            "{bytes} bytes for {results} results"
        );
    }
}

#[test]
fn a_lost_second_is_noticed_and_a_reset_heals_it() {
    let mut lane = Lane::new(6_000, 0.15);
    lane.minute();
    let _lost = lane.probe();
    for _ in 1..60 {
        let (sent, frame) = lane.probe();
        assert_eq!(
            lane.receive(&frame),
            Ok(sent),
            "other positions are not concerned"
        );
    }
    let (_, frame) = lane.probe();
    assert_eq!(lane.receive(&frame), Err(LiveError::Desync));
    lane.encoder.reset();
    lane.minute();
}

#[test]
fn the_first_second_of_an_era_may_be_lost_too() {
    let mut lane = Lane::new(6_000, 0.15);
    lane.minute();
    lane.encoder.reset();
    let (_, old) = lane.probe();
    for _ in 1..60 {
        let (sent, frame) = lane.probe();
        assert_eq!(lane.receive(&frame), Ok(sent));
    }
    // It arrives after all, but its positions are where the era began: it is not late for them.
    assert!(lane.receive(&old).is_ok());
    lane.minute();
}

#[test]
fn a_new_reader_does_not_guess() {
    let mut lane = Lane::new(6_000, 0.15);
    lane.minute();
    lane.decoder = LiveDecoder::new(1, &lane.order.sizes());
    let (_, frame) = lane.probe();
    assert_eq!(lane.receive(&frame), Err(LiveError::Desync));
}

#[test]
fn another_generation_or_an_era_that_is_over_is_refused() {
    let mut lane = Lane::new(600, 0.15);
    let (_, before) = lane.probe();
    lane.encoder.reset();
    let (_, after) = lane.probe();
    assert!(lane.receive(&after).is_ok());
    assert_eq!(
        lane.receive(&before),
        Err(LiveError::Era { current: 1, got: 0 })
    );
    lane.decoder = LiveDecoder::new(2, &lane.order.sizes());
    let (_, frame) = lane.probe();
    assert_eq!(
        lane.receive(&frame),
        Err(LiveError::Generation {
            expected: 2,
            got: 1
        })
    );
}

#[test]
fn a_storm_costs_two_bytes_a_result() {
    let mut lane = Lane::new(60_000, 0.15);
    let (first, due) = lane.order.due(minute(), 0);
    let outcomes = vec![LiveOutcome::Failed(Reason::ConnectRefused); due as usize];
    let dues = [LiveDue {
        cadence: minute(),
        first,
        outcomes: &outcomes,
    }];
    let second = lane.encoder.second(Timestamp(0), &dues);
    let frame = encode(&second, Head::NONE);
    assert!(
        frame.len() <= 64 + 2 * outcomes.len(),
        "{} bytes",
        frame.len()
    );
    assert_eq!(lane.receive(&frame), Ok(outcomes));
}
