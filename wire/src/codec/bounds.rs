//! The bounds that an archive cannot express, message by message.
//!
//! An archive that passed validation has sound pointers, UTF-8 and known enum values. Whether a
//! list is short enough, a name keeps its alphabet and a time lies on the calendar is checked
//! here, before the value reaches anybody.

use crate::api::PAGE_MAX;
use crate::assignment::Assigned;
use crate::check::SpecError;
use crate::control::{
    Admission, Beliefs, EnrolRefusal, EnrolReply, EnrolRequest, FromAgent, Hello, ProbeOrder,
    Refusal, Schedule, ToAgent, Welcome,
};
use crate::evidence::{Evidence, EvidenceBatch, Role};
use crate::id::ShardSlot;
use crate::lane::rollup::{CheckRollup, RollupBatch, ShardRollup};
use crate::latency::BUCKETS;
use crate::limits::{
    ADDRESS_MAX_BYTES, ASSIGNMENTS_MAX, BELIEFS_MAX, BLOBS_WANTED_MAX, BUILD_MAX_BYTES,
    CERTIFICATE_MAX_BYTES, DETAIL_MAX_BYTES, EVIDENCE_BATCH_MAX, GROUP_MAX, MEMBERS_MAX,
    ROLLUP_CHECKS_MAX, SHARDS_MAX, SLOTS_MAX, SPAN_MAX, TOKEN_MAX_BYTES,
};
use crate::name::{Name, NameError};
use crate::outcome::Probe;
use crate::peer::{Observed, PeerReply, PeerRequest};
use crate::time::{Span, Timestamp};

/// A value out of its bounds; names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// A list or text that is too long.
    #[error("{field}: expected at most {max}, got {got}")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// Elements or bytes that are allowed.
        max: usize,
        /// Elements or bytes that came.
        got: usize,
    },
    /// A value that breaks its rule.
    #[error("{field}: expected {expected}")]
    Rule {
        /// Which field.
        field: &'static str,
        /// The rule.
        expected: &'static str,
    },
    /// A name outside its alphabet.
    #[error("{field}: {error}")]
    Name {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        error: NameError,
    },
    /// A check that breaks a rule.
    #[error("check: {0}")]
    Spec(#[from] SpecError),
}

/// A message whose bounds can be checked.
pub(crate) trait Bounded {
    fn bounds(&self) -> Result<(), Breach>;
}

pub(crate) const fn at_most(field: &'static str, got: usize, max: usize) -> Result<(), Breach> {
    if got <= max {
        Ok(())
    } else {
        Err(Breach::TooLong { field, max, got })
    }
}

pub(crate) const fn rule(
    field: &'static str,
    expected: &'static str,
    holds: bool,
) -> Result<(), Breach> {
    if holds {
        Ok(())
    } else {
        Err(Breach::Rule { field, expected })
    }
}

fn ascending<T: Ord>(
    field: &'static str,
    mut values: impl Iterator<Item = T> + Clone,
) -> Result<(), Breach> {
    let ahead = values.clone().skip(1);
    rule(
        field,
        "strictly ascending order",
        ahead.zip(&mut values).all(|(next, prev)| prev < next),
    )
}

fn name(field: &'static str, name: &Name) -> Result<(), Breach> {
    Name::parse(name.as_str())
        .map(drop)
        .map_err(|error| Breach::Name { field, error })
}

pub(crate) const fn instant(field: &'static str, at: Timestamp) -> Result<(), Breach> {
    rule(
        field,
        "an instant of the years 0 to 9999",
        at.is_on_calendar(),
    )
}

const fn span(field: &'static str, span: Span) -> Result<(), Breach> {
    rule(field, "at most a hundred years", span.0 <= SPAN_MAX.0)
}

const fn slot(slot: ShardSlot) -> Result<(), Breach> {
    let ShardSlot { group, shard, slot } = slot;
    let holds = group.0 <= GROUP_MAX && shard.0 < SHARDS_MAX && slot.0 < SLOTS_MAX;
    rule(
        "slot",
        "a group, shard and slot within the cluster's limits",
        holds,
    )
}

