//! How many transitions a second become history in Postgres.
//!
//! The projector as it is, against a private Postgres that flushes its commits, over a catalogue
//! of endpoints. The reference is the cheapest way to get the same columns into a table at all:
//! binary COPY into a plain one, in transactions of the same size.

#![expect(
    clippy::disallowed_methods,
    reason = "the tasks end with the runtime of one measurement"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::time::Instant;

use anyhow::Context as _;
use picket_storage::pg::Pg;
use picket_storage::pg::catalogue::{Catalogue, NewEndpoint};
use picket_storage::pg::private::{Fsync, PrivatePostgres};
use picket_storage::pg::projector::Projector;
use picket_storage::pg::read::endpoints::EndpointFilter;
use picket_storage::pg::read::{PAGE_MAX, Page, Reads};
use picket_wire::check::http::HttpSpec;
use picket_wire::check::{Cadence, CheckKind};
use picket_wire::dispersal::shard_of;
use picket_wire::evidence::{CheckRef, Evidence, Role};
use picket_wire::fact::{Counted, Fact, FactBody, Incident, Testimony, Transition};
use picket_wire::id::{AgentId, Epoch, FactSeq, GroupId, IncidentId, ShardSlot, Slot};
use picket_wire::limits::SHARDS_DEFAULT;
use picket_wire::name::Name;
use picket_wire::outcome::{Phases, Probe};
use picket_wire::reason::Reason;
use picket_wire::state::State;
use picket_wire::time::{Span, Timestamp};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls};

use crate::bench::Effort;
use crate::bench::report::{Figure, Goal, Series};

/// Endpoints in the catalogue, and how many of them a site has.
const ENDPOINTS: u32 = 200_000;
const ENDPOINTS_PER_SITE: u32 = 4;
/// Endpoints of one import.
const IMPORTED_AT_ONCE: usize = 20_000;
/// Facts of one transaction, as the scheduler's projector takes them.
const FACTS_AT_ONCE: usize = 4_096;
/// Transitions of one round, spread over the catalogue.
const TRANSITIONS: u32 = 65_536;
/// Checks whose whole story is told in one round.
const STORIES: u32 = 16_384;
/// Any instant will do.
const BEGIN: Timestamp = Timestamp(1_795_253_400_000);

/// Transitions, and whole stories of failing checks, against COPY.
pub(super) async fn measure(effort: &Effort) -> anyhow::Result<Vec<Figure>> {
    let dir = effort.scratch("pg")?;
    let postgres = PrivatePostgres::start(dir.path().join("pg"), Fsync::On).await?;
    let mut history = History::prepare(&postgres, effort.of(ENDPOINTS)).await?;
    let mut transitions = Series::new("transitions into Postgres");
    let mut copied = Series::new("binary COPY of the same columns");
    let mut stories = Series::new("failing checks into Postgres: incident, testimony, transition");
    for _ in 0..effort.rounds {
        transitions.push(history.project(effort.of(TRANSITIONS), transition).await?);
        copied.push(history.copy(effort.of(TRANSITIONS)).await?);
        stories.push(history.project(effort.of(STORIES), story).await?);
    }
    drop(history);
    postgres.stop().await?;
    Ok(vec![
        Figure::new(
            &transitions,
            "transitions/s",
            Some(Goal::AtLeast(90_000.0)),
            &[&copied],
        ),
        Figure::new(&stories, "checks/s", None, &[]),
    ])
}

/// The database and how far its history has come.
struct History {
    projector: Projector,
    /// A connection past the pool, for the reference.
    raw: Client,
    checks: Vec<CheckRef>,
    last: FactSeq,
    n_told: usize,
}

/// What is said about the n-th check.
type Tell = fn(CheckRef, u64) -> Vec<FactBody>;

impl History {
    async fn prepare(postgres: &PrivatePostgres, n_endpoints: u32) -> anyhow::Result<Self> {
        let pg = Pg::connect(&postgres.settings())?;
        pg.migrate().await?;
        let checks = catalogue(&pg, n_endpoints).await?;
        let (raw, connection) = tokio_postgres::connect(&postgres.url(), NoTls).await?;
        drop(tokio::spawn(connection));
        raw.batch_execute(PLAIN_TABLE).await?;
        raw.batch_execute("VACUUM ANALYZE").await?;
        let projector = Projector::new(pg, SHARDS_DEFAULT);
        Ok(Self {
            projector,
            raw,
            checks,
            last: FactSeq(0),
            n_told: 0,
        })
    }

    /// Projects what `tell` says of `n` checks; checks a second.
    async fn project(&mut self, n: u32, tell: Tell) -> anyhow::Result<f64> {
        let mut facts = Vec::new();
        for check in self.next_checks(n) {
            for body in tell(check, self.last.0) {
                self.last = self.last.next();
                facts.push(Fact {
                    seq: self.last,
                    at: instant(self.last.0),
                    body,
                });
            }
        }
        let started = Instant::now();
        for part in facts.chunks(FACTS_AT_ONCE) {
            self.projector.apply(part).await?;
        }
        Ok(f64::from(n) / started.elapsed().as_secs_f64())
    }

    /// Copies as many rows; rows a second.
    async fn copy(&mut self, n: u32) -> anyhow::Result<f64> {
        let checks = self.next_checks(n);
        let started = Instant::now();
        for part in checks.chunks(FACTS_AT_ONCE) {
            copy(&mut self.raw, part).await?;
        }
        Ok(f64::from(n) / started.elapsed().as_secs_f64())
    }

