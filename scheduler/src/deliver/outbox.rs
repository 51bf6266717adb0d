//! Which message is due to which webhook, and how far delivery has come: pure.
//!
//! A group is told twice: once when it opened, after a short wait that gathers the incidents which
//! follow at once, and once when it closed. However many endpoints fail together, a webhook gets
//! two messages. Each webhook gets its messages in order, so one that is down delays only itself.
//! The cursor stays behind the oldest fact that somebody has not been told yet: after a change of
//! leader those messages are sent again under the same id, and none is lost.

use std::collections::BTreeMap;

use picket_wire::api::instant::Instant;
use picket_wire::api::webhooks::{Message, MessageEvent};
use picket_wire::fact::{Fact, FactBody, NotificationGroup};
use picket_wire::id::{FactSeq, NotificationGroupId, WebhookId};
use picket_wire::time::{Span, Timestamp};

/// Waits between tries; the last one repeats. A restart of the receiver is over within the first
/// three, a night's outage within the horizon.
const RETRY_AFTER: [Span; 6] = [
    Span::from_secs(1),
    Span::from_secs(5),
    Span::from_secs(30),
    Span::from_secs(120),
    Span::from_secs(600),
    Span::from_secs(1_800),
];

/// A message older than this is given up: facts are kept for the cursor in memory, and a receiver
/// that was away for a day asks the API for what it missed.
const HORIZON: Span = Span::from_secs(24 * 3_600);

/// One message to one webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobId {
    /// To whom.
    pub(crate) webhook: WebhookId,
    /// From which fact.
    pub(crate) fact: FactSeq,
    /// An opening and its closing can stem from one fact.
    pub(crate) closes: bool,
}

/// A message that is to be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// Which.
    pub(crate) id: JobId,
    /// What to say.
    pub(crate) message: Message,
    /// How many tries came before.
    pub(crate) tries: u32,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tried {
    /// The receiver took it.
    Delivered,
    /// It did not; try again later.
    Failed,
}

#[derive(Debug)]
struct Pending {
    message: Message,
    tries: u32,
    next_at: Timestamp,
    since: Timestamp,
    in_flight: bool,
}

#[derive(Debug)]
struct Gathering {
    fact: FactSeq,
    group: NotificationGroup,
}

/// What is still to be told.
#[derive(Debug)]
pub(crate) struct Outbox {
    group_wait: Span,
    read: FactSeq,
    gathering: BTreeMap<NotificationGroupId, Gathering>,
    pending: BTreeMap<JobId, Pending>,
}

impl Outbox {
    /// Nothing to tell; facts after `cursor` are to come.
    #[must_use]
    pub(crate) const fn new(cursor: FactSeq, group_wait: Span) -> Self {
        Self {
            group_wait,
            read: cursor,
            gathering: BTreeMap::new(),
            pending: BTreeMap::new(),
        }
    }

    /// The last fact that was read.
    #[must_use]
    pub(crate) const fn read(&self) -> FactSeq {
        self.read
    }

    /// Messages that wait or are under way.
    #[must_use]
    pub(crate) fn waiting(&self) -> usize {
        self.pending.len() + self.gathering.len()
    }

    /// Takes the next fact.
    pub(crate) fn on_fact(&mut self, fact: &Fact, webhooks: &[WebhookId]) {
        self.read.advance_to(fact.seq);
        let FactBody::Group(group) = &fact.body else {
            return;
        };
        match (self.gathering.get_mut(&group.id), group.closed_at) {
            (Some(gathering), None) => gathering.group = group.clone(),
            (Some(_), Some(_)) => {
                self.announce(group.id, Some(group), fact.at, webhooks);
                self.enqueue(fact.seq, group, MessageEvent::Closed, fact.at, webhooks);
            }
            (None, Some(_)) => {
                self.enqueue(fact.seq, group, MessageEvent::Closed, fact.at, webhooks)
            }
            // Stated by the entry that opened it, which may have held several incidents at once.
            (None, None) if group.opened_at == fact.at => {
                self.gathering.insert(
                    group.id,
                    Gathering {
                        fact: fact.seq,
                        group: group.clone(),
                    },
                );
            }
            // It grew after it was announced: one message is enough.
            (None, None) => {}
        }
    }

