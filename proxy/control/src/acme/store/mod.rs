//! Where accounts, certificates and challenge tokens are kept, and who may order.
//!
//! One trait, several places: a file in Traefik's format (also on a shared mount),
//! Docker configs, etcd. A store is shared by every proxy that names it, so each
//! change is one step that loses nothing of what others wrote meanwhile.

pub mod etcd;
pub mod file;
pub mod json;
mod kept;
pub mod location;
#[cfg(test)]
pub(crate) mod memory;
mod object;
mod open;
mod sealer;
mod shown;
pub mod swarm;

pub use location::{Location, LocationError};
pub use open::{Parts, open};
pub use sealer::{Opened, SealError, Sealer};

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use rustls::crypto::CryptoProvider;
use thiserror::Error;
use tidegate_shared::report::Chain;
use tokio::sync::watch;
use tokio::time::Instant;

use super::challenge::Challenge;
use crate::config::dynamic::Domain;
use crate::tls::Certificate;

/// How long a failure is kept after names may be ordered again: so long proxies go on
/// counting.
const FAILURE_KEPT: Duration = Duration::from_secs(24 * 3600);

/// What a store holds for all resolvers that use it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// By the resolver's name.
    pub resolvers: std::collections::BTreeMap<String, ResolverContents>,
}

/// What a store holds for one resolver.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResolverContents {
    /// Its account at the authority.
    pub account: Option<Account>,
    /// Its certificates, each set of names once.
    pub certificates: Vec<StoredCertificate>,
    /// What lies there for a certificate or the account and can't be read: which names or
    /// what it is, and why. It is known where it lies and goes nowhere else.
    pub broken: Vec<(String, String)>,
    /// Challenges that are being answered now, by any proxy.
    pub challenges: Vec<Challenge>,
    /// Orders that failed and are not to be made again yet, by any proxy.
    pub failures: Vec<FailedOrder>,
}

/// How the last order for a set of names failed: kept so that neither another proxy nor
/// one that starts again runs into the authority's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedOrder {
    /// The names, sorted and joined by commas.
    pub names: String,
    /// How many orders in a row have failed.
    pub failures: u32,
    /// When the last one did, in whole seconds.
    pub at: SystemTime,
    /// Before when no other is made, in whole seconds.
    pub not_before: SystemTime,
    /// Whether the authority asked for that.
    pub is_limit: bool,
    /// Why it failed.
    pub reason: String,
}

/// An account at an authority.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The address that it was made with; may be empty.
    pub email: String,
    /// Its URL at the authority (RFC 8555 §7.3); its host tells which authority it is of.
    pub uri: String,
    /// The contacts and the status as the authority said them, kept for Traefik's format.
    pub contact: Vec<String>,
    /// `valid`, usually.
    pub status: String,
    /// The private key, DER as Traefik keeps it: PKCS#1, SEC 1 or PKCS#8.
    pub private_key: Vec<u8>,
    /// What Traefik 2 calls the kind of its certificates' keys: `P256`, `P384`, `2048`,
    /// `4096`, `8192`; empty if its settings say that.
    pub key_type: String,
}

/// A certificate with its key, as they are kept.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredCertificate {
    /// The names that it was ordered for.
    pub domain: Domain,
    /// The chain, PEM.
    pub chain: Vec<u8>,
    /// The private key, PEM.
    pub key: Vec<u8>,
    /// Traefik's `Store`; `default`.
    pub store: String,
}

/// What was last read of a store.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The last contents that could be read; nothing before the first time.
    pub contents: Option<Arc<Contents>>,
    /// When they were read or known to be unchanged.
    pub at: Option<Instant>,
    /// Why the store can't be read or written now, in words.
    pub trouble: Option<String>,
}

/// One step of a change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Keep this account in place of any other.
    SetAccount(Account),
    /// Keep this certificate in place of one for the same names.
    PutCertificate(StoredCertificate),
    /// Forget the certificate of these names.
    RemoveCertificate(Domain),
    /// Let every proxy answer this challenge.
    PutChallenge(Challenge),
    /// The challenge of this token is over.
    RemoveChallenge(String),
    /// Let every proxy know of this failure, in place of one for the same names.
    PutFailure(FailedOrder),
    /// There was an order for these names that did not fail.
    RemoveFailure(String),
}

