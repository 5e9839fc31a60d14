//! The cryptography that all TLS uses: ring's, in the order that suits this machine.
//!
//! Owns the question whether the processor has instructions for AES. Where it has
//! none, as on many small boards, ChaCha20-Poly1305 is several times faster, and
//! what makes its time depend on the key is not even there.

use rustls::crypto::{CryptoProvider, ring};
use rustls::{CipherSuite, SupportedCipherSuite};

/// ring's provider. Its suites are in the order in which this machine likes them.
pub fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    prefer(&mut provider.cipher_suites, has_aes());
    provider
}

/// Whether the processor has the instructions that make AES-GCM fast: AES rounds
/// and carry-less multiplication. ring looks for the same ones.
pub(super) fn has_aes() -> bool {
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("aes")
            && std::arch::is_aarch64_feature_detected!("pmull")
    }
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        std::arch::is_x86_feature_detected!("aes")
            && std::arch::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(not(any(target_arch = "aarch64", target_arch = "x86", target_arch = "x86_64")))]
    {
        // ring has no use for such instructions elsewhere, 32-bit ARM included.
        false
    }
}

/// Puts ChaCha20-Poly1305 in front where there is no fast AES. The order is kept otherwise.
pub(super) fn prefer(suites: &mut [SupportedCipherSuite], has_aes: bool) {
    if !has_aes {
        suites.sort_by_key(|suite| !is_chacha(suite.suite()));
    }
}

fn is_chacha(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(has_aes: bool) -> Vec<CipherSuite> {
        let mut suites = ring::ALL_CIPHER_SUITES.to_vec();
        prefer(&mut suites, has_aes);
        suites.iter().map(SupportedCipherSuite::suite).collect()
    }

    #[test]
    fn chacha_comes_first_without_aes_instructions() {
        let library: Vec<_> = ring::ALL_CIPHER_SUITES
            .iter()
            .map(SupportedCipherSuite::suite)
            .collect();
        assert_eq!(ordered(true), library);

        let (chacha, aes): (Vec<_>, Vec<_>) = library.into_iter().partition(|s| is_chacha(*s));
        assert_eq!(chacha.len(), 3);
        assert_eq!(ordered(false), [chacha, aes].concat());
    }

    #[test]
    fn no_suite_is_lost() {
        assert_eq!(
            provider().cipher_suites.len(),
            ring::default_provider().cipher_suites.len()
        );
    }
}