    /// What is to be sent now: at most one message per webhook, the oldest.
    pub(crate) fn due(&mut self, now: Timestamp, webhooks: &[WebhookId]) -> Vec<Job> {
        self.pending.retain(|id, pending| {
            webhooks.contains(&id.webhook)
                && (pending.in_flight || now.since(pending.since) < HORIZON)
        });
        let gathered: Vec<_> = self
            .gathering
            .iter()
            .filter(|(_, gathering)| gathering.group.opened_at + self.group_wait <= now)
            .map(|(&id, _)| id)
            .collect();
        for id in gathered {
            self.announce(id, None, now, webhooks);
        }
        let mut jobs = Vec::new();
        let mut head_of = None;
        for (&id, pending) in &mut self.pending {
            if head_of == Some(id.webhook) {
                continue;
            }
            head_of = Some(id.webhook);
            if !pending.in_flight && pending.next_at <= now {
                pending.in_flight = true;
                jobs.push(Job {
                    id,
                    message: pending.message.clone(),
                    tries: pending.tries,
                });
            }
        }
        jobs
    }

    /// When [`Outbox::due`] will have something new, if nothing else happens.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        let gathering = self
            .gathering
            .values()
            .map(|gathering| gathering.group.opened_at + self.group_wait);
        let pending = self
            .pending
            .values()
            .filter(|pending| !pending.in_flight)
            .map(|pending| pending.next_at);
        gathering.chain(pending).min()
    }

    /// Learns how a try ended.
    pub(crate) fn tried(&mut self, id: JobId, tried: Tried, now: Timestamp) {
        match tried {
            Tried::Delivered => {
                self.pending.remove(&id);
            }
            Tried::Failed => {
                let Some(pending) = self.pending.get_mut(&id) else {
                    return;
                };
                let step = usize::try_from(pending.tries)
                    .unwrap_or(usize::MAX)
                    .min(RETRY_AFTER.len() - 1);
                pending.in_flight = false;
                pending.tries += 1;
                pending.next_at = now + RETRY_AFTER[step];
            }
        }
    }

    /// Every fact up to here is told, or needs no telling.
    #[must_use]
    pub(crate) fn cursor(&self) -> FactSeq {
        let gathering = self.gathering.values().map(|gathering| gathering.fact);
        let pending = self.pending.keys().map(|id| id.fact);
        match gathering.chain(pending).min() {
            Some(oldest) => FactSeq(oldest.0.saturating_sub(1)),
            None => self.read,
        }
    }

    /// Ends the gathering of a group: its opening is told, with the newest figures there are.
    fn announce(
        &mut self,
        id: NotificationGroupId,
        newest: Option<&NotificationGroup>,
        now: Timestamp,
        webhooks: &[WebhookId],
    ) {
        if let Some(Gathering { fact, group }) = self.gathering.remove(&id) {
            self.enqueue(
                fact,
                newest.unwrap_or(&group),
                MessageEvent::Opened,
                now,
                webhooks,
            );
        }
    }

    fn enqueue(
        &mut self,
        fact: FactSeq,
        group: &NotificationGroup,
        event: MessageEvent,
        now: Timestamp,
        webhooks: &[WebhookId],
    ) {
        for &webhook in webhooks {
            let id = JobId {
                webhook,
                fact,
                closes: event == MessageEvent::Closed,
            };
            let message = render(group, event, fact);
            let pending = Pending {
                message,
                tries: 0,
                next_at: now,
                since: now,
                in_flight: false,
            };
            self.pending.insert(id, pending);
        }
    }
}

