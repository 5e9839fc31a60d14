//! Accounts, certificates and challenges as single values, for stores that keep each
//! in a place of its own (Docker configs, keys of etcd).
//!
//! Owns their form (JSON, sealed before it leaves) and their identity: what a new
//! value takes the place of. What is read back is hostile until it is decoded.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Account, Change, Contents, Sealer, StoredCertificate};
use crate::acme::challenge::{Challenge, ChallengeKind};
use crate::config::dynamic::Domain;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Account,
    Certificate,
    Challenge,
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
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let all = [Self::Account, Self::Certificate, Self::Challenge];
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
            Change::RemoveCertificate(domain) => {
                Self::Remove(Identity::of_domain(resolver, &domain))
            }
            Change::RemoveChallenge(token) => Self::Remove(Identity::of_token(resolver, &token)),
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
        }
    }

    /// Whether nobody has asked for it for `long`.
    pub(super) fn is_over(&self, now: SystemTime, long: Duration) -> bool {
        match &self.value {
            Value::Challenge(challenge) => challenge
                .expires
                .checked_add(long)
                .is_some_and(|end| end < now),
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
    }
    contents
}

/// The public facts of a value, for people who look at the place.
pub(super) fn facts(identity: &Identity) -> BTreeMap<&'static str, String> {
    let mut facts = BTreeMap::from([
        ("resolver", identity.resolver.clone()),
        ("kind", identity.kind.name().to_owned()),
    ]);
    if identity.kind == Kind::Certificate {
        facts.insert("names", identity.key.chars().take(500).collect());
    }
    facts
}

#[derive(Serialize, Deserialize)]
struct Wire {
    resolver: String,
    #[serde(flatten)]
    value: WireValue,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum WireValue {
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
}

#[derive(Serialize, Deserialize)]
enum WireKind {
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
        }
    }
}

impl WireValue {
    fn read(self) -> Result<Value, String> {
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
        })
    }
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::acme::store::{Opened, SealError};

    /// Seals nothing, but refuses what a real one would refuse.
    #[derive(Debug)]
    pub(in crate::acme::store) struct TestSealer {
        pub(in crate::acme::store) secret: u8,
        pub(in crate::acme::store) previous: Option<u8>,
    }

    impl Sealer for TestSealer {
        fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
            let check = short_hash(&[context, &String::from_utf8_lossy(plain)]);
            Ok([&[self.secret], check.as_bytes(), plain].concat())
        }

        fn open(&self, context: &str, sealed: &[u8]) -> Result<Opened, SealError> {
            let (secret, rest) = sealed.split_first().ok_or(SealError::Foreign)?;
            let (_, plain) = rest.split_at_checked(24).ok_or(SealError::Foreign)?;
            let is_current = *secret == self.secret;
            if !is_current && Some(*secret) != self.previous {
                return Err(SealError::OtherSecret);
            }
            let same = Self {
                secret: *secret,
                previous: None,
            };
            if same.seal(context, plain)? != sealed {
                return Err(SealError::Broken);
            }
            Ok(Opened {
                plain: plain.to_vec(),
                is_current,
            })
        }
    }

    pub(in crate::acme::store) fn certificate(names: &[&str], chain: &str) -> StoredCertificate {
        let mut names = names.iter().map(|&name| name.to_owned());
        StoredCertificate {
            domain: Domain {
                main: names.next().unwrap_or_default(),
                sans: names.collect(),
            },
            chain: chain.into(),
            key: b"a key".to_vec(),
            store: "default".to_owned(),
        }
    }

    pub(in crate::acme::store) fn challenge(token: &str) -> Challenge {
        let later = SystemTime::now() + Duration::from_secs(3600);
        let since = later.duration_since(UNIX_EPOCH).unwrap().as_secs();
        Challenge {
            kind: ChallengeKind::TlsAlpn01,
            name: "a.test".to_owned(),
            token: token.to_owned(),
            key_authorization: format!("{token}.thumb"),
            expires: UNIX_EPOCH + Duration::from_secs(since),
        }
    }

    pub(in crate::acme::store) fn account(uri: &str) -> Account {
        Account {
            email: "me@a.test".to_owned(),
            uri: uri.to_owned(),
            contact: vec!["mailto:me@a.test".to_owned()],
            status: "valid".to_owned(),
            private_key: vec![0, 255, 7],
            key_type: "P256".to_owned(),
        }
    }

    fn object(value: Value) -> Object {
        Object {
            resolver: "le".to_owned(),
            value,
        }
    }

    #[test]
    fn values_come_back_as_they_went() {
        let mut hashes = Vec::new();
        for value in [
            Value::Account(account("https://ca.test/1")),
            Value::Certificate(certificate(&["a.test", "b.test"], "PEM")),
            Value::Certificate(certificate(&["a.test"], "PEM")),
            Value::Challenge(challenge("t")),
        ] {
            let object = object(value);
            let hash = object.identity().hash();
            assert_eq!(hash.len(), 24);
            assert!(!hashes.contains(&hash), "{object:?}");
            hashes.push(hash);
            assert_eq!(Object::decode(&object.encode()), Ok(object));
        }
    }

    #[test]
    fn a_removal_means_what_was_put() {
        let put = certificate(&["a.test", "b.test"], "PEM");
        let domain = put.domain.clone();
        for (put, remove) in [
            (
                Change::PutCertificate(put),
                Change::RemoveCertificate(domain),
            ),
            (
                Change::PutChallenge(challenge("t")),
                Change::RemoveChallenge("t".to_owned()),
            ),
        ] {
            let (Step::Put(object), Step::Remove(identity)) =
                (Step::of("le", put), Step::of("le", remove))
            else {
                panic!("a put and a removal");
            };
            assert_eq!(object.identity(), identity);
        }
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for bytes in [
            &b""[..],
            b"{}",
            b"[]",
            br#"{"resolver":"le"}"#,
            br#"{"resolver":"le","certificate":{}}"#,
            br#"{"resolver":"le","other":{}}"#,
            br#"{"resolver":"le","certificate":{"domain":{"main":"a"},"chain":"!","key":"","store":""}}"#,
            br#"{"resolver":"le","challenge":{"kind":"http-01","name":"a","token":"t","authorization":"x","expires":18446744073709551615}}"#,
        ] {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let error = Object::decode(bytes).expect_err(&text);
            assert!(!error.is_empty(), "{text}");
        }
    }
}
