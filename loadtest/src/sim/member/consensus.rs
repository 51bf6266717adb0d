//! A member's part in keeping the log: elections, entries, disks, commits.

use std::rc::Rc;

use picket_scheduler_core::{Command, Entry};
use picket_wire::id::MemberId;
use picket_wire::time::{Span, Timestamp};

use crate::sim::coverage::Met;
use crate::sim::env::Env;
use crate::sim::event::{Event, MemberEvent};
use crate::sim::member::{Member, Snapshot, Waiter, Waiting};
use crate::sim::raft::{Logged, Message, Place};
use crate::sim::scenario::MEMBERS;
use crate::sim::trace::{Node, Note};

/// How often a leader says that it is there.
const HEARTBEAT: Span = Span(300);
/// A member that hears nothing for this long wants to lead; each draws its own time.
const ELECTION_MIN: Span = Span(900);
const ELECTION_MAX: Span = Span(1_800);

impl Member {
    pub(super) fn plan_election(&mut self, env: &mut Env) {
        let wait = self.rng.span(ELECTION_MIN, ELECTION_MAX);
        env.plan_in(wait, Event::Election(self.boot()));
    }

    /// Whether it is time to stand for election; looks again later in any case.
    pub(crate) fn wants_to_lead(&mut self, env: &mut Env) -> bool {
        self.plan_election(env);
        !self.raft.leads() && env.now.since(self.heard_at) >= ELECTION_MIN
    }

    /// Whether it would vote for a member whose log ends at `last`.
    pub(crate) fn would_elect(&self, last: Place, now: Timestamp, forced: bool) -> bool {
        let content = now.since(self.heard_at) < ELECTION_MIN && !forced;
        self.up && !content && self.raft.would_elect(last)
    }

    /// Gives its vote in `term`.
    pub(crate) fn vote(&mut self, env: &mut Env, term: u64) {
        self.meet(env, term);
        self.heard_at = env.now;
    }

    /// Was elected.
    pub(crate) fn lead(&mut self, env: &mut Env, term: u64) {
        let others = MEMBERS.into_iter().filter(|member| *member != self.id);
        self.raft.lead(term, others);
        self.leader = Some(self.id);
        self.begins_at = Some(self.raft.append(None));
        env.note(Note::Elected {
            member: self.id,
            term,
        });
        self.appended(env);
        self.plan(env, HEARTBEAT, MemberEvent::Heartbeat(term));
    }

    /// Says that it still leads, and repeats what was not answered.
    pub(super) fn beat(&mut self, env: &mut Env, term: u64) {
        if self.raft.leads() && self.raft.term() == term {
            self.raft.rewind();
            self.tell_followers(env);
            self.plan(env, HEARTBEAT, MemberEvent::Heartbeat(term));
        }
    }

    /// Puts a command in the log; says whether this member leads.
    pub(crate) fn propose(&mut self, env: &mut Env, command: Command, waiter: Waiter) -> bool {
        if !self.raft.leads() {
            return false;
        }
        let at = self.clock(env);
        let index = self.raft.append(Some(Entry { at, command }));
        let (term, since) = (self.raft.term(), env.now);
        self.waiting.insert(
            index,
            Waiting {
                term,
                since,
                waiter,
            },
        );
        self.appended(env);
        true
    }

    fn appended(&mut self, env: &mut Env) {
        self.sync(env);
        self.tell_followers(env);
    }

    fn sync(&mut self, env: &mut Env) {
        let wait = self.rng.span(Span(1), env.scenario.sync_max);
        self.plan(env, wait, MemberEvent::LogSynced(self.raft.log().last()));
    }

    pub(super) fn synced(&mut self, env: &mut Env, place: Place) {
        self.raft.synced_to(place);
        self.report(env);
        self.after_raft(env);
    }

    fn report(&mut self, env: &mut Env) {
        if let (Some(leader), Some(message)) = (self.leader, self.raft.report()) {
            send(env, self.id, leader, message);
        }
    }

    fn tell_followers(&mut self, env: &mut Env) {
        let Snapshot { at, state } = self.snapshot.clone();
        for other in MEMBERS.into_iter().filter(|member| *member != self.id) {
            if let Some(message) = self.raft.speak(other, at, &state) {
                send(env, self.id, other, message);
            }
        }
    }

