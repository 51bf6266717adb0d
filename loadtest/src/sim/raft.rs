//! Raft, abstract: the replicated log of one member, without the elections.
//!
//! Real enough to lose what real Raft loses and to keep what it keeps: terms, logs that are
//! truncated, disks that lag behind, commits at a quorum of disks. An election is one atomic look
//! at a quorum (`World::elect`), because its messages are not what is tested here.
//!
//! A fold over messages; sending, disks and time are the member's.

mod log;

use std::collections::BTreeMap;
use std::rc::Rc;

use picket_scheduler_core::Entry;
use picket_wire::id::MemberId;

use crate::sim::raft::log::Log;

/// A place in the log: index, then term. Compares as Raft compares logs when turned around.
pub(crate) type Place = (u64, u64);

/// One place of the log; a blank is what a leader begins its term with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) term: u64,
    pub(crate) entry: Option<Entry>,
}

/// What members say to each other.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    /// The leader's entries after `prev`, and how far it knows the log to be committed.
    Append {
        term: u64,
        prev: Place,
        entries: Vec<Rc<Logged>>,
        commit: u64,
    },
    /// The sender's disk agrees with the leader's log up to here.
    Appended { term: u64, matched: u64 },
    /// The sender has no `prev`; or a later term. Its log ends here.
    Refused { term: u64, last: u64 },
    /// The leader no longer has what the follower lacks.
    Install {
        term: u64,
        at: Place,
        state: Rc<Vec<u8>>,
    },
}

impl Message {
    /// In a word.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Append { entries, .. } if entries.is_empty() => "heartbeat",
            Self::Append { .. } => "append",
            Self::Appended { .. } => "appended",
            Self::Refused { .. } => "refused",
            Self::Install { .. } => "install",
        }
    }
}

/// What a leader knows of a follower.
#[derive(Debug, Clone, Copy)]
struct Follower {
    /// Where the next message begins.
    next: u64,
    /// What its disk has.
    matched: u64,
}

/// What a member is in its term.
#[derive(Debug, Clone)]
enum Role {
    Follower {
        /// Up to here the log is known to be the leader's.
        verified: u64,
    },
    Leader(BTreeMap<MemberId, Follower>),
}

/// The log of one member and what it knows of the others'.
#[derive(Debug, Clone)]
pub(crate) struct Raft {
    term: u64,
    log: Log,
    /// The disk has the log up to here.
    synced: u64,
    commit: u64,
    role: Role,
    /// Entries of others that had to go, for the statistics.
    pub(crate) overwritten: usize,
}

impl Raft {
    /// A member that has this log on its disk, and knows it to be committed.
    pub(crate) fn new(entries: &[Rc<Logged>]) -> Self {
        let log = Log::of(entries);
        let synced = log.last().0;
        let role = Role::Follower { verified: synced };
        Self {
            term: 1,
            log,
            synced,
            commit: synced,
            role,
            overwritten: 0,
        }
    }

    pub(crate) const fn term(&self) -> u64 {
        self.term
    }

