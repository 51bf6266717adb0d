//! Facts become history, once.

use std::collections::BTreeMap;

use picket_storage::pg::projector::{ApplyError, Projector};
use picket_storage::pg::read::Page;
use picket_storage::pg::read::audit::AuditFilter;
use picket_storage::pg::read::endpoints::{EndpointFilter, EndpointRow};
use picket_storage::pg::read::incidents::IncidentFilter;
use picket_storage::pg::read::sites::SiteFilter;
use picket_wire::evidence::{Evidence, Role, TraceContext};
use picket_wire::fact::{
    AgentChange, AgentFact, AssignCause, AssignedFact, Counted, Fact, FactBody, Incident,
    NotificationGroup, Testimony, Transition,
};
use picket_wire::id::{
    AgentId, EndpointId, Epoch, FactSeq, GroupId, IncidentId, NotificationGroupId, OrderId,
    ShardId, ShardSlot, SiteId, Slot,
};
use picket_wire::outcome::{Phases, Probe};
use picket_wire::reason::Reason;
use picket_wire::state::{State, Verdict};
use picket_wire::time::{Interval, Span, Timestamp};

use crate::support::{Dice, SHARDS, Server, check_ref, dump, incident, numbered, transition};

fn projector(server: &Server) -> Projector {
    Projector::new(server.pg.clone(), SHARDS)
}

fn probe(reason: Option<Reason>) -> Probe {
    Probe {
        at: Timestamp(77),
        lateness: Span(3),
        reason,
        phases: Phases {
            dns_us: 1,
            connect_us: 2,
            tls_us: 3,
            ttfb_us: 4,
            total_us: u32::MAX,
        },
        http_status: 503,
        remote: Some("2001:db8::7".parse().unwrap()),
        certificate_expires: Some(Timestamp(99)),
        detail: "said \u{1f980}".to_owned(),
    }
}

fn testimony(id: u64, endpoint: &EndpointRow, role: Role) -> Testimony {
    let order = match role {
        Role::Voter { order } => Some(order),
        Role::Owner { .. } => None,
    };
    let evidence = Evidence {
        check: check_ref(endpoint),
        probe: probe(Some(Reason::Http5xx)),
        retry: order.is_none().then(|| probe(None)),
        vantage_healthy: true,
        role,
        trace: order.is_none().then_some(TraceContext {
            trace: [1; 16],
            span: [2; 8],
        }),
    };
    Testimony {
        incident: IncidentId(id),
        agent: AgentId(u32::MAX),
        region: "eu-west".parse().unwrap(),
        network: "as64500".parse().unwrap(),
        order,
        counted: Counted::Yes,
        evidence,
    }
}

/// One of everything that can be said, twice over for what changes.
fn story(endpoint: &EndpointRow) -> Vec<Fact> {
    let check = check_ref(endpoint);
    let slot = ShardSlot {
        group: GroupId(1),
        shard: ShardId(3),
        slot: Slot(0),
    };
    let opened = incident(1, check, State::SeemsDown, 50);
    let confirmed = Incident {
        state: State::Down,
        decided_at: Some(Timestamp(60)),
        verdict: Some(Verdict::ConfirmedDown),
        group: Some(NotificationGroupId(1)),
        trace: opened.trace,
        ..opened.clone()
    };
    let closed = Incident {
        ended_at: Some(Timestamp(90)),
        ..confirmed.clone()
    };
    let group = |open, closed_at| NotificationGroup {
        id: NotificationGroupId(1),
        cause: "203.0.113.\0 9".to_owned(),
        opened_at: Timestamp(60),
        open,
        total: 1,
        closed_at,
    };
    let step = |from, to, at| {
        FactBody::Transition(Transition {
            incident: Some(IncidentId(1)),
            ..transition(check, from, to, at)
        })
    };
    numbered([
        FactBody::Agent(AgentFact {
            agent: AgentId(4),
            change: AgentChange::Admitted,
        }),
        FactBody::Assigned(AssignedFact {
            slot,
            agent: Some(AgentId(4)),
            epoch: Epoch(1),
            cause: AssignCause::Initial,
        }),
        FactBody::Incident(opened),
        FactBody::Testimony(testimony(
            1,
            endpoint,
            Role::Owner {
                slot,
                epoch: Epoch(1),
            },
        )),
        step(State::Up, State::SeemsDown, 50),
        FactBody::Testimony(testimony(1, endpoint, Role::Voter { order: OrderId(8) })),
        step(State::SeemsDown, State::Down, 50),
        FactBody::Incident(confirmed),
        FactBody::Group(group(1, None)),
        step(State::Down, State::Up, 90),
        FactBody::Incident(closed),
        FactBody::Group(group(0, Some(Timestamp(90)))),
    ])
}

