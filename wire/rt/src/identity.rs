//! Who a process is on the mesh: its certificate, its key, and who issued them.
//!
//! One authority per mesh signs every certificate. A certificate says who its holder is in one URI,
//! `picket://member/1` or `picket://agent/7`, and nothing else in it is ever used to decide. Keys
//! of agents are made by the agents and never leave them.

mod agent_key;
mod authority;
mod files;
mod peer;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use picket_wire::time::{Span, Timestamp};
use rcgen::{KeyPair, PublicKeyData};
use ring::hmac;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::files::PRIVATE;
use crate::join_token::RandomError;

pub use agent_key::AgentKey;
pub use authority::{Authority, csr_public_key_fingerprint};
pub use files::FileError;
pub use peer::{Peer, PeerError, key_fingerprint_of, peer_of};

pub(crate) use peer::{member_name, peer_from_certificate, shown_chain};

/// How long the authority is valid. Ten years, as it can only be replaced by enrolling every
/// process again.
pub const CA_LIFETIME: Span = Span::from_secs(10 * 365 * 86_400);
/// How long a member's certificate is valid: issued by hand, so a year.
pub const MEMBER_LIFETIME: Span = Span::from_secs(365 * 86_400);
/// How long an agent's certificate is valid: one that is away for longer enrols again.
pub const AGENT_LIFETIME: Span = Span::from_secs(90 * 86_400);
/// How far back validity begins, for peers whose clocks are behind.
pub const BACKDATED: Span = Span::from_secs(5 * 60);

/// The file of an identity: key, own certificate, authority's certificate. One file, so that one
/// rename replaces all of it.
const IDENTITY_FILE: &str = "identity.pem";

/// A certificate chain (own, then the authority's) and the key that belongs to it.
#[derive(Clone)]
pub struct Identity {
    chain: Arc<[CertificateDer<'static>; 2]>,
    key: Arc<PrivatePkcs8KeyDer<'static>>,
    peer: Peer,
    expires_at: Timestamp,
}

/// Why an identity or an authority cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written, or must not be.
    #[error(transparent)]
    File(#[from] FileError),
    /// The text is not what it should be.
    #[error("{what} is malformed: {problem}")]
    Malformed {
        /// Which part.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The certificate belongs to another key.
    #[error("the certificate and the key do not belong together")]
    ForeignKey,
    /// The certificate was signed by somebody else.
    #[error("the certificate was not signed by the authority beside it")]
    ForeignAuthority,
    /// The certificate does not say whose it is.
    #[error("the certificate does not name a member or an agent")]
    Nameless(#[from] PeerError),
    /// A certificate cannot be made.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl IdentityError {
    /// Whether there is no such file: the usual state before the first enrolment.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::File(error) if error.is_missing())
    }
}

/// Why a certificate or a request cannot be made or signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// It is not a PKCS#10 request.
    #[error("the certificate request cannot be read: {0}")]
    Request(String),
    /// The sender does not hold the key.
    #[error("the certificate request is not signed with its own key")]
    Possession,
    /// Only keys that every side can verify at a known cost are signed.
    #[error("the certificate request's key is neither P-256 nor Ed25519")]
    KeyKind,
    /// An additional name of a member that cannot be put in a certificate.
    #[error("`{0}` cannot be a name in a member's certificate")]
    Name(String),
    /// The system has no randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The signature could not be made.
    #[error("sign a certificate")]
    Sign(#[from] rcgen::Error),
}

impl Identity {
    /// A secret of its own for each `purpose`, the same in every process that holds this identity.
    pub(crate) fn secret(&self, purpose: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.secret_pkcs8_der());
        let tag = hmac::sign(&key, purpose);
        tag.as_ref()
            .try_into()
            .expect("a tag of HMAC-SHA256 has 32 bytes")
    }

    /// Puts together what belongs together.
    pub(crate) fn new(
        certificate: CertificateDer<'static>,
        ca: CertificateDer<'static>,
        key: PrivatePkcs8KeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        let own = parsed("the certificate", &certificate)?;
        let authority = parsed("the authority's certificate", &ca)?;
        own.verify_signature(Some(authority.public_key()))
            .map_err(|_not_verified| IdentityError::ForeignAuthority)?;
        if key_pair(&key)?.subject_public_key_info() != own.public_key().raw {
            return Err(IdentityError::ForeignKey);
        }
        let peer = peer_from_certificate(&certificate)?;
        let expires_at = Timestamp(own.validity().not_after.timestamp().saturating_mul(1_000));
        Ok(Self {
            chain: Arc::new([certificate, ca]),
            key: Arc::new(key),
            peer,
            expires_at,
        })
    }

    /// Writes the identity into `dir`, in one file that only its owner can read; replaces an
    /// earlier one as a whole.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let [certificate, ca] = &*self.chain;
        let text = [
            files::pem("PRIVATE KEY", self.key.secret_pkcs8_der()),
            files::pem("CERTIFICATE", certificate),
            files::pem("CERTIFICATE", ca),
        ];
        Ok(files::write(
            &dir.join(IDENTITY_FILE),
            text.concat().as_bytes(),
            PRIVATE,
        )?)
    }

    /// Reads the identity in `dir`.
    ///
    /// # Errors
    /// When the file is missing, readable by others, or not a whole identity.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let text = files::read_private(&dir.join(IDENTITY_FILE))?;
        let key = private_key(&text)?;
        let mut chain = CertificateDer::pem_slice_iter(&text);
        let mut next = |what| match chain.next() {
            Some(Ok(certificate)) => Ok(certificate),
            Some(Err(error)) => Err(IdentityError::Malformed {
                what,
                problem: error.to_string(),
            }),
            None => Err(IdentityError::Malformed {
                what,
                problem: "it is missing".to_owned(),
            }),
        };
        let certificate = next("the certificate")?;
        let ca = next("the authority's certificate")?;
        Self::new(certificate, ca, key)
    }

    /// Whose identity this is.
    #[must_use]
    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// The authority's certificate, DER.
    #[must_use]
    pub fn ca(&self) -> &[u8] {
        let [_, ca] = &*self.chain;
        ca
    }

    /// From when on nobody believes it any more.
    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.to_vec()
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("peer", &self.peer)
            .field("expires_at", &self.expires_at)
            .field("key", &"…")
            .finish_non_exhaustive()
    }
}

fn parsed<'a>(
    what: &'static str,
    der: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, IdentityError> {
    let malformed = |problem: String| IdentityError::Malformed { what, problem };
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|error| malformed(error.to_string()))?;
    if rest.is_empty() {
        Ok(certificate)
    } else {
        Err(malformed("bytes follow it".to_owned()))
    }
}

fn private_key(text: &[u8]) -> Result<PrivatePkcs8KeyDer<'static>, IdentityError> {
    PrivatePkcs8KeyDer::from_pem_slice(text).map_err(|error| IdentityError::Malformed {
        what: "the key",
        problem: error.to_string(),
    })
}

fn key_pair(key: &PrivatePkcs8KeyDer<'_>) -> Result<KeyPair, IdentityError> {
    KeyPair::try_from(key).map_err(|error| IdentityError::Malformed {
        what: "the key",
        problem: error.to_string(),
    })
}
