//! Listeners that are not ours, made from the same files that a member has.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use picket_rt::identity::{Authority, Identity};
use picket_rt::quic::{ALPN, quinn};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::world::{Folder, member};

/// Holds a key that `signer` certified, and shows the certificate of `shown` beside it.
pub(crate) fn listen(signer: &Authority, shown: &Authority) -> quinn::Endpoint {
    let (mut chain, key) = files(&member(signer, 1));
    chain.truncate(1);
    chain.push(CertificateDer::from(shown.certificate().to_vec()));
    endpoint(chain, key)
}

/// Listens with an identity that is not for listening.
pub(crate) fn listen_as(identity: &Identity) -> quinn::Endpoint {
    let (chain, key) = files(identity);
    endpoint(chain, key)
}

fn files(identity: &Identity) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let folder = Folder::new();
    identity.save(folder.path()).unwrap();
    let text = std::fs::read(folder.path().join("identity.pem")).unwrap();
    let chain = CertificateDer::pem_slice_iter(&text)
        .map(Result::unwrap)
        .collect();
    (chain, PrivateKeyDer::from_pem_slice(&text).unwrap())
}

fn endpoint(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> quinn::Endpoint {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    quinn::Endpoint::server(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap()
}