fn assigned(field: &'static str, list: &[Assigned]) -> Result<(), Breach> {
    at_most(field, list.len(), ASSIGNMENTS_MAX)?;
    ascending(field, list.iter().map(|a| a.slot))?;
    list.iter().try_for_each(|a| slot(a.slot))
}

impl Bounded for FromAgent {
    fn bounds(&self) -> Result<(), Breach> {
        match self {
            Self::Hello(hello) => hello.bounds(),
            Self::Renew(renew) => instant("sent_at", renew.sent_at),
            Self::WantBlobs(wanted) => at_most("blobs", wanted.len(), BLOBS_WANTED_MAX),
            Self::Schedule(Schedule {
                generation: _,
                held,
            }) => assigned("held", held),
        }
    }
}

impl Bounded for Hello {
    fn bounds(&self) -> Result<(), Breach> {
        rule(
            "schema",
            "a range that is not empty",
            self.schema_min <= self.schema_max,
        )?;
        at_most("build", self.build.len(), BUILD_MAX_BYTES)
    }
}

impl Bounded for ToAgent {
    fn bounds(&self) -> Result<(), Breach> {
        match self {
            Self::Welcome(welcome) => welcome.bounds(),
            Self::NotLeader { leader: _ } | Self::ResetLive | Self::Acks { .. } => Ok(()),
            Self::Lease { renewed_at, ttl } => {
                instant("renewed_at", *renewed_at)?;
                span("ttl", *ttl)
            }
            Self::Digest(digest) => assigned("digest", digest),
            Self::Beliefs(beliefs) => beliefs.bounds(),
            Self::Probe(order) => order.bounds(),
            Self::Refused(refusal) => refusal.bounds(),
        }
    }
}

impl Bounded for Welcome {
    fn bounds(&self) -> Result<(), Breach> {
        instant("now", self.now)?;
        let day = Span::from_secs(86_400);
        rule(
            "window",
            "1 ms to a day",
            self.window > Span::ZERO && self.window <= day,
        )
    }
}

impl Bounded for Beliefs {
    fn bounds(&self) -> Result<(), Breach> {
        at_most("slots", self.slots.len(), ASSIGNMENTS_MAX)?;
        at_most("failing", self.failing.len(), BELIEFS_MAX)?;
        self.slots.iter().copied().try_for_each(slot)
    }
}

impl Bounded for ProbeOrder {
    fn bounds(&self) -> Result<(), Breach> {
        self.check.validate()?;
        span("within", self.within)
    }
}

impl Bounded for Refusal {
    fn bounds(&self) -> Result<(), Breach> {
        match self {
            Self::Malformed(text) => at_most("malformed", text.len(), DETAIL_MAX_BYTES),
            Self::Schema { .. }
            | Self::NotAdmitted(_)
            | Self::OldIncarnation { .. }
            | Self::Impostor { .. }
            | Self::Replaced
            | Self::Gap { .. } => Ok(()),
        }
    }
}

impl Bounded for EvidenceBatch {
    fn bounds(&self) -> Result<(), Breach> {
        at_most("records", self.records.len(), EVIDENCE_BATCH_MAX)?;
        self.records.iter().try_for_each(Evidence::bounds)
    }
}

impl Bounded for Evidence {
    fn bounds(&self) -> Result<(), Breach> {
        self.probe.bounds()?;
        self.retry.as_ref().map_or(Ok(()), Probe::bounds)?;
        match self.role {
            Role::Owner {
                slot: owned,
                epoch: _,
            } => slot(owned),
            Role::Voter { order: _ } => Ok(()),
        }
    }
}

impl Bounded for Probe {
    fn bounds(&self) -> Result<(), Breach> {
        instant("at", self.at)?;
        span("lateness", self.lateness)?;
        rule("http_status", "0 to 999", self.http_status <= 999)?;
        self.certificate_expires
            .map_or(Ok(()), |at| instant("certificate_expires", at))?;
        at_most("detail", self.detail.len(), DETAIL_MAX_BYTES)
    }
}

impl Bounded for RollupBatch {
    fn bounds(&self) -> Result<(), Breach> {
        at_most("shards", self.shards.len(), ASSIGNMENTS_MAX)?;
        let checks = self.shards.iter().map(|shard| shard.checks.len()).sum();
        at_most("checks", checks, ROLLUP_CHECKS_MAX)?;
        self.shards.iter().try_for_each(ShardRollup::bounds)
    }
}

