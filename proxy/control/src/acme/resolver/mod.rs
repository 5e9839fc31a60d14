//! Certificate resolvers: one loop for each, from wanted names to certificates.
//!
//! A loop ([`run`]) watches what is wanted and what its store holds, plans, and orders
//! under the store's locks, so that all proxies of a cluster make one order for a set
//! of names. What is in the store is served by every proxy, whoever put it there.
//! Nothing is taken out of a store here.

mod advice;
mod announce;
mod attempt;
mod backoff;
mod compare;
mod library;
mod office;
mod order;
mod outcome;
mod plan;
mod renewal;
mod run;
mod show;
mod state;

pub use announce::Everywhere;
pub use run::run;
pub use state::{Pause, ResolverState, ResolverStates, SetState, SetStatus};

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::authority::Enroll;
use super::store::Store;
use crate::tls::{Issued, IssuedCertificate, Wanted};

/// How long a lock outlives a proxy that died with it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a resolver works with.
#[derive(Debug)]
pub struct Parts {
    /// Its name.
    pub name: Arc<str>,
    /// Where its certificates are.
    pub store: Arc<dyn Store>,
    /// Whom it orders from.
    pub enroll: Arc<dyn Enroll>,
    /// How long certificates live by the settings.
    pub lifetime: Duration,
    /// What checks certificates and their keys.
    pub crypto: Arc<CryptoProvider>,
    /// What routers want of all resolvers.
    pub wanted: watch::Receiver<Arc<Wanted>>,
    /// Whether the entry points are open, so that challenges can be answered.
    pub is_ready: watch::Receiver<bool>,
    /// The time.
    pub clock: Clock,
}

/// Where the time of day comes from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

/// Where all resolvers put what they have.
#[derive(Debug, Default)]
pub struct Outlet {
    issued: watch::Sender<Arc<Issued>>,
    states: watch::Sender<Arc<ResolverStates>>,
}

impl Clock {
    /// A clock of the caller's.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time of day.
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(SystemTime::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

impl Outlet {
    /// The certificates of all resolvers. A resolver is in it once its store was read.
    pub fn issued(&self) -> watch::Receiver<Arc<Issued>> {
        self.issued.subscribe()
    }

    /// How all resolvers are.
    pub fn states(&self) -> watch::Receiver<Arc<ResolverStates>> {
        self.states.subscribe()
    }

    /// Replaces the certificates of a resolver, unless they are the same.
    fn issue(&self, resolver: &str, certificates: Vec<IssuedCertificate>) {
        self.issued.send_if_modified(|issued| {
            let known = issued.by_resolver.get(resolver);
            if known.is_some_and(|known| are_same(known, &certificates)) {
                return false;
            }
            let all = Arc::make_mut(issued);
            all.by_resolver.insert(resolver.to_owned(), certificates);
            true
        });
    }

    fn show(&self, resolver: &str, state: ResolverState) {
        self.states.send_modify(|states| {
            let all = Arc::make_mut(states);
            all.by_name.insert(resolver.to_owned(), Arc::new(state));
        });
    }
}

fn are_same(one: &[IssuedCertificate], other: &[IssuedCertificate]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| {
            Arc::ptr_eq(&one.certificate, &other.certificate) && one.domain == other.domain
        })
}

/// The name of a lock, which any store can take for a file's or an object's.
fn lock_name(what: &str, resolver: &str, names: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in [resolver].iter().chain(names) {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    let digest = digest.finalize();
    let digits = digest.iter().take(16).map(|byte| format!("{byte:02x}"));
    format!("{what}-{}", digits.collect::<String>())
}

#[cfg(test)]
mod tests;
