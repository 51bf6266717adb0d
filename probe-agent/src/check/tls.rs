//! TLS towards targets: permissive about nothing, exact about why.
//!
//! Two client configurations live as long as the process: one that never resumes a session and
//! one that does, because a resumption is only accepted by the very verifier that saw the
//! certificate. The verifier rejects like a browser would and says which of the countable faults
//! it found, with the expiry date; a rejected handshake never leaves a session to resume.
//!
//! Key exchange is X25519 first and classical only: a client hello with a post-quantum share fills
//! two segments, which some servers and middleboxes drop, and that is not an outage of the site.
//! Suites with SHA-256 come first, as in browsers: processors have instructions for it, and a
//! handshake hashes more than it encrypts.

mod certificate;
mod session;
mod verified;

use std::io;
use std::sync::Arc;

use picket_rt::clock::Clock;
use picket_wire::check::http::Handshake;
use picket_wire::reason::Reason;
use picket_wire::time::{Span, Timestamp};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::hash::HashAlgorithm;
use rustls::crypto::{
    CipherSuiteCommon, CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, HandshakeKind, OtherError,
    SignatureScheme, SupportedCipherSuite,
};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::check::tls::certificate::{Fault, Rejected, expires, judge};
use crate::check::tls::session::SessionStore;
use crate::check::tls::verified::{ChainId, VerifiedChains};
use crate::dial::reason_of_io;

/// Chains that are remembered as good, with which a hash table of 64 Ki places is full: 3 MB.
const CHAINS_MAX: usize = 56 * 1_024;

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// One of the extra trust anchors is no certificate.
    #[error("trust anchor {index} is not a certificate")]
    TrustAnchor {
        /// Which one, counted from zero.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: webpki::Error,
    },
    /// The crypto provider lacks what TLS 1.2 and 1.3 need.
    #[error("crypto provider")]
    Provider(#[source] rustls::Error),
}

/// Why no TLS connection came to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The host cannot be named in a client hello.
    #[error("the host name is not valid in TLS")]
    NameInvalid,
    /// The certificate was rejected.
    #[error(transparent)]
    Certificate(#[from] Rejected),
    /// The peer broke the protocol, or shares no version or cipher with us.
    #[error("TLS handshake: {0}")]
    Protocol(rustls::Error),
    /// The peer closed the connection in the middle of the handshake.
    #[error("connection closed during the TLS handshake")]
    Closed,
    /// The connection failed in the middle of the handshake.
    #[error("TLS handshake")]
    Io(#[source] io::Error),
}

impl TlsError {
    /// The countable reason.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::NameInvalid | Self::Closed => Reason::TlsHandshake,
            Self::Certificate(rejected) => rejected.reason(),
            Self::Protocol(rustls::Error::InvalidCertificate(_)) => Reason::TlsBadCertificate,
            Self::Protocol(rustls::Error::NoCertificatesPresented) => Reason::TlsBadCertificate,
            Self::Protocol(_) => Reason::TlsHandshake,
            Self::Io(error) => reason_of_io(error),
        }
    }

    /// When the leaf certificate expires, if one was seen.
    pub(crate) const fn expires(&self) -> Option<Timestamp> {
        match self {
            Self::Certificate(rejected) => rejected.expires,
            Self::NameInvalid | Self::Protocol(_) | Self::Closed | Self::Io(_) => None,
        }
    }

    pub(crate) fn from_io(error: io::Error) -> Self {
        let Some(tls) = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        else {
            let closed = error.kind() == io::ErrorKind::UnexpectedEof;
            return if closed {
                Self::Closed
            } else {
                Self::Io(error)
            };
        };
        if let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))) = tls
            && let Some(rejected) = other.downcast_ref::<Rejected>()
        {
            return Self::Certificate(rejected.clone());
        }
        Self::Protocol(tls.clone())
    }
}

/// An accepted connection.
#[derive(Debug)]
pub(crate) struct Secured {
    /// What to speak HTTP on.
    pub(crate) stream: TlsStream<TcpStream>,
    /// When the leaf certificate expires, if it says so in a form that can be read.
    pub(crate) expires: Option<Timestamp>,
}

/// Both configurations and the sessions of the second.
#[derive(Debug)]
pub(crate) struct Tls {
    full: Connector,
    resumed: Connector,
    sessions: Arc<SessionStore>,
    clock: Clock,
}

