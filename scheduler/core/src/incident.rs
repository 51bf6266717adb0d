//! The life of an open verdict: suspicion, confirmation, recovery, and the facts they leave.
//!
//! Everything is level-triggered: every stage but `Blocked` has exactly one order, which asks now
//! or later, and every conclusion that leaves the verdict open opens the next. So an outage is
//! confirmed as soon as vantages return, a regional failure is promoted or ends, and no state
//! rests for ever on the word of one observer.
//!
//! Instants: a suspicion begins with the first failing probe. What is decided about it while it
//! is only suspected holds from that same instant; what is decided later holds from the first
//! probe of another vantage that shows it, or from the owner's first ok probe. No transition lies
//! before the one before it, or in the future.

mod conclude;

use std::collections::BTreeMap;

use picket_wire::evidence::{Evidence, TraceContext};
use picket_wire::fact::{Counted, FactBody, Incident, Testimony, Transition};
use picket_wire::id::{AgentId, CheckId, IncidentId, OrderId, ShardSlot};
use picket_wire::reason::{Reason, ReasonClass};
use picket_wire::state::{State, Verdict};
use picket_wire::time::Timestamp;

use crate::cause::Cause;
use crate::machine::Fold;
use crate::state::order::VOTES_MAX;
use crate::state::{Ballot, Case, OpenVerdict, Order, Says, Stage, Vote, Word};
use crate::verdict::tally::{Tally, others_of};

/// What the owners of a check's slots say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chorus {
    /// At least one sees it fail.
    Fails,
    /// None sees it fail, at least one can look.
    Ok,
    /// None can look.
    Blocked,
}

/// A change of public state.
#[derive(Debug, Clone, Copy)]
struct Change {
    from: State,
    to: State,
    at: Timestamp,
    reason: Option<Reason>,
}

impl Chorus {
    /// A slot whose owner has not spoken sees nothing wrong.
    fn of(open: &OpenVerdict, replicas: u8) -> Self {
        let any = |wanted: fn(&Says) -> bool| open.words.values().any(|word| wanted(&word.says));
        if any(|says| matches!(says, Says::Fails(_))) {
            Self::Fails
        } else if any(|says| *says == Says::Ok) || open.words.len() < usize::from(replicas) {
            Self::Ok
        } else {
            Self::Blocked
        }
    }
}

