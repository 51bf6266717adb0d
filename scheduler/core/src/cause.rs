//! What confirmed incidents have in common, and the notification groups they are told in.
//!
//! People are told of causes, not of checks: a host that dies takes its thousand sites with it and
//! pages once. The shared cause is the address that was dialled; where none was, names did not
//! resolve, and the site with the class of the trouble stands for what its checks share.

use std::fmt;
use std::net::IpAddr;

use picket_wire::evidence::Evidence;
use picket_wire::fact::{FactBody, NotificationGroup};
use picket_wire::id::{NotificationGroupId, SiteId};
use picket_wire::reason::{Reason, ReasonClass};
use rkyv::{Archive, Deserialize, Serialize};

use crate::machine::Fold;
use crate::maintenance;
use crate::state::Case;

/// What an incident may have in common with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Cause {
    /// The address that was dialled.
    Address(IpAddr),
    /// None was: the site, and what kind of trouble it has.
    Site(SiteId, Reason),
}

impl Cause {
    /// The cause that a failure points at.
    #[must_use]
    pub fn of(evidence: &Evidence) -> Self {
        let tries = || evidence.retry.iter().chain([&evidence.probe]);
        let remote = tries().find_map(|probe| probe.remote);
        let reason = tries()
            .find_map(|probe| probe.reason)
            .unwrap_or(Reason::DnsTimeout);
        remote.map_or(Self::Site(evidence.check.site, reason), Self::Address)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Site(site, reason) => write!(f, "{site} {}", class(*reason)),
        }
    }
}

const fn class(reason: Reason) -> &'static str {
    match reason.class() {
        ReasonClass::Dns => "dns",
        ReasonClass::Blocked => "blocked",
        ReasonClass::Connect => "connect",
        ReasonClass::Tls => "tls",
        ReasonClass::Http => "http",
        ReasonClass::Body => "body",
    }
}

impl Fold<'_> {
    /// Makes a confirmed incident part of the group of its cause, and says whether it became so.
    /// Under maintenance nobody is told.
    pub(crate) fn join_group(&mut self, case: &mut Case) -> bool {
        let check = case.incident.check;
        let announced =
            || maintenance::at(&self.state.maintenance, check.site, check.endpoint, self.at);
        if case.incident.group.is_some() || announced().is_some() {
            return false;
        }
        let cause = case.cause.to_string();
        let known = self.state.index.group_of(&cause);
        let id = known.unwrap_or_else(|| self.open_group(cause));
        if let Some(group) = self.state.notification_groups.get_mut(&id) {
            group.open += 1;
            group.total += 1;
        }
        case.incident.group = Some(id);
        self.told.insert(id);
        true
    }

    fn open_group(&mut self, cause: String) -> NotificationGroupId {
        let id = self.state.last_ids.notification_group();
        self.state.index.group_opened(cause.clone(), id);
        let opened_at = self.at;
        let group = NotificationGroup {
            id,
            cause,
            opened_at,
            open: 0,
            total: 0,
            closed_at: None,
        };
        self.state.notification_groups.insert(id, group);
        id
    }

    /// An incident that ends leaves its group.
    pub(crate) fn leave_group(&mut self, case: &Case) {
        let Some(id) = case.incident.group else {
            return;
        };
        if let Some(group) = self.state.notification_groups.get_mut(&id) {
            group.open -= 1;
            self.told.insert(id);
        }
    }

    /// States a group that changed; one without open incidents closes.
    pub(crate) fn tell_group(&mut self, id: NotificationGroupId) {
        let Some(group) = self.state.notification_groups.get_mut(&id) else {
            return;
        };
        if group.open > 0 {
            let group = group.clone();
            self.emit(FactBody::Group(group));
        } else if let Some(mut group) = self.state.notification_groups.remove(&id) {
            group.closed_at = Some(self.at);
            self.state.index.group_closed(&group.cause);
            self.emit(FactBody::Group(group));
        }
    }
}
