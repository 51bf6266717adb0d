//! Which rare situations the runs came through: a simulator that never meets them proves nothing.

use std::collections::BTreeMap;

macro_rules! situations {
    ($($(#[$doc:meta])* $variant:ident = $text:literal;)*) => {
        /// A situation that runs should meet.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Met { $($(#[$doc])* $variant,)* }

        impl Met {
            /// All of them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// In words.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

situations! {
    /// The member that led crashed.
    LeaderCrashed = "leader crashed";
    /// It had entries that were appended and not committed.
    CrashBeforeCommit = "leader crashed between append and commit";
    /// An entry of a former leader was overwritten.
    EntriesLost = "appended entries were lost";
    /// Two members believed at the same time that they lead.
    TwoLeaders = "two leaders at the same time";
    /// A member came back from its snapshot and log.
    MemberRestarted = "member restarted from snapshot and log";
    /// A member that was far behind got a snapshot.
    SnapshotInstalled = "snapshot installed from the leader";
    /// Entries on a member's disk were not synced and were lost.
    LogTailLost = "member lost the unsynced end of its log";
    /// An agent was killed.
    AgentCrashed = "agent crashed";
    /// Batches that were not yet synced were lost with it.
    SpoolTailLost = "agent lost batches that were not yet synced";
    /// A restarted agent had batches to send.
    SpoolReplayed = "spool replayed after a restart";
    /// An agent enrolled again after its disk was lost.
    Readmitted = "agent enrolled again after losing its disk";
    /// A batch came that was in the state already.
    DuplicateBatch = "duplicate batch reached the machine";
    /// A batch came too early.
    GapRefused = "batch refused because of a gap";
    /// A slot got another owner.
    OwnerChanged = "owner changed";
    /// A slot got another owner while a check in it was not plainly up.
    OwnerChangedMidIncident = "owner changed in the middle of an incident";
    /// Evidence came from somebody who was not the owner any more.
    StaleEvidence = "evidence of a former owner reached the machine";
    /// A region was frozen instead of moved.
    RegionFrozen = "region frozen by the storm guard";
    /// Postgres was away.
    PostgresAway = "postgres was away";
    /// Postgres went away during a commit, and nobody knew whether it was done.
    CommitUnknown = "postgres went away during a commit";
    /// A transaction brought facts that were projected before.
    FactsRepeated = "facts given to postgres twice";
    /// Rollups came that were stored before.
    RollupsRepeated = "rollups given to postgres twice";
    /// A vote came after its order was over.
    LateVote = "late vote";
    /// An order ended at its deadline or before, without the votes that were wanted.
    OrderExpired = "order expired";
    /// A check was confirmed down.
    ConfirmedDown = "confirmed down";
    /// Regions disagreed.
    RegionalFailure = "regional failure";
    /// Nobody else saw it.
    FalseAlarm = "false alarm";
    /// Too few vantages answered.
    Unconfirmed = "too few vantages answered";
    /// A second vantage saw it up again.
    ConfirmedUp = "recovery confirmed";
    /// An agent could reach nothing and knew it.
    BlindProbe = "probe by an agent that knew it was blind";
    /// A check was removed while it was not plainly up.
    RetiredMidIncident = "check removed in the middle of an incident";
    /// A check's owner spoke after it was removed, and what that opened was closed.
    OrphanClosed = "what a removed check's owner still said was closed";
    /// A process was stopped for a while and went on.
    Paused = "process paused and went on";
    /// An agent's clock was set.
    ClockStepped = "agent's clock stepped";
}

/// How often each situation was met.
#[derive(Debug, Clone, Default)]
pub(crate) struct Coverage(BTreeMap<Met, u64>);

impl Coverage {
    /// It was met once more.
    pub(crate) fn met(&mut self, what: Met) {
        self.met_times(what, 1);
    }

    /// It was met so many times more.
    pub(crate) fn met_times(&mut self, what: Met, times: u64) {
        if times > 0 {
            *self.0.entry(what).or_default() += times;
        }
    }

    /// How often it was met.
    pub(crate) fn count(&self, what: Met) -> u64 {
        self.0.get(&what).copied().unwrap_or(0)
    }

    /// Adds the counts of another run.
    pub(crate) fn add(&mut self, other: &Self) {
        other
            .0
            .iter()
            .for_each(|(&what, &times)| self.met_times(what, times));
    }
}
