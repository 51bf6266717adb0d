//! Names to addresses, for every probe of this agent.
//!
//! One stub resolver with one cache for the whole process. It asks the configured name servers
//! and nothing else: no hosts file, no search list, every name absolute. IPv4 is asked first and
//! IPv6 only where there is none, so that a cached look-up is one table access.

use std::net::{IpAddr, SocketAddr};
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
/// Answers kept, some 500 bytes each: 32 MB at most.
const CACHE_ENTRIES: u64 = 65_536;
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
        Ok(Self { stub })
    }

    /// The addresses of `host`: its IPv4 addresses, else its IPv6 addresses; never empty.
    ///
    /// # Errors
    /// When there are none, or when nobody could say.
    pub async fn resolve(
        &self,
        host: &str,
        freshness: Freshness,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        let mut name = Name::from_ascii(host).map_err(|_invalid| ResolveError::NameInvalid)?;
        name.set_fqdn(true);
        match self.ask(&name, RecordType::A, freshness).await {
            Err(ResolveError::AddressMissing) => self.ask(&name, RecordType::AAAA, freshness).await,
            answered => answered,
        }
    }

    async fn ask(
        &self,
        name: &Name,
        kind: RecordType,
        freshness: Freshness,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        if freshness == Freshness::Fresh {
            self.stub.clear_lookup_cache(name.clone(), kind);
        }
        let lookup = self
            .stub
            .lookup(name.clone(), kind)
            .await
            .map_err(explain)?;
        let addresses: Vec<IpAddr> = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::A(a) => Some(IpAddr::V4(a.0)),
                RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                _ => None,
            })
            .collect();
        if addresses.is_empty() {
            Err(ResolveError::AddressMissing)
        } else {
            Ok(addresses)
        }
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
    options.cache_size = CACHE_ENTRIES;
    options.positive_min_ttl = Some(TTL_MIN);
    options.positive_max_ttl = Some(TTL_MAX);
    options.negative_min_ttl = Some(TTL_NEGATIVE);
    options.negative_max_ttl = Some(TTL_NEGATIVE);
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
