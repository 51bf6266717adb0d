//! Maintenance windows: time that does not count and pages nobody, announced before or after
//! the fact.

use std::collections::BTreeMap;

use picket_wire::id::{EndpointId, MaintenanceId, SiteId};
use picket_wire::time::{Interval, Timestamp};
use rkyv::{Archive, Deserialize, Serialize};

use crate::interval_set::IntervalSet;

/// Most sites or endpoints that one window may name.
pub const SELECTED_MAX: usize = 10_000;

/// A maintenance window.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Maintenance {
    /// When.
    pub interval: Interval,
    /// Of what.
    pub selector: Selector,
    /// Why, for people.
    pub note: String,
}

/// What a window covers.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Selector {
    /// Everything.
    All,
    /// These sites, with all of their endpoints.
    Sites(Vec<SiteId>),
    /// These endpoints.
    Endpoints(Vec<EndpointId>),
}

impl Selector {
    /// How many things it names.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::All => 1,
            Self::Sites(sites) => sites.len(),
            Self::Endpoints(endpoints) => endpoints.len(),
        }
    }

    /// Whether it covers nothing at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it covers an endpoint of a site.
    #[must_use]
    pub fn covers(&self, site: SiteId, endpoint: EndpointId) -> bool {
        match self {
            Self::All => true,
            Self::Sites(sites) => sites.contains(&site),
            Self::Endpoints(endpoints) => endpoints.contains(&endpoint),
        }
    }
}

/// The window that covers an endpoint at an instant; the first by id where there are several.
#[must_use]
pub fn at(
    windows: &BTreeMap<MaintenanceId, Maintenance>,
    site: SiteId,
    endpoint: EndpointId,
    at: Timestamp,
) -> Option<MaintenanceId> {
    windows
        .iter()
        .find(|(_, window)| window.interval.contains(at) && window.selector.covers(site, endpoint))
        .map(|(&id, _)| id)
}

/// All time in which an endpoint is under maintenance.
#[must_use]
pub fn of(
    windows: &BTreeMap<MaintenanceId, Maintenance>,
    site: SiteId,
    endpoint: EndpointId,
) -> IntervalSet {
    windows
        .values()
        .filter(|window| window.selector.covers(site, endpoint))
        .map(|window| window.interval)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: i64, until: i64, selector: Selector) -> Maintenance {
        let interval = Interval::new(Timestamp(from), Timestamp(until));
        Maintenance {
            interval,
            selector,
            note: String::new(),
        }
    }

    #[test]
    fn a_site_window_covers_all_of_its_endpoints_and_no_others() {
        let windows = BTreeMap::from([
            (
                MaintenanceId(1),
                window(10, 20, Selector::Sites(vec![SiteId(7)])),
            ),
            (
                MaintenanceId(2),
                window(15, 30, Selector::Endpoints(vec![EndpointId(1)])),
            ),
        ]);
        let found =
            |site, endpoint, t| at(&windows, SiteId(site), EndpointId(endpoint), Timestamp(t));
        assert_eq!(found(7, 5, 10), Some(MaintenanceId(1)));
        assert_eq!(found(7, 5, 20), None, "the end lies outside");
        assert_eq!(found(8, 5, 15), None);
        assert_eq!(found(8, 1, 15), Some(MaintenanceId(2)));
        let both = of(&windows, SiteId(7), EndpointId(1));
        assert_eq!(
            both.intervals(),
            [Interval::new(Timestamp(10), Timestamp(30))]
        );
    }
}
