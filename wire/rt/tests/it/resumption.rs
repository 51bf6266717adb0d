//! No session is resumed: a resumed one would skip the look at the certificate, and with it every
//! revocation.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use picket_rt::quic::{ALPN, quinn};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::impostor;
use crate::world::{accept, authority, bind, member, soon};

const CONNECTIONS: usize = 3;

#[tokio::test]
async fn a_client_that_wants_to_resume_must_look_at_the_certificate_every_time() {
    let identity = member(&authority(), 1);

    // The control: against a listener with the usual settings this client does resume.
    let usual = impostor::listen_as(&identity);
    let client = Resumer::new();
    for _ in 0..CONNECTIONS {
        let accepting = async { usual.accept().await.unwrap().await.unwrap() };
        client.visit(usual.local_addr().unwrap(), accepting).await;
    }
    assert_eq!(client.looks(), 1);

    let ours = bind(&identity);
    let client = Resumer::new();
    for _ in 0..CONNECTIONS {
        let accepting = async { accept(&ours).await.unwrap().connection };
        client.visit(ours.local_addr().unwrap(), accepting).await;
    }
    assert_eq!(client.looks(), CONNECTIONS);
}

/// A client that keeps every ticket it is given.
struct Resumer {
    endpoint: quinn::Endpoint,
    looks: Arc<AtomicUsize>,
}

impl Resumer {
    fn new() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let looks = Arc::new(AtomicUsize::new(0));
        let verifier = Counting {
            looks: Arc::clone(&looks),
            provider: Arc::clone(&provider),
        };
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let mut endpoint =
            quinn::Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
        Self { endpoint, looks }
    }

    /// Connects, waits for a word that the listener says after its handshake, hence after its
    /// tickets, and leaves.
    async fn visit(&self, addr: SocketAddr, accepting: impl Future<Output = quinn::Connection>) {
        let dialling = async {
            self.endpoint
                .connect(addr, "localhost")
                .unwrap()
                .await
                .unwrap()
        };
        let (near, far) = soon(async { tokio::join!(dialling, accepting) }).await;
        let mut word = far.open_uni().await.unwrap();
        word.write_all(b"welcome").await.unwrap();
        word.finish().unwrap();
        let mut heard = soon(near.accept_uni()).await.unwrap();
        assert_eq!(soon(heard.read_to_end(16)).await.unwrap(), b"welcome");
    }

    fn looks(&self) -> usize {
        self.looks.load(Ordering::Relaxed)
    }
}

/// Believes everybody, and counts how often it is asked.
#[derive(Debug)]
struct Counting {
    looks: Arc<AtomicUsize>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Counting {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("QUIC has no TLS 1.2")
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
