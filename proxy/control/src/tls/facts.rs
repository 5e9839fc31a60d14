//! What a certificate says of itself.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use super::CertificateError;

/// What a leaf certificate says of itself.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The names it is valid for, in lower case; `*.` begins a wildcard.
    pub names: Vec<String>,
    /// The subject's common name, which may be empty.
    pub common_name: String,
    /// The issuer's organization, which may be empty.
    pub issuer_organization: String,
    /// The issuer's common name, which may be empty.
    pub issuer_name: String,
    /// The serial number in decimal digits, as Traefik shows it.
    pub serial: String,
    /// The first second at which it is valid.
    pub not_before: SystemTime,
    /// The first second at which it is no longer valid.
    pub not_after: SystemTime,
    /// `RSA`, `ECDSA` or `Unknown`, Traefik's words.
    pub key_type: &'static str,
    /// The SHA-256 digest of the certificate, in hexadecimal digits.
    pub fingerprint: String,
}

impl Facts {
    pub(super) fn of(leaf: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let malformed = |error: &dyn fmt::Display| CertificateError::Malformed(error.to_string());
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| malformed(&error))?;
        let alternative = parsed
            .subject_alternative_name()
            .map_err(|error| malformed(&error))?;
        let mut names: Vec<String> = alternative
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(name_text)
            .collect();
        let common_name = common_name(parsed.subject());
        if names.is_empty() && !common_name.is_empty() {
            names.push(common_name.to_ascii_lowercase());
        }
        let key_type = match parsed.public_key().parsed() {
            Ok(PublicKey::RSA(_)) => "RSA",
            Ok(PublicKey::EC(_)) => "ECDSA",
            _ => "Unknown",
        };
        let digest = Sha256::digest(leaf.as_ref());
        Ok(Self {
            names,
            common_name,
            issuer_organization: organization(parsed.issuer()),
            issuer_name: self::common_name(parsed.issuer()),
            serial: parsed.serial.to_string(),
            not_before: system_time(parsed.validity().not_before),
            not_after: system_time(parsed.validity().not_after),
            key_type,
            fingerprint: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

fn common_name(name: &X509Name<'_>) -> String {
    let mut all = name.iter_common_name();
    all.find_map(|name| name.as_str().ok())
        .unwrap_or_default()
        .to_owned()
}

fn organization(name: &X509Name<'_>) -> String {
    let mut all = name.iter_organization();
    all.find_map(|name| name.as_str().ok())
        .unwrap_or_default()
        .to_owned()
}

/// Times before 1970 are not told apart.
fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes)
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}
