//! The `etcd` store: a key for each value, through etcd's JSON gateway.
//!
//! `PREFIX/values/RESOLVER/KIND/HASH` holds a value, sealed for its own key; what a
//! call of `apply` changes is written in one step where it fits into one. Locks are
//! keys under leases ([`lock`]). Changes are seen by a watch; when that breaks, was
//! compacted away or is silent for long, everything is read again.

mod client;
mod lock;
mod reading;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use self::client::{EtcdError, Gateway};
use self::reading::{Entry, Reading};
use super::location::EtcdLocation;
use super::object::{Object, Step, contents};
use super::shown::Shown;
use super::{Change, Contents, Lease, Observed, Sealer, Store, StoreError};

/// How long changes are gathered before they are read.
const GATHER: Duration = Duration::from_millis(20);

/// Between two readings without any change.
const UNASKED: Duration = Duration::from_secs(10);

/// Between two readings while etcd can't be read or watched.
const BLIND: Duration = Duration::from_millis(500);

/// etcd's limit for the changes of one step is 128.
const MOST_OPS: usize = 64;

/// etcd's limit for one question is 1.5 MiB.
const LARGEST_STEP: usize = 1 << 20;

/// How long a challenge stays after its end: other machines' clocks may be wrong.
const AFTERLIFE: Duration = Duration::from_secs(3600);

/// etcd as a store.
pub struct EtcdStore {
    inner: Arc<Inner>,
    _following: AbortOnDropHandle<()>,
}

struct Inner {
    shown: Shown,
    /// What the keys of values begin with.
    values: String,
    /// What the keys of locks begin with.
    locks: String,
    /// This store, as no other is called.
    owner: String,
    taken: AtomicU64,
    gateway: Arc<Gateway>,
    sealer: Arc<dyn Sealer>,
    last: Mutex<Arc<Reading>>,
}

impl EtcdStore {
    /// The store at this place; begins to read it. `owner` tells this proxy from others
    /// in its locks. To be called in a runtime.
    ///
    /// # Errors
    /// Without a sealer, and when the TLS files can't be used.
    pub fn open(
        location: &EtcdLocation,
        owner: &str,
        sealer: Option<Arc<dyn Sealer>>,
    ) -> Result<Self, StoreError> {
        let place = place(location);
        let sealer = sealer.ok_or_else(|| super::unsealed(&place))?;
        let inner = Arc::new(Inner {
            gateway: Arc::new(Gateway::new(&place, location)?),
            shown: Shown::new(place),
            values: format!("{}values/", location.prefix),
            locks: format!("{}locks/", location.prefix),
            owner: format!("{owner}-{:016x}", fastrand::u64(..)),
            taken: AtomicU64::new(0),
            sealer,
            last: Mutex::default(),
        });
        let following = Arc::clone(&inner);
        let following = tokio::spawn(async move { following.follow().await });
        Ok(Self {
            inner,
            _following: AbortOnDropHandle::new(following),
        })
    }
}

/// As it is written, without its options.
fn place(location: &EtcdLocation) -> String {
    let scheme = if location.tls.is_some() {
        "etcds"
    } else {
        "etcd"
    };
    let endpoints = location.endpoints.iter().map(ToString::to_string);
    let endpoints = endpoints.collect::<Vec<_>>().join(",");
    format!("{scheme}://{endpoints}/{}", location.prefix)
}

impl Store for EtcdStore {
    fn place(&self) -> &str {
        self.inner.shown.place()
    }

    fn observed(&self) -> watch::Receiver<Arc<Observed>> {
        self.inner.shown.receiver()
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.inner.refresh())
    }

    fn apply<'a>(
        &'a self,
        resolver: &'a str,
        changes: Vec<Change>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.inner.apply(resolver, changes))
    }

    fn lock<'a>(
        &'a self,
        name: &'a str,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Lease>>, StoreError>> {
        Box::pin(async move {
            let inner = &self.inner;
            let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
            let key = format!("{}{name}", inner.locks);
            let count = inner.taken.fetch_add(1, Ordering::Relaxed);
            let owner = format!("{}-{count}", inner.owner);
            let lease = lock::lock(&inner.gateway, key, owner, patience).await;
            lease.map_err(|error| inner.error(&error))
        })
    }
}

impl Inner {
    /// Reads at every change, until the future is dropped.
    async fn follow(&self) {
        loop {
            if self.refresh().await.is_ok()
                && let Err(error) = self.watch().await
            {
                debug!(store = self.shown.place(), %error, "A watch ended");
            }
            sleep(BLIND).await;
        }
    }

