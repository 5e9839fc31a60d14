//! What a resolver asks an authority, behind a trait: the real one speaks ACME,
//! tests script theirs.

mod client;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use thiserror::Error;

pub use self::client::{Client, ClientError};
use super::challenge::Challenge;
use super::store::{Account, StoredCertificate};
use crate::config::dynamic::Domain;

/// What makes challenges answerable, wherever the authority looks.
pub trait Announce: fmt::Debug + Send + Sync {
    /// Returns when every live proxy answers the challenge or can find it.
    fn present<'a>(&'a self, challenge: &'a Challenge) -> BoxFuture<'a, Result<(), AnnounceError>>;

    /// The challenge is over, whatever its outcome.
    fn withdraw<'a>(&'a self, challenge: &'a Challenge) -> BoxFuture<'a, ()>;
}

/// A challenge can't be made answerable.
#[derive(Debug, Error)]
#[error("the challenge for {name} can't be answered: {message}")]
pub struct AnnounceError {
    /// The name.
    pub name: String,
    /// Why not.
    pub message: String,
}

/// An authority with our account there.
pub trait Authority: fmt::Debug + Send + Sync {
    /// Gets a certificate for these names: order, challenges, finalization, download.
    fn obtain<'a>(
        &'a self,
        order: &'a Order,
    ) -> BoxFuture<'a, Result<StoredCertificate, OrderError>>;
}

/// Makes the [`Authority`] of a resolver out of the account that its store holds.
pub trait Enroll: fmt::Debug + Send + Sync {
    /// Uses `known` if it is of this authority, else makes an account. A new or changed
    /// account comes back to be stored before anything is ordered with it.
    fn enroll(&self, known: Option<Account>) -> BoxFuture<'_, Result<Enrolled, OrderError>>;

    /// When the authority wants this certificate renewed (RFC 9773), which it tells whoever
    /// asks, without an account; nothing if it does not say.
    fn renewal<'a>(
        &'a self,
        certificate: &'a StoredCertificate,
    ) -> BoxFuture<'a, Result<Option<RenewalAdvice>, OrderError>>;
}

/// An authority that can be asked.
#[derive(Debug)]
pub struct Enrolled {
    /// The authority.
    pub authority: Arc<dyn Authority>,
    /// The account, if it is new or has changed.
    pub account: Option<Account>,
}

/// One certificate to get.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Its names.
    pub domain: Domain,
    /// The certificate that it replaces, for authorities that want to know (RFC 9773 §5).
    pub replaces: Option<StoredCertificate>,
}

/// When an authority wants a certificate renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalAdvice {
    /// The first moment.
    pub from: SystemTime,
    /// The last moment.
    pub until: SystemTime,
    /// When to ask again.
    pub ask_again_after: Duration,
}

/// No certificate this time.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OrderError {
    /// The authority can't be reached or answers nonsense: nothing was counted against us.
    #[error("the authority can't be reached: {0}")]
    Unreachable(String),
    /// Too many requests, orders or failures.
    #[error("the authority limits us: {message}")]
    RateLimited {
        /// Its words.
        message: String,
        /// How long it asks us to wait, if it says so.
        retry_after: Option<Duration>,
    },
    /// A name's control could not be shown. It alone is to blame, not the other names.
    #[error("{name} was not validated: {message}")]
    NotValidated {
        /// The name.
        name: String,
        /// The authority's words.
        message: String,
    },
    /// The authority won't issue for these names at all (RFC 8555 §6.7: rejectedIdentifier, caa ..).
    #[error("the authority refuses: {0}")]
    Refused(String),
    /// It took the order and did not make a good certificate of it; it may count as one
    /// all the same.
    #[error("the authority did not issue: {0}")]
    NotIssued(String),
    /// The account is the trouble: terms, external binding, revoked, key lost.
    #[error("the account can't be used: {0}")]
    Account(String),
    /// Ours: a challenge could not be made answerable, or a key not be made.
    #[error("{0}")]
    Local(String),
}
