//! The certificates of a store, parsed once.
//!
//! Kept by what they are: a certificate that is still there after a change of the
//! store is the very same object, so that nobody downstream takes it for a new one.
//! What can't be used is named and left where it is.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use crate::acme::store::StoredCertificate;
use crate::tls::{Certificate, IssuedCertificate};

/// What a stored certificate is known by: the digest of its chain and key.
pub(super) type Identity = [u8; 32];

/// A certificate that can be served, with what it was read from.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    pub(super) identity: Identity,
    pub(super) stored: StoredCertificate,
    pub(super) certificate: Arc<Certificate>,
}

/// Parsed certificates of one resolver.
#[derive(Debug)]
pub(super) struct Library {
    crypto: Arc<CryptoProvider>,
    /// Everything that was read, with what is wrong with it.
    read: HashMap<Identity, Result<Arc<Certificate>, String>>,
    /// Those that can be served, in the store's order.
    pub(super) volumes: Vec<Volume>,
    /// Those that can't, with the reason.
    pub(super) broken: Vec<(String, String)>,
}

impl Library {
    /// A library without certificates.
    pub(super) fn new(crypto: Arc<CryptoProvider>) -> Self {
        Self {
            crypto,
            read: HashMap::new(),
            volumes: Vec::new(),
            broken: Vec::new(),
        }
    }

    /// Holds these certificates and no other.
    pub(super) async fn fill(&mut self, stored: Vec<StoredCertificate>) {
        let crypto = Arc::clone(&self.crypto);
        let known = std::mem::take(&mut self.read);
        // Keys are checked against their certificates, which takes a small board a while.
        let reading = spawn_blocking(move || read_all(&crypto, &known, stored));
        let all = reading.await.unwrap_or_default();
        self.volumes.clear();
        self.broken.clear();
        for (identity, stored, result) in all {
            match &result {
                Ok(certificate) => self.volumes.push(Volume {
                    identity,
                    certificate: Arc::clone(certificate),
                    stored,
                }),
                Err(error) => self.broken.push((stored.label(), error.clone())),
            }
            self.read.insert(identity, result);
        }
    }

    /// What is served.
    pub(super) fn issued(&self) -> Vec<IssuedCertificate> {
        let volumes = self.volumes.iter();
        volumes
            .map(|volume| IssuedCertificate {
                domain: volume.stored.domain.clone(),
                certificate: Arc::clone(&volume.certificate),
            })
            .collect()
    }
}

type Read = (
    Identity,
    StoredCertificate,
    Result<Arc<Certificate>, String>,
);

fn read_all(
    crypto: &CryptoProvider,
    known: &HashMap<Identity, Result<Arc<Certificate>, String>>,
    stored: Vec<StoredCertificate>,
) -> Vec<Read> {
    let all = stored.into_iter().map(|stored| {
        let identity = identity(&stored);
        let result = match known.get(&identity) {
            Some(result) => result.clone(),
            None => stored.load(crypto).map(Arc::new),
        };
        (identity, stored, result)
    });
    all.collect()
}

/// What a stored certificate is known by.
pub(super) fn identity(stored: &StoredCertificate) -> Identity {
    let mut digest = Sha256::new();
    digest.update(stored.chain.len().to_be_bytes());
    digest.update(&stored.chain);
    digest.update(&stored.key);
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::config::dynamic::Domain;

    fn stored(name: &str) -> StoredCertificate {
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::new([name.to_owned()]).unwrap();
        StoredCertificate {
            domain: Domain {
                main: name.to_owned(),
                sans: Vec::new(),
            },
            chain: made.self_signed(&key).unwrap().pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
            store: "default".to_owned(),
        }
    }

    #[tokio::test]
    async fn certificates_are_read_once_and_broken_ones_named() {
        let mut library = Library::new(Arc::new(crate::tls::provider()));
        let (a, b) = (stored("a.x"), stored("b.x"));
        let foreign_key = StoredCertificate {
            key: b.key.clone(),
            ..a.clone()
        };
        let a_file = StoredCertificate {
            chain: b"/etc/hostname".to_vec(),
            ..b.clone()
        };
        library.fill(vec![a.clone(), foreign_key, a_file]).await;
        assert_eq!(library.volumes.len(), 1);
        let broken: Vec<&str> = library.broken.iter().map(|(name, _)| &**name).collect();
        assert_eq!(broken, ["a.x", "b.x"]);
        assert_eq!(library.broken[1].1, "its certificate is not in PEM");

        let first = Arc::clone(&library.volumes[0].certificate);
        library.fill(vec![b, a]).await;
        assert!(library.broken.is_empty());
        assert_eq!(library.issued()[0].domain.main, "b.x");
        assert!(Arc::ptr_eq(&first, &library.issued()[1].certificate));
    }
}
