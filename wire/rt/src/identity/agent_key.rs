//! An agent's key while it waits for its certificate.

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::{Identity, IdentityError, SignError};

/// A P-256 key that was made here and is not certified yet.
pub struct AgentKey {
    key: KeyPair,
}

impl AgentKey {
    /// Makes a key and the PKCS#10 request (DER) for it. The request says nothing but the key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<(Self, Vec<u8>), SignError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request = params.serialize_request(&key)?.der().to_vec();
        Ok((Self { key }, request))
    }

    /// The identity that key and certificate make together.
    ///
    /// # Errors
    /// When the certificate is for another key, or not signed by the authority beside it.
    pub fn certified(
        self,
        certificate_der: &[u8],
        ca_der: &[u8],
    ) -> Result<Identity, IdentityError> {
        let owned = |der: &[u8]| CertificateDer::from(der.to_vec());
        Identity::new(
            owned(certificate_der),
            owned(ca_der),
            PrivatePkcs8KeyDer::from(self.key),
        )
    }
}

impl std::fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentKey").finish_non_exhaustive()
    }
}
