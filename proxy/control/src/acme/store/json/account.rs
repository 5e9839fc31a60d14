//! `Account` of a resolver.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::Account;
use super::{from_base64, nullable, to_base64};

/// An account as it is written.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct AccountEntry {
    #[serde(
        rename = "Email",
        alias = "email",
        default,
        deserialize_with = "nullable"
    )]
    email: String,
    #[serde(rename = "Registration", alias = "registration", default)]
    registration: Option<Registration>,
    #[serde(rename = "PrivateKey", alias = "privateKey", default)]
    private_key: Option<String>,
    /// Traefik 3 neither writes nor reads it any more.
    #[serde(
        rename = "KeyType",
        alias = "keyType",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    key_type: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What the authority said of the account.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
struct Registration {
    #[serde(alias = "Body", default, deserialize_with = "nullable")]
    body: Body,
    #[serde(
        alias = "URI",
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    uri: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The account object of RFC 8555 §7.1.2.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
struct Body {
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    status: String,
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    contact: Vec<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl AccountEntry {
    /// The account; nothing if it has no key, which is how Traefik leaves one that
    /// was never made.
    pub(super) fn read(&self) -> Result<Option<Account>, String> {
        let Some(key) = self.private_key.as_deref().filter(|key| !key.is_empty()) else {
            return Ok(None);
        };
        let registration = self.registration.clone().unwrap_or_default();
        Ok(Some(Account {
            email: self.email.clone(),
            uri: registration.uri,
            contact: registration.body.contact,
            status: registration.body.status,
            private_key: from_base64(key, "private key")?,
            key_type: self.key_type.clone().unwrap_or_default(),
        }))
    }

    /// Puts an account in place. What is unknown stays if it is the same account.
    pub(super) fn set(slot: &mut Option<Self>, account: Account) {
        let is_same = |entry: &Self| {
            let known = entry.registration.as_ref();
            known.is_some_and(|known| known.uri == account.uri)
        };
        let mut entry = slot.take().filter(is_same).unwrap_or_default();
        let registration = entry.registration.get_or_insert_default();
        registration.uri = account.uri;
        registration.body.status = account.status;
        registration.body.contact = account.contact;
        entry.email = account.email;
        entry.private_key = Some(to_base64(&account.private_key));
        entry.key_type = Some(account.key_type).filter(|key_type| !key_type.is_empty());
        *slot = Some(entry);
    }
}
