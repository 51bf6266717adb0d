//! What one HTTP or HTTPS check costs the agent in processor time.
//!
//! The agent's own prober against loops that do the least that can be called a check: connect,
//! ask, read. All run on one thread with the same number of connections open at once, against
//! the same server in another process.

use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;

use anyhow::{Context, ensure};
use picket_agent::check::{Attempt, Prober, ProberSettings};
use picket_rt::clock::Clock;
use picket_wire::check::http::{Handshake, HttpSpec};
use picket_wire::check::{Cadence, CheckKind, CheckSpec};
use picket_wire::id::{CheckId, EndpointId, SiteId};
use picket_wire::time::{Span, Timestamp};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::bench::origin::{Origin, SAYS_FULL, SAYS_PLAIN, SAYS_RESUMED, host};
use crate::bench::report::{Figure, Goal, Series};
use crate::bench::{Effort, cpu};

/// Probes of each contender in one round, over all targets: a second or two of work.
const PLAIN_PROBES: u32 = 19_200;
const FULL_PROBES: u32 = 3_200;
const RESUMED_PROBES: u32 = 9_600;
/// The bounds of the design, section 8, in microseconds.
const PLAIN_GOAL: Goal = Goal::AtMost(60.0);
const FULL_GOAL: Goal = Goal::AtMost(350.0);
const RESUMED_GOAL: Goal = Goal::AtMost(130.0);

/// Plain HTTP: a probe of a name whose address is cached, a probe of an address, and bare loops.
pub(super) async fn plain(effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let origin = Origin::start()?;
    let prober = prober(&origin)?;
    let probe = |named| Contender::Prober {
        prober: Arc::clone(&prober),
        specs: specs(&origin.served.plain, named, None),
    };
    let targets = &origin.served.plain;
    let mut contenders = [
        ("plain HTTP check, name cached", probe(true)),
        ("plain HTTP check, address given", probe(false)),
        (
            "bare tokio: connect, GET, read to end",
            Contender::Bare { says: SAYS_PLAIN },
        ),
        ("bare blocking socket, the same", Contender::Blocking),
    ]
    .map(|(what, contender)| Lane::new(what, contender, targets));
    measure(&mut contenders, effort.of(PLAIN_PROBES), effort.rounds).await?;
    let [named, given, bare, blocking] = &contenders.map(|lane| lane.series);
    Ok(vec![
        Figure::new(named, "us", Some(PLAIN_GOAL), &[bare, blocking]),
        Figure::new(given, "us", Some(PLAIN_GOAL), &[bare, blocking]),
    ])
}

/// HTTPS, with a full handshake each time and with a resumed one.
pub(super) async fn secured(effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let origin = Origin::start()?;
    let served = &origin.served;
    let mut figures = Vec::new();
    let full = [
        ("HTTPS check, full handshake, P-256 chain", &served.short),
        ("HTTPS check, full handshake, P-384 chain", &served.long),
    ];
    for (what, targets) in full {
        let pair = [what, "bare rustls, full handshake"];
        let series = compare(
            &origin,
            targets,
            Handshake::Full,
            pair,
            FULL_PROBES,
            &effort,
        )
        .await?;
        figures.push(Figure::new(
            &series[0],
            "us",
            Some(FULL_GOAL),
            &[&series[1]],
        ));
    }
    let pair = [
        "HTTPS check, resumed handshake",
        "bare rustls, resumed handshake",
    ];
    let series = compare(
        &origin,
        &served.short,
        Handshake::Resumed,
        pair,
        RESUMED_PROBES,
        &effort,
    )
    .await?;
    figures.push(Figure::new(
        &series[0],
        "us",
        Some(RESUMED_GOAL),
        &[&series[1]],
    ));
    Ok(figures)
}

