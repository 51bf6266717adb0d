//! A private server per test, and the endpoints and facts that tests speak of.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use picket_storage::pg::Pg;
use picket_storage::pg::catalogue::{Catalogue, NewEndpoint};
use picket_storage::pg::private::{Fsync, PrivatePostgres};
use picket_storage::pg::read::endpoints::{EndpointFilter, EndpointRow};
use picket_storage::pg::read::{Page, Reads};
use picket_wire::check::http::HttpSpec;
use picket_wire::check::{Cadence, CheckKind};
use picket_wire::evidence::CheckRef;
use picket_wire::fact::{Fact, FactBody, Incident, Transition};
use picket_wire::id::{FactSeq, GroupId, IncidentId};
use picket_wire::reason::Reason;
use picket_wire::state::State;
use picket_wire::time::{Span, Timestamp};
use tokio_postgres::{Client, NoTls, Row};

/// Shards of the cluster that tests pretend to be.
pub(crate) const SHARDS: u32 = 16;
/// When the tests' catalogues are made.
pub(crate) const NOW: Timestamp = Timestamp(1_000_000);

/// A server with the schema, in a directory that goes with it.
pub(crate) struct Server {
    postgres: PrivatePostgres,
    pub(crate) pg: Pg,
    // Last, so that the directory outlives the server.
    _dir: ScratchDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let server = Self::start_empty().await;
        server.pg.migrate().await.unwrap();
        server
    }

    pub(crate) async fn start_empty() -> Self {
        let dir = ScratchDir::new();
        let postgres = PrivatePostgres::start(&dir.0, Fsync::Off).await.unwrap();
        let pg = Pg::connect(&postgres.settings()).unwrap();
        Self {
            postgres,
            pg,
            _dir: dir,
        }
    }

    /// Stops the server, calls `meanwhile`, starts it again in the same place.
    pub(crate) async fn restart<F: Future<Output = ()>>(
        self,
        meanwhile: impl FnOnce(Pg) -> F,
    ) -> Self {
        let Self {
            postgres,
            pg,
            _dir: dir,
        } = self;
        postgres.stop().await.unwrap();
        meanwhile(pg.clone()).await;
        let postgres = PrivatePostgres::start(&dir.0, Fsync::Off).await.unwrap();
        Self {
            postgres,
            pg,
            _dir: dir,
        }
    }

    /// A connection past the pool, to look at and disturb what the pool does.
    pub(crate) async fn raw(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.postgres.url(), NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    pub(crate) fn reads(&self) -> Reads {
        Reads::new(self.pg.clone())
    }

    pub(crate) fn catalogue(&self) -> Catalogue {
        Catalogue::new(self.pg.clone(), SHARDS)
    }

    /// Imports `count` endpoints, `per_site` to a site, and returns them by id.
    pub(crate) async fn with_endpoints(&self, count: usize, per_site: usize) -> Vec<EndpointRow> {
        let rows: Vec<_> = (0..count)
            .map(|n| endpoint(&format!("site-{}", n / per_site), n))
            .collect();
        self.catalogue().import(&rows, NOW).await.unwrap();
        let page = Page::first(u32::try_from(count).unwrap());
        self.reads()
            .endpoints(&EndpointFilter::default(), page)
            .await
            .unwrap()
            .rows
    }
}

/// A directory under the system's, removed at the end.
pub(crate) struct ScratchDir(pub(crate) PathBuf);

impl ScratchDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("picket-pg-{}-{n}", std::process::id())))
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            assert!(std::thread::panicking(), "{}: {error}", self.0.display());
        }
    }
}

/// The n-th endpoint of a catalogue.
pub(crate) fn endpoint(site: &str, n: usize) -> NewEndpoint {
    let http = HttpSpec::plain(true, format!("h{n}.example.org"), 443, "/".to_owned());
    NewEndpoint {
        site: site.to_owned(),
        group: GroupId(1),
        cadence: Cadence::from_secs(300).unwrap(),
        timeout: Span::from_secs(10),
        labels: vec![
            "all".parse().unwrap(),
            format!("mod-{}", n % 10).parse().unwrap(),
        ],
        kind: CheckKind::Http(http),
    }
}

pub(crate) fn check_ref(endpoint: &EndpointRow) -> CheckRef {
    CheckRef {
        check: endpoint.check,
        endpoint: endpoint.id,
        site: endpoint.site,
    }
}

pub(crate) fn fact(seq: u64, body: FactBody) -> Fact {
    Fact {
        seq: FactSeq(seq),
        at: Timestamp(2_000_000 + seq.cast_signed()),
        body,
    }
}

pub(crate) fn transition(check: CheckRef, from: State, to: State, at: i64) -> Transition {
    let reason = (to != State::Up).then_some(Reason::ConnectRefused);
    Transition {
        check,
        from,
        to,
        at: Timestamp(at),
        reason,
        incident: None,
    }
}

pub(crate) fn incident(id: u64, check: CheckRef, state: State, started_at: i64) -> Incident {
    Incident {
        id: IncidentId(id),
        check,
        state,
        started_at: Timestamp(started_at),
        decided_at: None,
        ended_at: None,
        verdict: None,
        reason: Reason::ConnectRefused,
        group: None,
        trace: None,
    }
}

/// Numbers bodies from 1.
pub(crate) fn numbered(bodies: impl IntoIterator<Item = FactBody>) -> Vec<Fact> {
    (1..)
        .zip(bodies)
        .map(|(seq, body)| fact(seq, body))
        .collect()
}

/// The whole history, as text, to compare databases by.
pub(crate) async fn dump(raw: &Client) -> Vec<String> {
    let mut lines = Vec::new();
    for table in [
        "fact_cursors",
        "transitions",
        "endpoint_state",
        "incidents",
        "testimony",
        "notification_groups",
        "audit_log",
    ] {
        let sql = format!("SELECT '{table} ' || t::text FROM {table} t ORDER BY 1");
        lines.extend(
            raw.query(&sql, &[])
                .await
                .unwrap()
                .iter()
                .map(|row: &Row| row.get::<_, String>(0)),
        );
    }
    lines
}

/// A small generator of numbers that look random and are the same in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        // Knuth's MMIX multiplier; the high half is well mixed.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}
