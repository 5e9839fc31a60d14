//! Certificates by name.

use std::collections::HashMap;
use std::sync::Arc;

use super::Certificate;

/// Certificates by the names they are valid for. Immutable once built.
#[derive(Debug)]
pub struct CertificateStore {
    by_name: HashMap<Box<str>, Arc<Certificate>>,
    default: Arc<Certificate>,
    /// The user's own, then those of resolvers.
    all: Vec<Arc<Certificate>>,
    /// How many are the user's own.
    own: usize,
}

/// Collects certificates for a [`CertificateStore`].
#[derive(Debug, Default)]
pub struct StoreBuilder {
    certificates: Vec<Arc<Certificate>>,
    issued: Vec<Arc<Certificate>>,
}

impl StoreBuilder {
    /// Adds a certificate. Of two for the same name the one that is valid longer is served.
    pub fn add(&mut self, certificate: Arc<Certificate>) {
        self.certificates.push(certificate);
    }

    /// Adds a certificate of a resolver. For a name that one of [`Self::add`] has, that
    /// one is served.
    pub fn add_issued(&mut self, certificate: Arc<Certificate>) {
        self.issued.push(certificate);
    }

    /// The certificate with all these names that is valid longest, wildcards being
    /// names like others.
    pub fn with_names(&self, names: &[String]) -> Option<&Arc<Certificate>> {
        let all = self.certificates.iter().chain(&self.issued);
        let has = |certificate: &Certificate, name| certificate.facts.names.contains(name);
        all.filter(|certificate| names.iter().all(|name| has(certificate, name)))
            .max_by_key(|certificate| certificate.facts.not_after)
    }

    /// The store, with `default` for all names that no certificate fits.
    pub fn build(self, default: Arc<Certificate>) -> CertificateStore {
        let mut by_name = longest_valid(&self.issued);
        by_name.extend(longest_valid(&self.certificates));
        let own = self.certificates.len();
        let mut all = self.certificates;
        all.extend(self.issued);
        CertificateStore {
            by_name,
            default,
            all,
            own,
        }
    }
}

/// For each name the certificate that is valid longest.
fn longest_valid(certificates: &[Arc<Certificate>]) -> HashMap<Box<str>, Arc<Certificate>> {
    let mut by_name: HashMap<Box<str>, Arc<Certificate>> = HashMap::new();
    for certificate in certificates {
        for name in &certificate.facts.names {
            let is_better = by_name
                .get(name.as_str())
                .is_none_or(|known| known.facts.not_after < certificate.facts.not_after);
            if is_better {
                by_name.insert(name.as_str().into(), Arc::clone(certificate));
            }
        }
    }
    by_name
}

impl CertificateStore {
    /// The certificate for a name in lower case: the one with the very name
    /// first, then one with a wildcard in place of the first label (RFC 6125 §6.4.3).
    pub fn find(&self, name: &str) -> Option<&Arc<Certificate>> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if let Some(certificate) = self.by_name.get(name) {
            return Some(certificate);
        }
        let (_, parent) = name.split_once('.')?;
        let mut wildcard = String::with_capacity(parent.len() + 2);
        wildcard.push_str("*.");
        wildcard.push_str(parent);
        self.by_name.get(wildcard.as_str())
    }

    /// The certificate for clients whose name no other one fits.
    pub fn default_certificate(&self) -> &Arc<Certificate> {
        &self.default
    }

    /// The user's own certificates but the default one.
    pub fn own(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.all.iter().take(self.own)
    }

    /// All certificates but the default one.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.all.iter()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls_pki_types::PrivateKeyDer;

    use super::*;
    use crate::tls::generate_default;

    fn certificate(names: &[&str]) -> Arc<Certificate> {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = CertificateParams::new(names)
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = rustls::crypto::ring::default_provider();
        Arc::new(Certificate::new(&provider, vec![made.der().clone()], key).unwrap())
    }

    #[test]
    fn the_users_own_certificate_wins_over_an_issued_one() {
        let own = certificate(&["a.example"]);
        let issued = certificate(&["a.example", "b.example"]);
        let mut builder = StoreBuilder::default();
        builder.add_issued(Arc::clone(&issued));
        builder.add(Arc::clone(&own));
        let names =
            |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.to_owned()).collect() };
        let both = builder.with_names(&names(&["b.example", "a.example"]));
        assert!(Arc::ptr_eq(both.unwrap(), &issued));
        assert!(builder.with_names(&names(&["c.example"])).is_none());
        let provider = rustls::crypto::ring::default_provider();
        let store = builder.build(Arc::new(generate_default(&provider).unwrap()));
        assert!(Arc::ptr_eq(store.find("a.example").unwrap(), &own));
        assert!(Arc::ptr_eq(store.find("b.example").unwrap(), &issued));
        assert_eq!((store.own().count(), store.iter().count()), (1, 2));
    }

    #[test]
    fn exact_names_win_over_wildcards_of_one_label() {
        let exact = certificate(&["a.example.com"]);
        let wild = certificate(&["*.example.com"]);
        let mut builder = StoreBuilder::default();
        builder.add(Arc::clone(&exact));
        builder.add(Arc::clone(&wild));
        let provider = rustls::crypto::ring::default_provider();
        let store = builder.build(Arc::new(generate_default(&provider).unwrap()));
        let found = |name: &str| store.find(name).map(|found| found.facts.serial.clone());
        assert_eq!(found("a.example.com"), Some(exact.facts.serial.clone()));
        assert_eq!(found("a.example.com."), Some(exact.facts.serial.clone()));
        assert_eq!(found("b.example.com"), Some(wild.facts.serial.clone()));
        assert_eq!(found("b.c.example.com"), None);
        assert_eq!(found("example.com"), None);
        assert_eq!(found(""), None);
    }
}
