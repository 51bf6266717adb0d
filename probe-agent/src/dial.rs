//! The guarded dialer: the only way from this agent to a target.
//!
//! A name is resolved once, each address passes the [`Guard`], and exactly one of the addresses
//! that passed is connected to. There is no second look-up between judging and dialling, so a
//! name server that changes its answer in between (DNS rebinding) changes nothing; the type
//! [`Admitted`] cannot be made elsewhere, so nothing can be dialled that was not judged.

pub mod guard;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use picket_wire::reason::Reason;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

use crate::dial::guard::Guard;
use crate::resolve::{Freshness, ResolveError, Resolver};

/// Addresses of one name that are tried in turn: the first that connects is probed, as a browser
/// would. More would let one name cost many connections.
const ADDRESSES_MAX: usize = 3;
/// Tries to find a free port on a bound source address; collisions are rare below 90 % use.
const BIND_TRIES: usize = 4;

/// Addresses of one target that the guard let pass: one to three.
#[derive(Debug, Clone, Copy)]
pub struct Admitted {
    addresses: [IpAddr; ADDRESSES_MAX],
    n_addresses: usize,
}

impl Admitted {
    const fn one(address: IpAddr) -> Self {
        Self {
            addresses: [address; ADDRESSES_MAX],
            n_addresses: 1,
        }
    }

    fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.into_iter().take(self.n_addresses)
    }
}

/// Why a target could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name gave no address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// No answer from the resolver within the phase.
    #[error("name not resolved in time")]
    ResolveTimeout,
    /// Every address lies in a range that this agent may not probe.
    #[error("{address} lies in a range that is not probed ({range})")]
    Blocked {
        /// The first of them.
        address: IpAddr,
        /// What kind of range.
        range: &'static str,
    },
    /// No answer to the connection attempt within the phase.
    #[error("connecting to {remote} took too long")]
    ConnectTimeout {
        /// The address dialled last.
        remote: IpAddr,
    },
    /// The operating system refused the connection attempt, or the peer did.
    #[error("connecting to {remote}")]
    Connect {
        /// The address dialled last.
        remote: IpAddr,
        /// What the operating system said.
        source: io::Error,
    },
}

impl DialError {
    /// The countable reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Resolve(error) => error.reason(),
            Self::ResolveTimeout => Reason::DnsTimeout,
            Self::Blocked { .. } => Reason::AddressBlocked,
            Self::ConnectTimeout { .. } => Reason::ConnectTimeout,
            Self::Connect { source, .. } => reason_of_io(source),
        }
    }

    /// The address that was dialled, when one was.
    #[must_use]
    pub const fn remote(&self) -> Option<IpAddr> {
        match self {
            Self::ConnectTimeout { remote } | Self::Connect { remote, .. } => Some(*remote),
            Self::Resolve(_) | Self::ResolveTimeout | Self::Blocked { .. } => None,
        }
    }
}

/// Linux's EPROTO, ENOPROTOOPT and EHOSTDOWN: what ICMP or a neighbour said, for which the standard
/// library has no kind.
const FROM_THE_NETWORK: [i32; 3] = [71, 92, 112];

/// What an error of the socket layer says about the target, or about this machine.
#[must_use]
pub(crate) fn reason_of_io(error: &io::Error) -> Reason {
    if error
        .raw_os_error()
        .is_some_and(|code| FROM_THE_NETWORK.contains(&code))
    {
        return Reason::ConnectUnreachable;
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Reason::ConnectRefused,
        io::ErrorKind::TimedOut => Reason::ConnectTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Reason::ConnectUnreachable
        }
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => Reason::ConnectionReset,
        // EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL, EACCES and the like: this machine ran
        // out of something or forbids it. The site has no part in it.
        _ => Reason::AgentFault,
    }
}

/// Resolves, judges, connects.
#[derive(Debug)]
pub struct Dialer {
    resolver: Resolver,
    guard: Guard,
    sources_v4: Vec<Ipv4Addr>,
    sources_v6: Vec<Ipv6Addr>,
    turn: AtomicUsize,
}

impl Dialer {
    /// A dialer that leaves from `sources` in turn, or from where the system routes when there
    /// are none of the target's family.
    #[must_use]
    pub fn new(resolver: Resolver, guard: Guard, sources: &[IpAddr]) -> Self {
        let v4 = |address: &IpAddr| {
            if let IpAddr::V4(v4) = address {
                Some(*v4)
            } else {
                None
            }
        };
        let v6 = |address: &IpAddr| {
            if let IpAddr::V6(v6) = address {
                Some(*v6)
            } else {
                None
            }
        };
        Self {
            resolver,
            guard,
            sources_v4: sources.iter().filter_map(v4).collect(),
            sources_v6: sources.iter().filter_map(v6).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The addresses of `host` that may be dialled.
    ///
    /// # Errors
    /// When the name has none, or none that the guard lets pass, or nobody answers by `deadline`.
    pub async fn locate(
        &self,
        host: &str,
        freshness: Freshness,
        deadline: Instant,
    ) -> Result<Admitted, DialError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.judge(&[address]);
        }
        let looking = self.resolver.resolve(host, freshness);
        let found = timeout_at(deadline, looking)
            .await
            .map_err(|_late| DialError::ResolveTimeout)?;
        self.judge(&found?)
    }

