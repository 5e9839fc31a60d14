//! The steps of one order, in the order that loses nothing.
//!
//! The lock first; then another look at the store, which the resolver's loop takes;
//! then the account, the order itself, and the store. A proxy that dies before the
//! authority's answer lies in the store leaves an order behind and frees its lock;
//! whoever takes the lock next makes the second and last one.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tidegate_shared::backoff::Backoff;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::PATIENCE;
use super::library::Identity;
use super::office::{Failure, Office};
use crate::acme::authority::{Order, OrderError, RenewalAdvice};
use crate::acme::store::{Change, FailedOrder, Lease, Store, StoreError, StoredCertificate};

/// The longest that one order may take; records in the DNS take their time.
const LONGEST_ORDER: Duration = Duration::from_secs(30 * 60);

/// A set of names, as one word: sorted and joined.
pub(super) type Key = Arc<str>;

/// What a resolver's tasks come back with.
#[derive(Debug)]
pub(super) enum Event {
    /// The lock of a set, if it was free.
    Locked(Key, Result<Option<Box<dyn Lease>>, StoreError>),
    /// An order's end, with the lock under which it was made.
    Ended(Key, Box<dyn Lease>, Result<(), Failure>),
    /// What the authority says of a certificate's renewal.
    Advised(Identity, Result<Option<RenewalAdvice>, OrderError>),
    /// A lock was let go.
    Released,
}

/// What all orders of a resolver work with.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    pub(super) resolver: Arc<str>,
    pub(super) store: Arc<dyn Store>,
    pub(super) office: Arc<Office>,
    /// Where certificates go at once, before they are in the store.
    pub(super) obtained: mpsc::Sender<StoredCertificate>,
}

impl Tools {
    /// Whether the store tells of a failure of this set.
    fn failed_before(&self, key: &Key) -> bool {
        let observed = Arc::clone(&self.store.observed().borrow());
        let contents = observed.contents.as_ref();
        let own = contents.and_then(|contents| contents.resolvers.get(&*self.resolver));
        own.is_some_and(|own| own.failures.iter().any(|failed| *failed.names == **key))
    }
}

/// Takes the lock of a set and reads the store again under it.
pub(super) async fn lock(tools: Tools, key: Key, name: String) -> Event {
    let attempt = async {
        let Some(lease) = tools.store.lock(&name, PATIENCE).await? else {
            return Ok(None);
        };
        if let Err(error) = tools.store.refresh().await {
            lease.release().await;
            return Err(error);
        }
        Ok(Some(lease))
    };
    let result = AssertUnwindSafe(attempt).catch_unwind().await;
    let panicked = |_| {
        Err(StoreError::Unusable {
            place: tools.store.place().to_owned(),
            message: "the work on it panicked".to_owned(),
        })
    };
    Event::Locked(key, result.unwrap_or_else(panicked))
}

/// Gets a certificate and puts it into the store.
pub(super) async fn fulfil(tools: Tools, key: Key, order: Order, lease: Box<dyn Lease>) -> Event {
    let work = obtain_and_keep(&tools, &key, &order, &*lease);
    let result = AssertUnwindSafe(work).catch_unwind().await;
    let panicked = |_| Err(OrderError::Local("the order panicked".to_owned()).into());
    Event::Ended(key, lease, result.unwrap_or_else(panicked))
}

async fn obtain_and_keep(
    tools: &Tools,
    key: &Key,
    order: &Order,
    lease: &dyn Lease,
) -> Result<(), Failure> {
    let authority = tools.office.authority().await?;
    if !lease.is_held() {
        let message = "the store took the lock back before the order began".to_owned();
        return Err(OrderError::Local(message).into());
    }
    let obtaining = timeout(LONGEST_ORDER, authority.obtain(order));
    let certificate = obtaining.await.unwrap_or_else(|_| {
        let message = "the order came to no end within half an hour".to_owned();
        Err(OrderError::Unreachable(message))
    })?;
    // The loop may be gone already, which is no reason not to keep the certificate.
    let _ = tools.obtained.send(certificate.clone()).await;
    keep(tools, key, certificate).await;
    Ok(())
}

/// Puts a certificate into the store, however long that takes, in place of what failed.
async fn keep(tools: &Tools, key: &Key, certificate: StoredCertificate) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    let mut said = String::new();
    loop {
        let mut change = vec![Change::PutCertificate(certificate.clone())];
        if tools.failed_before(key) {
            change.push(Change::RemoveFailure((**key).to_owned()));
        }
        let Err(error) = tools.store.apply(&tools.resolver, change).await else {
            return;
        };
        let error = error.to_string();
        if error != said {
            warn!(
                resolver = %tools.resolver,
                certificate = %certificate.domain.main,
                error,
                "A new certificate can't be stored yet"
            );
            said = error;
        }
        sleep(backoff.wait()).await;
    }
}

/// Asks when a certificate is to be renewed.
pub(super) async fn ask(tools: Tools, identity: Identity, stored: StoredCertificate) -> Event {
    let asking = tools.office.enroll.renewal(&stored);
    let result = AssertUnwindSafe(asking).catch_unwind().await;
    let panicked = |_| Err(OrderError::Local("the question panicked".to_owned()));
    Event::Advised(identity, result.unwrap_or_else(panicked))
}

/// Tells other proxies of a failure, and only then lets the lock go, so that whoever
/// takes it next knows. If the store can't be written they find out by themselves.
pub(super) async fn give_up(
    tools: Tools,
    failed: FailedOrder,
    lease: Option<Box<dyn Lease>>,
) -> Event {
    let names = failed.names.clone();
    let change = vec![Change::PutFailure(failed)];
    if let Err(error) = tools.store.apply(&tools.resolver, change).await {
        debug!(resolver = %tools.resolver, names, %error, "Others don't hear of a failure");
    }
    if let Some(lease) = lease {
        lease.release().await;
    }
    Event::Released
}

/// Lets a lock go.
pub(super) async fn release(lease: Box<dyn Lease>) -> Event {
    lease.release().await;
    Event::Released
}
