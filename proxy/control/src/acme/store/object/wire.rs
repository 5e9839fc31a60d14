//! A value in JSON. Whatever comes from outside is read here, and refused in words.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::Value;
use crate::acme::challenge::{Challenge, ChallengeKind};
use crate::acme::store::json::FailureEntry;
use crate::acme::store::{Account, StoredCertificate};
use crate::config::dynamic::Domain;

/// A value and whose it is.
#[derive(Serialize, Deserialize)]
pub(super) struct Wire {
    pub(super) resolver: String,
    #[serde(flatten)]
    pub(super) value: WireValue,
}

/// A value.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum WireValue {
    Account {
        email: String,
        uri: String,
        contact: Vec<String>,
        status: String,
        key: String,
        key_type: String,
    },
    Certificate {
        domain: Domain,
        chain: String,
        key: String,
        store: String,
    },
    Challenge {
        kind: WireKind,
        name: String,
        token: String,
        authorization: String,
        /// Seconds since 1970.
        expires: u64,
    },
    Failure(FailureEntry),
}

/// How an authority looks, by its own names.
#[derive(Serialize, Deserialize)]
pub(super) enum WireKind {
    #[serde(rename = "http-01")]
    Http01,
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

impl From<&Value> for WireValue {
    fn from(value: &Value) -> Self {
        match value {
            Value::Account(account) => Self::Account {
                email: account.email.clone(),
                uri: account.uri.clone(),
                contact: account.contact.clone(),
                status: account.status.clone(),
                key: STANDARD.encode(&account.private_key),
                key_type: account.key_type.clone(),
            },
            Value::Certificate(certificate) => Self::Certificate {
                domain: certificate.domain.clone(),
                chain: STANDARD.encode(&certificate.chain),
                key: STANDARD.encode(&certificate.key),
                store: certificate.store.clone(),
            },
            Value::Challenge(challenge) => Self::Challenge {
                kind: match challenge.kind {
                    ChallengeKind::Http01 => WireKind::Http01,
                    ChallengeKind::TlsAlpn01 => WireKind::TlsAlpn01,
                },
                name: challenge.name.clone(),
                token: challenge.token.clone(),
                authorization: challenge.key_authorization.clone(),
                expires: challenge
                    .expires
                    .duration_since(UNIX_EPOCH)
                    .map_or(0, |since| since.as_secs()),
            },
            Value::Failure(failure) => Self::Failure(failure.clone().into()),
        }
    }
}

impl WireValue {
    /// What it is, if it is anything.
    pub(super) fn read(self) -> Result<Value, String> {
        let bytes = |text: String| STANDARD.decode(text).map_err(|error| error.to_string());
        Ok(match self {
            Self::Account {
                email,
                uri,
                contact,
                status,
                key,
                key_type,
            } => Value::Account(Account {
                email,
                uri,
                contact,
                status,
                private_key: bytes(key)?,
                key_type,
            }),
            Self::Certificate {
                domain,
                chain,
                key,
                store,
            } => Value::Certificate(StoredCertificate {
                domain,
                chain: bytes(chain)?,
                key: bytes(key)?,
                store,
            }),
            Self::Challenge {
                kind,
                name,
                token,
                authorization,
                expires,
            } => Value::Challenge(Challenge {
                kind: match kind {
                    WireKind::Http01 => ChallengeKind::Http01,
                    WireKind::TlsAlpn01 => ChallengeKind::TlsAlpn01,
                },
                name,
                token,
                key_authorization: authorization,
                expires: UNIX_EPOCH
                    .checked_add(Duration::from_secs(expires))
                    .ok_or("an end beyond all time")?,
            }),
            Self::Failure(entry) => Value::Failure(entry.read().ok_or("a failure of no names")?),
        })
    }
}