async fn compare(
    origin: &Origin,
    targets: &[SocketAddrV4],
    handshake: Handshake,
    [ours, theirs]: [&str; 2],
    n_probes: u32,
    effort: &Effort,
) -> anyhow::Result<[Series; 2]> {
    let says = match handshake {
        Handshake::Full => SAYS_FULL,
        Handshake::Resumed => SAYS_RESUMED,
    };
    let probe = Contender::Prober {
        prober: prober(origin)?,
        specs: specs(targets, true, Some(handshake)),
    };
    let bare = Contender::BareTls {
        connector: connector(origin, handshake)?,
        says,
    };
    let mut contenders = [
        Lane::new(ours, probe, targets),
        Lane::new(theirs, bare, targets),
    ];
    measure(&mut contenders, effort.of(n_probes), effort.rounds).await?;
    Ok(contenders.map(|lane| lane.series))
}

/// Measures all contenders in turn, round by round; who begins changes with each round.
async fn measure(lanes: &mut [Lane], n_probes: u32, n_rounds: u16) -> anyhow::Result<()> {
    for lane in &mut *lanes {
        // Names, chains and sessions are learnt here; what a first probe finds is of no account.
        drop(lane.run(1).await);
        lane.run(4)
            .await
            .with_context(|| format!("warm up `{}`", lane.series.what()))?;
    }
    for round in 0..usize::from(n_rounds) {
        for turn in 0..lanes.len() {
            let next = (round + turn) % lanes.len();
            lanes[next].measure(n_probes).await?;
        }
    }
    Ok(())
}

/// A contender with its targets and what was measured of it.
struct Lane {
    series: Series,
    contender: Arc<Contender>,
    targets: Vec<SocketAddrV4>,
}

impl Lane {
    fn new(what: &str, contender: Contender, targets: &[SocketAddrV4]) -> Self {
        Self {
            series: Series::new(what),
            contender: Arc::new(contender),
            targets: targets.to_vec(),
        }
    }

    async fn measure(&mut self, n_probes: u32) -> anyhow::Result<()> {
        let n_each = (n_probes / u32::try_from(self.targets.len())?).max(1);
        let before = cpu::used()?;
        let n_done = self.run(n_each).await?;
        let used = cpu::used()?.saturating_sub(before);
        self.series
            .push(used.as_secs_f64() * 1e6 / f64::from(n_done));
        Ok(())
    }

    /// Probes every target so many times, one connection to each at any moment.
    async fn run(&self, n_each: u32) -> anyhow::Result<u32> {
        let mut running = JoinSet::new();
        for (target, &address) in self.targets.iter().enumerate() {
            let contender = Arc::clone(&self.contender);
            running.spawn(async move {
                for _ in 0..n_each {
                    contender.probe(target, address).await?;
                }
                anyhow::Ok(n_each)
            });
        }
        // Every target is tried whatever becomes of the others: a warm-up must reach them all.
        let mut n_done = 0;
        let mut first_failure = Ok(());
        while let Some(ended) = running.join_next().await {
            match ended? {
                Ok(n_probed) => n_done += n_probed,
                Err(error) => first_failure = first_failure.and(Err(error)),
            }
        }
        first_failure.map(|()| n_done)
    }
}

