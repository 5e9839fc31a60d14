//! The subject of a client's certificate, as Go writes it.
//!
//! Owns one spelling: Traefik's access log shows it, and people search for it.

use x509_parser::oid_registry::Oid;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Attribute types in Go's order, with Go's names for them.
const ATTRIBUTES: [(&str, &str); 9] = [
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.3", "CN"),
    ("2.5.4.17", "POSTALCODE"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.8", "ST"),
    ("2.5.4.7", "L"),
    ("2.5.4.11", "OU"),
    ("2.5.4.10", "O"),
    ("2.5.4.6", "C"),
];

/// The subject of the certificate in `der`. Attributes that Go has no name for
/// are left out.
pub(super) fn subject(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut sets = Vec::new();
    for (id, name) in ATTRIBUTES {
        let oid: Vec<u64> = id.split('.').filter_map(|arc| arc.parse().ok()).collect();
        let oid = Oid::from(&oid).ok()?;
        let values: Vec<String> = certificate
            .subject()
            .iter_by_oid(&oid)
            .filter_map(|attribute| attribute.as_str().ok())
            .map(|value| format!("{name}={}", escape(value)))
            .collect();
        if !values.is_empty() {
            sets.push(values.join("+"));
        }
    }
    Some(sets.join(","))
}

/// Escapes what has a meaning in a distinguished name (RFC 4514 section 2.4).
fn escape(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (index, c) in value.chars().enumerate() {
        let is_special = match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            ' ' => index == 0 || index == last,
            '#' => index == 0,
            _ => false,
        };
        if is_special {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    #[test]
    fn subjects_are_written_as_go_does() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        let names = [
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, "Tide, Gate"),
            (DnType::OrganizationalUnitName, "#1 "),
            (DnType::CommonName, "client"),
        ];
        for (kind, value) in names {
            params.distinguished_name.push(kind, value);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(
            subject(certificate.der()).unwrap(),
            r"CN=client,OU=\#1\ ,O=Tide\, Gate,C=DE"
        );
        assert_eq!(subject(b"no certificate"), None);
    }
}
