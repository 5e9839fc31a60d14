//! What the authority gets by TLS-ALPN-01 (RFC 8737): a handshake with a
//! certificate of our own making that names the challenge.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::PrivateKeyDer;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tracing::warn;

use super::{Board, Challenge, ChallengeKind};

/// The only protocol of these handshakes.
const PROTOCOL: &[u8] = b"acme-tls/1";

/// Most settings that are kept; a challenge is asked for a few times within seconds.
const MOST_KEPT: usize = 256;

/// No certificate can be made for a challenge.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChallengeError {
    /// The name can't stand in a certificate, or the random number generator fails.
    #[error("can't make the challenge's certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The key can't be used.
    #[error("can't serve the challenge's certificate: {0}")]
    Library(#[from] rustls::Error),
}

/// Makes the TLS settings for authorities that validate a name.
pub struct TlsAlpn {
    board: Arc<Board>,
    crypto: Arc<CryptoProvider>,
    /// Settings by challenge: several places of the authority ask within a second.
    made: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

impl TlsAlpn {
    /// Settings for the challenges on `board`.
    pub fn new(board: Arc<Board>, crypto: Arc<CryptoProvider>) -> Self {
        Self {
            board,
            crypto,
            made: Mutex::default(),
        }
    }

    /// The settings for the challenge of a server's name in lower case. It may have
    /// to be looked for.
    pub async fn config(&self, name: &str) -> Option<Arc<ServerConfig>> {
        let challenge = self.board.find(ChallengeKind::TlsAlpn01, name).await?;
        let key = &challenge.key_authorization;
        let known = self.made(|made| made.get(key).cloned());
        if known.is_some() {
            return known;
        }
        let config = match server_config(&challenge, &self.crypto) {
            Ok(config) => Arc::new(config),
            Err(error) => {
                warn!(name, %error, "A challenge can't be answered");
                return None;
            }
        };
        self.made(|made| {
            if made.len() >= MOST_KEPT {
                made.clear();
            }
            made.insert(key.clone(), Arc::clone(&config));
        });
        Some(config)
    }

    fn made<T>(&self, work: impl FnOnce(&mut HashMap<String, Arc<ServerConfig>>) -> T) -> T {
        work(&mut self.made.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for TlsAlpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsAlpn").finish_non_exhaustive()
    }
}

/// Settings for one handshake of an authority: no other protocol, nothing to resume.
fn server_config(
    challenge: &Challenge,
    crypto: &Arc<CryptoProvider>,
) -> Result<ServerConfig, ChallengeError> {
    let certified = certified(challenge, crypto)?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(crypto))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A self-signed certificate for the name alone, with the digest of the key
/// authorization in the critical extension `acmeIdentifier` (RFC 8737 §3).
fn certified(
    challenge: &Challenge,
    crypto: &CryptoProvider,
) -> Result<CertifiedKey, ChallengeError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([challenge.name.clone()])?;
    params.distinguished_name = DistinguishedName::new();
    let digest = Sha256::digest(&challenge.key_authorization);
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    // `from_der` would look into the certificate, and refuse the critical extension.
    let key = crypto.key_provider.load_private_key(key)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

    use super::*;

    fn challenge(name: &str, token: &str) -> Challenge {
        Challenge {
            kind: ChallengeKind::TlsAlpn01,
            name: name.to_owned(),
            token: token.to_owned(),
            key_authorization: format!("{token}.print"),
            expires: SystemTime::now() + Duration::from_secs(60),
        }
    }

    fn made() -> (Arc<Board>, TlsAlpn) {
        let board = Arc::new(Board::default());
        let crypto = Arc::new(crate::tls::provider());
        (Arc::clone(&board), TlsAlpn::new(board, crypto))
    }

    #[tokio::test]
    async fn settings_are_made_once_for_a_challenge() {
        let (board, answers) = made();
        assert!(answers.config("a.example").await.is_none());
        board.present(&challenge("a.example", "one"));
        let one = answers.config("a.example").await.unwrap();
        let again = answers.config("a.example").await.unwrap();
        assert!(Arc::ptr_eq(&one, &again));
        assert_eq!(one.alpn_protocols, [b"acme-tls/1"]);
        board.withdraw("one");
        board.present(&challenge("a.example", "two"));
        let two = answers.config("a.example").await.unwrap();
        assert!(!Arc::ptr_eq(&one, &two));
        for n in 0..MOST_KEPT + 10 {
            let name = format!("{n}.example");
            board.present(&challenge(&name, &name));
            assert!(answers.config(&name).await.is_some());
        }
        assert!(answers.made(|made| made.len()) <= MOST_KEPT);
    }

    #[tokio::test]
    async fn addresses_are_shown_as_addresses() {
        let (board, answers) = made();
        board.present(&challenge("192.0.2.7", "token"));
        board.present(&challenge("not a name \u{e9}", "bad"));
        assert!(answers.config("not a name \u{e9}").await.is_none());
        assert!(answers.config("7.2.0.192.in-addr.arpa").await.is_some());
        let crypto = Arc::new(crate::tls::provider());
        let leaf = certified(&challenge("192.0.2.7", "token"), &crypto).unwrap();
        let (_, leaf) = X509Certificate::from_der(leaf.cert.first().unwrap()).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        let expected = [GeneralName::IPAddress(&[192, 0, 2, 7])];
        assert_eq!(names.value.general_names, expected);
    }
}
