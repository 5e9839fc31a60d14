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

/// Puts suites in the order of Go's server: AES-128 before AES-256, which is no
/// safer in practice and whose SHA-384 makes a handshake dearer, and
/// ChaCha20-Poly1305 last, or first where there is no fast AES.
pub(super) fn prefer(suites: &mut [SupportedCipherSuite], has_aes: bool) {
    suites.sort_by_key(|suite| match kind(suite.suite()) {
        Kind::ChaCha if has_aes => 3,
        Kind::ChaCha => 0,
        Kind::Aes128 => 1,
        Kind::Aes256 | Kind::Unknown => 2,
    });
}

/// Whether a client that offers `suites`, best first, likes ChaCha20-Poly1305
/// better than AES: most likely it has no fast AES itself.
pub(super) fn likes_chacha(suites: &[CipherSuite]) -> bool {
    let mut kinds = suites.iter().map(|suite| kind(*suite));
    kinds.find(|kind| *kind != Kind::Unknown) == Some(Kind::ChaCha)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Aes128,
    Aes256,
    ChaCha,
    /// Neither end of a connection will agree on it.
    Unknown,
}

fn kind(suite: CipherSuite) -> Kind {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => Kind::Aes128,
        CipherSuite::TLS13_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Kind::Aes256,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Kind::ChaCha,
        _ => Kind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(has_aes: bool) -> Vec<Kind> {
        let mut suites = ring::ALL_CIPHER_SUITES.to_vec();
        prefer(&mut suites, has_aes);
        suites.iter().map(|suite| kind(suite.suite())).collect()
    }

    #[test]
    fn the_machine_decides_where_chacha_stands() {
        let of = |kinds: [Kind; 3]| kinds.map(|kind| [kind; 3]).concat();
        assert_eq!(
            ordered(true),
            of([Kind::Aes128, Kind::Aes256, Kind::ChaCha])
        );
        assert_eq!(
            ordered(false),
            of([Kind::ChaCha, Kind::Aes128, Kind::Aes256])
        );
    }

    #[test]
    fn the_first_suite_of_use_tells_what_a_client_likes() {
        let grease = CipherSuite::Unknown(0x1a1a);
        let aes = CipherSuite::TLS13_AES_128_GCM_SHA256;
        let chacha = CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;
        let rows: [(&[CipherSuite], bool); 5] = [
            (&[], false),
            (&[grease], false),
            (&[aes, chacha], false),
            (&[chacha, aes], true),
            (&[grease, chacha, aes], true),
        ];
        for (offered, expected) in rows {
            assert_eq!(likes_chacha(offered), expected, "{offered:?}");
        }
    }

    #[test]
    fn no_suite_is_lost() {
        assert_eq!(
            provider().cipher_suites.len(),
            ring::default_provider().cipher_suites.len()
        );
    }
}
