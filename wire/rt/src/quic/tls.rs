//! TLS 1.3 for the mesh: one provider, one protocol, nothing resumed.

use std::sync::Arc;

use quinn::TransportErrorCode;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};
use rustls_pki_types::CertificateDer;

use super::ALPN;
use crate::identity::Identity;

/// An identity that TLS has no use for.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The key, the chain or the authority cannot be used.
    #[error("set up TLS")]
    Config(#[from] rustls::Error),
    /// The authority cannot be used to judge peers.
    #[error("set up TLS with this authority")]
    Authority(#[from] VerifierBuilderError),
    /// The provider lacks what QUIC begins with.
    #[error("set up TLS for QUIC")]
    Quic(#[from] NoInitialCipherSuite),
}

/// The only cryptography in the process, named at each use: no default is asked for.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Shows our certificate, and expects one of the same authority under the name that was dialled.
pub(super) fn dialler(identity: &Identity) -> Result<QuicClientConfig, TlsError> {
    let roots = roots(identity)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build()?;
    let config = client()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(identity.chain(), identity.key())?;
    finish_client(config)
}

/// Shows no certificate, and expects what `verifier` expects.
pub(super) fn anonymous(
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<QuicClientConfig, TlsError> {
    let config = client()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    finish_client(config)
}

/// Shows our certificate and the authority's, by whose fingerprint a newcomer knows us; judges
/// certificates of peers, and lets those in that have none.
pub(super) fn listener(identity: &Identity) -> Result<QuicServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(identity)?, provider())
        .allow_unauthenticated()
        .build()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain(), identity.key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(QuicServerConfig::try_from(config)?)
}

/// Whether a transport error is a TLS alert (RFC 9001, section 4.8).
pub(super) fn is_alert(code: TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

fn client() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])
}

fn finish_client(mut config: ClientConfig) -> Result<QuicClientConfig, TlsError> {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(QuicClientConfig::try_from(config)?)
}

fn roots(identity: &Identity) -> Result<Arc<RootCertStore>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(identity.ca().to_vec()))?;
    Ok(Arc::new(roots))
}
