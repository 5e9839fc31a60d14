//! One certificate with its key: from files or PEM text, or made here.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use super::Facts;

/// How long a certificate of our own making is valid.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// A certificate that can be served, and what its leaf says.
pub struct Certificate {
    /// What rustls signs with.
    pub key: Arc<CertifiedKey>,
    /// What the leaf says of itself.
    pub facts: Facts,
}

/// A certificate can't be served.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The file can't be read.
    #[error("can't read {file}")]
    Read {
        /// The file.
        file: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The text is not what it should be.
    #[error("{what} holds no usable {kind}")]
    Pem {
        /// The file's name, or `the PEM text`.
        what: String,
        /// What was looked for.
        kind: &'static str,
        /// Why there is none.
        source: rustls_pki_types::pem::Error,
    },
    /// The certificate itself is malformed.
    #[error("the certificate is malformed: {0}")]
    Malformed(String),
    /// The key does not fit the certificate, or its kind is not supported.
    #[error("certificate and key can't be used: {0}")]
    Unusable(rustls::Error),
    /// No certificate could be made.
    #[error("can't make a certificate: {0}")]
    Generate(rcgen::Error),
}

impl Certificate {
    /// Reads a chain and its key, each a file name or PEM text.
    ///
    /// # Errors
    /// If either can't be read, or they don't fit together.
    pub fn load(
        provider: &CryptoProvider,
        chain: &str,
        key: &str,
    ) -> Result<Self, CertificateError> {
        let chain = read_chain(chain)?;
        let key = read_key(key)?;
        Self::new(provider, chain, key)
    }

    /// A certificate out of its parts.
    ///
    /// # Errors
    /// If they don't fit together.
    pub fn new(
        provider: &CryptoProvider,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CertificateError> {
        let facts = {
            let leaf = chain
                .first()
                .ok_or_else(|| CertificateError::Malformed("the chain is empty".to_owned()))?;
            Facts::of(leaf)?
        };
        let key =
            CertifiedKey::from_der(chain, key, provider).map_err(CertificateError::Unusable)?;
        Ok(Self {
            key: Arc::new(key),
            facts,
        })
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// A chain of certificates from a file name or PEM text.
///
/// # Errors
/// If it can't be read or holds none.
pub(crate) fn read_chain(text: &str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let (what, pem) = read(text)?;
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .and_then(|chain| {
            if chain.is_empty() {
                Err(rustls_pki_types::pem::Error::NoItemsFound)
            } else {
                Ok(chain)
            }
        });
    chain.map_err(|source| CertificateError::Pem {
        what,
        kind: "certificate",
        source,
    })
}

/// A private key from a file name or PEM text.
///
/// # Errors
/// If it can't be read or holds none.
pub(crate) fn read_key(text: &str) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let (what, pem) = read(text)?;
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|source| CertificateError::Pem {
        what,
        kind: "private key",
        source,
    })
}

/// The text itself if it is PEM, else the file that it names.
fn read(text: &str) -> Result<(String, String), CertificateError> {
    if text.contains("-----BEGIN") {
        return Ok(("the PEM text".to_owned(), text.to_owned()));
    }
    match std::fs::read_to_string(text) {
        Ok(pem) => Ok((text.to_owned(), pem)),
        Err(source) => Err(CertificateError::Read {
            file: text.to_owned(),
            source,
        }),
    }
}

/// A self-signed certificate for clients whose name no other one fits.
///
/// # Errors
/// If the random number generator or the encoder fails.
pub fn generate_default(provider: &CryptoProvider) -> Result<Certificate, CertificateError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CertificateError::Generate)?;
    let name = format!("{:032x}.tidegate.default", fastrand::u128(..));
    let mut params = CertificateParams::new([name]).map_err(CertificateError::Generate)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "TIDEGATE DEFAULT CERT");
    params.not_before = (SystemTime::now() - Duration::from_secs(3600)).into();
    params.not_after = (SystemTime::now() + DEFAULT_LIFETIME).into();
    let certificate = params
        .self_signed(&key)
        .map_err(CertificateError::Generate)?;
    let private = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|error| CertificateError::Malformed(error.to_owned()))?;
    Certificate::new(provider, vec![certificate.der().clone()], private)
}
