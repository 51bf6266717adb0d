//! What all members agree on: settings of the cluster, and placement groups.

use picket_wire::limits::{SHARDS_DEFAULT, SHARDS_MAX, SLOTS_MAX};
use picket_wire::name::Name;
use picket_wire::time::Span;
use rkyv::{Archive, Deserialize, Serialize};

use crate::reply::Reject;

/// Most regions that a placement group may name.
pub const GROUP_REGIONS_MAX: usize = 64;

/// Set once, by `InitCluster`.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Settings {
    /// The cluster's name, for people.
    pub cluster: Name,
    /// Into how many shards each placement group hashes its endpoints; a power of two. Never
    /// changes: where an endpoint stands follows from it.
    pub shards: u32,
    /// Length of a rollup window.
    pub window: Span,
    /// How long an agent is believed after its last renewal.
    pub lease_ttl: Span,
    /// How suspicions are confirmed.
    pub confirm: ConfirmPolicy,
    /// How long delivery waits after a notification group opens, so that incidents which follow
    /// at once are told in the same message.
    pub group_wait: Span,
}

impl Settings {
    /// The settings of a cluster that says nothing else.
    ///
    /// Windows are five minutes, the longest interval that most checks have.
    #[must_use]
    pub const fn standard(cluster: Name) -> Self {
        Self {
            cluster,
            shards: SHARDS_DEFAULT,
            window: Span::from_secs(300),
            // Three renewals of three seconds: a dead agent's checks run elsewhere within twelve.
            lease_ttl: Span::from_secs(9),
            confirm: ConfirmPolicy::STANDARD,
            group_wait: Span::from_secs(5),
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the first setting that breaks its rule.
    pub fn validate(&self) -> Result<(), Reject> {
        let refuse = |setting: &str, expected: &str| {
            Err(Reject::Setting {
                setting: setting.to_owned(),
                expected: expected.to_owned(),
            })
        };
        let second = Span::from_secs(1);
        if !self.shards.is_power_of_two() || self.shards > SHARDS_MAX {
            return refuse("shards", "a power of two up to 65536");
        }
        if self.window < second || self.window > Span::from_secs(3_600) {
            return refuse("window", "1 s to 1 h");
        }
        if self.lease_ttl < second || self.lease_ttl > Span::from_secs(300) {
            return refuse("lease_ttl", "1 s to 5 m");
        }
        if self.confirm.voters > VOTERS_MAX {
            return refuse("confirm.voters", "0 to 8");
        }
        let ConfirmPolicy {
            voters: _,
            deadline,
            ask_again,
            watch,
            recheck,
        } = self.confirm;
        if [deadline, ask_again, watch, recheck]
            .iter()
            .any(|&span| span < second)
        {
            return refuse("confirm", "spans of at least 1 s");
        }
        Ok(())
    }
}

/// Most vantages that one order may ask for; more would only delay the verdict.
pub const VOTERS_MAX: u8 = 8;

/// How suspicions are confirmed and how often an open verdict is asked about again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ConfirmPolicy {
    /// How many vantages besides the owner are asked. With two, three have spoken and two make a
    /// majority.
    pub voters: u8,
    /// How long votes are waited for: a slow connection attempt and its retry, no more.
    pub deadline: Span,
    /// After how long an order that nobody answered, or that contradicted the owner's word, is
    /// followed by the next.
    pub ask_again: Span,
    /// After how long a verdict that regions disagree about is looked at again.
    pub watch: Span,
    /// After how long a confirmed outage is looked at again, although its owner still fails.
    pub recheck: Span,
}

impl ConfirmPolicy {
    /// Two voters, five seconds; ten seconds, a minute and five minutes to ask again.
    pub const STANDARD: Self = Self {
        voters: 2,
        deadline: Span::from_secs(5),
        ask_again: Span::from_secs(10),
        watch: Span::from_secs(60),
        recheck: Span::from_secs(300),
    };
}

/// Endpoints with the same regions and replica count.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PlacementGroup {
    /// Its name, for people; unique.
    pub name: Name,
    /// Where it may be probed from, in order of preference; empty means every region.
    pub regions: Vec<Name>,
    /// Slots of each shard: how many agents probe it at the same time.
    pub replicas: u8,
}

impl PlacementGroup {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the first field that breaks its rule.
    pub fn validate(&self) -> Result<(), Reject> {
        let refuse = |setting: &str, expected: &str| {
            Err(Reject::Setting {
                setting: setting.to_owned(),
                expected: expected.to_owned(),
            })
        };
        if self.replicas == 0 || self.replicas > SLOTS_MAX {
            return refuse("replicas", "1 to 8");
        }
        if self.regions.len() > GROUP_REGIONS_MAX {
            return refuse("regions", "at most 64");
        }
        let unique: std::collections::BTreeSet<_> = self.regions.iter().collect();
        if unique.len() != self.regions.len() {
            return refuse("regions", "no region twice");
        }
        Ok(())
    }
}