/// The message about a group.
#[must_use]
pub(crate) fn render(group: &NotificationGroup, event: MessageEvent, fact: FactSeq) -> Message {
    Message {
        event,
        group: group.id,
        cause: group.cause.clone(),
        opened_at: Instant(group.opened_at),
        closed_at: match event {
            MessageEvent::Opened => None,
            MessageEvent::Closed => group.closed_at.map(Instant),
        },
        open: group.open,
        total: group.total,
        fact,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOOKS: [WebhookId; 2] = [WebhookId(1), WebhookId(2)];
    const WAIT: Span = Span::from_secs(5);

    fn group(seq: u64, at: i64, open: u32, total: u32, closed: bool) -> Fact {
        let group = NotificationGroup {
            id: NotificationGroupId(1),
            cause: "192.0.2.1".to_owned(),
            opened_at: Timestamp(0),
            open,
            total,
            closed_at: closed.then_some(Timestamp(at)),
        };
        Fact {
            seq: FactSeq(seq),
            at: Timestamp(at),
            body: FactBody::Group(group),
        }
    }

    fn told(jobs: &[Job]) -> Vec<(u32, MessageEvent, u32)> {
        jobs.iter()
            .map(|job| (job.id.webhook.0, job.message.event, job.message.total))
            .collect()
    }

    #[test]
    fn a_thousand_incidents_of_one_cause_are_two_messages_a_webhook() {
        let mut outbox = Outbox::new(FactSeq(0), WAIT);
        for n in 1..=1_000_u32 {
            let at = i64::from(n) - 1;
            outbox.on_fact(&group(u64::from(n), at, n, n, false), &HOOKS);
            assert!(outbox.due(Timestamp(at), &HOOKS).is_empty());
        }
        assert_eq!(outbox.deadline(), Some(Timestamp(5_000)));
        let jobs = outbox.due(Timestamp(5_000), &HOOKS);
        assert_eq!(
            told(&jobs),
            [
                (1, MessageEvent::Opened, 1_000),
                (2, MessageEvent::Opened, 1_000)
            ]
        );
        jobs.iter()
            .for_each(|job| outbox.tried(job.id, Tried::Delivered, Timestamp(5_001)));
        outbox.on_fact(&group(1_001, 9_000, 0, 1_000, true), &HOOKS);
        assert_eq!(told(&outbox.due(Timestamp(9_000), &HOOKS)).len(), 2);
    }

    #[test]
    fn the_cursor_waits_for_the_slowest_webhook() {
        let mut outbox = Outbox::new(FactSeq(6), WAIT);
        outbox.on_fact(&group(7, 0, 1, 1, false), &HOOKS);
        assert_eq!(outbox.cursor(), FactSeq(6), "gathering");
        let jobs = outbox.due(Timestamp(5_000), &HOOKS);
        outbox.tried(jobs[0].id, Tried::Delivered, Timestamp(5_000));
        outbox.tried(jobs[1].id, Tried::Failed, Timestamp(5_000));
        outbox.on_fact(&group(8, 5_500, 2, 2, false), &HOOKS);
        assert_eq!(outbox.cursor(), FactSeq(6));
        assert!(outbox.due(Timestamp(5_999), &HOOKS).is_empty());
        let again = outbox.due(Timestamp(6_000), &HOOKS);
        assert_eq!((again[0].id, again[0].tries), (jobs[1].id, 1));
        outbox.tried(again[0].id, Tried::Delivered, Timestamp(6_000));
        assert_eq!(outbox.cursor(), FactSeq(8));
    }

    #[test]
    fn a_group_that_closes_at_once_is_told_in_order() {
        let mut outbox = Outbox::new(FactSeq(0), WAIT);
        outbox.on_fact(&group(1, 0, 1, 1, false), &HOOKS[..1]);
        outbox.on_fact(&group(2, 1_000, 0, 1, true), &HOOKS[..1]);
        let first = outbox.due(Timestamp(1_000), &HOOKS[..1]);
        assert_eq!(told(&first), [(1, MessageEvent::Opened, 1)]);
        assert!(
            outbox.due(Timestamp(1_000), &HOOKS[..1]).is_empty(),
            "one at a time"
        );
        outbox.tried(first[0].id, Tried::Delivered, Timestamp(1_100));
        assert_eq!(
            told(&outbox.due(Timestamp(1_100), &HOOKS[..1])),
            [(1, MessageEvent::Closed, 1)]
        );
    }

    #[test]
    fn a_group_that_opens_with_several_incidents_at_once_is_told_when_it_opens() {
        let mut outbox = Outbox::new(FactSeq(0), WAIT);
        outbox.on_fact(&group(1, 0, 3, 3, false), &HOOKS[..1]);
        outbox.on_fact(&group(2, 1_000, 9, 9, false), &HOOKS[..1]);
        let told_now = outbox.due(Timestamp(5_000), &HOOKS[..1]);
        assert_eq!(told(&told_now), [(1, MessageEvent::Opened, 9)]);
    }

    #[test]
    fn a_dead_webhook_is_given_up_after_a_day_and_frees_the_cursor() {
        let mut outbox = Outbox::new(FactSeq(0), WAIT);
        outbox.on_fact(&group(1, 0, 1, 1, false), &HOOKS[..1]);
        let mut now = Timestamp(5_000);
        let mut tries = 0;
        while let Some(job) = outbox.due(now, &HOOKS[..1]).pop() {
            tries += 1;
            outbox.tried(job.id, Tried::Failed, now);
            now = outbox.deadline().expect("it is still pending");
        }
        assert_eq!(outbox.cursor(), FactSeq(1));
        assert!((40..80).contains(&tries), "{tries}");
    }

    #[test]
    fn messages_of_a_removed_webhook_are_dropped() {
        let mut outbox = Outbox::new(FactSeq(0), WAIT);
        outbox.on_fact(&group(1, 0, 1, 1, false), &HOOKS);
        assert_eq!(outbox.due(Timestamp(5_000), &HOOKS).len(), 2);
        outbox.due(Timestamp(5_001), &[]);
        assert_eq!((outbox.waiting(), outbox.cursor()), (0, FactSeq(1)));
    }
}