#[tokio::test]
async fn any_cut_and_any_replay_of_the_facts_give_the_same_rows() {
    let server = Server::start().await;
    let rows = server.with_endpoints(1, 1).await;
    let facts = story(&rows[0]);
    let raw = server.raw().await;
    let whole = projector(&server).apply(&facts).await.unwrap();
    assert_eq!(whole, facts.last().unwrap().seq);
    let expected = dump(&raw).await;
    for step in [1, 2, 5] {
        forget_history(&raw).await;
        for chunk in facts.chunks(step) {
            // Everything so far once more, then what is new.
            let upto = usize::try_from(chunk.last().unwrap().seq.0).unwrap();
            projector(&server).apply(&facts[..upto]).await.unwrap();
            projector(&server).apply(chunk).await.unwrap();
        }
        assert_eq!(dump(&raw).await, expected, "in steps of {step}");
    }
}

async fn forget_history(raw: &tokio_postgres::Client) {
    raw.batch_execute(
        "TRUNCATE transitions, endpoint_state, incidents, testimony, \
         notification_groups, audit_log; UPDATE fact_cursors SET seq = 0",
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_gap_is_refused_and_nothing_is_written() {
    let server = Server::start().await;
    let rows = server.with_endpoints(1, 1).await;
    let facts = story(&rows[0]);
    let projector = projector(&server);
    projector.apply(&facts[..2]).await.unwrap();
    let before = dump(&server.raw().await).await;
    let refused = projector.apply(&facts[3..]).await;
    let gap = matches!(
        refused,
        Err(ApplyError::Gap {
            expected: FactSeq(3),
            got: FactSeq(4)
        })
    );
    assert!(gap, "{refused:?}");
    assert_eq!(dump(&server.raw().await).await, before);
    assert_eq!(projector.cursor().await.unwrap(), FactSeq(2));
}

#[tokio::test]
async fn a_connection_killed_before_commit_leaves_nothing_and_a_retry_leaves_all() {
    let server = Server::start().await;
    let rows = server.with_endpoints(1, 1).await;
    let facts = story(&rows[0]);
    let mut raw = server.raw().await;
    let before = dump(&raw).await;

    // Holds the projector back at its last table, after it has written all others.
    let held = raw.transaction().await.unwrap();
    held.batch_execute("LOCK TABLE audit_log IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let task = tokio::spawn({
        let (projector, facts) = (projector(&server), facts.clone());
        async move { projector.apply(&facts).await }
    });
    kill_whoever_waits(&server.raw().await).await;
    let error = task.await.unwrap().unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    held.rollback().await.unwrap();
    assert_eq!(dump(&raw).await, before);

    assert_eq!(
        projector(&server).apply(&facts).await.unwrap(),
        facts.last().unwrap().seq
    );
    assert_eq!(
        raw.query("SELECT FROM transitions", &[])
            .await
            .unwrap()
            .len(),
        3
    );
}

/// Waits until some backend waits for a lock on a table, and terminates it.
async fn kill_whoever_waits(raw: &tokio_postgres::Client) {
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_locks \
                WHERE NOT granted AND relation = 'audit_log'::regclass";
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while raw.query(kill, &[]).await.unwrap().is_empty() {
        assert!(
            std::time::Instant::now() < deadline,
            "nobody waited for the lock"
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_closed_incident_is_immutable() {
    let server = Server::start().await;
    let rows = server.with_endpoints(1, 1).await;
    let mut facts = story(&rows[0]);
    projector(&server).apply(&facts).await.unwrap();
    let reads = server.reads();
    let (closed, _) = reads.incident(IncidentId(1)).await.unwrap().unwrap();

    let raw = server.raw().await;
    for change in [
        "ended_at = NULL",
        "ended_at = 91",
        "state = 1",
        "reason = 1",
    ] {
        let error = raw
            .execute(&format!("UPDATE incidents SET {change}"), &[])
            .await
            .unwrap_err();
        assert_eq!(error.code().unwrap().code(), "23000", "{change}");
    }
    let reopened = incident(1, check_ref(&rows[0]), State::Down, 50);
    let seq = facts.last().unwrap().seq.next();
    facts.push(Fact {
        seq,
        at: Timestamp(0),
        body: FactBody::Incident(reopened),
    });
    assert_eq!(
        projector(&server).apply(&facts).await.unwrap(),
        seq,
        "history goes on"
    );
    assert_eq!(
        reads.incident(IncidentId(1)).await.unwrap().unwrap().0,
        closed
    );
}

#[tokio::test]
async fn an_open_incident_never_moves_its_beginning() {
    let server = Server::start().await;
    let rows = server.with_endpoints(1, 1).await;
    projector(&server)
        .apply(&story(&rows[0])[..5])
        .await
        .unwrap();
    let raw = server.raw().await;
    assert!(
        raw.execute("UPDATE incidents SET started_at = started_at + 1", &[])
            .await
            .is_err()
    );
    assert_eq!(
        raw.execute("UPDATE incidents SET state = 5", &[])
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn an_incident_reads_back_with_every_word_that_was_said() {
    let server = Server::start().await;
    let rows = server.with_endpoints(1, 1).await;
    let facts = story(&rows[0]);
    projector(&server).apply(&facts).await.unwrap();
    let reads = server.reads();
    let (row, said) = reads.incident(IncidentId(1)).await.unwrap().unwrap();
    assert_eq!(row.url.as_ref(), Some(&rows[0].url));
    let FactBody::Incident(last) = &facts[10].body else {
        panic!("the story changed")
    };
    assert_eq!((&row.incident, row.seq), (last, facts[10].seq));
    let stated: Vec<_> = facts
        .iter()
        .filter_map(|fact| match &fact.body {
            FactBody::Testimony(testimony) => Some((fact.seq, fact.at, testimony.clone())),
            _ => None,
        })
        .collect();
    let said: Vec<_> = said
        .into_iter()
        .map(|row| (row.seq, row.at, row.testimony))
        .collect();
    assert_eq!(said, stated);

    let (group, told) = reads
        .notification_group(NotificationGroupId(1))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (group.open, group.closed_at, told),
        (0, Some(Timestamp(90)), vec![IncidentId(1)])
    );
    assert_eq!(group.cause, "203.0.113.\u{fffd} 9");

    let filter = AuditFilter {
        agent: Some(AgentId(4)),
        slot: None,
    };
    let audit = reads.audit(filter, Page::first(10)).await.unwrap().rows;
    let lines: Vec<_> = audit
        .iter()
        .map(|line| (line.kind.as_str(), line.change.as_str()))
        .collect();
    assert_eq!(lines, [("assigned", "initial"), ("agent", "admitted")]);
    assert_eq!(audit[0].slot.unwrap().1, Epoch(1));
}

#[tokio::test]
async fn an_endpoint_names_its_incident_for_as_long_as_it_is_open() {
    let server = Server::start().await;
    let endpoint = server.with_endpoints(1, 1).await.remove(0);
    let facts = story(&endpoint);
    let reads = server.reads();
    for (upto, open) in [(9, Some(IncidentId(1))), (facts.len(), None)] {
        projector(&server).apply(&facts[..upto]).await.unwrap();
        let (row, _) = reads.endpoint(endpoint.id).await.unwrap().unwrap();
        assert_eq!(row.incident, open, "after {upto} facts");
    }
}

/// The slow way to say what a filter says.
type Matches<'a> = &'a dyn Fn(&Incident) -> bool;

#[tokio::test]
async fn incidents_are_listed_newest_first_by_filter() {
    let server = Server::start().await;
    let rows = server.with_endpoints(4, 2).await;
    let incidents: Vec<Incident> = (0..40_u64)
        .map(|n| Incident {
            ended_at: (n % 4 != 0).then(|| Timestamp(i64::try_from(n).unwrap() * 10 + 5)),
            ..incident(
                n + 1,
                check_ref(&rows[usize::try_from(n % 3).unwrap()]),
                State::Down,
                n.cast_signed() * 10,
            )
        })
        .collect();
    projector(&server)
        .apply(&numbered(incidents.iter().cloned().map(FactBody::Incident)))
        .await
        .unwrap();

    let during = Interval::new(Timestamp(100), Timestamp(200));
    let overlaps = |i: &Incident| {
        i.started_at < during.until && i.ended_at.is_none_or(|end| end > during.from)
    };
    let filters: [(IncidentFilter, Matches<'_>); 5] = [
        (IncidentFilter::default(), &|_| true),
        (
            IncidentFilter {
                open: Some(true),
                ..IncidentFilter::default()
            },
            &|i| i.ended_at.is_none(),
        ),
        (
            IncidentFilter {
                endpoint: Some(rows[1].id),
                ..IncidentFilter::default()
            },
            &|i| i.check.endpoint == rows[1].id,
        ),
        (
            IncidentFilter {
                site: Some(rows[0].site),
                open: Some(false),
                ..IncidentFilter::default()
            },
            &|i| i.check.site == rows[0].site && i.ended_at.is_some(),
        ),
        (
            IncidentFilter {
                during: Some(during),
                ..IncidentFilter::default()
            },
            &overlaps,
        ),
    ];
    for (filter, matches) in filters {
        let mut found = Vec::new();
        let mut page = Page::first(7);
        loop {
            let listed = server.reads().incidents(&filter, page).await.unwrap();
            found.extend(listed.rows.into_iter().map(|row| row.incident));
            match listed.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        let expected: Vec<_> = incidents
            .iter()
            .rev()
            .filter(|i| matches(i))
            .cloned()
            .collect();
        assert_eq!(found, expected, "{filter:?}");
    }
}

/// What a reader should see, computed the slow way.
#[derive(Default)]
struct Naive {
    history: BTreeMap<EndpointId, Vec<Transition>>,
}

impl Naive {
    fn state(&self, endpoint: EndpointId) -> State {
        self.history
            .get(&endpoint)
            .and_then(|h| h.last())
            .map_or(State::Unknown, |last| last.to)
    }

    fn site(&self, endpoints: &[EndpointRow], site: SiteId) -> State {
        let states = || {
            endpoints
                .iter()
                .filter(|e| e.site == site)
                .map(|e| self.state_of(e))
        };
        let worst = [
            State::Down,
            State::SeemsDown,
            State::Degraded,
            State::Unknown,
            State::Warning,
        ];
        if states().all(|state| state == State::Maintenance) {
            return State::Maintenance;
        }
        // No shard is observed here, so an endpoint without history does not make its site up,
        // and does not hide what is worse.
        worst
            .into_iter()
            .find(|bad| states().any(|state| state == *bad))
            .unwrap_or(State::Unknown)
    }

    /// For the site's sum, what nothing was said about counts as nothing.
    fn state_of(&self, endpoint: &EndpointRow) -> State {
        if self.history.contains_key(&endpoint.id) {
            self.state(endpoint.id)
        } else {
            State::Up
        }
    }

    fn timeline(&self, endpoint: EndpointId, range: Interval) -> Vec<Transition> {
        let all = self.history.get(&endpoint).cloned().unwrap_or_default();
        let first = all.iter().rposition(|t| t.at < range.from).unwrap_or(0);
        all.into_iter()
            .skip(first)
            .filter(|t| t.at < range.until)
            .collect()
    }
}

fn random_history(endpoints: &[EndpointRow], steps: u64) -> (Vec<Fact>, Naive) {
    let mut dice = Dice(42);
    let mut naive = Naive::default();
    let mut bodies = Vec::new();
    let states = [
        State::Up,
        State::Warning,
        State::Degraded,
        State::SeemsDown,
        State::Down,
        State::Maintenance,
        State::Unknown,
    ];
    for step in 0..steps {
        let endpoint = &endpoints[usize::try_from(dice.roll(endpoints.len() as u64)).unwrap()];
        let from = naive.history.get(&endpoint.id).and_then(|h| h.last());
        let from_state = from.map_or(State::Up, |last| last.to);
        // Often the same instant again, as verdicts do.
        let at = from
            .map_or(0, |last| last.at.0)
            .max(step.cast_signed() * dice.roll(2).cast_signed());
        let to = states[usize::try_from(dice.roll(7)).unwrap()];
        if to != from_state {
            let body = transition(check_ref(endpoint), from_state, to, at);
            naive
                .history
                .entry(endpoint.id)
                .or_default()
                .push(body.clone());
            bodies.push(FactBody::Transition(body));
        }
    }
    (numbered(bodies), naive)
}

#[tokio::test]
async fn states_sites_counts_and_timelines_agree_with_a_naive_fold() {
    let server = Server::start().await;
    let endpoints = server.with_endpoints(30, 3).await;
    let (facts, naive) = random_history(&endpoints[..25], 600);
    for chunk in facts.chunks(37) {
        projector(&server).apply(chunk).await.unwrap();
    }
    let reads = server.reads();

    let listed = reads
        .endpoints(&EndpointFilter::default(), Page::first(100))
        .await
        .unwrap()
        .rows;
    let mut counts: BTreeMap<State, u64> = BTreeMap::new();
    for row in &listed {
        assert_eq!(row.state, naive.state(row.id), "{}", row.id);
        *counts.entry(row.state).or_default() += 1;
    }
    assert_eq!(reads.counts_by_state().await.unwrap(), counts);

    for state in State::ALL {
        let filter = EndpointFilter {
            states: vec![*state],
            ..EndpointFilter::default()
        };
        let found = reads
            .endpoints(&filter, Page::first(100))
            .await
            .unwrap()
            .rows;
        let expected: Vec<_> = listed
            .iter()
            .filter(|row| row.state == *state)
            .cloned()
            .collect();
        assert_eq!(found, expected, "{state}");
    }

    for state in State::ALL {
        let filter = SiteFilter {
            states: vec![*state],
            ..SiteFilter::default()
        };
        let found = reads.sites(&filter, Page::first(100)).await.unwrap().rows;
        assert!(
            found
                .iter()
                .all(|site| naive.site(&endpoints, site.id) == *state),
            "{state}"
        );
    }
    for site in reads
        .sites(&SiteFilter::default(), Page::first(100))
        .await
        .unwrap()
        .rows
    {
        assert_eq!(site.state, naive.site(&endpoints, site.id), "{}", site.name);
        assert_eq!(site.endpoints, 3);
    }

    for endpoint in &endpoints {
        for (from, until) in [(0, i64::MAX), (100, 300), (599, 600), (250, 251)] {
            let range = Interval::new(Timestamp(from), Timestamp(until));
            let found = reads.timeline(endpoint.id, range).await.unwrap();
            let found: Vec<_> = found
                .transitions
                .into_iter()
                .map(|row| row.transition)
                .collect();
            assert_eq!(
                found,
                naive.timeline(endpoint.id, range),
                "{} {range:?}",
                endpoint.id
            );
        }
    }
}

#[tokio::test]
async fn the_stream_of_transitions_continues_where_it_was_left() {
    let server = Server::start().await;
    let endpoints = server.with_endpoints(3, 3).await;
    let (facts, _) = random_history(&endpoints, 50);
    projector(&server).apply(&facts).await.unwrap();
    let (mut after, mut told) = (FactSeq(0), Vec::new());
    loop {
        let events = server.reads().transitions_after(after, 7).await.unwrap();
        let Some(last) = events.last() else { break };
        after = last.row.seq;
        assert!(events.iter().all(|event| event.url.is_some()));
        told.extend(
            events
                .into_iter()
                .map(|event| FactBody::Transition(event.row.transition)),
        );
    }
    assert_eq!(
        told,
        facts.into_iter().map(|fact| fact.body).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn facts_about_a_deleted_endpoint_are_history_and_nobodys_state() {
    let server = Server::start().await;
    let endpoints = server.with_endpoints(1, 1).await;
    server.catalogue().delete(endpoints[0].id).await.unwrap();
    projector(&server)
        .apply(&story(&endpoints[0])[..9])
        .await
        .unwrap();
    let reads = server.reads();
    let site = reads.site(endpoints[0].site).await.unwrap().unwrap();
    assert_eq!((site.state, site.endpoints), (State::Unknown, 0));
    assert_eq!(reads.counts_by_state().await.unwrap(), BTreeMap::new());
    let (row, _) = reads.incident(IncidentId(1)).await.unwrap().unwrap();
    assert_eq!((row.url, row.incident.state), (None, State::Down));
}
