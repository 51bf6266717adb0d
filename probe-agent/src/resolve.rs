//! Names to addresses, for every probe of this agent.
//!
//! One stub resolver with one cache for the whole process. It asks the configured name servers
//! and nothing else: no hosts file, no search list, every name absolute. IPv4 is asked first and
//! IPv6 only where there is none. The library's own cache is off: going through it costs as much
//! as half a probe.

mod answers;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver as Stub, TokioResolver};
use picket_wire::reason::Reason;
use tokio::time::Instant;

use crate::resolve::answers::{Answer, Answers};

/// A name whose owner says "0 seconds" would be asked for at every probe of its site: thirty
/// seconds is what large public resolvers hold at least.
const TTL_MIN: Duration = Duration::from_secs(30);
/// A moved site is followed within the hour whatever its old TTL said.
const TTL_MAX: Duration = Duration::from_secs(3_600);
/// A name that comes back is seen by the next probe but one of the fastest interval.
const TTL_NEGATIVE: Duration = Duration::from_secs(5);
/// One datagram and its answer; twice this fits the DNS phase of a probe.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);
/// Tries after the first.
const RETRIES: usize = 1;
/// Names whose answers are kept, some 120 bytes each: 30 MB at most.
const NAMES_MAX: usize = 256 * 1_024;
/// Addresses of one name that are looked at; the largest round-robin sets have a dozen.
const ADDRESSES_MAX: usize = 16;
/// Queries that share one TCP connection to a name server; past it the server counts as busy.
const TCP_QUERIES_MAX: usize = 512;
/// Largest answer over UDP (DNS flag day 2020): does not fragment anywhere.
const EDNS_PAYLOAD_BYTES: u16 = 1_232;

/// Whether a cached answer will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// A cached answer is as good as a new one.
    Cached,
    /// The name servers are asked, and the cache learns what they say.
    Fresh,
}

/// Why a name gave no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name does not exist.
    #[error("the name does not exist")]
    NameUnknown,
    /// The name exists and has neither an IPv4 nor an IPv6 address.
    #[error("the name has no address")]
    AddressMissing,
    /// No name can look like this one.
    #[error("the name is not a valid domain name")]
    NameInvalid,
    /// A name server answered with a failure, or with something that is no answer.
    #[error("name server failed: {0}")]
    ServerFailed(String),
    /// No name server answered.
    #[error("no name server answered: {0}")]
    Unanswered(String),
}

impl ResolveError {
    /// The countable reason.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::NameUnknown | Self::NameInvalid => Reason::DnsNxdomain,
            Self::AddressMissing => Reason::DnsNoAddress,
            Self::ServerFailed(_) => Reason::DnsServfail,
            Self::Unanswered(_) => Reason::DnsTimeout,
        }
    }
}

/// The resolver cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ResolverSetupError {
    /// The system's own configuration cannot be used.
    #[error("system name servers (resolv.conf); list some in the agent's settings instead")]
    System(#[source] NetError),
    /// The name servers cannot be used.
    #[error("name servers")]
    Servers(#[source] NetError),
}

/// The process's stub resolver.
#[derive(Debug)]
pub struct Resolver {
    stub: TokioResolver,
    answers: Answers,
}

impl Resolver {
    /// A resolver that asks `servers`, or the system's when there are none.
    ///
    /// # Errors
    /// When the system's configuration is needed and cannot be read.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, ResolverSetupError> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = if servers.is_empty() {
            Stub::builder(provider).map_err(ResolverSetupError::System)?
        } else {
            let servers = servers.iter().copied().map(name_server).collect();
            Stub::builder_with_config(ResolverConfig::from_parts(None, vec![], servers), provider)
        };
        apply_options(builder.options_mut());
        let stub = builder.build().map_err(ResolverSetupError::Servers)?;
        let answers = Answers::new(NAMES_MAX);
        Ok(Self { stub, answers })
    }

    /// The addresses of `host`: its IPv4 addresses, else its IPv6 addresses; never empty.
    ///
    /// # Errors
    /// When there are none, or when nobody could say.
    pub async fn resolve(
        &self,
        host: &str,
        freshness: Freshness,
    ) -> Result<Arc<[IpAddr]>, ResolveError> {
        if freshness == Freshness::Cached
            && let Some(answer) = self.answers.find(host, Instant::now())
        {
            return answer;
        }
        let (answer, usable_for) = self.look_up(host).await;
        if let Some(usable_for) = usable_for {
            let now = Instant::now();
            self.answers.learn(host, &answer, now, now + usable_for);
        }
        answer
    }

    /// Asks the name servers; also says for how long the answer may be used, if at all.
    async fn look_up(&self, host: &str) -> (Answer, Option<Duration>) {
        let Ok(mut name) = Name::from_ascii(host) else {
            return (Err(ResolveError::NameInvalid), None);
        };
        name.set_fqdn(true);
        let mut found = self.ask(&name, RecordType::A).await;
        if found == Err(ResolveError::AddressMissing) {
            found = self.ask(&name, RecordType::AAAA).await;
        }
        match found {
            Ok((addresses, ttl)) => (Ok(addresses), Some(ttl.clamp(TTL_MIN, TTL_MAX))),
            Err(no @ (ResolveError::NameUnknown | ResolveError::AddressMissing)) => {
                (Err(no), Some(TTL_NEGATIVE))
            }
            Err(failed) => (Err(failed), None),
        }
    }

    async fn ask(
        &self,
        name: &Name,
        kind: RecordType,
    ) -> Result<(Arc<[IpAddr]>, Duration), ResolveError> {
        let lookup = self
            .stub
            .lookup(name.clone(), kind)
            .await
            .map_err(explain)?;
        let addresses: Vec<(IpAddr, u32)> = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::A(a) => Some((IpAddr::V4(a.0), record.ttl)),
                RData::AAAA(aaaa) => Some((IpAddr::V6(aaaa.0), record.ttl)),
                _ => None,
            })
            .take(ADDRESSES_MAX)
            .collect();
        let shortest = addresses.iter().map(|&(_, ttl)| ttl).min();
        let ttl_s = shortest.ok_or(ResolveError::AddressMissing)?;
        let addresses = addresses.into_iter().map(|(address, _)| address).collect();
        Ok((addresses, Duration::from_secs(ttl_s.into())))
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let transports = vec![
        on_port(ConnectionConfig::udp()),
        on_port(ConnectionConfig::tcp()),
    ];
    NameServerConfig::new(address.ip(), true, transports)
}

fn apply_options(options: &mut ResolverOpts) {
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = TRY_TIMEOUT;
    options.attempts = RETRIES;
    options.edns0 = true;
    options.edns_payload_len = EDNS_PAYLOAD_BYTES;
    options.cache_size = 0;
    options.max_active_requests = TCP_QUERIES_MAX;
    options.preserve_intermediates = false;
    options.try_tcp_on_error = true;
}

/// What a failed look-up says about the name, or about the servers.
fn explain(error: NetError) -> ResolveError {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => ResolveError::NameUnknown,
            ResponseCode::NoError => ResolveError::AddressMissing,
            code => ResolveError::ServerFailed(code.to_string()),
        },
        NetError::Dns(error) => ResolveError::ServerFailed(error.to_string()),
        error
        @ (NetError::Timeout | NetError::NoConnections | NetError::Busy | NetError::Io(_)) => {
            ResolveError::Unanswered(error.to_string())
        }
        error => ResolveError::ServerFailed(error.to_string()),
    }
}
