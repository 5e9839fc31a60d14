//! Tidegate's own member: challenges that any proxy may have to answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::nullable;
use crate::acme::challenge::{Challenge, ChallengeKind};

/// A challenge as it is written.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ChallengeEntry {
    /// RFC 8555's name of the kind.
    #[serde(rename = "type", deserialize_with = "nullable")]
    kind: String,
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "nullable")]
    token: String,
    #[serde(deserialize_with = "nullable")]
    key_authorization: String,
    /// Seconds since 1970.
    #[serde(deserialize_with = "nullable")]
    expires: u64,
}

impl ChallengeEntry {
    /// The challenge; nothing if it is of a kind that this version does not know.
    pub(super) fn read(&self) -> Option<Challenge> {
        let kind = match self.kind.as_str() {
            "http-01" => ChallengeKind::Http01,
            "tls-alpn-01" => ChallengeKind::TlsAlpn01,
            _ => return None,
        };
        Some(Challenge {
            kind,
            name: self.name.clone(),
            token: self.token.clone(),
            key_authorization: self.key_authorization.clone(),
            expires: self.expires(),
        })
    }

    pub(super) fn is_of(&self, token: &str) -> bool {
        self.token == token
    }

    pub(super) fn is_over(&self, now: SystemTime) -> bool {
        self.expires() <= now
    }

    fn expires(&self) -> SystemTime {
        let end = UNIX_EPOCH.checked_add(Duration::from_secs(self.expires));
        end.unwrap_or(UNIX_EPOCH)
    }
}

impl From<Challenge> for ChallengeEntry {
    fn from(challenge: Challenge) -> Self {
        let since = challenge.expires.duration_since(UNIX_EPOCH);
        Self {
            kind: match challenge.kind {
                ChallengeKind::Http01 => "http-01",
                ChallengeKind::TlsAlpn01 => "tls-alpn-01",
            }
            .to_owned(),
            name: challenge.name,
            token: challenge.token,
            key_authorization: challenge.key_authorization,
            expires: since.unwrap_or_default().as_secs(),
        }
    }
}