    /// The next checks in an order that jumps about the catalogue.
    fn next_checks(&mut self, n: u32) -> Vec<CheckRef> {
        // Prime, so that every check has its turn before any has its second.
        const STRIDE: usize = 7_919;
        let from = self.n_told;
        self.n_told += n as usize;
        let at = |turn: usize| self.checks.get(turn * STRIDE % self.checks.len()).copied();
        (from..self.n_told).filter_map(at).collect()
    }
}

async fn catalogue(pg: &Pg, n_endpoints: u32) -> anyhow::Result<Vec<CheckRef>> {
    let endpoint = |n: u32| NewEndpoint {
        site: format!("site-{}", n / ENDPOINTS_PER_SITE),
        group: GroupId(1),
        cadence: Cadence::from_secs(300).expect("five minutes are one of the intervals"),
        timeout: Span::from_secs(10),
        labels: Vec::new(),
        kind: CheckKind::Http(HttpSpec::plain(
            true,
            format!("h{n}.example.org"),
            443,
            "/".to_owned(),
        )),
    };
    let endpoints: Vec<_> = (0..n_endpoints).map(endpoint).collect();
    let catalogue = Catalogue::new(pg.clone(), SHARDS_DEFAULT);
    for part in endpoints.chunks(IMPORTED_AT_ONCE) {
        catalogue.import(part, BEGIN).await?;
    }
    let (reads, mut after) = (Reads::new(pg.clone()), None);
    let mut checks = Vec::new();
    loop {
        let page = Page {
            after,
            limit: PAGE_MAX,
        };
        let listed = reads.endpoints(&EndpointFilter::default(), page).await?;
        let check = |row: &picket_storage::pg::read::endpoints::EndpointRow| CheckRef {
            check: row.check,
            endpoint: row.id,
            site: row.site,
        };
        checks.extend(listed.rows.iter().map(check));
        after = listed.next;
        if after.is_none() {
            return Ok(checks);
        }
    }
}

fn instant(seq: u64) -> Timestamp {
    BEGIN + Span(seq / 1_000)
}

fn transition(check: CheckRef, seq: u64) -> Vec<FactBody> {
    vec![FactBody::Transition(failed(check, seq))]
}

fn failed(check: CheckRef, seq: u64) -> Transition {
    Transition {
        check,
        from: State::Up,
        to: State::SeemsDown,
        at: instant(seq),
        reason: Some(Reason::ConnectRefused),
        incident: Some(IncidentId(seq)),
    }
}

/// Everything that a first failure leaves behind.
fn story(check: CheckRef, seq: u64) -> Vec<FactBody> {
    let id = IncidentId(seq);
    let at = instant(seq);
    let incident = Incident {
        id,
        check,
        state: State::SeemsDown,
        started_at: at,
        decided_at: None,
        ended_at: None,
        verdict: None,
        reason: Reason::ConnectRefused,
        group: None,
        trace: None,
    };
    let probe = |at| Probe {
        at,
        lateness: Span(3),
        reason: Some(Reason::ConnectRefused),
        phases: Phases {
            dns_us: 180,
            connect_us: 20_400,
            total_us: 20_700,
            ..Phases::default()
        },
        http_status: 0,
        remote: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))),
        certificate_expires: None,
        detail: "connecting to 192.0.2.7: Connection refused (os error 111)".to_owned(),
    };
    let shard = shard_of(check.endpoint, SHARDS_DEFAULT);
    let slot = ShardSlot {
        group: GroupId(1),
        shard,
        slot: Slot(0),
    };
    let name = |text| Name::parse(text).expect("the name keeps the rule for names");
    let testimony = Testimony {
        incident: id,
        agent: AgentId(1),
        region: name("eu"),
        network: name("as64500"),
        order: None,
        counted: Counted::Yes,
        evidence: Evidence {
            check,
            probe: probe(at),
            retry: Some(probe(at + Span(25))),
            vantage_healthy: true,
            role: Role::Owner {
                slot,
                epoch: Epoch(1),
            },
            trace: None,
        },
    };
    vec![
        FactBody::Incident(incident),
        FactBody::Testimony(testimony),
        FactBody::Transition(failed(check, seq)),
    ]
}

const PLAIN_TABLE: &str = "CREATE TABLE plain (seq bigint, shard integer, decided_at bigint, \
    at bigint, endpoint bigint, check_id bigint, site bigint, from_state smallint, \
    to_state smallint, reason smallint, incident bigint)";
const COPY_PLAIN: &str = "COPY plain FROM STDIN BINARY";
const PLAIN_TYPES: [Type; 11] = [
    Type::INT8,
    Type::INT4,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT2,
    Type::INT2,
    Type::INT2,
    Type::INT8,
];

async fn copy(client: &mut Client, checks: &[CheckRef]) -> anyhow::Result<()> {
    let tx = client.transaction().await?;
    let mut writer = pin!(BinaryCopyInWriter::new(
        tx.copy_in(COPY_PLAIN).await?,
        &PLAIN_TYPES
    ));
    for (seq, check) in (1_i64..).zip(checks) {
        let shard = shard_of(check.endpoint, SHARDS_DEFAULT).0.cast_signed();
        let (endpoint, id, site) = (
            check.endpoint.0.cast_signed(),
            check.check.0.cast_signed(),
            check.site.0.cast_signed(),
        );
        let row: [&(dyn tokio_postgres::types::ToSql + Sync); 11] = [
            &seq, &shard, &BEGIN.0, &BEGIN.0, &endpoint, &id, &site, &1_i16, &4_i16, &20_i16, &seq,
        ];
        writer.as_mut().write(&row).await?;
    }
    writer.finish().await.context("finish the copy")?;
    Ok(tx.commit().await?)
}
