//! One of a resolver's `Certificates`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::StoredCertificate;
use super::{from_base64, nullable, to_base64};
use crate::config::dynamic::Domain;

/// A certificate as it is written.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct CertificateEntry {
    #[serde(alias = "Domain", default, deserialize_with = "nullable")]
    domain: Names,
    #[serde(
        alias = "Certificate",
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    certificate: String,
    #[serde(
        alias = "Key",
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    key: String,
    #[serde(
        rename = "Store",
        alias = "store",
        default,
        deserialize_with = "nullable"
    )]
    store: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
struct Names {
    #[serde(
        alias = "Main",
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    main: String,
    #[serde(
        alias = "SANs",
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    sans: Vec<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl CertificateEntry {
    /// The certificate; nothing if it has none, which Traefik passes over too.
    pub(super) fn read(&self) -> Result<Option<StoredCertificate>, String> {
        if self.certificate.is_empty() || self.key.is_empty() {
            return Ok(None);
        }
        Ok(Some(StoredCertificate {
            domain: Domain {
                main: self.domain.main.clone(),
                sans: self.domain.sans.clone(),
            },
            chain: from_base64(&self.certificate, "chain")?,
            key: from_base64(&self.key, "key")?,
            store: self.store.clone(),
        }))
    }

    /// Its names, joined by commas.
    pub(super) fn names(&self) -> String {
        let names = std::iter::once(&self.domain.main).chain(&self.domain.sans);
        names.map(String::as_str).collect::<Vec<_>>().join(",")
    }

    pub(super) fn is_for(&self, domain: &Domain) -> bool {
        self.domain.main == domain.main && self.domain.sans == domain.sans
    }

    /// Puts a certificate in the place of what there is for the same names.
    pub(super) fn put(entries: &mut Vec<Self>, certificate: StoredCertificate) {
        let mut entry = Self::default();
        entry.domain.main = certificate.domain.main.clone();
        entry.domain.sans = certificate.domain.sans.clone();
        entry.certificate = to_base64(&certificate.chain);
        entry.key = to_base64(&certificate.key);
        entry.store = certificate.store;
        let mut known = entries
            .extract_if(.., |entry| entry.is_for(&certificate.domain))
            .last();
        if let Some(known) = &mut known {
            entry.rest = std::mem::take(&mut known.rest);
            entry.domain.rest = std::mem::take(&mut known.domain.rest);
        }
        entries.push(entry);
    }
}