/// A store can't do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The place can't be read or written.
    #[error("{place}: {message}")]
    Unusable {
        /// The file, the engine or the address.
        place: String,
        /// What went wrong, and what to do about it.
        message: String,
    },
    /// What lies there is not what it should be; it was not touched.
    #[error("{place} is damaged: {message}")]
    Damaged {
        /// The file, the object or the key.
        place: String,
        /// What is wrong, with line and column or the name of the part.
        message: String,
    },
    /// Only a manager of the Swarm has what is kept there, and this node is none.
    #[error(
        "{place}: this node is no manager of the Swarm, so its engine knows no configs; \
         its certificates come from the managers' proxies, over the cluster"
    )]
    NoManager {
        /// The place.
        place: String,
    },
    /// This proxy may only read here.
    #[error("{place} can only be read by this proxy")]
    ReadOnly {
        /// The place.
        place: String,
    },
}

/// A place for accounts, certificates and challenges.
pub trait Store: fmt::Debug + Send + Sync {
    /// The place, for logs and the API: the file's name, `swarm`, an address.
    fn place(&self) -> &str;

    /// What is known of the contents. Changes by others are seen within a second
    /// (a file, etcd) or as soon as the place allows.
    fn observed(&self) -> watch::Receiver<Arc<Observed>>;

    /// Reads the place again now: somebody asks for a challenge that is not known here.
    fn refresh(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Makes a change on top of what is there now, whoever wrote it, and returns when
    /// it can't be lost any more and is in `observed`.
    fn apply<'a>(
        &'a self,
        resolver: &'a str,
        changes: Vec<Change>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The lock of this name, if no live proxy holds it. A holder that dies loses it
    /// after `patience` at the latest; a live one keeps it until the lease is dropped.
    fn lock<'a>(
        &'a self,
        name: &'a str,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Lease>>, StoreError>>;
}

/// A held lock. Dropping it lets it go.
pub trait Lease: fmt::Debug + Send + Sync {
    /// Whether it is still held: the place may have been out of reach for too long.
    fn is_held(&self) -> bool;

    /// Lets it go and waits until others can see that.
    fn release(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// A place that others can look into needs a secret.
fn unsealed(place: &str) -> StoreError {
    StoreError::Unusable {
        place: place.to_owned(),
        message: "private keys lie there only sealed with the cluster's secret: \
                  set cluster.secretFile"
            .to_owned(),
    }
}

impl FailedOrder {
    /// Whether nobody heeds it any more: its names are no longer wanted.
    fn is_over(&self, now: SystemTime) -> bool {
        let end = self.not_before.checked_add(FAILURE_KEPT);
        end.is_none_or(|end| end < now)
    }
}

impl ResolverContents {
    /// Makes a change. Challenges and failures that were over at `now` go along.
    pub fn apply(&mut self, change: Change, now: SystemTime) {
        self.challenges.retain(|known| known.expires > now);
        self.failures.retain(|known| !known.is_over(now));
        match change {
            Change::SetAccount(account) => self.account = Some(account),
            Change::PutCertificate(certificate) => {
                self.certificates
                    .retain(|known| known.domain != certificate.domain);
                self.certificates.push(certificate);
            }
            Change::RemoveCertificate(domain) => {
                self.certificates.retain(|known| known.domain != domain);
            }
            Change::PutChallenge(challenge) => {
                self.challenges
                    .retain(|known| known.token != challenge.token);
                self.challenges.push(challenge);
            }
            Change::RemoveChallenge(token) => {
                self.challenges.retain(|known| known.token != token);
            }
            Change::PutFailure(failure) => {
                self.failures.retain(|known| known.names != failure.names);
                self.failures.push(failure);
            }
            Change::RemoveFailure(names) => self.failures.retain(|known| known.names != names),
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("uri", &self.uri)
            .finish_non_exhaustive()
    }
}

impl StoredCertificate {
    /// Its names, joined by commas.
    pub fn label(&self) -> String {
        let main = Some(&self.domain.main).filter(|main| !main.is_empty());
        let names = main.into_iter().chain(&self.domain.sans);
        names.map(String::as_str).collect::<Vec<_>>().join(",")
    }

    /// The certificate, ready to be served.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn load(&self, crypto: &CryptoProvider) -> Result<Certificate, String> {
        let chain = pem(&self.chain, "certificate")?;
        let key = pem(&self.key, "private key")?;
        Certificate::load(crypto, chain, key).map_err(|error| Chain(&error).to_string())
    }
}

/// PEM text. Whatever else lies in a store must not be taken for a file's name.
fn pem<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, String> {
    let text = std::str::from_utf8(bytes).ok();
    text.filter(|text| text.contains("-----BEGIN"))
        .ok_or_else(|| format!("its {what} is not in PEM"))
}

impl fmt::Debug for StoredCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredCertificate")
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}
