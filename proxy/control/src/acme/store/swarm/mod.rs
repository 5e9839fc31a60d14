//! The `swarm` store: Docker configs, which the managers of a Swarm agree on.
//!
//! A value is a config that never changes: `PREFIX.KIND.HASH.GENERATION`, sealed for
//! its own name. A new value is the next generation, and as a name can be used only
//! once, of two writers one has to go one further; the newest generation that can be
//! opened counts, older ones are swept. Locks are configs, too ([`lock`]). Changes
//! are seen by the engine's events, whose values alone are read again, and by a reading
//! of everything now and then. Only a manager's engine knows configs: elsewhere the
//! store says so and has nothing.

mod lock;
mod reading;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use tidegate_shared::docker::{ConfigObject, Configs, EngineError, LARGEST_CONFIG, Labels};
use tidegate_shared::report::Chain;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use self::lock::Locks;
use self::reading::{Group, Reading};
use super::object::{Identity, Object, Step, contents, facts};
use super::shown::Shown;
use super::{Change, Contents, Lease, Observed, Sealer, Store, StoreError};

/// The label that says whose a config is; its value is the prefix.
const STORE_LABEL: &str = "tidegate.store";

/// How long changes are gathered before they are read.
const GATHER: Duration = Duration::from_millis(20);

/// Between two readings without any event.
const UNASKED: Duration = Duration::from_secs(15);

/// Between two readings while the engine gives no events, or can't be read.
const BLIND: Duration = Duration::from_secs(1);

/// More values than these are not read one by one.
const MOST_PARTS: usize = 8;

/// How many names are tried for a new generation before somebody is to blame.
const TRIES: u32 = 40;

/// How long a challenge stays after its end: other machines' clocks may be wrong.
const AFTERLIFE: Duration = Duration::from_secs(3600);

/// How many values are sealed anew in one go.
const RESEALED: usize = 20;

/// Docker configs as a store.
pub struct SwarmStore {
    inner: Arc<Inner>,
    _following: AbortOnDropHandle<()>,
}

struct Inner {
    shown: Shown,
    prefix: String,
    engine: Arc<dyn Configs>,
    sealer: Arc<dyn Sealer>,
    locks: Arc<Locks>,
    known: Mutex<Known>,
}

/// What was last read, as it is and as it is understood.
#[derive(Default)]
struct Known {
    /// By name; nothing before all were read for the first time.
    configs: Option<BTreeMap<String, ConfigObject>>,
    /// What can't be opened any more is kept by it.
    reading: Arc<Reading>,
}

impl SwarmStore {
    /// The store of this `prefix`; begins to read it. `owner` tells this proxy from
    /// others in the labels of locks. To be called in a runtime.
    ///
    /// # Errors
    /// Without a sealer: configs can be read by everybody who may ask a manager.
    pub fn open(
        prefix: &str,
        owner: &str,
        engine: Arc<dyn Configs>,
        sealer: Option<Arc<dyn Sealer>>,
    ) -> Result<Self, StoreError> {
        let place = format!("swarm:{prefix}");
        let sealer = sealer.ok_or_else(|| super::unsealed(&place))?;
        let inner = Arc::new(Inner {
            locks: Arc::new(Locks::new(prefix, owner, Arc::clone(&engine))),
            shown: Shown::new(place),
            prefix: prefix.to_owned(),
            engine,
            sealer,
            known: Mutex::default(),
        });
        let following = Arc::clone(&inner);
        let following = tokio::spawn(async move { following.follow().await });
        Ok(Self {
            inner,
            _following: AbortOnDropHandle::new(following),
        })
    }
}

impl Store for SwarmStore {
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
            let lock = Locks::lock(&self.inner.locks, name, patience).await;
            lock.map_err(|error| self.inner.error(&error))
        })
    }
}

