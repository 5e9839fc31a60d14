//! Challenges that are being answered: what the authority asks any of our proxies for.

use std::fmt;
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

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenge")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}
