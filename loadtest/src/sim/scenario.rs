//! What one seed draws before its run begins: the mesh, what it watches, and what will go wrong.
//!
//! Swarm testing (Groce and others 2012): every seed has its own subset of faults and its own
//! rates, because a run with a little of everything rarely gets far in any direction.

use std::collections::BTreeMap;

use picket_scheduler_core::state::{ConfirmPolicy, Settings};
use picket_wire::check::http::HttpSpec;
use picket_wire::check::{Cadence, CheckKind, CheckSpec};
use picket_wire::id::{AgentId, CheckId, EndpointId, MemberId, SiteId};
use picket_wire::name::Name;
use picket_wire::time::{Span, Timestamp};

use crate::sim::fault::Plague;
use crate::sim::rng::Rng;
use crate::sim::targets::Phases;

/// 2025-01-01T00:00:00Z: a real date, so that times in traces and rollups look like times.
const START: Timestamp = Timestamp(1_735_689_600_000);
/// Agents connect and take their shards before anything breaks.
const CALM: Span = Span::from_secs(15);
/// From the last fault to the last look. The slowest way back is an agent that repeats a batch
/// after the longest patience, 60 s, and then needs some round trips.
const HEALING: Span = Span::from_secs(100);
/// A disk under load, and a way around the world.
const SLOW_SYNC: Span = Span(400);
const SLOW_WAY: Span = Span(250);
/// The longest timeout of a check where those are: votes are given a tenth of an order's time for
/// their way, which is less than two such disks take.
const TIMEOUT_SLOW: Span = Span(1_200);
/// Members of the cluster.
pub(crate) const MEMBERS: [MemberId; 3] = [MemberId(1), MemberId(2), MemberId(3)];

/// Where an agent stands, and how its clock is off.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) agent: AgentId,
    pub(crate) region: Name,
    pub(crate) network: Name,
    /// Milliseconds that its clock is ahead; negative is behind.
    pub(crate) skew_ms: i64,
}

/// What happens to messages on their way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Longest way, one direction.
    pub(crate) latency_max: Span,
    /// Lost, of a thousand.
    pub(crate) loss: u32,
    /// Delivered twice, of a thousand.
    pub(crate) twice: u32,
    /// Overtaken by later ones, of a thousand.
    pub(crate) late: u32,
}

impl Weather {
    /// Nothing is lost, repeated or overtaken.
    pub(crate) const fn fair(self) -> Self {
        Self {
            loss: 0,
            twice: 0,
            late: 0,
            ..self
        }
    }
}

/// What one seed draws.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) phases: Phases,
    pub(crate) places: Vec<Place>,
    pub(crate) checks: Vec<CheckSpec>,
    pub(crate) settings: Settings,
    pub(crate) replicas: u8,
    pub(crate) weather: Weather,
    /// Longest time until a disk has what was written.
    pub(crate) sync_max: Span,
    /// Entries between two snapshots of a member.
    pub(crate) snapshot_every: u64,
    /// What will go wrong, and after how long on average again.
    pub(crate) plagues: BTreeMap<Plague, Span>,
}

impl Scenario {
    /// The scenario of a seed.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "scenario", 0);
        let faults_from = START + CALM;
        let heal_at = faults_from + rng.span(Span::from_secs(45), Span::from_secs(180));
        let phases = Phases {
            start: START,
            faults_from,
            heal_at,
            end_at: heal_at + HEALING,
        };
        let places = places(&mut rng);
        let weather = weather(&mut rng);
        let sync_max = if rng.chance(200) { SLOW_SYNC } else { Span(15) };
        let slow = sync_max == SLOW_SYNC || weather.latency_max == SLOW_WAY;
        let timeout_max = if slow {
            TIMEOUT_SLOW
        } else {
            Span::from_secs(10)
        };
        Self {
            seed,
            phases,
            checks: checks(&mut rng, timeout_max),
            settings: settings(&mut rng),
            replicas: if rng.chance(250) { 2 } else { 1 },
            weather,
            sync_max,
            snapshot_every: rng.between(2, 12) * 8,
            plagues: plagues(&mut rng),
            places,
        }
    }

    /// The regions that agents stand in.
    pub(crate) fn regions(&self) -> Vec<Name> {
        let mut regions: Vec<_> = self
            .places
            .iter()
            .map(|place| place.region.clone())
            .collect();
        regions.sort_unstable();
        regions.dedup();
        regions
    }
}