    /// The first few of `addresses` that may be dialled.
    fn judge(&self, addresses: &[IpAddr]) -> Result<Admitted, DialError> {
        let mut admitted: Option<Admitted> = None;
        let mut refused = None;
        for &address in addresses {
            match (self.guard.admit(address), &mut admitted) {
                (Ok(address), None) => admitted = Some(Admitted::one(address)),
                (Ok(address), Some(list)) if list.n_addresses < ADDRESSES_MAX => {
                    list.addresses[list.n_addresses] = address;
                    list.n_addresses += 1;
                }
                (Ok(_), Some(_)) => break,
                (Err(range), _) => {
                    refused.get_or_insert(DialError::Blocked { address, range });
                }
            }
        }
        let nothing = || refused.unwrap_or(DialError::Resolve(ResolveError::AddressMissing));
        admitted.ok_or_else(nothing)
    }

    /// Connects to the first of `targets` that answers.
    ///
    /// # Errors
    /// What the last of them said, or that `deadline` passed.
    pub async fn connect(
        &self,
        targets: &Admitted,
        port: u16,
        deadline: Instant,
    ) -> Result<(TcpStream, IpAddr), DialError> {
        let mut last = None;
        for remote in targets.iter() {
            let connecting = self.connect_one(SocketAddr::new(remote, port));
            match timeout_at(deadline, connecting).await {
                Ok(Ok(stream)) => return Ok((stream, remote)),
                Ok(Err(source)) => last = Some(DialError::Connect { remote, source }),
                Err(_late) => return Err(DialError::ConnectTimeout { remote }),
            }
        }
        Err(last.expect("an admitted list is never empty"))
    }

    async fn connect_one(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        let mut tries_left = BIND_TRIES;
        loop {
            tries_left -= 1;
            match self.socket(remote.ip())?.connect(remote).await {
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && tries_left > 0 => {
                }
                connected => return connected,
            }
        }
    }

    /// A socket ready to connect to `remote`, bound to the next source address if there are any.
    ///
    /// SO_REUSEADDR lets sockets that go to different targets share one port of a bound source,
    /// so that ports run out per target and not in all, as with IP_BIND_ADDRESS_NO_PORT, which
    /// has no safe binding. A pair that is taken fails in `connect` and is tried anew.
    fn socket(&self, remote: IpAddr) -> io::Result<TcpSocket> {
        let (socket, source) = match remote {
            IpAddr::V4(_) => (
                TcpSocket::new_v4()?,
                self.pick(&self.sources_v4).map(IpAddr::V4),
            ),
            IpAddr::V6(_) => (
                TcpSocket::new_v6()?,
                self.pick(&self.sources_v6).map(IpAddr::V6),
            ),
        };
        socket.set_nodelay(true)?;
        if let Some(source) = source {
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::new(source, 0))?;
        }
        Ok(socket)
    }

    fn pick<T: Copy>(&self, sources: &[T]) -> Option<T> {
        match sources {
            [] => None,
            [only] => Some(*only),
            many => many
                .get(self.turn.fetch_add(1, Ordering::Relaxed) % many.len())
                .copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_network_says_and_what_this_machine_lacks_are_told_apart() {
        for (reason, linux_codes) in [
            (Reason::ConnectRefused, &[111][..]),
            (Reason::ConnectTimeout, &[110]),
            (Reason::ConnectUnreachable, &[71, 92, 101, 112, 113]),
            (Reason::ConnectionReset, &[32, 103, 104]),
            // Memory, files, buffers, ports, permissions, interface down.
            (Reason::AgentFault, &[1, 12, 13, 23, 24, 98, 99, 100, 105]),
        ] {
            for &code in linux_codes {
                let error = io::Error::from_raw_os_error(code);
                assert_eq!(reason_of_io(&error), reason, "{error}");
            }
        }
    }

    #[tokio::test]
    async fn of_many_addresses_a_few_that_pass_are_kept_in_order() {
        let resolver = Resolver::new(&["127.0.0.1:9".parse().unwrap()]).unwrap();
        let dialer = Dialer::new(resolver, Guard::default(), &[]);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let found = [
            "10.0.0.1",
            "1.1.1.1",
            "127.0.0.1",
            "1.1.1.2",
            "1.1.1.3",
            "1.1.1.4",
        ]
        .map(ip);
        let admitted: Vec<IpAddr> = dialer.judge(&found).unwrap().iter().collect();
        assert_eq!(admitted, ["1.1.1.1", "1.1.1.2", "1.1.1.3"].map(ip));
        let refused = dialer.judge(&found[..1]).unwrap_err();
        assert_eq!(refused.reason(), Reason::AddressBlocked);
    }
}