/// Who probes.
enum Contender {
    /// The agent's own prober; one check per target.
    Prober {
        prober: Arc<Prober>,
        specs: Vec<CheckSpec>,
    },
    /// Connect, ask, read to the end.
    Bare { says: &'static str },
    /// The same without a runtime, one connection after the other.
    Blocking,
    /// The same through rustls.
    BareTls {
        connector: TlsConnector,
        says: &'static str,
    },
}

impl Contender {
    async fn probe(&self, target: usize, address: SocketAddrV4) -> anyhow::Result<()> {
        match self {
            Self::Prober { prober, specs } => {
                probe(prober, specs.get(target).context("a target")?).await
            }
            Self::Bare { says } => {
                let stream = TcpStream::connect(SocketAddr::V4(address)).await?;
                check(&exchange(stream).await?, says)
            }
            Self::Blocking => {
                let mut stream = std::net::TcpStream::connect(SocketAddr::V4(address))?;
                stream.write_all(REQUEST)?;
                let mut response = Vec::with_capacity(RESPONSE_BYTES);
                stream.read_to_end(&mut response)?;
                check(&response, SAYS_PLAIN)
            }
            Self::BareTls { connector, says } => {
                let stream = TcpStream::connect(SocketAddr::V4(address)).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from(host(target))?;
                check(
                    &exchange(connector.connect(name, stream).await?).await?,
                    says,
                )
            }
        }
    }
}

/// As much as the agent asks, in other words.
const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: h0.picket.test:12345\r\nUser-Agent: bare/0.1.0\r\n\
    Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n";
/// More than the origin answers: read at once.
const RESPONSE_BYTES: usize = 4_096;

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> anyhow::Result<Vec<u8>> {
    stream.write_all(REQUEST).await?;
    stream.flush().await?;
    let mut response = Vec::with_capacity(RESPONSE_BYTES);
    stream.read_to_end(&mut response).await?;
    Ok(response)
}

fn check(response: &[u8], says: &str) -> anyhow::Result<()> {
    let says_so = response
        .windows(says.len())
        .any(|window| window == says.as_bytes());
    ensure!(
        says_so,
        "expected `{says}` in the body, got `{}`",
        String::from_utf8_lossy(response)
    );
    Ok(())
}

async fn probe(prober: &Prober, spec: &CheckSpec) -> anyhow::Result<()> {
    let probe = prober.probe(spec, due(spec), Attempt::Scheduled).await;
    ensure!(probe.is_ok(), "a probe failed: {probe:?}");
    Ok(())
}

/// An instant whose probe does not have to look at the certificate: the first after one that does.
fn due(spec: &CheckSpec) -> Timestamp {
    // Every twentieth probe counted from the epoch plus the id sees it, whatever is asked.
    let nth = 21 - spec.id.0.cast_signed().rem_euclid(20);
    Timestamp(nth * i64::from(spec.cadence.secs()) * 1_000)
}

fn specs(targets: &[SocketAddrV4], named: bool, tls: Option<Handshake>) -> Vec<CheckSpec> {
    let spec = |(target, address): (usize, &SocketAddrV4)| {
        let host = if named {
            host(target)
        } else {
            address.ip().to_string()
        };
        let mut http = HttpSpec::plain(tls.is_some(), host, address.port(), "/".to_owned());
        let says = match tls {
            None => SAYS_PLAIN,
            Some(Handshake::Full) => SAYS_FULL,
            Some(Handshake::Resumed) => SAYS_RESUMED,
        };
        http.body_contains = Some(says.to_owned());
        http.handshake = tls.unwrap_or(Handshake::Full);
        CheckSpec {
            id: CheckId(target as u64),
            endpoint: EndpointId(target as u64),
            site: SiteId(1),
            cadence: Cadence::from_secs(60).expect("a minute is one of the intervals"),
            timeout: Span::from_secs(10),
            kind: CheckKind::Http(http),
        }
    };
    targets.iter().enumerate().map(spec).collect()
}

fn prober(origin: &Origin) -> anyhow::Result<Arc<Prober>> {
    let settings = ProberSettings {
        resolvers: vec![origin.served.dns],
        trust_anchors: anchors(origin).collect(),
        allow: vec!["127.0.0.0/8".parse()?],
        ..ProberSettings::new(Clock::system())
    };
    Ok(Arc::new(Prober::new(settings)?))
}

fn anchors(origin: &Origin) -> impl Iterator<Item = CertificateDer<'static>> {
    origin
        .served
        .anchors
        .iter()
        .cloned()
        .map(CertificateDer::from)
}

/// What anybody would write with rustls.
fn connector(origin: &Origin, handshake: Handshake) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    anchors(origin).try_for_each(|anchor| roots.add(anchor))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = match handshake {
        Handshake::Full => Resumption::disabled(),
        Handshake::Resumed => Resumption::in_memory_sessions(1_024),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}