impl Tls {
    pub(crate) fn new(
        clock: &Clock,
        extra_anchors: &[CertificateDer<'static>],
        sessions_max: usize,
    ) -> Result<Self, TlsSetupError> {
        let provider = Arc::new(classical_provider());
        let verifier = Arc::new(Verifier::new(Arc::clone(&provider), extra_anchors)?);
        let sessions = Arc::new(SessionStore::new(sessions_max));
        let config = |resumption| client_config(&provider, clock, &verifier, resumption);
        Ok(Self {
            full: Connector::new(config(Resumption::disabled())?),
            resumed: Connector::new(config(Resumption::store(Arc::clone(&sessions) as Arc<_>))?),
            sessions,
            clock: clock.clone(),
        })
    }

    /// Shakes hands with `host` over `stream`.
    ///
    /// # Errors
    /// When the peer speaks no TLS that we speak, or its certificate is rejected.
    pub(crate) async fn handshake(
        &self,
        host: &str,
        stream: TcpStream,
        handshake: Handshake,
    ) -> Result<Secured, TlsError> {
        let name = ServerName::try_from(host)
            .map_err(|_invalid| TlsError::NameInvalid)?
            .to_owned();
        let connector = match handshake {
            Handshake::Full => &self.full,
            Handshake::Resumed => &self.resumed,
        };
        let connected = connector.0.connect(name.clone(), stream).await;
        let secured = connected
            .map_err(TlsError::from_io)
            .and_then(|stream| self.accept(stream));
        if let Err(TlsError::Certificate(_)) = &secured {
            // The certificate changed since the session began: resuming it would hide that.
            self.sessions.forget(&name);
        }
        secured
    }

    /// A resumed session skipped the verifier; its certificate may have expired since.
    fn accept(&self, stream: TlsStream<TcpStream>) -> Result<Secured, TlsError> {
        let (_, connection) = stream.get_ref();
        let leaf = connection.peer_certificates().and_then(<[_]>::first);
        let expires = leaf.and_then(|leaf| expires(leaf));
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        if resumed && expires.is_some_and(|end| end < self.clock.now()) {
            return Err(Rejected {
                fault: Fault::Expired,
                expires,
            }
            .into());
        }
        Ok(Secured { stream, expires })
    }
}

/// A connector that can be shown.
struct Connector(TlsConnector);

impl Connector {
    fn new(config: ClientConfig) -> Self {
        Self(TlsConnector::from(Arc::new(config)))
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

fn classical_provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.kx_groups = vec![
        ring::kx_group::X25519,
        ring::kx_group::SECP256R1,
        ring::kx_group::SECP384R1,
    ];
    // Stable: among suites of one hash the provider's order stays.
    provider.cipher_suites.sort_by_key(|suite| match suite {
        SupportedCipherSuite::Tls13(suite) => !hashes_with_sha256(&suite.common),
        SupportedCipherSuite::Tls12(suite) => !hashes_with_sha256(&suite.common),
    });
    provider
}

fn hashes_with_sha256(suite: &CipherSuiteCommon) -> bool {
    suite.hash_provider.algorithm() == HashAlgorithm::SHA256
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    clock: &Clock,
    verifier: &Arc<Verifier>,
    resumption: Resumption,
) -> Result<ClientConfig, TlsSetupError> {
    let time = Arc::new(WallTime(clock.clone()));
    let mut config = ClientConfig::builder_with_details(Arc::clone(provider), time)
        .with_safe_default_protocol_versions()
        .map_err(TlsSetupError::Provider)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(verifier) as Arc<_>)
        .with_no_client_auth();
    config.resumption = resumption;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The process's clock as rustls wants to see it.
#[derive(Debug)]
struct WallTime(Clock);

impl TimeProvider for WallTime {
    fn current_time(&self) -> Option<UnixTime> {
        let since_epoch = self.0.now().since(Timestamp(0));
        Some(UnixTime::since_unix_epoch(since_epoch.to_std()))
    }
}

fn timestamp(time: UnixTime) -> Timestamp {
    Timestamp(0) + Span::from_secs(time.as_secs())
}

/// Judges a chain against the public roots and the agent's own anchors.
#[derive(Debug)]
struct Verifier {
    anchors: Vec<TrustAnchor<'static>>,
    verified: VerifiedChains,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(
        provider: Arc<CryptoProvider>,
        extra: &[CertificateDer<'static>],
    ) -> Result<Self, TlsSetupError> {
        let mut anchors = webpki_roots::TLS_SERVER_ROOTS.to_vec();
        for (index, certificate) in extra.iter().enumerate() {
            let anchor = webpki::anchor_from_trusted_cert(certificate)
                .map_err(|source| TlsSetupError::TrustAnchor { index, source })?;
            anchors.push(anchor.to_owned());
        }
        let verified = VerifiedChains::new(CHAINS_MAX);
        Ok(Self {
            anchors,
            verified,
            provider,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (chain, at) = (ChainId::of(name, leaf, intermediates), timestamp(now));
        if self.verified.contains(&chain, at) {
            return Ok(ServerCertVerified::assertion());
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        match judge(&self.anchors, algorithms, leaf, intermediates, name, now) {
            Ok(()) => {
                self.verified.learn(chain, leaf, intermediates, at);
                Ok(ServerCertVerified::assertion())
            }
            Err(fault) => {
                let rejected = Rejected {
                    fault,
                    expires: expires(leaf),
                };
                Err(CertificateError::Other(OtherError(Arc::new(rejected))).into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
