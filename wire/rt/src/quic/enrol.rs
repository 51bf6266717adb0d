//! First contact: a newcomer that knows nothing of the mesh but its authority's fingerprint.
//!
//! No trust on first use. The handshake fails unless the chain that is shown contains the very
//! certificate whose fingerprint the join token carries and a member's certificate signed by it, so
//! a connection on which a token could be sent exists only to the right mesh.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use quinn::Connection;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{ConnectError, dial, endpoint, socket, tls, transport};
use crate::identity::{Peer, peer_from_certificate, shown_chain};

/// What a newcomer calls whoever it dials: it does not know which member that is, and the
/// fingerprint decides.
const ANY_MEMBER: &str = "enrol.picket.internal";

/// An anonymous connection to some member of the mesh that the token names.
#[derive(Debug)]
pub struct EnrolLink {
    /// The connection: one request may be made on it.
    pub connection: Connection,
    /// The authority's certificate (DER) that was checked against the fingerprint.
    pub ca: Vec<u8>,
}

/// Connects to a member at `addr` without a certificate.
///
/// # Errors
/// When nobody answers, or when whoever answers does not belong to the mesh whose authority has
/// this fingerprint.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn connect_to_enrol(
    addr: SocketAddr,
    ca_fingerprint: [u8; 32],
) -> Result<EnrolLink, ConnectError> {
    let verifier = Arc::new(Pinned {
        ca_fingerprint,
        provider: tls::provider(),
    });
    let config = transport::dialler(tls::anonymous(verifier)?);
    let local = match addr {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let endpoint = socket::open(local)
        .and_then(|socket| endpoint(quinn::EndpointConfig::default(), None, socket))
        .map_err(ConnectError::Socket)?;
    // The socket stays open until the connection is closed, whoever holds the endpoint.
    let connection = dial(&endpoint, config, addr, ANY_MEMBER).await?;
    let chain = shown_chain(&connection).unwrap_or_default();
    let ca = find(&chain, ca_fingerprint).map(|ca| ca.to_vec());
    let missing = || ConnectError::Untrusted {
        addr,
        reason: "it showed no certificate".to_owned(),
    };
    Ok(EnrolLink {
        connection,
        ca: ca.ok_or_else(missing)?,
    })
}

/// Accepts a member of the mesh whose authority has this fingerprint, and nobody else.
#[derive(Debug)]
struct Pinned {
    ca_fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ca = find(intermediates, self.ca_fingerprint).ok_or(CertificateError::UnknownIssuer)?;
        let anchor = anchor_from_trusted_cert(ca).map_err(refused)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        EndEntityCert::try_from(end_entity)
            .and_then(|leaf| {
                leaf.verify_for_usage(
                    algorithms,
                    &[anchor],
                    &[],
                    now,
                    KeyUsage::server_auth(),
                    None,
                    None,
                )
                .map(|_path| ())
            })
            .map_err(refused)?;
        match peer_from_certificate(end_entity).map_err(refused)? {
            Peer::Member(_) => Ok(ServerCertVerified::assertion()),
            Peer::Agent(_) | Peer::Anonymous => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn find<'a, 'b>(
    chain: &'a [CertificateDer<'b>],
    fingerprint: [u8; 32],
) -> Option<&'a CertificateDer<'b>> {
    chain
        .iter()
        .find(|certificate| <[u8; 32]>::from(Sha256::digest(certificate)) == fingerprint)
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}
