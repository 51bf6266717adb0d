//! What follows for an open verdict from what the vantages together say.
//!
//! One row of the verdict's table and the present stage give the next stage; the match below is
//! that second table.

use picket_wire::fact::FactBody;
use picket_wire::id::OrderId;
use picket_wire::state::{State, Verdict};
use picket_wire::time::Timestamp;

use super::{Change, last_ok};
use crate::machine::Fold;
use crate::state::{Case, OpenVerdict, Stage};
use crate::verdict::tally::Tally;
use crate::verdict::{self, Decision, Owner};

/// When the probes were made that the conclusion rests on.
#[derive(Debug, Clone, Copy)]
struct Seen {
    owner: Owner,
    owner_at: Timestamp,
    down: Option<Timestamp>,
    up: Option<Timestamp>,
}

impl Fold<'_> {
    /// Looks at the words and votes about `open`, and concludes what can be concluded.
    pub(super) fn decide(&mut self, open: OpenVerdict) {
        let order = open.stage.order().and_then(|id| self.state.orders.get(&id));
        let Some(order) = order else {
            self.put(open);
            return;
        };
        let tally = Tally::of(self.state, &open, order);
        let (decision, _) = verdict::decide(tally.inputs(order, self.at));
        let seen = Seen {
            owner: tally.owner,
            owner_at: tally.owner_at,
            down: tally.first_down(),
            up: tally.first_up(),
        };
        self.conclude(open, decision, seen);
    }

    fn conclude(&mut self, open: OpenVerdict, decision: Decision, seen: Seen) {
        use Decision as D;
        use Stage as S;
        let now = self.at;
        let began_at = open.since;
        let seen_down = seen.down.unwrap_or(now);
        let seen_up = seen.up.unwrap_or(now);
        match (decision, &open.stage) {
            (D::Wait, _) | (_, S::Blocked) => self.put(open),

            // While it is only suspected, what is decided holds from its beginning.
            (D::Down | D::StillDown, S::Suspected { .. }) => self.confirm(open, began_at, seen),
            (D::Regional | D::Contradicted, S::Suspected { .. }) => {
                self.regional(open, began_at, seen);
            }
            (D::Unknown, S::Suspected { .. }) => self.unconfirmed(open, began_at, seen),
            (D::FalseAlarm, S::Suspected { .. }) => {
                self.watch(open, began_at, Verdict::FalseAlarm);
            }
            (D::Up, S::Suspected { .. }) => {
                self.recovered(open, began_at, Some(Verdict::FalseAlarm));
            }
            (D::UpUnheard, S::Suspected { .. }) => self.over_before_asked(open),

            // Later it holds from the first probe that shows it.
            (D::Down | D::StillDown, S::Unconfirmed { .. }) => self.confirm(open, seen_down, seen),
            (D::Regional | D::Contradicted, S::Unconfirmed { .. }) => {
                self.regional(open, seen_down.min(seen_up), seen);
            }
            (D::FalseAlarm, S::Unconfirmed { .. }) => {
                self.watch(open, seen_up, Verdict::FalseAlarm);
            }
            (D::Up | D::UpUnheard, S::Unconfirmed { .. }) => {
                self.recovered(open, seen.owner_at, Some(Verdict::Unknown));
            }

            (D::Down, S::Regional { .. }) => self.confirm(open, seen_down, seen),
            (D::Regional, S::Down { .. }) => {
                let at = if seen.owner == Owner::Recovered {
                    seen.owner_at
                } else {
                    seen_up
                };
                self.regional(open, at, seen);
            }
            (D::FalseAlarm, S::Regional { .. } | S::Down { .. }) => {
                self.watch(open, seen_up, Verdict::ConfirmedUp);
            }
            (D::Up, S::Regional { .. } | S::Down { .. }) => {
                self.recovered(open, seen.owner_at, Some(Verdict::ConfirmedUp));
            }
            (D::UpUnheard, S::Regional { .. } | S::Down { .. }) => {
                self.recovered(open, seen.owner_at, None);
            }
            (D::Down, S::Down { .. }) => {
                let open = self.join_late(open);
                self.stay(open, seen);
            }
            (D::StillDown | D::Contradicted | D::Unknown, S::Down { .. })
            | (D::StillDown | D::Contradicted | D::Unknown | D::Regional, S::Regional { .. })
            | (D::Unknown, S::Unconfirmed { .. }) => self.stay(open, seen),

            // A vote that agrees has made a watched check suspected before this.
            (_, S::Watched { .. }) => self.stay(open, seen),
        }
    }

    /// `Down`, and told.
    fn confirm(&mut self, mut open: OpenVerdict, at: Timestamp, seen: Seen) {
        self.transition(&mut open, State::Down, at, Verdict::ConfirmedDown);
        open.restage(|case, order| Stage::Down { case, order });
        self.stay(open, seen);
    }

    /// `Degraded`.
    fn regional(&mut self, mut open: OpenVerdict, at: Timestamp, seen: Seen) {
        self.transition(&mut open, State::Degraded, at, Verdict::RegionalFailure);
        open.restage(|case, order| Stage::Regional { case, order });
        self.stay(open, seen);
    }

    /// `Unknown`, with the incident kept open.
    fn unconfirmed(&mut self, mut open: OpenVerdict, at: Timestamp, seen: Seen) {
        self.transition(&mut open, State::Unknown, at, Verdict::Unknown);
        open.restage(|case, order| Stage::Unconfirmed { case, order });
        self.stay(open, seen);
    }

    /// The others see it up: the incident ends, and the owner's lonely word is watched.
    fn watch(&mut self, mut open: OpenVerdict, at: Timestamp, verdict: Verdict) {
        self.withdraw(&open);
        let at = self.clamp(&open, at);
        let from = open.stage.state();
        let order = self.ask(&open, self.at + self.settings().confirm.watch, None);
        let stage = std::mem::replace(&mut open.stage, Stage::Watched { order });
        if let Some((mut case, _)) = stage.into_case() {
            case.incident.verdict = Some(verdict);
            self.end(&mut case, State::Up, at);
            let change = Change {
                from,
                to: State::Up,
                at,
                reason: None,
            };
            self.tell(&mut open, change, Some(case.incident.id));
        }
        self.put(open);
    }

    /// The owner sees it up again, and nothing contradicts that.
    fn recovered(&mut self, open: OpenVerdict, at: Timestamp, verdict: Option<Verdict>) {
        debug_assert!(last_ok(&open).is_some(), "an owner has said that it is ok");
        self.withdraw(&open);
        self.close(open, at, verdict);
    }

    /// Leaves everything as it is, and asks again in a while.
    fn stay(&mut self, open: OpenVerdict, seen: Seen) {
        let policy = self.settings().confirm;
        let pause = match &open.stage {
            // The owner contradicts what is public: that should not last.
            Stage::Down { .. } | Stage::Regional { .. } if seen.owner == Owner::Recovered => {
                policy.ask_again
            }
            Stage::Down { .. } => policy.recheck,
            Stage::Regional { .. } | Stage::Watched { .. } => policy.watch,
            Stage::Unconfirmed { .. } | Stage::Suspected { .. } | Stage::Blocked => {
                policy.ask_again
            }
        };
        let open = self.ask_at(open, self.at + pause);
        self.put(open);
    }

    /// An outage that was confirmed during maintenance is told once that is over.
    fn join_late(&mut self, mut open: OpenVerdict) -> OpenVerdict {
        if let Some(case) = open.stage.case_mut()
            && self.join_group(case)
        {
            self.emit(FactBody::Incident(case.incident.clone()));
        }
        open
    }
}

impl OpenVerdict {
    /// Moves the incident and its order to another stage.
    fn restage(&mut self, stage: fn(Box<Case>, OrderId) -> Stage) {
        let parts = std::mem::replace(&mut self.stage, Stage::Blocked).into_case();
        let (case, order) = parts.expect("only a stage with an incident is decided about");
        self.stage = stage(case, order);
    }
}