    pub(crate) const fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) const fn commit(&self) -> u64 {
        self.commit
    }

    pub(crate) const fn synced(&self) -> u64 {
        self.synced
    }

    pub(crate) const fn leads(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Whether this log may be followed by one that ends at `other`.
    pub(crate) fn would_elect(&self, other: Place) -> bool {
        let (index, term) = self.log.last();
        (other.1, other.0) >= (term, index)
    }

    /// A vote was given in `term`: nobody else is followed in an earlier one.
    pub(crate) fn vote(&mut self, term: u64) {
        self.term = self.term.max(term);
        self.role = Role::Follower {
            verified: self.commit,
        };
    }

    /// Elected by the others.
    pub(crate) fn lead(&mut self, term: u64, others: impl Iterator<Item = MemberId>) {
        self.term = term;
        let next = self.log.last().0 + 1;
        let follower = Follower { next, matched: 0 };
        self.role = Role::Leader(others.map(|other| (other, follower)).collect());
    }

    /// Appends an entry of this leader's own; returns its index. Not on disk yet.
    pub(crate) fn append(&mut self, entry: Option<Entry>) -> u64 {
        self.log.push(Rc::new(Logged {
            term: self.term,
            entry,
        }));
        self.log.last().0
    }

    /// Forgets entries that a snapshot holds.
    pub(crate) fn purge(&mut self, index: u64) {
        self.log.purge(index);
    }

    /// The process died: what the disk did not have is gone, but for `kept` entries that it had
    /// by chance. Returns how many were lost.
    pub(crate) fn crash(&mut self, kept: u64, committed: u64) -> usize {
        let last = self.log.last().0.min(self.synced + kept);
        self.synced = last;
        self.commit = committed;
        self.role = Role::Follower { verified: 0 };
        self.log.truncate(last + 1)
    }

    /// The disk has everything up to `place`, if that is still in the log.
    pub(crate) fn synced_to(&mut self, place: Place) {
        if self.log.has(place) {
            self.synced = self.synced.max(place.0);
            self.advance();
        }
    }

    /// What a follower tells its leader about its disk.
    pub(crate) fn report(&self) -> Option<Message> {
        let Role::Follower { verified } = self.role else {
            return None;
        };
        let matched = self.synced.min(verified);
        (matched > 0).then_some(Message::Appended {
            term: self.term,
            matched,
        })
    }

    /// What the leader says to `to` now; `state` is its newest snapshot.
    pub(crate) fn speak(
        &mut self,
        to: MemberId,
        at: Place,
        state: &Rc<Vec<u8>>,
    ) -> Option<Message> {
        let (term, commit) = (self.term, self.commit);
        let Role::Leader(followers) = &mut self.role else {
            return None;
        };
        let follower = followers.get_mut(&to)?;
        let prev = follower.next - 1;
        let Some(prev_term) = self.log.term_at(prev).filter(|_| prev >= self.log.base().0) else {
            follower.next = at.0 + 1;
            return Some(Message::Install {
                term,
                at,
                state: Rc::clone(state),
            });
        };
        let entries = self.log.after(prev);
        follower.next += entries.len() as u64;
        Some(Message::Append {
            term,
            prev: (prev, prev_term),
            entries,
            commit,
        })
    }

    /// What was sent and not answered is sent again.
    pub(crate) fn rewind(&mut self) {
        if let Role::Leader(followers) = &mut self.role {
            for follower in followers.values_mut() {
                follower.next = follower.next.min(follower.matched + 1).max(1);
            }
        }
    }

    /// Steps down when `term` is later; says whether it did.
    pub(crate) fn meet(&mut self, term: u64) -> bool {
        let later = term > self.term;
        if later {
            self.vote(term);
        }
        later
    }

    /// Takes the leader's entries; `None` when the log cannot follow on them.
    pub(crate) fn take(&mut self, prev: Place, entries: &[Rc<Logged>], commit: u64) -> bool {
        let known = prev.0 <= self.log.base().0 || self.log.has(prev);
        if !known {
            return false;
        }
        let mut index = prev.0;
        for logged in entries {
            index += 1;
            if index <= self.log.base().0 || self.log.has((index, logged.term)) {
                continue;
            }
            if self.log.get(index).is_some() {
                assert!(
                    index > self.commit,
                    "the simulated Raft lost a committed entry"
                );
                self.overwritten += self.log.truncate(index);
                self.synced = self.synced.min(index - 1);
            }
            self.log.push(Rc::clone(logged));
        }
        self.role = match self.role {
            Role::Follower { verified } => Role::Follower {
                verified: verified.max(index),
            },
            Role::Leader(_) => unreachable!("one term has one leader"),
        };
        self.commit = self.commit.max(commit.min(index));
        true
    }

    /// A snapshot takes the place of the log up to `at`, and of all of it where the log does not
    /// have that place; `false` when this member is as far.
    pub(crate) fn install(&mut self, at: Place) -> bool {
        let newer = at.0 > self.commit;
        if newer && self.log.has(at) {
            self.log.purge(at.0);
        } else if newer {
            self.log.restart(at);
            self.synced = at.0;
        }
        self.commit = self.commit.max(at.0);
        self.synced = self.synced.max(at.0);
        if let Role::Follower { verified } = &mut self.role {
            *verified = self.commit.max(*verified);
        }
        newer
    }

    /// A follower's disk has the log up to `matched`.
    pub(crate) fn matched(&mut self, from: MemberId, matched: u64) {
        if let Role::Leader(followers) = &mut self.role
            && let Some(follower) = followers.get_mut(&from)
        {
            follower.matched = follower.matched.max(matched);
            follower.next = follower.next.max(matched + 1);
            self.advance();
        }
    }

    /// A follower's log ends at `last`, or differs there.
    pub(crate) fn refused(&mut self, from: MemberId, last: u64) {
        if let Role::Leader(followers) = &mut self.role
            && let Some(follower) = followers.get_mut(&from)
        {
            let next = follower.next.saturating_sub(1).min(last + 1);
            follower.next = next.max(follower.matched + 1).max(1);
        }
    }

    /// Commits what a quorum of disks has, once that includes an entry of this term.
    fn advance(&mut self) {
        let Role::Leader(followers) = &self.role else {
            return;
        };
        let mut disks: Vec<u64> = followers
            .values()
            .map(|follower| follower.matched)
            .collect();
        disks.push(self.synced);
        disks.sort_unstable();
        // Of three disks the middle one, of five the third: what a quorum has at least.
        let quorum = disks.get((disks.len() - 1) / 2).copied().unwrap_or(0);
        if quorum > self.commit && self.log.term_at(quorum) == Some(self.term) {
            self.commit = quorum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: MemberId = MemberId(2);
    const THREE: MemberId = MemberId(3);

    fn leader(term: u64) -> Raft {
        let mut raft = Raft::new(&[]);
        raft.lead(term, [TWO, THREE].into_iter());
        raft
    }

    #[test]
    fn an_entry_commits_on_two_disks_of_three_and_not_before() {
        let mut raft = leader(2);
        assert_eq!(raft.append(None), 1);
        raft.matched(TWO, 1);
        assert_eq!(raft.commit(), 0, "our own disk does not have it yet");
        raft.synced_to((1, 2));
        assert_eq!(raft.commit(), 1);
    }

    #[test]
    fn entries_of_an_earlier_term_commit_only_with_one_of_this_term() {
        let mut raft = leader(2);
        raft.append(None);
        raft.synced_to((1, 2));
        raft.lead(3, [TWO, THREE].into_iter());
        raft.matched(TWO, 1);
        assert_eq!(raft.commit(), 0);
        raft.append(None);
        raft.synced_to((2, 3));
        raft.matched(TWO, 2);
        assert_eq!(raft.commit(), 2);
    }

    #[test]
    fn a_follower_drops_what_the_new_leader_does_not_have() {
        let logged = |term| Rc::new(Logged { term, entry: None });
        let mut follower = Raft::new(&[logged(1)]);
        assert!(follower.take((1, 1), &[logged(2), logged(2)], 1));
        follower.synced_to((3, 2));
        assert!(follower.meet(3));
        assert!(follower.take((1, 1), &[logged(3)], 1));
        assert_eq!(follower.log().last(), (2, 3));
        assert_eq!((follower.overwritten, follower.synced()), (2, 1));
        assert!(!follower.take((5, 3), &[], 1), "there is a gap before it");
    }

    #[test]
    fn a_late_snapshot_takes_nothing_away_that_was_synced_behind_it() {
        let logged = |term| Rc::new(Logged { term, entry: None });
        let mut follower = Raft::new(&[logged(1)]);
        assert!(follower.take((1, 1), &[logged(1), logged(1)], 1));
        follower.synced_to((3, 1));
        assert!(follower.install((2, 1)));
        assert_eq!((follower.log().last(), follower.synced()), ((3, 1), 3));
        assert!(follower.install((9, 1)));
        assert_eq!((follower.log().last(), follower.synced()), ((9, 1), 9));
        assert!(!follower.install((5, 1)), "it is further");
    }

    #[test]
    fn a_crash_keeps_what_the_disk_had() {
        let mut raft = leader(2);
        raft.append(None);
        raft.synced_to((1, 2));
        raft.append(None);
        raft.append(None);
        assert_eq!(raft.crash(1, 0), 1);
        assert_eq!(raft.log().last(), (2, 2));
    }
}
