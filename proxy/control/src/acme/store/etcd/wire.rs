//! Questions and answers of etcd's JSON gateway: bytes are base64, long numbers are
//! strings, and what is zero is left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that travel as base64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Base64(pub(super) Vec<u8>);

impl From<&str> for Base64 {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(D::Error::custom)
    }
}

/// A long number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Long(pub(super) i64);

impl Serialize for Long {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Long {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Number(i64),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(number) => Ok(Self(number)),
            Either::Text(text) => text.parse().map(Self).map_err(D::Error::custom),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Authenticate<'a> {
    pub(super) name: &'a str,
    pub(super) password: &'a str,
}

#[derive(Deserialize)]
pub(super) struct Token {
    #[serde(default)]
    pub(super) token: String,
}

#[derive(Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) code: i64,
    pub(super) message: String,
}

#[derive(Serialize)]
pub(super) struct Range {
    pub(super) key: Base64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) range_end: Option<Base64>,
}

impl Range {
    pub(super) fn one(key: &str) -> Self {
        Self {
            key: key.into(),
            range_end: None,
        }
    }

    /// All keys that begin so. The prefix ends with a slash, whose successor is `0`.
    pub(super) fn all(prefix: &str) -> Self {
        let mut end = prefix.as_bytes().to_vec();
        end.pop();
        end.push(b'/' + 1);
        Self {
            key: prefix.into(),
            range_end: Some(Base64(end)),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    pub(super) revision: Long,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Found {
    pub(super) header: Header,
    pub(super) kvs: Vec<KeyValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KeyValue {
    pub(super) key: Base64,
    pub(super) value: Base64,
    pub(super) mod_revision: Long,
}

#[derive(Default, Serialize)]
pub(super) struct Txn {
    pub(super) compare: Vec<Compare>,
    pub(super) success: Vec<Op>,
}

#[derive(Serialize)]
pub(super) struct Compare {
    key: Base64,
    result: &'static str,
    target: &'static str,
    mod_revision: Long,
}

impl Compare {
    /// The key has not changed since; zero: it does not exist.
    pub(super) fn is_at(key: &str, revision: Long) -> Self {
        Self {
            key: key.into(),
            result: "EQUAL",
            target: "MOD",
            mod_revision: revision,
        }
    }
}

#[derive(Serialize)]
pub(super) enum Op {
    #[serde(rename = "request_put")]
    Put {
        key: Base64,
        value: Base64,
        #[serde(skip_serializing_if = "Option::is_none")]
        lease: Option<Long>,
    },
    #[serde(rename = "request_delete_range")]
    Delete { key: Base64 },
}

impl Op {
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.0.len() + value.0.len(),
            Self::Delete { key } => key.0.len(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct TxnOutcome {
    pub(super) succeeded: bool,
}

#[derive(Serialize)]
pub(super) struct Grant {
    #[serde(rename = "TTL")]
    pub(super) ttl: Long,
}

#[derive(Serialize)]
pub(super) struct LeaseId {
    #[serde(rename = "ID")]
    pub(super) id: Long,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Lease {
    #[serde(rename = "ID")]
    pub(super) id: Long,
    #[serde(rename = "TTL")]
    pub(super) ttl: Long,
}

#[derive(Serialize)]
pub(super) struct Watch {
    pub(super) create_request: WatchFrom,
}

#[derive(Serialize)]
pub(super) struct WatchFrom {
    #[serde(flatten)]
    pub(super) range: Range,
    pub(super) start_revision: Long,
}

/// One message of a stream.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Message<T> {
    pub(super) result: Option<T>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Watched {
    pub(super) canceled: bool,
    pub(super) compact_revision: Long,
    pub(super) events: Vec<serde::de::IgnoredAny>,
}

/// Any answer whose content does not matter.
#[derive(Deserialize)]
pub(super) struct Done {}
