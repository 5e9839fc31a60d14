//! Challenges that are being answered: what the authority asks any of our proxies for.
//!
//! Owns the [`Board`] that they stand on, how they get there from a store
//! ([`Stored`]), and TLS settings that answer in handshakes ([`TlsAlpn`]); requests in the
//! clear are answered by the proxy's service `acme-http@internal`. It makes no challenges
//! and tells no authority about them; the resolvers do.

mod board;
mod stored;
mod tls_alpn;

pub use board::{Board, Lookup};
pub use stored::Stored;
pub use tls_alpn::{ChallengeError, TlsAlpn};

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

/// How the authority looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChallengeKind {
    /// By a request in the clear (RFC 8555 §8.3).
    Http01,
    /// By a handshake with the protocol `acme-tls/1` (RFC 8737).
    TlsAlpn01,
}

/// A challenge that every proxy must be able to answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    /// How the authority looks.
    pub kind: ChallengeKind,
    /// The name whose control is shown, lower case.
    pub name: String,
    /// The authority's token, which is also the challenge's identity.
    pub token: String,
    /// The token joined with the account key's thumbprint (RFC 8555 §8.1).
    pub key_authorization: String,
    /// When nobody asks for it any more.
    pub expires: SystemTime,
}

impl Challenge {
    /// What the authority asks for: the token by HTTP-01, the server's name by
    /// TLS-ALPN-01, which for an address is its name in the reverse tree (RFC 8738 §6).
    pub fn key(&self) -> Cow<'_, str> {
        match (self.kind, self.name.parse()) {
            (ChallengeKind::Http01, _) => Cow::Borrowed(&self.token),
            (ChallengeKind::TlsAlpn01, Ok(address)) => Cow::Owned(reverse_name(address)),
            (ChallengeKind::TlsAlpn01, Err(_)) => Cow::Borrowed(&self.name),
        }
    }
}

/// The name of an address in the reverse tree (RFC 1035 §3.5, RFC 3596 §2.5).
fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let bytes = address.octets();
            let nibbles = bytes.iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            let labels: String = nibbles.map(|nibble| format!("{nibble:x}.")).collect();
            labels + "ip6.arpa"
        }
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenge")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_ask_for_addresses_by_their_reverse_names() {
        let challenge = |kind, name: &str| Challenge {
            kind,
            name: name.to_owned(),
            token: "token".to_owned(),
            key_authorization: "token.print".to_owned(),
            expires: SystemTime::UNIX_EPOCH,
        };
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        for (kind, name, expected) in [
            (ChallengeKind::Http01, "a.example", "token"),
            (ChallengeKind::Http01, "192.0.2.7", "token"),
            (ChallengeKind::TlsAlpn01, "a.example", "a.example"),
            (
                ChallengeKind::TlsAlpn01,
                "192.0.2.7",
                "7.2.0.192.in-addr.arpa",
            ),
            (ChallengeKind::TlsAlpn01, "2001:db8::1", v6),
        ] {
            assert_eq!(challenge(kind, name).key(), expected);
        }
    }
}