impl Fold<'_> {
    /// The owner of `slot` changed its mind about a check, or says again what it believes.
    pub(crate) fn owner_spoke(&mut self, slot: ShardSlot, agent: AgentId, evidence: &Evidence) {
        let word = word_of(agent, evidence);
        let check = evidence.check.check;
        match self.state.open.get(&check) {
            None if word.says == Says::Ok => {}
            None => self.open_verdict(slot, word, evidence),
            Some(open) if open.group != slot.group || open.shard != slot.shard => {
                self.state.skipped.malformed += 1;
            }
            Some(_) => {
                let open = self.take(check);
                self.heard(open, slot, word, evidence);
            }
        }
    }

    /// A vantage answered an order.
    pub(crate) fn vantage_voted(&mut self, id: OrderId, agent: AgentId, evidence: &Evidence) {
        let check = evidence.check.check;
        let Some(order) = self.state.orders.get(&id) else {
            self.state.skipped.late_votes += 1;
            if let Some(open) = self.state.open.get(&check) {
                let incident = open.stage.incident().map(|incident| incident.id);
                self.testify(incident, agent, evidence, Counted::Late);
            }
            return;
        };
        if order.check != evidence.check || order.votes.len() >= VOTES_MAX {
            self.state.skipped.malformed += 1;
            return;
        }
        let mut open = self.take(check);
        let counted = self.weigh(&open, id, agent, evidence);
        let vote = vote_of(agent, evidence, counted);
        if counted != Counted::Repeated
            && let Some(order) = self.state.orders.get_mut(&id)
        {
            order.votes.push(vote);
        }
        if vote.says == Ballot::Down && matches!(open.stage, Stage::Watched { .. }) {
            open = self.suspect(open, State::Up, vote.at, evidence);
        }
        let incident = open.stage.incident().map(|incident| incident.id);
        self.testify(incident, agent, evidence, counted);
        self.decide(open);
    }

    /// Nobody else will vote on an order.
    pub(crate) fn order_ended(&mut self, id: OrderId, vantages: u8) {
        let Some(order) = self.state.orders.get_mut(&id) else {
            return;
        };
        if self.at < order.deadline {
            order.wanted = order.wanted.min(vantages);
        }
        let check = order.check.check;
        let open = self.take(check);
        self.decide(open);
    }

    /// The check exists no more: whatever is open about it closes. A suspicion was never decided.
    pub(crate) fn retire(&mut self, check: CheckId) {
        let mut open = self.take(check);
        self.withdraw(&open);
        let mut from = open.stage.state();
        if from == State::SeemsDown {
            let began_at = open.since;
            self.transition(&mut open, State::Unknown, began_at, Verdict::Unknown);
            from = State::Unknown;
        }
        let at = self.at;
        self.close_from(open, from, at, None);
    }

    /// A slot exists no more: what its owners said counts no more.
    pub(crate) fn forget_words(&mut self, slot: ShardSlot) {
        let checks: Vec<_> = self.state.index.open_in(slot.group, slot.shard).collect();
        for check in checks {
            let spoken = self
                .state
                .open
                .get_mut(&check)
                .and_then(|open| open.words.remove(&slot.slot).map(|_| open.words.is_empty()));
            match spoken {
                Some(true) => self.retire(check),
                Some(false) => {
                    let open = self.take(check);
                    self.react(open, true);
                }
                None => {}
            }
        }
    }

    fn open_verdict(&mut self, slot: ShardSlot, word: Word, evidence: &Evidence) {
        let check = evidence.check;
        let granted = self
            .state
            .assignments
            .get(&slot)
            .map(|assignment| assignment.since);
        let floor = self.state.settled.floor_of(check.check);
        let (agent, at, says) = (word.agent, word.at, word.says);
        let mut open = OpenVerdict {
            check,
            group: slot.group,
            shard: slot.shard,
            words: BTreeMap::from([(slot.slot, word)]),
            since: granted.map_or(floor, |granted| granted.max(floor)),
            stage: Stage::Blocked,
        };
        self.state
            .index
            .verdict_opened(slot.group, slot.shard, check.check);
        if let Says::Blocked(reason) = says {
            if self.chorus(&open) == Chorus::Blocked {
                let change = Change {
                    from: State::Up,
                    to: State::Unknown,
                    at,
                    reason: Some(reason),
                };
                self.tell(&mut open, change, None);
            } else {
                // The other slots' owners look, and others are asked now and then.
                let order = self.ask(&open, self.at + self.settings().confirm.watch, None);
                open.stage = Stage::Watched { order };
            }
            self.put(open);
            return;
        }
        let open = self.suspect(open, State::Up, at, evidence);
        let incident = open.stage.incident().map(|incident| incident.id);
        self.testify(incident, agent, evidence, owner_counted(evidence));
        self.decide(open);
    }

    /// An owner's word about a check that is open.
    fn heard(&mut self, mut open: OpenVerdict, slot: ShardSlot, word: Word, evidence: &Evidence) {
        let (agent, at, says) = (word.agent, word.at, word.says);
        let before = open.words.insert(slot.slot, word);
        let changed = before.as_ref().is_none_or(|before| before.says != says);
        match (&open.stage, says) {
            (Stage::Blocked, Says::Fails(_)) => {
                open = self.suspect(open, State::Unknown, at, evidence);
            }
            (Stage::Watched { .. }, Says::Fails(_)) if is_joined(before.as_ref(), agent) => {
                open = self.ask_now(open);
                open = self.suspect(open, State::Up, at, evidence);
            }
            _ => {}
        }
        let incident = open.stage.incident().map(|incident| incident.id);
        self.testify(incident, agent, evidence, owner_counted(evidence));
        self.react(open, changed);
    }

    /// What follows from the owners' words as they are now.
    fn react(&mut self, open: OpenVerdict, changed: bool) {
        match (self.chorus(&open), &open.stage) {
            (Chorus::Blocked, Stage::Blocked) => self.put(open),
            (Chorus::Blocked, _) => self.blocked(open),
            (Chorus::Ok, Stage::Blocked | Stage::Watched { .. }) => {
                self.withdraw(&open);
                let at = last_ok(&open).unwrap_or(self.at);
                self.close(open, at, None);
            }
            (Chorus::Ok, Stage::Unconfirmed { .. }) => {
                self.withdraw(&open);
                let at = last_ok(&open).unwrap_or(self.at);
                self.close(open, at, Some(Verdict::Unknown));
            }
            (Chorus::Ok, Stage::Suspected { order, .. }) if self.was_over(&open, *order) => {
                self.over_before_asked(open);
            }
            (_, Stage::Unconfirmed { .. } | Stage::Regional { .. } | Stage::Down { .. })
                if changed =>
            {
                let open = self.ask_now(open);
                self.decide(open);
            }
            _ => self.decide(open),
        }
    }

    /// Whether the check was ok again before anybody else could be asked.
    fn was_over(&self, open: &OpenVerdict, order: OrderId) -> bool {
        let asked_at = self.state.orders.get(&order).map(|order| order.asked_at);
        last_ok(open)
            .zip(asked_at)
            .is_some_and(|(ok_at, asked_at)| ok_at <= asked_at)
    }

    /// Only the owner ever saw it, and it is past: nobody can say any more what it was.
    fn over_before_asked(&mut self, mut open: OpenVerdict) {
        self.withdraw(&open);
        let began_at = open.since;
        self.transition(&mut open, State::Unknown, began_at, Verdict::Unknown);
        let at = last_ok(&open).unwrap_or(self.at);
        self.close_from(open, State::Unknown, at, Some(Verdict::Unknown));
    }

    /// No owner can look any more: an incident ends undecided, and nothing is asked.
    fn blocked(&mut self, mut open: OpenVerdict) {
        self.withdraw(&open);
        let at = open
            .words
            .values()
            .map(|word| word.at)
            .max()
            .unwrap_or(self.at);
        let at = self.clamp(&open, at);
        let from = open.stage.state();
        // What was only suspected was never decided: it is unknown from its beginning.
        let holds_from = if from == State::SeemsDown {
            open.since
        } else {
            at
        };
        let case = std::mem::replace(&mut open.stage, Stage::Blocked).into_case();
        let incident = case.map(|(mut case, _)| {
            case.incident.verdict = Some(Verdict::Unknown);
            self.end(&mut case, State::Unknown, at);
            case.incident.id
        });
        if from != State::Unknown {
            let reason = open.words.values().find_map(|word| match word.says {
                Says::Blocked(reason) => Some(reason),
                Says::Ok | Says::Fails(_) => None,
            });
            self.tell(
                &mut open,
                Change {
                    from,
                    to: State::Unknown,
                    at: holds_from,
                    reason,
                },
                incident,
            );
        }
        self.put(open);
    }

    /// Opens an incident about a check whose public state is `from`, and asks at once.
    fn suspect(
        &mut self,
        mut open: OpenVerdict,
        from: State,
        at: Timestamp,
        evidence: &Evidence,
    ) -> OpenVerdict {
        let at = self.clamp(&open, at);
        let incident = Incident {
            id: self.state.last_ids.incident(),
            check: open.check,
            state: State::SeemsDown,
            started_at: at,
            decided_at: None,
            ended_at: None,
            verdict: None,
            reason: reason_of(evidence),
            group: None,
            trace: evidence.trace,
        };
        // A watched check is suspected because of a vote, whose order goes on.
        let order = match open.stage.order() {
            Some(order) => order,
            None => self.ask(&open, self.at, incident.trace),
        };
        self.emit(FactBody::Incident(incident.clone()));
        let change = Change {
            from,
            to: State::SeemsDown,
            at,
            reason: Some(incident.reason),
        };
        self.tell(&mut open, change, Some(incident.id));
        let case = Box::new(Case {
            incident,
            cause: Cause::of(evidence),
        });
        open.stage = Stage::Suspected { case, order };
        open
    }

    /// Ends what is open: the check is plainly up from `at` on.
    fn close(&mut self, open: OpenVerdict, at: Timestamp, verdict: Option<Verdict>) {
        let from = open.stage.state();
        self.close_from(open, from, at, verdict);
    }

    /// Ends what is open, whose public state is `from`.
    fn close_from(
        &mut self,
        mut open: OpenVerdict,
        from: State,
        at: Timestamp,
        verdict: Option<Verdict>,
    ) {
        let at = self.clamp(&open, at);
        let case = std::mem::replace(&mut open.stage, Stage::Blocked).into_case();
        let incident = case.map(|(mut case, _)| {
            case.incident.verdict = verdict.or(case.incident.verdict).or(Some(Verdict::Unknown));
            self.end(&mut case, State::Up, at);
            case.incident.id
        });
        if from != State::Up {
            self.tell(
                &mut open,
                Change {
                    from,
                    to: State::Up,
                    at,
                    reason: None,
                },
                incident,
            );
        }
        self.state
            .settled
            .remember(open.check.check, open.since, self.at);
        self.state
            .index
            .verdict_closed(open.group, open.shard, open.check.check);
    }

    /// Ends an incident and states it.
    fn end(&mut self, case: &mut Case, state: State, at: Timestamp) {
        self.leave_group(case);
        case.incident.state = state;
        case.incident.decided_at.get_or_insert(self.at);
        case.incident.ended_at = Some(at);
        self.emit(FactBody::Incident(case.incident.clone()));
    }

    /// Gives the incident another state and verdict, in place, and states both.
    fn transition(&mut self, open: &mut OpenVerdict, to: State, at: Timestamp, verdict: Verdict) {
        let at = self.clamp(open, at);
        let from = open.stage.state();
        let Some(case) = open.stage.case_mut() else {
            return;
        };
        case.incident.state = to;
        case.incident.verdict = Some(verdict);
        case.incident.decided_at = Some(self.at);
        if to == State::Down {
            self.join_group(case);
        }
        let incident = case.incident.clone();
        let (id, reason) = (incident.id, Some(incident.reason));
        self.emit(FactBody::Incident(incident));
        self.tell(
            open,
            Change {
                from,
                to,
                at,
                reason,
            },
            Some(id),
        );
    }

    /// States a transition.
    fn tell(&mut self, open: &mut OpenVerdict, change: Change, incident: Option<IncidentId>) {
        let Change {
            from,
            to,
            at,
            reason,
        } = change;
        let at = self.clamp(open, at);
        open.since = at;
        let check = open.check;
        self.emit(FactBody::Transition(Transition {
            check,
            from,
            to,
            at,
            reason,
            incident,
        }));
    }

    fn chorus(&self, open: &OpenVerdict) -> Chorus {
        let replicas = self
            .state
            .groups
            .get(&open.group)
            .map_or(1, |group| group.replicas);
        Chorus::of(open, replicas)
    }

    /// `at`, not before the state that it ends and not in the future.
    fn clamp(&self, open: &OpenVerdict, at: Timestamp) -> Timestamp {
        at.min(self.at).max(open.since)
    }

    fn testify(
        &mut self,
        incident: Option<IncidentId>,
        agent: AgentId,
        evidence: &Evidence,
        counted: Counted,
    ) {
        let (Some(incident), Some(speaker)) = (incident, self.state.agents.get(&agent)) else {
            return;
        };
        let testimony = Testimony {
            incident,
            agent,
            region: speaker.region.clone(),
            network: speaker.network.clone(),
            order: order_of(evidence),
            counted,
            evidence: evidence.clone(),
        };
        self.emit(FactBody::Testimony(testimony));
    }

    /// What a vote counts as.
    fn weigh(
        &self,
        open: &OpenVerdict,
        order: OrderId,
        agent: AgentId,
        evidence: &Evidence,
    ) -> Counted {
        let Some(order) = self.state.orders.get(&order) else {
            return Counted::Late;
        };
        if order.votes.iter().any(|vote| vote.agent == agent) {
            return Counted::Repeated;
        }
        if matches!(says_of(evidence), Says::Blocked(_)) {
            return Counted::Abstained;
        }
        if !evidence.vantage_healthy {
            return Counted::UnhealthyVantage;
        }
        Tally::of(self.state, open, order).weigh(self.state, agent)
    }

    /// Opens an order about `open` that asks from `asked_at` on.
    fn ask(
        &mut self,
        open: &OpenVerdict,
        asked_at: Timestamp,
        trace: Option<TraceContext>,
    ) -> OrderId {
        let policy = self.settings().confirm;
        let others = u8::try_from(others_of(self.state, open)).unwrap_or(u8::MAX);
        let order = Order {
            check: open.check,
            group: open.group,
            shard: open.shard,
            wanted: policy.voters.min(others),
            asked_at,
            deadline: asked_at + policy.deadline,
            votes: Vec::new(),
            trace,
        };
        let id = self.state.last_ids.order();
        self.state.index.order_opened(asked_at, id);
        self.state.orders.insert(id, order);
        id
    }

    /// Replaces the order of `open` by one that asks at once.
    fn ask_now(&mut self, open: OpenVerdict) -> OpenVerdict {
        let now = self.at;
        self.ask_at(open, now)
    }

    /// Replaces the order of `open` by one that asks at `asked_at`.
    fn ask_at(&mut self, mut open: OpenVerdict, asked_at: Timestamp) -> OpenVerdict {
        self.withdraw(&open);
        let trace = open.stage.incident().and_then(|incident| incident.trace);
        let next = self.ask(&open, asked_at, trace);
        open.stage.set_order(next);
        open
    }

    fn withdraw(&mut self, open: &OpenVerdict) {
        let Some(id) = open.stage.order() else { return };
        if let Some(order) = self.state.orders.remove(&id) {
            self.state.index.order_closed(order.asked_at, id);
        }
    }

    /// Takes an open verdict out of the state; [`Self::put`] or [`Self::close`] follows.
    fn take(&mut self, check: CheckId) -> OpenVerdict {
        let open = self.state.open.remove(&check);
        open.expect("an order and a caller name only checks that are open")
    }

    fn put(&mut self, open: OpenVerdict) {
        self.state.open.insert(open.check.check, open);
    }
}