/// A name that keeps the rule.
pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("names in the simulator keep the rule")
}

/// Two to six agents; the first two in different regions, so that outages can be confirmed.
fn places(rng: &mut Rng) -> Vec<Place> {
    let regions = ["eu", "us", "ap"];
    let agents = rng.between(2, 6);
    let skew_max = if rng.chance(500) { 250 } else { 0 };
    let place = |number: u64| {
        let nth = if number < 2 { number } else { rng.below(3) };
        let region = regions
            .get(usize::try_from(nth).unwrap_or(0))
            .unwrap_or(&"eu");
        let skew = rng.between(0, 2 * skew_max).cast_signed() - skew_max.cast_signed();
        Place {
            agent: AgentId(u32::try_from(number + 1).unwrap_or(1)),
            region: name(region),
            network: name(if rng.chance(500) {
                "as64496"
            } else {
                "as64511"
            }),
            skew_ms: skew,
        }
    };
    (0..agents).map(place).collect()
}

fn checks(rng: &mut Rng, timeout_max: Span) -> Vec<CheckSpec> {
    let cadences = [1, 2, 5, 10];
    let many = rng.between(3, 14);
    let check = |number: u64| {
        let secs = rng.pick(&cadences).copied().unwrap_or(5);
        let host = format!("site-{number}.example");
        CheckSpec {
            id: CheckId(number),
            endpoint: EndpointId(number),
            site: SiteId(number / 2 + 1),
            cadence: Cadence::from_secs(secs).expect("each of these is an interval"),
            timeout: rng.span(Span(500), timeout_max),
            kind: CheckKind::Http(HttpSpec::plain(false, host, 80, "/".to_owned())),
        }
    };
    (1..=many).map(check).collect()
}

/// Shorter waits than in production, so that a run of minutes goes through every stage.
fn settings(rng: &mut Rng) -> Settings {
    let secs = |rng: &mut Rng, low, high| Span::from_secs(rng.between(low, high));
    Settings {
        shards: if rng.chance(500) { 4 } else { 8 },
        window: secs(rng, 8, 15),
        lease_ttl: secs(rng, 3, 9),
        confirm: ConfirmPolicy {
            voters: u8::try_from(rng.between(1, 3)).unwrap_or(2),
            deadline: secs(rng, 4, 6),
            ask_again: secs(rng, 2, 5),
            watch: secs(rng, 5, 12),
            recheck: secs(rng, 8, 20),
        },
        ..Settings::standard(name("simulated"))
    }
}

fn weather(rng: &mut Rng) -> Weather {
    let mut maybe = |high| {
        if rng.chance(500) {
            u32::try_from(rng.between(1, high)).unwrap_or(0)
        } else {
            0
        }
    };
    let (loss, twice, late) = (maybe(80), maybe(80), maybe(80));
    let latency_max = if rng.chance(300) { SLOW_WAY } else { Span(40) };
    Weather {
        latency_max,
        loss,
        twice,
        late,
    }
}

/// About half of everything that can go wrong.
fn plagues(rng: &mut Rng) -> BTreeMap<Plague, Span> {
    let mut plagues = BTreeMap::new();
    for &plague in Plague::ALL {
        if rng.chance(400) {
            plagues.insert(plague, rng.span(Span::from_secs(8), Span::from_secs(60)));
        }
    }
    plagues
}
