//! Who stands at the other end of a connection, as its certificate says.

use std::fmt;

use picket_wire::id::{AgentId, MemberId};
use quinn::Connection;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const MEMBER_URI: &str = "picket://member/";
const AGENT_URI: &str = "picket://agent/";

/// The name a member answers to in TLS. Only the authority gives it, and only to that member.
pub(crate) fn member_name(member: MemberId) -> String {
    format!("member-{}.{MEMBER_DOMAIN}", member.0)
}

/// Reserved for private use (`.internal`), so it never resolves on the public Internet.
pub(crate) const MEMBER_DOMAIN: &str = "picket.internal";

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// A scheduler member.
    Member(MemberId),
    /// An enrolled agent.
    Agent(AgentId),
    /// No certificate was shown: it may enrol and nothing else.
    Anonymous,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(member) => write!(f, "{MEMBER_URI}{}", member.0),
            Self::Agent(agent) => write!(f, "{AGENT_URI}{}", agent.0),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

/// A certificate that does not say whose it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It has no URI of ours, or several.
    #[error("the certificate has {0} names of members or agents, expected one")]
    Names(usize),
    /// The URI is not one of ours.
    #[error("`{0}` names neither a member nor an agent")]
    Uri(String),
}

/// Who is at the other end of `connection`.
///
/// # Errors
/// When a certificate was shown that the authority signed but that names nobody.
pub fn peer_of(connection: &Connection) -> Result<Peer, PeerError> {
    match shown_certificate(connection) {
        Some(certificate) => peer_from_certificate(&certificate),
        None => Ok(Peer::Anonymous),
    }
}

/// SHA-256 of the peer's public key (SubjectPublicKeyInfo), `None` for an anonymous one. Whoever
/// accepts a connection compares it with what was admitted and with what was revoked.
#[must_use]
pub fn key_fingerprint_of(connection: &Connection) -> Option<[u8; 32]> {
    key_fingerprint(&shown_certificate(connection)?)
}

pub(crate) fn peer_from_certificate(certificate: &CertificateDer<'_>) -> Result<Peer, PeerError> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|_not_read| PeerError::Unreadable)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_not_read| PeerError::Unreadable)?;
    let names = names
        .map(|names| names.value.general_names.as_slice())
        .unwrap_or_default();
    let uris: Vec<&str> = names.iter().filter_map(uri).collect();
    match uris[..] {
        [uri] => parse(uri).ok_or_else(|| PeerError::Uri(uri.chars().take(64).collect())),
        _ => Err(PeerError::Names(uris.len())),
    }
}

fn key_fingerprint(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(Sha256::digest(certificate.public_key().raw).into())
}

/// The chain that the TLS layer has verified, own certificate first.
pub(crate) fn shown_chain(connection: &Connection) -> Option<Vec<CertificateDer<'static>>> {
    connection
        .peer_identity()?
        .downcast()
        .ok()
        .map(|chain| *chain)
}

fn shown_certificate(connection: &Connection) -> Option<CertificateDer<'static>> {
    shown_chain(connection)?.into_iter().next()
}

fn uri<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    match name {
        GeneralName::URI(uri) => Some(uri),
        _ => None,
    }
}

fn parse(uri: &str) -> Option<Peer> {
    if let Some(number) = uri.strip_prefix(MEMBER_URI) {
        return decimal(number).map(|number| Peer::Member(MemberId(number)));
    }
    let number = decimal(uri.strip_prefix(AGENT_URI)?)?;
    Some(Peer::Agent(AgentId(u32::try_from(number).ok()?)))
}

/// A number in its only form: no sign, no leading zero.
fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_reads_back_what_it_prints() {
        for peer in [
            Peer::Member(MemberId(1)),
            Peer::Agent(AgentId(7)),
            Peer::Agent(AgentId(u32::MAX)),
        ] {
            assert_eq!(parse(&peer.to_string()), Some(peer));
        }
    }

    #[test]
    fn a_name_has_one_form_only() {
        for uri in [
            "picket://agent/",
            "picket://agent/+7",
            "picket://agent/07",
            "picket://agent/7/",
            "picket://agent/4294967296",
            "picket://AGENT/7",
            "picket://robot/1",
            "https://member/1",
        ] {
            assert_eq!(parse(uri), None, "{uri}");
        }
    }
}