    /// Watches from the last reading on and reads again at each change. Returns when
    /// that goes on no more.
    async fn watch(&self) -> Result<(), EtcdError> {
        let question = wire::Watch {
            create_request: wire::WatchFrom {
                range: wire::Range::all(&self.values),
                start_revision: wire::Long(self.last().revision.saturating_add(1)),
            },
        };
        let mut messages = self.gateway.watch("/v3/watch", &question).await?;
        let mut next = Instant::now() + UNASKED;
        loop {
            tokio::select! {
                message = messages.next::<wire::Message<wire::Watched>>() => {
                    let watched = message?.result.unwrap_or_default();
                    if watched.canceled || watched.compact_revision.0 > 0 {
                        return Ok(());
                    }
                    if !watched.events.is_empty() {
                        next = next.min(Instant::now() + GATHER);
                    }
                }
                () = sleep_until(next) => {
                    if self.refresh().await.is_err() {
                        return Ok(());
                    }
                    self.tidy().await;
                    next = Instant::now() + UNASKED;
                }
            }
        }
    }

    fn last(&self) -> Arc<Reading> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&last)
    }

    async fn refresh(&self) -> Result<(), StoreError> {
        self.shown.refresh(|| self.show()).await
    }

    async fn show(&self) -> Result<(Contents, Option<String>), StoreError> {
        let question = wire::Range::all(&self.values);
        let found = self.gateway.ask("/v3/kv/range", &question).await;
        let found: wire::Found = found.map_err(|error| self.error(&error))?;
        let (sealer, last) = (self.sealer.as_ref(), self.last());
        let revision = found.header.revision.0;
        let reading = Reading::new(&self.values, revision, &found.kvs, sealer, &last);
        let reading = Arc::new(reading);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&reading);
        let remark = self.shown.remark("key", &reading.unreadable);
        Ok((contents(reading.objects()), remark))
    }

    async fn apply(&self, resolver: &str, changes: Vec<Change>) -> Result<(), StoreError> {
        // A key may be there once in a step; the last word counts.
        let mut ops = BTreeMap::new();
        for change in changes {
            let (key, op) = match Step::of(resolver, change) {
                Step::Put(object) => self.put(&object)?,
                Step::Remove(identity) => {
                    let key = reading::key(&self.values, &identity);
                    let op = wire::Op::Delete {
                        key: key.as_str().into(),
                    };
                    (key, op)
                }
            };
            ops.insert(key, op);
        }
        for step in steps(ops.into_values()) {
            let txn = wire::Txn {
                success: step,
                ..wire::Txn::default()
            };
            let done = self.gateway.ask("/v3/kv/txn", &txn).await;
            let wire::TxnOutcome { .. } = done.map_err(|error| self.error(&error))?;
        }
        self.refresh().await
    }

    fn put(&self, object: &Object) -> Result<(String, wire::Op), StoreError> {
        let identity = object.identity();
        let key = reading::key(&self.values, &identity);
        let sealed = self.sealer.seal(&key, &object.encode());
        let value = sealed.map_err(|error| self.unusable(error.to_string()))?;
        if value.len() > LARGEST_STEP {
            return Err(self.unusable(format!(
                "the {identity} has {} bytes, a key of etcd at most {LARGEST_STEP}",
                value.len()
            )));
        }
        let op = wire::Op::Put {
            key: key.as_str().into(),
            value: wire::Base64(value),
            lease: None,
        };
        Ok((key, op))
    }

    /// Removes what is over and seals anew what the previous secret sealed, unless it
    /// has changed meanwhile. One of three does, as all proxies come by here.
    async fn tidy(&self) {
        if fastrand::u8(..3) != 0 {
            return;
        }
        let now = SystemTime::now();
        for (key, entry) in &self.last().entries {
            if let Err(error) = self.tidy_one(key, entry, now).await {
                debug!(key, %error, "A value stays as it is for now");
            }
        }
    }

    async fn tidy_one(&self, key: &str, entry: &Entry, now: SystemTime) -> Result<(), StoreError> {
        let op = if entry.object.is_over(now, AFTERLIFE) {
            wire::Op::Delete { key: key.into() }
        } else if entry.is_current {
            return Ok(());
        } else {
            self.put(&entry.object)?.1
        };
        let txn = wire::Txn {
            compare: vec![wire::Compare::is_at(key, entry.revision)],
            success: vec![op],
        };
        let done = self.gateway.ask("/v3/kv/txn", &txn).await;
        let wire::TxnOutcome { .. } = done.map_err(|error| self.error(&error))?;
        Ok(())
    }

    fn unusable(&self, message: String) -> StoreError {
        StoreError::Unusable {
            place: self.shown.place().to_owned(),
            message,
        }
    }

    fn error(&self, error: &EtcdError) -> StoreError {
        self.unusable(error.to_string())
    }
}

/// Changes in portions that etcd takes in one step.
fn steps(ops: impl Iterator<Item = wire::Op>) -> Vec<Vec<wire::Op>> {
    let mut steps = Vec::new();
    let mut size = usize::MAX;
    for op in ops {
        let is_full = steps
            .last()
            .is_none_or(|step: &Vec<_>| step.len() >= MOST_OPS);
        if is_full || size.saturating_add(op.size()) > LARGEST_STEP {
            steps.push(Vec::new());
            size = 0;
        }
        size += op.size();
        if let Some(step) = steps.last_mut() {
            step.push(op);
        }
    }
    steps
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdStore")
            .field("place", &self.inner.shown.place())
            .finish_non_exhaustive()
    }
}
