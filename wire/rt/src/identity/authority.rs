//! The one who signs for a mesh.
//!
//! Of a request only the key is used: name, usage and lifetime are the authority's to give, so that
//! a request cannot ask for more than it was let in for.

use std::fmt;
use std::path::Path;

use picket_wire::id::{AgentId, MemberId};
use picket_wire::time::{Span, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo, date_time_ymd,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::peer::{MEMBER_DOMAIN, Peer, member_name};
use super::{
    AGENT_LIFETIME, BACKDATED, CA_LIFETIME, FileError, Identity, IdentityError, MEMBER_LIFETIME,
    SignError, files, key_pair, parsed, private_key,
};
use crate::files::{PRIVATE, PUBLIC};
use crate::join_token::{RandomError, hex};

/// The authority's certificate: public, copied to wherever it is needed.
const CERTIFICATE_FILE: &str = "ca.pem";
/// The authority's key.
const KEY_FILE: &str = "ca.key";

/// A certificate authority of one mesh.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority and writes it into `dir`.
    ///
    /// # Errors
    /// When there is an authority already, or when the files cannot be written.
    pub fn create(dir: &Path, now: Timestamp) -> Result<Self, IdentityError> {
        let path = dir.join(CERTIFICATE_FILE);
        if path.exists() {
            return Err(FileError::Exists { path }.into());
        }
        let key = KeyPair::generate().map_err(SignError::from)?;
        let params = authority_params(now)?;
        let certificate = params.self_signed(&key).map_err(SignError::from)?;
        // The key first: a certificate without its key would look like an authority and sign nothing.
        let text = files::pem("PRIVATE KEY", key.serialized_der());
        files::write(&dir.join(KEY_FILE), text.as_bytes(), PRIVATE)?;
        files::write(
            &path,
            files::pem("CERTIFICATE", certificate.der()).as_bytes(),
            PUBLIC,
        )?;
        Ok(Self {
            certificate: certificate.into(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Reads the authority in `dir`.
    ///
    /// # Errors
    /// When a file is missing or malformed, or when others can read the key.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let key: PrivatePkcs8KeyDer<'_> = private_key(&files::read_private(&dir.join(KEY_FILE))?)?;
        let key = key_pair(&key)?;
        let what = "the authority's certificate";
        let malformed = |problem: String| IdentityError::Malformed { what, problem };
        let certificate =
            CertificateDer::from_pem_slice(&files::read(&dir.join(CERTIFICATE_FILE))?)
                .map_err(|error| malformed(error.to_string()))?;
        if key.subject_public_key_info() != parsed(what, &certificate)?.public_key().raw {
            return Err(IdentityError::ForeignKey);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|error| malformed(error.to_string()))?;
        Ok(Self {
            certificate,
            issuer,
        })
    }

    /// SHA-256 of the certificate (DER): what a join token carries.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    /// The certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Makes key and certificate of a member. `names` are further host names and addresses it
    /// answers to, for other protocols than the mesh's.
    ///
    /// # Errors
    /// When a name is not a name, or would pass for a member's.
    pub fn issue_member(
        &self,
        member: MemberId,
        names: &[String],
        now: Timestamp,
    ) -> Result<Identity, IdentityError> {
        let key = KeyPair::generate().map_err(SignError::from)?;
        let mut params = leaf_params(Peer::Member(member), now, MEMBER_LIFETIME)?;
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.subject_alt_names.push(dns(&member_name(member))?);
        for name in names {
            params.subject_alt_names.push(additional(name)?);
        }
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(SignError::from)?;
        Identity::new(
            certificate.into(),
            self.certificate.clone(),
            PrivatePkcs8KeyDer::from(key),
        )
    }

    /// Certifies the key of an agent's request; everything else in the request is ignored.
    ///
    /// # Errors
    /// When the request cannot be read, is not signed with its own key, or has a key of another
    /// kind than P-256 and Ed25519.
    pub fn sign_agent(
        &self,
        agent: AgentId,
        csr_der: &[u8],
        now: Timestamp,
    ) -> Result<Vec<u8>, SignError> {
        let key = requested_key(csr_der)?;
        let mut params = leaf_params(Peer::Agent(agent), now, AGENT_LIFETIME)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(&key, &self.issuer)?.der().to_vec())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = hex(&self.fingerprint());
        f.debug_struct("Authority")
            .field("fingerprint", &fingerprint)
            .finish_non_exhaustive()
    }
}

/// SHA-256 of the public key in a request: what the mesh remembers of an agent it admits. Equal to
/// the fingerprint of the connections that the agent makes with it.
///
/// # Errors
/// As [`Authority::sign_agent`].
pub fn csr_public_key_fingerprint(csr_der: &[u8]) -> Result<[u8; 32], SignError> {
    Ok(Sha256::digest(requested_key(csr_der)?.subject_public_key_info()).into())
}

/// The key of a request whose sender has shown to hold it.
fn requested_key(csr_der: &[u8]) -> Result<SubjectPublicKeyInfo, SignError> {
    let (rest, request) = X509CertificationRequest::from_der(csr_der)
        .map_err(|error| SignError::Request(error.to_string()))?;
    if !rest.is_empty() {
        return Err(SignError::Request("bytes follow it".to_owned()));
    }
    let raw = request.certification_request_info.subject_pki.raw;
    let key = SubjectPublicKeyInfo::from_der(raw).map_err(|_unknown| SignError::KeyKind)?;
    if ![&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519].contains(&key.algorithm()) {
        return Err(SignError::KeyKind);
    }
    request
        .verify_signature()
        .map_err(|_not_verified| SignError::Possession)?;
    Ok(key)
}

fn authority_params(now: Timestamp) -> Result<CertificateParams, SignError> {
    let mut params = params(now, CA_LIFETIME)?;
    // Two authorities never share a name, so that a chain can only be built to the right one.
    let name = format!("Picket mesh {}", hex(&random::<4>()?));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn leaf_params(peer: Peer, now: Timestamp, lifetime: Span) -> Result<CertificateParams, SignError> {
    let mut params = params(now, lifetime)?;
    let uri = peer.to_string();
    params
        .distinguished_name
        .push(DnType::CommonName, uri.as_str());
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(now: Timestamp, lifetime: Span) -> Result<CertificateParams, SignError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let begin = now - BACKDATED;
    params.not_before = date_time_ymd(1970, 1, 1) + begin.since(Timestamp(0)).to_std();
    params.not_after = date_time_ymd(1970, 1, 1) + (now + lifetime).since(Timestamp(0)).to_std();
    params.serial_number = Some(serial()?);
    Ok(params)
}

/// 127 random bits: positive, and never the same twice.
fn serial() -> Result<SerialNumber, SignError> {
    let mut bytes = random::<16>()?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn random<const N: usize>() -> Result<[u8; N], SignError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(RandomError)?;
    Ok(bytes)
}

/// A host name or address, but never one that belongs to the mesh.
fn additional(name: &str) -> Result<SanType, SignError> {
    if let Ok(address) = name.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let lower = name.to_ascii_lowercase();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    if lower.is_empty() || lower.ends_with(MEMBER_DOMAIN) || !lower.bytes().all(allowed) {
        return Err(SignError::Name(name.chars().take(64).collect()));
    }
    dns(&lower)
}

fn dns(name: &str) -> Result<SanType, SignError> {
    Ok(SanType::DnsName(name.try_into()?))
}
