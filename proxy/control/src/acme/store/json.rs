//! Traefik's `acme.json`, read and written.
//!
//! A [`Document`] is the file as it lies there: names of resolvers, their account,
//! their certificates, and whatever else somebody wrote, which stays when it is
//! written again. Traefik 2 and 3 share the format; 3 no longer writes `KeyType`.
//! Challenges and failures are Tidegate's own, in members that Traefik passes over. The
//! mesh carries the same form. Nothing here touches a file.

mod account;
mod certificate;
mod challenge;
mod failure;
mod read;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::{Change, Contents, ResolverContents};
use account::AccountEntry;
use certificate::CertificateEntry;
use challenge::ChallengeEntry;
pub(super) use failure::FailureEntry;

/// The member of a resolver that challenges are kept in.
const CHALLENGES: &str = "TidegateChallenges";

/// The same for orders that failed.
const FAILURES: &str = "TidegateFailures";

/// The text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    /// It is no JSON, or not of Traefik's shape.
    #[error("line {line}, column {column}: {message}")]
    Broken {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// It was written by Traefik 1, which knew no resolvers.
    #[error(
        "this is the format of Traefik 1, which has no resolvers: put its \"Account\" and \
         \"Certificates\" below the name of a resolver, or begin with an empty file"
    )]
    Version1,
}

/// The file as it lies there.
#[derive(Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Document {
    resolvers: BTreeMap<String, Resolver>,
}

/// One resolver's part.
#[derive(Clone, Default, PartialEq, Serialize)]
struct Resolver {
    #[serde(rename = "Account")]
    account: Option<AccountEntry>,
    /// Absent is `null`, as Traefik writes it.
    #[serde(rename = "Certificates")]
    certificates: Option<Vec<CertificateEntry>>,
    #[serde(rename = "TidegateChallenges", skip_serializing_if = "Vec::is_empty")]
    challenges: Vec<ChallengeEntry>,
    #[serde(rename = "TidegateFailures", skip_serializing_if = "Vec::is_empty")]
    failures: Vec<FailureEntry>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What a document means, and what in it means nothing.
#[derive(Debug, Default)]
pub struct Meaning {
    /// Everything that could be read.
    pub contents: Contents,
    /// What could not, by name.
    pub problems: Vec<String>,
}

impl Document {
    /// Reads a text. What is empty is an empty document, as for Traefik.
    ///
    /// # Errors
    /// With the error comes what could be read before it.
    pub fn parse(text: &[u8]) -> Result<Self, (FormatError, Self)> {
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        read::document(text)
    }

    /// The text to write, laid out as Traefik does it.
    pub fn to_text(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("strings, lists and objects become JSON")
    }

    /// What it means.
    pub fn meaning(&self) -> Meaning {
        let mut meaning = Meaning::default();
        for (name, resolver) in &self.resolvers {
            let contents = resolver.meaning(name, &mut meaning.problems);
            meaning.contents.resolvers.insert(name.clone(), contents);
        }
        meaning
    }

    /// Makes a change to a resolver's part. Challenges and failures that were over at
    /// `now` go along.
    pub fn apply(&mut self, resolver: &str, change: Change, now: SystemTime) {
        for known in self.resolvers.values_mut() {
            known.challenges.retain(|challenge| !challenge.is_over(now));
            known.failures.retain(|failure| !failure.is_over(now));
        }
        let part = self.resolvers.entry(resolver.to_owned()).or_default();
        match change {
            Change::SetAccount(account) => {
                AccountEntry::set(&mut part.account, account);
            }
            Change::PutCertificate(certificate) => {
                CertificateEntry::put(part.certificates.get_or_insert_default(), certificate);
            }
            Change::RemoveCertificate(domain) => {
                if let Some(certificates) = &mut part.certificates {
                    certificates.retain(|entry| !entry.is_for(&domain));
                }
            }
            Change::PutChallenge(challenge) => {
                part.remove_challenge(&challenge.token);
                part.challenges.push(ChallengeEntry::from(challenge));
            }
            Change::RemoveChallenge(token) => part.remove_challenge(&token),
            Change::PutFailure(failure) => {
                part.remove_failure(&failure.names);
                part.failures.push(FailureEntry::from(failure));
            }
            Change::RemoveFailure(names) => part.remove_failure(&names),
        }
    }

    /// Whether it says nothing at all.
    pub fn is_empty(&self) -> bool {
        self.resolvers.is_empty()
    }
}

impl Resolver {
    fn meaning(&self, name: &str, problems: &mut Vec<String>) -> ResolverContents {
        let mut contents = ResolverContents::default();
        if let Some(entry) = &self.account {
            match entry.read() {
                Ok(account) => contents.account = account,
                Err(error) => {
                    problems.push(format!("the account of {name:?}: {error}"));
                    contents.broken.push(("the account".to_owned(), error));
                }
            }
        }
        for entry in self.certificates.iter().flatten() {
            match entry.read() {
                Ok(certificate) => contents.certificates.extend(certificate),
                Err(error) => {
                    let names = entry.names();
                    problems.push(format!(
                        "the certificate for {names:?} of {name:?}: {error}"
                    ));
                    contents.broken.push((names, error));
                }
            }
        }
        let challenges = self.challenges.iter().filter_map(ChallengeEntry::read);
        contents.challenges.extend(challenges);
        let failures = self.failures.iter().filter_map(FailureEntry::read);
        contents.failures.extend(failures);
        contents
    }

    fn remove_challenge(&mut self, token: &str) {
        self.challenges.retain(|entry| !entry.is_of(token));
    }

    fn remove_failure(&mut self, names: &str) {
        self.failures.retain(|entry| !entry.is_of(names));
    }
}

/// Without failures: they are for those who order, and those who order have the store.
impl From<&Contents> for Document {
    fn from(contents: &Contents) -> Self {
        let mut document = Self::default();
        for (name, resolver) in &contents.resolvers {
            let part = document.resolvers.entry(name.clone()).or_default();
            if let Some(account) = resolver.account.clone() {
                AccountEntry::set(&mut part.account, account);
            }
            let certificates = resolver.certificates.iter().cloned();
            for certificate in certificates {
                CertificateEntry::put(part.certificates.get_or_insert_default(), certificate);
            }
            let challenges = resolver.challenges.iter().cloned();
            part.challenges.extend(challenges.map(ChallengeEntry::from));
        }
        document
    }
}

/// Keys are in there.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.resolvers.keys()).finish()
    }
}

/// `null` where Go would keep what is empty.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Bytes as Go writes them.
fn from_base64(text: &str, what: &str) -> Result<Vec<u8>, String> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|error| format!("its {what} is not base64: {error}"))
}

/// Bytes as Go writes them.
fn to_base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
