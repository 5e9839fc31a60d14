//! Accounts, certificates and challenges as single values, for stores that keep each
//! in a place of its own (Docker configs, keys of etcd).
//!
//! Owns their form (JSON, sealed before it leaves) and their identity: what a new
//! value takes the place of. What is read back is hostile until it is decoded.

#[cfg(test)]
pub(super) mod tests;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use self::wire::{Wire, WireValue};
use super::{Account, Change, Contents, FailedOrder, Sealer, StoredCertificate};
use crate::acme::challenge::Challenge;
use crate::config::dynamic::Domain;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Account,
    Certificate,
    Challenge,
    Failure,
}

/// What a value takes the place of: there is one for each identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) resolver: String,
    pub(super) kind: Kind,
    /// The names or the token; public.
    key: String,
}

/// One value of a resolver.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object {
    pub(super) resolver: String,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Account(Account),
    Certificate(StoredCertificate),
    Challenge(Challenge),
    Failure(FailedOrder),
}

/// What a change does to one identity.
#[derive(Debug)]
pub(super) enum Step {
    Put(Object),
    Remove(Identity),
}

/// A sealed value that can't be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) message: String,
    /// Whether another secret would open it.
    pub(super) is_foreign: bool,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Certificate => "cert",
            Self::Challenge => "challenge",
            Self::Failure => "failure",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let all = [
            Self::Account,
            Self::Certificate,
            Self::Challenge,
            Self::Failure,
        ];
        all.into_iter().find(|kind| kind.name() == name)
    }
}

impl Identity {
    /// 96 bits that stand for it in names that have no room for more.
    pub(super) fn hash(&self) -> String {
        short_hash(&[&self.resolver, self.kind.name(), &self.key])
    }

    fn of_domain(resolver: &str, domain: &Domain) -> Self {
        let names = std::iter::once(domain.main.as_str());
        let names = names.chain(domain.sans.iter().map(String::as_str));
        Self {
            resolver: resolver.to_owned(),
            kind: Kind::Certificate,
            key: names.collect::<Vec<_>>().join(","),
        }
    }

    fn of_token(resolver: &str, token: &str) -> Self {
        Self {
            resolver: resolver.to_owned(),
            kind: Kind::Challenge,
            key: token.to_owned(),
        }
    }

    fn of_failure(resolver: &str, names: &str) -> Self {
        Self {
            resolver: resolver.to_owned(),
            kind: Kind::Failure,
            key: names.to_owned(),
        }
    }
}

/// 24 hexadecimal digits that follow from these parts.
pub(super) fn short_hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let bytes = hasher.finalize();
    bytes
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Step {
    pub(super) fn identity(&self) -> Identity {
        match self {
            Self::Put(object) => object.identity(),
            Self::Remove(identity) => identity.clone(),
        }
    }

    pub(super) fn of(resolver: &str, change: Change) -> Self {
        let put = |value| {
            Self::Put(Object {
                resolver: resolver.to_owned(),
                value,
            })
        };
        match change {
            Change::SetAccount(account) => put(Value::Account(account)),
            Change::PutCertificate(certificate) => put(Value::Certificate(certificate)),
            Change::PutChallenge(challenge) => put(Value::Challenge(challenge)),
            Change::PutFailure(failure) => put(Value::Failure(failure)),
            Change::RemoveCertificate(domain) => {
                Self::Remove(Identity::of_domain(resolver, &domain))
            }
            Change::RemoveChallenge(token) => Self::Remove(Identity::of_token(resolver, &token)),
            Change::RemoveFailure(names) => Self::Remove(Identity::of_failure(resolver, &names)),
        }
    }
}

impl Object {
    pub(super) fn identity(&self) -> Identity {
        match &self.value {
            Value::Account(_) => Identity {
                resolver: self.resolver.clone(),
                kind: Kind::Account,
                key: String::new(),
            },
            Value::Certificate(certificate) => {
                Identity::of_domain(&self.resolver, &certificate.domain)
            }
            Value::Challenge(challenge) => Identity::of_token(&self.resolver, &challenge.token),
            Value::Failure(failure) => Identity::of_failure(&self.resolver, &failure.names),
        }
    }

    /// Whether nobody has asked for it for `long`.
    pub(super) fn is_over(&self, now: SystemTime, long: Duration) -> bool {
        match &self.value {
            Value::Challenge(challenge) => challenge
                .expires
                .checked_add(long)
                .is_some_and(|end| end < now),
            Value::Failure(failure) => failure.is_over(now),
            Value::Account(_) | Value::Certificate(_) => false,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let wire = Wire {
            resolver: self.resolver.clone(),
            value: WireValue::from(&self.value),
        };
        serde_json::to_vec(&wire).expect("strings and numbers make JSON")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let wire: Wire = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        Ok(Self {
            resolver: wire.resolver,
            value: wire.value.read()?,
        })
    }

    /// Opens a value that was sealed for this place, and whether with today's secret.
    pub(super) fn open(
        sealer: &dyn Sealer,
        place: &str,
        sealed: &[u8],
    ) -> Result<(Self, bool), Unreadable> {
        let opened = sealer.open(place, sealed).map_err(|error| Unreadable {
            message: error.to_string(),
            is_foreign: error == super::SealError::OtherSecret,
        })?;
        let object = Self::decode(&opened.plain).map_err(|message| Unreadable {
            message,
            is_foreign: false,
        })?;
        Ok((object, opened.is_current))
    }
}

/// The contents that these objects are together.
pub(super) fn contents<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Contents {
    let mut contents = Contents::default();
    for object in objects {
        let name = object.resolver.clone();
        let resolver = contents.resolvers.entry(name).or_default();
        match &object.value {
            Value::Account(account) => resolver.account = Some(account.clone()),
            Value::Certificate(certificate) => resolver.certificates.push(certificate.clone()),
            Value::Challenge(challenge) => resolver.challenges.push(challenge.clone()),
            Value::Failure(failure) => resolver.failures.push(failure.clone()),
        }
    }
    for resolver in contents.resolvers.values_mut() {
        resolver.certificates.sort_by(|one, other| {
            let names = |certificate: &StoredCertificate| {
                (
                    certificate.domain.main.clone(),
                    certificate.domain.sans.clone(),
                )
            };
            names(one).cmp(&names(other))
        });
        resolver
            .challenges
            .sort_by(|one, other| one.token.cmp(&other.token));
        resolver
            .failures
            .sort_by(|one, other| one.names.cmp(&other.names));
    }
    contents
}

/// The public facts of a value, for people who look at the place.
pub(super) fn facts(identity: &Identity) -> BTreeMap<&'static str, String> {
    let mut facts = BTreeMap::from([
        ("resolver", identity.resolver.clone()),
        ("kind", identity.kind.name().to_owned()),
    ]);
    if matches!(identity.kind, Kind::Certificate | Kind::Failure) {
        facts.insert("names", identity.key.chars().take(500).collect());
    }
    facts
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            resolver,
            kind,
            key,
        } = self;
        write!(f, "{} {key} of {resolver}", kind.name())
    }
}