/// Whether a failing word is another observer's than the lonely one that is watched: of another
/// slot's owner, or of the slot's next one.
fn is_joined(before: Option<&Word>, agent: AgentId) -> bool {
    before.is_none_or(|before| before.agent != agent || !matches!(before.says, Says::Fails(_)))
}

/// The instant from which no owner sees a failure any more.
fn last_ok(open: &OpenVerdict) -> Option<Timestamp> {
    open.words
        .values()
        .filter(|word| word.says == Says::Ok)
        .map(|word| word.at)
        .max()
}

/// The try that counts: the retry, where one was made.
fn decisive(evidence: &Evidence) -> &picket_wire::outcome::Probe {
    evidence.retry.as_ref().unwrap_or(&evidence.probe)
}

fn says_of(evidence: &Evidence) -> Says {
    match decisive(evidence).reason {
        None => Says::Ok,
        Some(reason) if reason.class() == ReasonClass::Blocked => Says::Blocked(reason),
        Some(reason) => Says::Fails(reason),
    }
}

fn word_of(agent: AgentId, evidence: &Evidence) -> Word {
    let says = says_of(evidence);
    let at = began_at(evidence);
    Word {
        agent,
        at,
        says,
        healthy: evidence.vantage_healthy,
    }
}

fn vote_of(agent: AgentId, evidence: &Evidence, counted: Counted) -> Vote {
    let says = match (counted, says_of(evidence)) {
        (Counted::Yes, Says::Ok) => Ballot::Up,
        (Counted::Yes, Says::Fails(_)) => Ballot::Down,
        _ => Ballot::Void,
    };
    Vote {
        agent,
        at: began_at(evidence),
        says,
    }
}

/// The first of the two tries that shows what the decisive one shows: a failure begins with the
/// probe that failed first, a success with the probe that succeeded.
fn began_at(evidence: &Evidence) -> Timestamp {
    if evidence.probe.is_ok() == evidence.is_ok() {
        evidence.probe.at
    } else {
        decisive(evidence).at
    }
}

/// The reason of the first failure.
fn reason_of(evidence: &Evidence) -> Reason {
    let reasons = [evidence.probe.reason, decisive(evidence).reason];
    // Suspicions are opened by failures only; the last resort keeps the machine total.
    reasons
        .into_iter()
        .flatten()
        .next()
        .unwrap_or(Reason::ConnectTimeout)
}

fn order_of(evidence: &Evidence) -> Option<OrderId> {
    match evidence.role {
        picket_wire::evidence::Role::Voter { order } => Some(order),
        picket_wire::evidence::Role::Owner { .. } => None,
    }
}

const fn owner_counted(evidence: &Evidence) -> Counted {
    if evidence.vantage_healthy {
        Counted::Yes
    } else {
        Counted::UnhealthyVantage
    }
}
