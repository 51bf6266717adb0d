//! One execution of one check, by kind.
//!
//! A kind reads as three steps in one file: perform (I/O, all through the guarded dialer), an
//! observation, and a pure judgement of it. Nothing that a target does can make a probe panic,
//! outlive its timeout or hold more than a bounded amount of memory; should a bug of ours panic
//! all the same, the probe says `agent_fault` and the next one runs.

mod detail;
pub mod http;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use ipnet::IpNet;
use picket_rt::clock::Clock;
use picket_wire::check::{CheckKind, CheckSpec};
use picket_wire::outcome::{Phases, Probe};
use picket_wire::reason::Reason;
use picket_wire::time::Timestamp;
use rustls_pki_types::CertificateDer;

use crate::check::tls::Tls;
pub use crate::check::tls::TlsSetupError;
use crate::dial::Dialer;
use crate::dial::guard::Guard;
use crate::resolve::{Resolver, ResolverSetupError};

/// TLS sessions kept for resumption when the settings say nothing else: some 4 KB each, so 32 MB.
pub const SESSIONS_DEFAULT: usize = 8_192;

/// What a prober needs to know of where it runs.
#[derive(Debug)]
pub struct ProberSettings {
    /// Tells wall time.
    pub clock: Clock,
    /// Local addresses that connections leave from, in turn; none lets the system choose.
    pub source_addresses: Vec<IpAddr>,
    /// Name servers to ask; none means the system's.
    pub resolvers: Vec<SocketAddr>,
    /// Roots that are trusted besides the public ones.
    pub trust_anchors: Vec<CertificateDer<'static>>,
    /// Special-purpose ranges (private, loopback, ...) that this agent may probe.
    pub allow: Vec<IpNet>,
    /// TLS sessions kept for resumption; [`SESSIONS_DEFAULT`] is a good number.
    pub sessions_max: usize,
}

impl ProberSettings {
    /// Settings of an agent on the public Internet.
    #[must_use]
    pub const fn new(clock: Clock) -> Self {
        Self {
            clock,
            source_addresses: Vec::new(),
            resolvers: Vec::new(),
            trust_anchors: Vec::new(),
            allow: Vec::new(),
            sessions_max: SESSIONS_DEFAULT,
        }
    }
}

/// A prober cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ProberSetupError {
    /// Names cannot be resolved.
    #[error("set up the resolver")]
    Resolver(#[from] ResolverSetupError),
    /// TLS cannot be spoken.
    #[error("set up TLS")]
    Tls(#[from] TlsSetupError),
}

/// Why a check is probed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It is due.
    Scheduled,
    /// The probe just before failed.
    Retry,
    /// The scheduler asked for a second opinion.
    Vote,
}

impl Attempt {
    /// Whether nothing that is remembered (addresses, TLS sessions) may be used.
    #[must_use]
    pub const fn is_fresh(self) -> bool {
        !matches!(self, Self::Scheduled)
    }
}

/// Executes checks; one per process, shared by all of its tasks.
#[derive(Debug)]
pub struct Prober {
    clock: Clock,
    dialer: Dialer,
    tls: Tls,
}

impl Prober {
    /// A prober with its own resolver, caches and TLS configurations.
    ///
    /// # Errors
    /// When no name server is known, or a trust anchor is no certificate.
    pub fn new(settings: ProberSettings) -> Result<Self, ProberSetupError> {
        let resolver = Resolver::new(&settings.resolvers)?;
        let guard = Guard::new(settings.allow);
        Ok(Self {
            dialer: Dialer::new(resolver, guard, &settings.source_addresses),
            tls: Tls::new(
                &settings.clock,
                &settings.trust_anchors,
                settings.sessions_max,
            )?,
            clock: settings.clock,
        })
    }

    /// Probes once; ends within the check's timeout. Safe to cancel: the connection is dropped.
    ///
    /// `due` is when the schedule wanted it; lateness is counted from there, and which probe of a
    /// check makes a full TLS handshake follows from it.
    pub async fn probe(&self, spec: &CheckSpec, due: Timestamp, attempt: Attempt) -> Probe {
        let at = self.clock.now();
        let performed = match &spec.kind {
            CheckKind::Http(http) => http::probe(self, spec, http, due, attempt),
        };
        let outcome = AssertUnwindSafe(performed).catch_unwind().await;
        let outcome = outcome.unwrap_or_else(|_panic| Outcome::bug());
        Probe {
            at,
            lateness: at.since(due),
            reason: outcome.reason,
            phases: outcome.phases,
            http_status: outcome.http_status,
            remote: outcome.remote,
            certificate_expires: outcome.certificate_expires,
            detail: outcome.detail,
        }
    }
}

/// A [`Probe`] without its times of day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    reason: Option<Reason>,
    phases: Phases,
    http_status: u16,
    remote: Option<IpAddr>,
    certificate_expires: Option<Timestamp>,
    detail: String,
}

impl Outcome {
    fn bug() -> Self {
        let detail = "the agent has a bug: this probe panicked".to_owned();
        Self {
            reason: Some(Reason::AgentFault),
            detail,
            ..Self::default()
        }
    }
}
