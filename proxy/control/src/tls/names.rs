//! What Traefik's users call cipher suites and curves: Go's names.

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::ring::{cipher_suite, kx_group};
use rustls::{CipherSuite, SupportedCipherSuite};

/// Go's names of the suites that rustls has. Those of TLS 1.3 can't be chosen
/// in Go, hence not by Traefik's users; they are always on.
const SUITES: [(&str, SupportedCipherSuite); 6] = [
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// The suites of TLS 1.3, in the library's order.
pub(super) const TLS13_SUITES: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// The suite of TLS 1.2 with this name of Go's.
pub(super) fn suite(name: &str) -> Option<SupportedCipherSuite> {
    // Go keeps two old spellings without the hash.
    let name = match name {
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        other => other,
    };
    SUITES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, suite)| *suite)
}

/// Whether a name is one of a TLS 1.3 suite, which Go accepts and ignores.
pub(super) fn is_tls13_suite(name: &str) -> bool {
    matches!(
        name,
        "TLS_AES_128_GCM_SHA256" | "TLS_AES_256_GCM_SHA384" | "TLS_CHACHA20_POLY1305_SHA256"
    )
}

/// Suites of TLS 1.2 that Go has and rustls does not, for good reasons.
const OLD_SUITES: [&str; 16] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// Whether a name is one of a suite that only Go has. It can be left out of a list.
pub(super) fn is_old_suite(name: &str) -> bool {
    OLD_SUITES.contains(&name)
}

/// Whether a name is no suite but a client's remark, which Go's list has all the same.
pub(super) fn is_remark(name: &str) -> bool {
    name == "TLS_FALLBACK_SCSV"
}

/// Whether a name is one of a curve that Go has and this library does not.
pub(super) fn is_other_curve(name: &str) -> bool {
    matches!(
        name,
        "CurveP521"
            | "secp521r1"
            | "X25519MLKEM768"
            | "x25519mlkem768"
            | "SecP256r1MLKEM768"
            | "secp256r1mlkem768"
            | "SecP384r1MLKEM1024"
            | "secp384r1mlkem1024"
    )
}

/// The curve with this name of Go's or of the RFC's.
pub(super) fn curve(name: &str) -> Option<&'static dyn SupportedKxGroup> {
    match name {
        "X25519" | "x25519" => Some(kx_group::X25519),
        "CurveP256" | "secp256r1" => Some(kx_group::SECP256R1),
        "CurveP384" | "secp384r1" => Some(kx_group::SECP384R1),
        _ => None,
    }
}

/// Go's name of an agreed suite, as it appears in logs and metrics.
pub fn cipher_suite_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => SUITES
            .iter()
            .find(|(_, known)| known.suite() == other)
            .map_or("unknown", |(name, _)| name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_of_the_provider_has_a_name() {
        for suite in rustls::crypto::ring::ALL_CIPHER_SUITES {
            let name = cipher_suite_name(suite.suite());
            assert!(name.starts_with("TLS_"), "{suite:?}");
        }
    }
}
