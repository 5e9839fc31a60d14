//! Locks as configs: `PREFIX.lock.HASH`, labelled with who holds it and a count.
//!
//! Making the config takes the lock, as its name can be used only once. The holder
//! counts its label up, which the managers do only for who knows the config's last
//! version. A lock whose version did not change for `patience`, by the clock of who
//! waits, is taken over by the same step, so that of several who wait one gets it,
//! and a holder that was only slow learns it at its next count. Let go, it is removed
//! by its id, which is never used twice. No machine's clock is compared with another's.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_shared::docker::{ConfigObject, Configs, EngineError, Labels};
use tokio::time::Instant;

use super::super::Lease;
use super::super::kept::{self, Kept, Renewal};
use super::super::object::short_hash;
use super::STORE_LABEL;

const OWNER_LABEL: &str = "tidegate.owner";
const COUNT_LABEL: &str = "tidegate.count";
const NAME_LABEL: &str = "tidegate.lock";

/// A lock of the dead that nobody wants any more is removed after so long.
const ABANDONED: Duration = Duration::from_secs(600);

/// Whether a config of this name is a lock.
pub(super) fn is_lock(prefix: &str, name: &str) -> bool {
    let rest = name.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.starts_with(".lock."))
}

/// The locks of a store.
pub(super) struct Locks {
    prefix: String,
    /// This store, as no other is called.
    owner: String,
    /// Tells the locks of this store apart.
    taken: AtomicU64,
    engine: Arc<dyn Configs>,
    /// Locks of others by name, and since when they have not changed.
    seen: Mutex<BTreeMap<String, Seen>>,
}

struct Seen {
    config: ConfigObject,
    since: Instant,
}

impl Locks {
    pub(super) fn new(prefix: &str, owner: &str, engine: Arc<dyn Configs>) -> Self {
        Self {
            prefix: prefix.to_owned(),
            owner: format!("{owner}-{:016x}", fastrand::u64(..)),
            taken: AtomicU64::new(0),
            engine,
            seen: Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the locks among all configs of the store, and forgets those that are gone.
    pub(super) fn observe(&self, configs: &[ConfigObject]) {
        let locks = configs
            .iter()
            .filter(|config| is_lock(&self.prefix, &config.name));
        let mut now: BTreeMap<_, _> = locks.map(|lock| (lock.name.as_str(), lock)).collect();
        self.seen()
            .retain(|name, _| now.contains_key(name.as_str()));
        for lock in now.values_mut() {
            self.note(lock);
        }
    }

    /// For how long this lock has been as it is now.
    fn note(&self, config: &ConfigObject) -> Duration {
        let now = Instant::now();
        let mut seen = self.seen();
        let known = seen.entry(config.name.clone()).or_insert_with(|| Seen {
            config: config.clone(),
            since: now,
        });
        if (&known.config.id, known.config.version) != (&config.id, config.version) {
            *known = Seen {
                config: config.clone(),
                since: now,
            };
        }
        now.saturating_duration_since(known.since)
    }

    /// The lock, if nobody who is alive holds it.
    pub(super) async fn lock(
        this: &Arc<Self>,
        name: &str,
        patience: Duration,
    ) -> Result<Option<Box<dyn Lease>>, EngineError> {
        let count = this.taken.fetch_add(1, Ordering::Relaxed);
        let owner = format!("{}-{count}", this.owner);
        let config = format!("{}.lock.{}", this.prefix, short_hash(&[name]));
        let began = Instant::now();
        let is_ours = match this.engine.config(&config).await? {
            None => {
                let labels = this.labels(name, &owner);
                let data = b"a lock of Tidegate";
                this.engine.create_config(&config, &labels, data).await?
            }
            Some(held) if this.note(&held) >= patience => {
                let labels = this.labels(name, &owner);
                this.engine.label_config(&held, &labels).await?
            }
            Some(_) => false,
        };
        if !is_ours {
            return Ok(None);
        }
        // Its version is not told by the answer.
        let found = this.engine.config(&config).await?;
        let Some(config) = found.filter(|found| holder(found) == Some(&owner)) else {
            return Ok(None);
        };
        let held = Held {
            locks: Arc::clone(this),
            owner,
            config,
            patience,
        };
        Ok(Some(Kept::start(held, began)))
    }

    fn labels(&self, name: &str, owner: &str) -> Labels {
        Labels::from([
            (STORE_LABEL.to_owned(), self.prefix.clone()),
            ("tidegate.kind".to_owned(), "lock".to_owned()),
            (NAME_LABEL.to_owned(), name.chars().take(300).collect()),
            (OWNER_LABEL.to_owned(), owner.to_owned()),
        ])
    }

    /// Removes locks that nobody holds and nobody wants.
    pub(super) async fn tidy(self: &Arc<Self>) {
        let now = Instant::now();
        let abandoned = |seen: &&Seen| now.saturating_duration_since(seen.since) >= ABANDONED;
        let old: Vec<_> = {
            let seen = self.seen();
            seen.values()
                .filter(abandoned)
                .map(|seen| seen.config.clone())
                .collect()
        };
        for config in old {
            let held = Held {
                locks: Arc::clone(self),
                owner: format!("{}-tidy", self.owner),
                config,
                patience: ABANDONED,
            };
            held.take_and_remove().await;
        }
    }
}

fn holder(config: &ConfigObject) -> Option<&String> {
    config.labels.get(OWNER_LABEL)
}

/// A lock that is, or was, ours.
struct Held {
    locks: Arc<Locks>,
    owner: String,
    config: ConfigObject,
    patience: Duration,
}

impl Held {
    /// One more, if it is still ours. Looks twice: our last step may have been made
    /// although its answer was lost.
    async fn count(&mut self) -> Result<bool, EngineError> {
        for _ in 0..2 {
            let is_done = self.step().await?;
            let engine = &self.locks.engine;
            let Some(found) = engine.config(&self.config.name).await? else {
                return Ok(false);
            };
            if found.id != self.config.id || holder(&found) != Some(&self.owner) {
                return Ok(false);
            }
            self.config = found;
            if is_done {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn step(&self) -> Result<bool, EngineError> {
        let mut labels = self.config.labels.clone();
        let count = labels.get(COUNT_LABEL).and_then(|it| it.parse().ok());
        let count = count.unwrap_or(0_u64).wrapping_add(1);
        labels.insert(COUNT_LABEL.to_owned(), count.to_string());
        labels.insert(OWNER_LABEL.to_owned(), self.owner.clone());
        self.locks.engine.label_config(&self.config, &labels).await
    }

    /// Takes over a lock of the dead and removes it.
    async fn take_and_remove(self) {
        if let Ok(true) = self.step().await {
            drop(self.locks.engine.remove_config(&self.config.id).await);
        }
    }
}

impl kept::Held for Held {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn term(&self) -> Duration {
        self.patience
    }

    async fn renew(&mut self) -> Option<Renewal> {
        let is_ours = self.count().await.ok()?;
        Some(if is_ours {
            Renewal::Held(self.patience)
        } else {
            Renewal::Lost
        })
    }

    /// Removes it, right after it was seen to be ours.
    async fn let_go(mut self) {
        if let Ok(true) = self.count().await {
            drop(self.locks.engine.remove_config(&self.config.id).await);
        }
    }
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks")
            .field("prefix", &self.prefix)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}