impl Bounded for ShardRollup {
    fn bounds(&self) -> Result<(), Breach> {
        slot(self.slot)?;
        instant("window", self.window)?;
        instant("covered", self.covered.from)?;
        instant("covered", self.covered.until)?;
        rule(
            "covered",
            "an end not before its start",
            self.covered.from <= self.covered.until,
        )?;
        ascending("checks", self.checks.iter().map(|c| c.check))?;
        self.checks.iter().try_for_each(CheckRollup::bounds)
    }
}

impl Bounded for CheckRollup {
    fn bounds(&self) -> Result<(), Breach> {
        rule("ok", "no more than ran", self.ok <= self.ran)?;
        ascending("latency", self.latency.iter().map(|(bucket, _)| bucket))?;
        let known = self
            .latency
            .iter()
            .all(|&(bucket, n)| bucket < BUCKETS && n > 0);
        rule("latency", "existing buckets that are not empty", known)
    }
}

impl Bounded for EnrolRequest {
    fn bounds(&self) -> Result<(), Breach> {
        at_most("token", self.token.len(), TOKEN_MAX_BYTES)?;
        at_most("csr", self.csr.len(), CERTIFICATE_MAX_BYTES)?;
        name("name", &self.name)?;
        name("region", &self.region)?;
        name("zone", &self.zone)?;
        name("network", &self.network)
    }
}

impl Bounded for EnrolReply {
    fn bounds(&self) -> Result<(), Breach> {
        match self {
            Self::Admitted(admission) => admission.bounds(),
            Self::Refused(refusal) => refusal.bounds(),
            Self::NotLeader { leader } => at_most(
                "leader",
                leader.as_ref().map_or(0, String::len),
                ADDRESS_MAX_BYTES,
            ),
        }
    }
}

impl Bounded for Admission {
    fn bounds(&self) -> Result<(), Breach> {
        at_most("certificate", self.certificate.len(), CERTIFICATE_MAX_BYTES)?;
        at_most("ca", self.ca.len(), CERTIFICATE_MAX_BYTES)?;
        at_most("members", self.members.len(), MEMBERS_MAX)?;
        let address =
            |(_, address): &(_, String)| at_most("address", address.len(), ADDRESS_MAX_BYTES);
        self.members.iter().try_for_each(address)
    }
}

impl Bounded for EnrolRefusal {
    fn bounds(&self) -> Result<(), Breach> {
        match self {
            Self::WrongRegion(region) => name("region", region),
            Self::BadRequest(text) => at_most("bad_request", text.len(), DETAIL_MAX_BYTES),
            Self::UnknownToken | Self::UsedToken | Self::ExpiredToken => Ok(()),
        }
    }
}

impl Bounded for PeerRequest {
    fn bounds(&self) -> Result<(), Breach> {
        // Bytes inside are bounded by the payload; their reader checks the rest.
        match self {
            Self::Observe(checks) => at_most("observe", checks.len(), PAGE_MAX as usize),
            Self::Raft(_) | Self::Propose(_) | Self::Blob(_) => Ok(()),
        }
    }
}

impl Bounded for PeerReply {
    fn bounds(&self) -> Result<(), Breach> {
        match self {
            Self::Failed(text) => at_most("failed", text.len(), DETAIL_MAX_BYTES),
            Self::Observed(observed) => observed.bounds(),
            Self::Raft(_) | Self::Proposed(_) | Self::Blob(_) | Self::NotLeader(_) => Ok(()),
        }
    }
}

impl Bounded for Observed {
    fn bounds(&self) -> Result<(), Breach> {
        let Self {
            leases,
            frozen,
            agents,
            probes,
            lateness: _,
        } = self;
        leases
            .iter()
            .try_for_each(|&(_, until)| instant("leases", until))?;
        frozen
            .iter()
            .try_for_each(|region| name("frozen", region))?;
        agents
            .iter()
            .try_for_each(|agent| at_most("build", agent.build.len(), BUILD_MAX_BYTES))?;
        at_most("probes", probes.len(), PAGE_MAX as usize)?;
        probes
            .iter()
            .flatten()
            .try_for_each(|probe| instant("probes", probe.at))
    }
}
