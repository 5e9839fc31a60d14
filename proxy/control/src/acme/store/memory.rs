//! A store in memory that several proxies of a test share.
//!
//! Each proxy has a handle of its own. A handle can be killed at any step, as a
//! process would be: what it was doing stays undone, and its locks are free only
//! after their patience.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::{Change, Contents, Lease, Observed, Store, StoreError};

/// Where a proxy dies.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    taken: AtomicUsize,
    /// The step that is not survived; 0 is none.
    last: usize,
    pub(crate) died: Notify,
    is_dead: AtomicBool,
}

impl Steps {
    /// Dies at this step, counted from 1.
    pub(crate) fn until(last: usize) -> Arc<Self> {
        Arc::new(Self {
            last,
            ..Self::default()
        })
    }

    /// One step. The last one never ends.
    pub(crate) async fn step(&self) {
        let taken = self.taken.fetch_add(1, Ordering::SeqCst) + 1;
        if self.last != 0 && taken >= self.last {
            self.is_dead.store(true, Ordering::SeqCst);
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::SeqCst)
    }
}

/// What lies behind all handles.
#[derive(Debug)]
pub(crate) struct Place {
    observed: watch::Sender<Arc<Observed>>,
    locks: Mutex<HashMap<String, Held>>,
    next: AtomicU64,
    pub(crate) is_down: AtomicBool,
}

#[derive(Debug)]
struct Held {
    id: u64,
    by: Arc<Steps>,
    patience: Duration,
    /// When its holder was found dead.
    dead_since: Option<Instant>,
}

impl Default for Place {
    fn default() -> Self {
        let observed = Observed {
            contents: Some(Arc::default()),
            at: Some(Instant::now()),
            trouble: None,
        };
        Self {
            observed: watch::Sender::new(Arc::new(observed)),
            locks: Mutex::default(),
            next: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
        }
    }
}

impl Place {
    /// A proxy's way to it.
    pub(crate) fn handle(self: &Arc<Self>, steps: &Arc<Steps>) -> Arc<MemoryStore> {
        Arc::new(MemoryStore {
            place: Arc::clone(self),
            steps: Arc::clone(steps),
        })
    }

    /// What lies there.
    pub(crate) fn contents(&self) -> Arc<Contents> {
        self.observed.borrow().contents.clone().unwrap_or_default()
    }

    /// Changes what lies there, as a stranger would.
    pub(crate) fn change(&self, resolver: &str, changes: Vec<Change>) {
        let mut contents = (*self.contents()).clone();
        let of: &mut BTreeMap<_, _> = &mut contents.resolvers;
        let own = of.entry(resolver.to_owned()).or_default();
        for change in changes {
            // Tests have times of day of their own: nothing is over here.
            own.apply(change, SystemTime::UNIX_EPOCH);
        }
        self.observed.send_replace(Arc::new(Observed {
            contents: Some(Arc::new(contents)),
            at: Some(Instant::now()),
            trouble: None,
        }));
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(StoreError::Unusable {
                place: "memory".to_owned(),
                message: "it is down".to_owned(),
            });
        }
        Ok(())
    }
}

/// One proxy's way to a [`Place`].
#[derive(Debug)]
pub(crate) struct MemoryStore {
    place: Arc<Place>,
    steps: Arc<Steps>,
}

impl Store for MemoryStore {
    fn place(&self) -> &'static str {
        "memory"
    }

    fn observed(&self) -> watch::Receiver<Arc<Observed>> {
        self.place.observed.subscribe()
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            self.steps.step().await;
            self.place.check()
        })
    }

    fn apply<'a>(
        &'a self,
        resolver: &'a str,
        changes: Vec<Change>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.steps.step().await;
            self.place.check()?;
            self.place.change(resolver, changes);
            self.steps.step().await;
            Ok(())
        })
    }

    fn lock<'a>(
        &'a self,
        name: &'a str,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Lease>>, StoreError>> {
        Box::pin(async move {
            self.steps.step().await;
            self.place.check()?;
            let lease = self.take(name, patience);
            if lease.is_some() {
                self.steps.step().await;
            }
            Ok(lease.map(|lease| Box::new(lease) as Box<dyn Lease>))
        })
    }
}

impl MemoryStore {
    fn take(&self, name: &str, patience: Duration) -> Option<MemoryLease> {
        let now = Instant::now();
        let mut locks = self.place.locks.lock().unwrap();
        if let Some(held) = locks.get_mut(name) {
            if !held.by.is_dead() {
                return None;
            }
            let dead_since = *held.dead_since.get_or_insert(now);
            if now < dead_since + held.patience {
                return None;
            }
        }
        let id = self.place.next.fetch_add(1, Ordering::SeqCst);
        let held = Held {
            id,
            by: Arc::clone(&self.steps),
            patience,
            dead_since: None,
        };
        locks.insert(name.to_owned(), held);
        Some(MemoryLease {
            place: Arc::clone(&self.place),
            name: name.to_owned(),
            id,
        })
    }
}

#[derive(Debug)]
struct MemoryLease {
    place: Arc<Place>,
    name: String,
    id: u64,
}

impl Lease for MemoryLease {
    fn is_held(&self) -> bool {
        let locks = self.place.locks.lock().unwrap();
        locks.get(&self.name).is_some_and(|held| held.id == self.id)
    }

    fn release(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { drop(self) })
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        let mut locks = self.place.locks.lock().unwrap();
        let is_mine = locks
            .get(&self.name)
            .is_some_and(|held| held.id == self.id && !held.by.is_dead());
        if is_mine {
            locks.remove(&self.name);
        }
    }
}
