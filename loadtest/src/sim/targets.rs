//! The sites that are watched: when each is down, and from where.
//!
//! The truth of a run. Agents see it through probes, which take time and now and then fail for no
//! reason; the oracles compare with it what the mesh came to believe.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use picket_wire::id::CheckId;
use picket_wire::name::Name;
use picket_wire::reason::Reason;
use picket_wire::time::{Interval, Span, Timestamp};

use crate::sim::rng::Rng;

/// How a target that is down looks.
const LOOKS: [Reason; 4] = [
    Reason::ConnectRefused,
    Reason::ConnectTimeout,
    Reason::Http5xx,
    Reason::DnsTimeout,
];
/// An answer comes within this.
const ANSWER_MAX: Span = Span(150);
/// Checks that stand on one host, in the mean: their outages have a common cause.
const PER_HOST: u64 = 2;

/// From where an outage is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    Everywhere,
    Region(Name),
}

/// A host and its outages, in order of time.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    host: IpAddr,
    looks: Reason,
    outages: Vec<(Interval, Scope)>,
}

/// The phases of a run: outages come and go in the first, and what holds in the second lasts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phases {
    pub(crate) start: Timestamp,
    pub(crate) faults_from: Timestamp,
    pub(crate) heal_at: Timestamp,
    pub(crate) end_at: Timestamp,
}

/// All targets.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    by_check: BTreeMap<CheckId, Target>,
    /// How often a probe fails for no reason, per mille, until the mesh is healed.
    hiccups: u32,
    heal_at: Timestamp,
}

/// What a probe will find.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finding {
    pub(crate) reason: Option<Reason>,
    pub(crate) took: Span,
    pub(crate) remote: Option<IpAddr>,
}

impl Targets {
    /// Draws the fate of every check.
    pub(crate) fn draw(seed: u64, checks: &[CheckId], regions: &[Name], phases: Phases) -> Self {
        let mut rng = Rng::new(seed, "targets", 0);
        let hosts = (checks.len() as u64 / PER_HOST).max(1);
        let hosts: Vec<Target> = (0..hosts)
            .map(|number| Target::draw(&mut rng, number, regions, phases))
            .collect();
        let mut by_check = BTreeMap::new();
        for &check in checks {
            by_check.extend(rng.pick(&hosts).map(|host| (check, host.clone())));
        }
        let hiccups = if rng.chance(500) {
            u32::try_from(rng.between(1, 30)).unwrap_or(0)
        } else {
            0
        };
        Self {
            by_check,
            hiccups,
            heal_at: phases.heal_at,
        }
    }

    /// What a probe of `check` from `region` finds at `at`.
    pub(crate) fn probe(
        &self,
        check: CheckId,
        region: &Name,
        at: Timestamp,
        timeout: Span,
        rng: &mut Rng,
    ) -> Finding {
        let hiccup = at < self.heal_at && rng.chance(self.hiccups);
        let quick = rng.span(Span(1), ANSWER_MAX).min(timeout);
        let Some(target) = self.by_check.get(&check) else {
            return Finding {
                reason: None,
                took: quick,
                remote: None,
            };
        };
        let down = target.is_down(region, at).then_some(target.looks);
        let reason = down.or_else(|| hiccup.then_some(Reason::ConnectionReset));
        let slow = matches!(reason, Some(Reason::ConnectTimeout | Reason::DnsTimeout));
        let remote = (reason != Some(Reason::DnsTimeout)).then_some(target.host);
        Finding {
            reason,
            took: if slow { timeout } else { quick },
            remote,
        }
    }

    /// Whether `check` was down from everywhere during all of `span`.
    pub(crate) fn was_down(&self, check: CheckId, span: Interval) -> bool {
        self.outages(check).iter().any(|(outage, scope)| {
            *scope == Scope::Everywhere && outage.from <= span.from && span.until <= outage.until
        })
    }

    /// Whether `check` was up from everywhere during all of `span`.
    pub(crate) fn was_up(&self, check: CheckId, span: Interval) -> bool {
        self.outages(check)
            .iter()
            .all(|(outage, _)| outage.until <= span.from || span.until <= outage.from)
    }

    fn outages(&self, check: CheckId) -> &[(Interval, Scope)] {
        self.by_check
            .get(&check)
            .map_or(&[], |target| &target.outages)
    }
}

impl Target {
    fn draw(rng: &mut Rng, number: u64, regions: &[Name], phases: Phases) -> Self {
        let octet = u8::try_from(number % 250).unwrap_or(0);
        let mut target = Self {
            host: IpAddr::V4(Ipv4Addr::new(192, 0, 2, octet)),
            looks: rng.pick(&LOOKS).copied().unwrap_or(Reason::ConnectRefused),
            outages: Vec::new(),
        };
        let mut from = phases.start + rng.span(Span::from_secs(5), Span::from_secs(60));
        for _ in 0..rng.below(6) {
            let until = from + rng.span(Span(300), Span::from_secs(45));
            if until >= phases.heal_at {
                break;
            }
            target
                .outages
                .push((Interval::new(from, until), scope(rng, regions)));
            from = until + rng.span(Span::from_secs(1), Span::from_secs(60));
        }
        if rng.chance(400) {
            let about = phases.heal_at - Span::from_secs(20);
            let from = from.max(about + rng.span(Span::ZERO, Span::from_secs(35)));
            target
                .outages
                .push((Interval::new(from, Timestamp::MAX), scope(rng, regions)));
        }
        target
    }

    fn is_down(&self, region: &Name, at: Timestamp) -> bool {
        self.outages.iter().any(|(outage, scope)| {
            let seen = match scope {
                Scope::Everywhere => true,
                Scope::Region(only) => only == region,
            };
            seen && outage.contains(at)
        })
    }
}

fn scope(rng: &mut Rng, regions: &[Name]) -> Scope {
    if rng.chance(250) {
        rng.pick(regions)
            .cloned()
            .map_or(Scope::Everywhere, Scope::Region)
    } else {
        Scope::Everywhere
    }
}
