//! A certificate's own key, and the request that an authority signs.
//!
//! Keys are made off the runtime's thread: one of RSA takes seconds on a small board.

use std::net::IpAddr;

use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, SanType,
};
use rsa::RsaPrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::pkcs8::EncodePrivateKey as _;
use rsa::rand_core::OsRng;
use rustls_pki_types::PrivatePkcs8KeyDer;
use tracing::warn;

use super::super::OrderError;

/// The longest common name (RFC 5280 A.1: `ub-common-name`).
const LONGEST_COMMON_NAME: usize = 64;

/// The size of an account's key. Traefik's are of 4096 bits, which a small board needs a
/// minute for.
const ACCOUNT_BITS: usize = 2048;

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyType {
    Ec256,
    Ec384,
    Rsa(usize),
}

impl KeyType {
    /// As `keyType` spells it. What Traefik does not know either gets the usual kind, and
    /// so does a key too long for any TLS library to serve: the largest that can be.
    pub(super) fn parse(text: &str) -> Self {
        match text {
            "" | "EC256" => Self::Ec256,
            "EC384" => Self::Ec384,
            "RSA2048" => Self::Rsa(2048),
            "RSA4096" => Self::Rsa(4096),
            "RSA8192" => {
                warn!("Keys of RSA8192 can't be served, using RSA4096");
                Self::Rsa(4096)
            }
            unknown => {
                warn!(key_type = unknown, "Unknown keyType, using EC256");
                Self::Ec256
            }
        }
    }

    /// Makes a key.
    pub(super) async fn generate(self) -> Result<KeyPair, OrderError> {
        let made = tokio::task::spawn_blocking(move || match self {
            Self::Ec256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(not_made),
            Self::Ec384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).map_err(not_made),
            Self::Rsa(bits) => rsa_key(bits),
        });
        made.await.map_err(not_made)?
    }
}

/// Makes an account's key, DER. Traefik understands no other kind and form than RSA in
/// PKCS#1, and orders nothing with an account that has another.
pub(super) async fn account_key() -> Result<Vec<u8>, OrderError> {
    let made = tokio::task::spawn_blocking(|| {
        let key = RsaPrivateKey::new(&mut OsRng, ACCOUNT_BITS).map_err(not_made)?;
        let der = key.to_pkcs1_der().map_err(not_made)?;
        Ok(der.as_bytes().to_vec())
    });
    made.await.map_err(not_made)?
}

fn rsa_key(bits: usize) -> Result<KeyPair, OrderError> {
    let key = RsaPrivateKey::new(&mut OsRng, bits).map_err(not_made)?;
    let der = key.to_pkcs8_der().map_err(not_made)?;
    let der = PrivatePkcs8KeyDer::from(der.as_bytes());
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_RSA_SHA256).map_err(not_made)
}

fn not_made(error: impl std::fmt::Display) -> OrderError {
    OrderError::Local(format!("a key can't be made: {error}"))
}

/// What the request says besides the key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// All names, the first of which is the common one.
    pub(super) names: &'a [String],
    /// Addresses to put beside them.
    pub(super) emails: &'a [String],
    /// Whether the first name is the common name too.
    pub(super) has_common_name: bool,
}

impl Subject<'_> {
    /// The request, DER (RFC 2986).
    pub(super) fn request(&self, key: &KeyPair) -> Result<Vec<u8>, OrderError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = self.common_name() {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let names = self.names.iter().map(|name| san(name));
        let emails = self
            .emails
            .iter()
            .map(|email| Ia5String::try_from(email.as_str()).map(SanType::Rfc822Name));
        params.subject_alt_names = names
            .chain(emails)
            .collect::<Result<_, _>>()
            .map_err(|error| bad(&error))?;
        Ok(params
            .serialize_request(key)
            .map_err(|error| bad(&error))?
            .der()
            .to_vec())
    }

    fn common_name(&self) -> Option<&str> {
        let first = self.names.first().filter(|_| self.has_common_name)?;
        let fits = first.len() <= LONGEST_COMMON_NAME && first.parse::<IpAddr>().is_err();
        fits.then_some(first.as_str())
    }
}

fn san(name: &str) -> Result<SanType, rcgen::Error> {
    match name.parse() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ia5String::try_from(name).map(SanType::DnsName),
    }
}

fn bad(error: &rcgen::Error) -> OrderError {
    OrderError::Local(format!("the request can't be made: {error}"))
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::X509CertificationRequest;
    use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension};

    use super::*;

    fn described(subject: Subject<'_>, key: &KeyPair) -> (String, Vec<String>) {
        let der = subject.request(key).unwrap();
        let (_, csr) = X509CertificationRequest::from_der(&der).unwrap();
        let names = csr.requested_extensions().unwrap();
        let names = names.filter_map(|extension| match extension {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        });
        let names = names.flatten().map(|name| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            GeneralName::RFC822Name(name) => format!("mail {name}"),
            other => other.to_string(),
        });
        let info = &csr.certification_request_info;
        (info.subject.to_string(), names.collect())
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_request_says_what_the_settings_ask_for() {
        let key = KeyType::Ec256.generate().await.unwrap();
        let names = owned(&["a.example", "*.a.example", "127.0.0.1"]);
        let emails = owned(&["me@a.example"]);
        let subject = Subject {
            names: &names,
            emails: &emails,
            has_common_name: true,
        };
        let (name, sans) = described(subject, &key);
        assert_eq!(name, "CN=a.example");
        assert_eq!(sans[..2], names[..2]);
        assert_eq!(sans.len(), 4);
        assert_eq!(sans[3], "mail me@a.example");
        let bare = Subject {
            has_common_name: false,
            emails: &[],
            ..subject
        };
        assert_eq!(described(bare, &key).0, "");
    }

    #[tokio::test]
    async fn a_long_first_name_is_no_common_name() {
        let key = KeyType::Ec384.generate().await.unwrap();
        for (length, expected) in [(64, true), (65, false)] {
            let names = [format!("{}.example", "a".repeat(length - 8))];
            let subject = Subject {
                names: &names,
                emails: &[],
                has_common_name: true,
            };
            assert_eq!(!described(subject, &key).0.is_empty(), expected);
        }
    }

    #[test]
    fn kinds_of_keys() {
        let table = [
            ("", KeyType::Ec256),
            ("EC384", KeyType::Ec384),
            ("RSA2048", KeyType::Rsa(2048)),
            ("RSA4096", KeyType::Rsa(4096)),
            ("RSA8192", KeyType::Rsa(4096)),
            ("ED25519", KeyType::Ec256),
        ];
        for (text, expected) in table {
            assert_eq!(KeyType::parse(text), expected, "{text}");
        }
    }
}