impl Inner {
    /// Reads what changes and now and then everything, until the future is dropped.
    async fn follow(&self) {
        loop {
            let mut changes = self.engine.config_changes();
            // What changes while the events are being subscribed to shows a bit later.
            let mut wait = BLIND;
            let mut all_due = Instant::now();
            let mut due = all_due;
            let mut changed = BTreeSet::new();
            loop {
                tokio::select! {
                    change = changes.next() => match change {
                        Some(Ok(name)) => {
                            if let Some(name) = reading::Name::parse(&self.prefix, &name) {
                                changed.insert(name.beginning(&self.prefix));
                                due = due.min(Instant::now() + GATHER);
                            }
                        }
                        Some(Err(_)) | None => break,
                    },
                    () = sleep_until(due) => {
                        let now = Instant::now();
                        let is_all = now >= all_due;
                        let is_read = if is_all {
                            changed.clear();
                            self.refresh().await.is_ok()
                        } else {
                            self.refresh_part(&std::mem::take(&mut changed)).await.is_ok()
                        };
                        if !is_read {
                            all_due = Instant::now() + BLIND;
                        } else if is_all {
                            if wait == UNASKED {
                                self.tidy().await;
                            }
                            all_due = Instant::now() + wait;
                            wait = UNASKED;
                        }
                        due = all_due;
                    }
                }
            }
            sleep(BLIND).await;
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> Arc<Reading> {
        Arc::clone(&self.known().reading)
    }

    async fn refresh(&self) -> Result<(), StoreError> {
        let read = async || {
            let configs = self.engine.configs(STORE_LABEL, &self.prefix).await;
            let configs = configs.map_err(|error| self.error(&error))?;
            self.locks.observe(&configs);
            Ok(self.understand(|known| known.replace(by_name(configs))))
        };
        self.shown.refresh(read).await
    }

    /// Reads the values whose names begin so; everything if they are many, or if not
    /// everything was read before.
    async fn refresh_part(&self, beginnings: &BTreeSet<String>) -> Result<(), StoreError> {
        if beginnings.len() > MOST_PARTS || self.known().configs.is_none() {
            return self.refresh().await;
        }
        let read = async || {
            let mut fresh = BTreeMap::new();
            for beginning in beginnings {
                let configs = self.engine.configs_named(beginning).await;
                let configs = configs.map_err(|error| self.error(&error))?;
                fresh.extend(by_name(configs));
            }
            fresh.retain(|_, config| config.labels.get(STORE_LABEL) == Some(&self.prefix));
            Ok(self.understand(|known| {
                let known = known.get_or_insert_default();
                known.retain(|name, _| !beginnings.iter().any(|part| name.starts_with(part)));
                known.append(&mut fresh);
            }))
        };
        self.shown.refresh_part(read).await
    }

    /// Changes what is known and says what it means.
    fn understand<T>(
        &self,
        change: impl FnOnce(&mut Option<BTreeMap<String, ConfigObject>>) -> T,
    ) -> (Contents, Option<String>) {
        let mut known = self.known();
        change(&mut known.configs);
        let configs = known.configs.iter().flat_map(BTreeMap::values);
        let sealer = self.sealer.as_ref();
        let reading = Reading::new(&self.prefix, configs, sealer, &known.reading);
        known.reading = Arc::new(reading);
        let reading = Arc::clone(&known.reading);
        drop(known);
        let remark = self.shown.remark("config", &reading.unreadable);
        (contents(reading.objects()), remark)
    }

    async fn apply(&self, resolver: &str, changes: Vec<Change>) -> Result<(), StoreError> {
        // Of several changes to a value the last word counts.
        let steps = changes.into_iter().map(|change| {
            let step = Step::of(resolver, change);
            let name = reading::group_name(&step.identity());
            (format!("{}.{name}.", self.prefix), step)
        });
        let steps: BTreeMap<_, _> = steps.collect();
        let beginnings = steps.keys().cloned().collect();
        self.refresh_part(&beginnings).await?;
        let reading = self.last();
        for step in steps.values() {
            match step {
                Step::Put(object) => self.put(&reading, object).await?,
                Step::Remove(identity) => {
                    let group = reading.groups.get(&reading::group_name(identity));
                    let all = group.map(|group| group.generations.values());
                    self.remove(all.into_iter().flatten()).await?;
                }
            }
        }
        self.refresh_part(&beginnings).await?;
        self.sweep(steps.values().filter_map(|step| match step {
            Step::Put(object) => Some(object.identity()),
            Step::Remove(_) => None,
        }))
        .await;
        Ok(())
    }

    /// Makes the next generation of a value.
    async fn put(&self, reading: &Reading, object: &Object) -> Result<(), StoreError> {
        let identity = object.identity();
        let group = reading.groups.get(&reading::group_name(&identity));
        let newest = group.map_or(0, Group::newest);
        let mut generation = newest;
        let plain = object.encode();
        let labels = self.labels(&identity);
        for step in 0..TRIES {
            // Where many write at once they go apart: generations may leave gaps.
            let stride = fastrand::u32(1..=1 << (step / 4));
            let Some(next) = generation.checked_add(stride) else {
                break;
            };
            generation = next;
            let name = reading::Name::of(&self.prefix, &identity, generation);
            let sealed = self.sealer.seal(&name, &plain);
            let sealed = sealed.map_err(|error| self.unusable(error.to_string()))?;
            if sealed.len() > LARGEST_CONFIG {
                return Err(self.unusable(format!(
                    "the {identity} has {} bytes, a Docker config at most {LARGEST_CONFIG}",
                    sealed.len()
                )));
            }
            let made = self.engine.create_config(&name, &labels, &sealed).await;
            if made.map_err(|error| self.error(&error))? {
                return Ok(());
            }
        }
        let name = reading::Name::of(&self.prefix, &identity, newest);
        Err(self.unusable(format!(
            "others hold all names after {name}: remove configs that are not Tidegate's"
        )))
    }

    fn labels(&self, identity: &Identity) -> Labels {
        let facts = facts(identity).into_iter();
        let labels = facts.map(|(name, value)| (format!("tidegate.{name}"), value));
        let store = (STORE_LABEL.to_owned(), self.prefix.clone());
        labels.chain([store]).collect()
    }

    /// Removes configs, the oldest first: one that follows another would count again.
    async fn remove(&self, ids: impl Iterator<Item = &String>) -> Result<(), StoreError> {
        for id in ids {
            let removed = self.engine.remove_config(id).await;
            removed.map_err(|error| self.error(&error))?;
        }
        Ok(())
    }

    /// Removes the generations of these values that count no more.
    async fn sweep(&self, identities: impl Iterator<Item = Identity>) {
        let reading = self.last();
        for identity in identities {
            if let Some(group) = reading.groups.get(&reading::group_name(&identity)) {
                self.sweep_group(group).await;
            }
        }
    }

    async fn sweep_group(&self, group: &Group) {
        if let Err(error) = self.remove(group.outdated()).await {
            debug!(%error, "An outdated config stays for now");
        }
    }

    /// Removes what nobody needs any more and seals anew what the previous secret sealed.
    /// One of three does, as all proxies come by here.
    async fn tidy(&self) {
        if fastrand::u8(..3) != 0 {
            return;
        }
        let reading = self.last();
        let now = SystemTime::now();
        let mut resealed = 0;
        for group in reading.groups.values() {
            self.sweep_group(group).await;
            let Some(object) = group.object() else {
                continue;
            };
            let outcome = if object.is_over(now, AFTERLIFE) {
                self.remove(group.generations.values()).await
            } else if group.is_sealed_before() && resealed < RESEALED {
                resealed += 1;
                self.put(&reading, object).await
            } else {
                Ok(())
            };
            if let Err(error) = outcome {
                debug!(%error, "A config stays as it is for now");
            }
        }
        self.locks.tidy().await;
    }

    fn unusable(&self, message: String) -> StoreError {
        StoreError::Unusable {
            place: self.shown.place().to_owned(),
            message,
        }
    }

    fn error(&self, error: &EngineError) -> StoreError {
        if error.is_no_manager() {
            return StoreError::NoManager {
                place: self.shown.place().to_owned(),
            };
        }
        self.unusable(Chain(error).to_string())
    }
}

fn by_name(configs: Vec<ConfigObject>) -> BTreeMap<String, ConfigObject> {
    let named = configs.into_iter();
    named.map(|config| (config.name.clone(), config)).collect()
}

impl fmt::Debug for SwarmStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwarmStore")
            .field("prefix", &self.inner.prefix)
            .field("engine", &self.inner.engine)
            .finish_non_exhaustive()
    }
}