    /// Another member said something.
    pub(crate) fn hear(&mut self, env: &mut Env, from: MemberId, message: Message) {
        env.note(Note::Heard {
            to: Node::Member(self.id),
            from: Node::Member(from),
            what: message.name(),
        });
        match message {
            Message::Append { term, .. } | Message::Install { term, .. }
                if term < self.raft.term() =>
            {
                let refusal = Message::Refused {
                    term: self.raft.term(),
                    last: 0,
                };
                send(env, self.id, from, refusal);
            }
            Message::Append {
                term,
                prev,
                entries,
                commit,
            } => {
                self.follow(env, from, term);
                self.take(env, from, prev, &entries, commit);
            }
            Message::Install { term, at, state } => {
                self.follow(env, from, term);
                self.install(env, at, state);
            }
            Message::Appended { term, matched } => {
                if !self.meet(env, term) && term == self.raft.term() {
                    self.raft.matched(from, matched);
                }
            }
            Message::Refused { term, last } => {
                if !self.meet(env, term) && term == self.raft.term() {
                    self.raft.refused(from, last);
                }
            }
        }
        self.after_raft(env);
    }

    fn follow(&mut self, env: &mut Env, leader: MemberId, term: u64) {
        self.meet(env, term);
        self.leader = Some(leader);
        self.heard_at = env.now;
    }

    fn take(
        &mut self,
        env: &mut Env,
        from: MemberId,
        prev: Place,
        entries: &[Rc<Logged>],
        commit: u64,
    ) {
        if !self.raft.take(prev, entries, commit) {
            let last = self.raft.log().last().0.min(prev.0.saturating_sub(1));
            let refusal = Message::Refused {
                term: self.raft.term(),
                last,
            };
            return send(env, self.id, from, refusal);
        }
        env.coverage.met_times(
            Met::EntriesLost,
            std::mem::take(&mut self.raft.overwritten) as u64,
        );
        if self.raft.log().last().0 > self.raft.synced() {
            self.sync(env);
        } else {
            self.report(env);
        }
    }

    fn install(&mut self, env: &mut Env, at: Place, state: Rc<Vec<u8>>) {
        if self.raft.install(at) {
            env.met(Met::SnapshotInstalled);
            self.snapshot = Snapshot { at, state };
            self.rebuild(env);
        }
        self.report(env);
    }

    /// Hears of a term; says whether it was a later one. A leader of an earlier one leads no more.
    fn meet(&mut self, env: &mut Env, term: u64) -> bool {
        let led = self.raft.leads();
        let later = self.raft.meet(term);
        if later && led {
            env.note(Note::Deposed {
                member: self.id,
                term,
            });
            self.resign(env);
        }
        later
    }

    fn resign(&mut self, env: &mut Env) {
        self.leader = None;
        self.begins_at = None;
        self.term = None;
        self.waiting.clear();
        let agents: Vec<_> = self.sessions.keys().copied().collect();
        agents
            .into_iter()
            .for_each(|agent| self.tell_position(env, agent));
    }

    pub(super) fn after_raft(&mut self, env: &mut Env) {
        let commit = self.raft.commit();
        if self.raft.leads() {
            self.declare_commits(env, commit);
        }
        if commit > self.applied && !self.applying {
            self.applying = true;
            let wait = if self.rng.chance(10) {
                Span(400)
            } else {
                self.rng.span(Span(0), Span(4))
            };
            self.plan(env, wait, MemberEvent::Apply);
        }
    }

    /// The oracles see each entry when it commits.
    fn declare_commits(&mut self, env: &mut Env, commit: u64) {
        let known = env.oracles.committed();
        for index in known + 1..=commit {
            let Some(logged) = self.raft.log().get(index).cloned() else {
                continue;
            };
            let command = logged
                .entry
                .as_ref()
                .map_or("blank", |entry| entry.command.name());
            env.note(Note::Committed {
                index,
                term: logged.term,
                command,
            });
            let Env {
                oracles,
                coverage,
                trace,
                now,
                ..
            } = env;
            oracles.commit(&logged, coverage, &mut |what| {
                trace.note(*now, Note::Decided { index, what });
            });
        }
        if known < commit {
            self.tell_followers(env);
        }
    }
}

fn send(env: &mut Env, from: MemberId, to: MemberId, message: Message) {
    let way = (Node::Member(from), Node::Member(to));
    let cut = env.net.cut_until(way.0, way.1, env.now).is_some();
    if !cut && !env.net.loses(way.0, way.1) {
        let wait = env.net.delay(way.0, way.1);
        env.plan_in(wait, Event::Raft { from, to, message });
    }
}
