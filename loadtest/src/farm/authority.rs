//! The farm's throw-away certificate authority.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The certificate library refused.
    #[error("make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused what was made.
    #[error("use a certificate")]
    Tls(#[from] rustls::Error),
}

/// What is wrong with the certificate of an HTTPS target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// It expired in 2021.
    Expired,
    /// It names another host.
    WrongHost,
}

/// An authority whose key never leaves this process.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    /// When the certificate library refuses.
    pub fn new() -> Result<Self, AuthorityError> {
        let mut params = CertificateParams::new(vec![])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "picket demo farm");
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// Writes the authority's certificate as PEM.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, file: &Path) -> std::io::Result<()> {
        std::fs::write(file, &self.pem)
    }

    /// A TLS server for `address`, good or flawed.
    ///
    /// # Errors
    /// When one of the libraries refuses.
    pub fn acceptor(&self, address: IpAddr, flaw: Flaw) -> Result<TlsAcceptor, AuthorityError> {
        let host = match flaw {
            Flaw::WrongHost => "elsewhere.example".to_owned(),
            Flaw::None | Flaw::Expired => address.to_string(),
        };
        let mut params = CertificateParams::new(vec![host])?;
        params.not_before = date_time_ymd(2020, 1, 1);
        let last_year = if flaw == Flaw::Expired { 2021 } else { 2090 };
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
