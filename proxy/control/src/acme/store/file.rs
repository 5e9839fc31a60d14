//! The store that is one file in Traefik's format, alone or on a shared mount.
//!
//! Every proxy that names the file reads it again when somebody wrote it, changes it
//! under a lock on top of what is there, and replaces it in one step, so nothing that
//! others wrote is lost and nobody reads half of it. [`disk`] knows the file, [`lock`]
//! who may do what; this module is the asynchronous shell. Beside `acme.json` lie
//! `acme.json.lock`, `acme.json.challenges`, and `acme.json.lock.*` while locks are held.

mod claim;
mod disk;
mod journal;
mod lease;
mod lock;
mod source;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::{Change, Lease, Observed, Store, StoreError};
use disk::Disk;
use lock::Subject;

/// How often the file is looked at. Nothing tells of what other machines write.
const POLL: Duration = Duration::from_millis(500);

/// How often it is looked at because somebody asks.
const REFRESH: Duration = Duration::from_millis(100);

/// When a mount that does not answer is called that.
const SILENCE: Duration = Duration::from_secs(5);

/// The store in a file.
#[derive(Debug)]
pub struct FileStore {
    place: String,
    disk: Arc<Mutex<Disk>>,
    observed: watch::Sender<Arc<Observed>>,
    /// When the last look began that somebody asked for.
    looked: Mutex<Option<Instant>>,
}

/// Opens the store in the file `path`, which is made if it does not exist. What is wrong
/// with it is in [`Store::observed`]; it is looked at again and again as long as the store
/// is used. Needs a runtime around it.
pub fn open(path: &Path) -> Arc<FileStore> {
    let store = Arc::new(FileStore {
        place: path.display().to_string(),
        disk: Arc::new(Mutex::new(Disk::new(path))),
        observed: watch::Sender::new(Arc::new(Observed {
            contents: None,
            at: None,
            trouble: None,
        })),
        looked: Mutex::new(None),
    });
    tokio::spawn(follow(Arc::downgrade(&store)));
    store
}

/// Looks at the file until nobody uses the store any more.
async fn follow(store: Weak<FileStore>) {
    loop {
        match store.upgrade() {
            Some(store) => store.look_patiently().await,
            None => return,
        }
        sleep(POLL).await;
    }
}

impl FileStore {
    /// Looks, and says so if no answer comes.
    async fn look_patiently(&self) {
        let mut look = self.look().boxed();
        if timeout(SILENCE, &mut look).await.is_err() {
            let known = Observed::clone(&self.observed.borrow());
            let trouble = Some(format!("{}: its mount does not answer", self.place));
            self.show(Observed { trouble, ..known });
            let _ = look.await;
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        self.on_disk(|disk| disk.look()).await
    }

    /// Does something with the file where blocking is allowed, one at a time, and shows
    /// what is known afterwards.
    async fn on_disk<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Disk) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut disk = Arc::clone(&self.disk).lock_owned().await;
        let done = spawn_blocking(move || {
            let outcome = act(&mut disk);
            let seen = Observed {
                contents: disk.contents(),
                at: disk.read_at(),
                trouble: disk.trouble(),
            };
            (outcome, seen)
        });
        let (outcome, seen) = done.await.map_err(|_| self.broken())?;
        self.show(seen);
        outcome
    }

    /// Shows what is known, and wakes nobody if only the time is new.
    fn show(&self, seen: Observed) {
        self.say(seen.trouble.as_deref());
        self.observed.send_if_modified(|observed| {
            let is_same = match (&observed.contents, &seen.contents) {
                (Some(known), Some(new)) => Arc::ptr_eq(known, new),
                (known, new) => known.is_none() && new.is_none(),
            };
            let is_news = !is_same || observed.trouble != seen.trouble;
            *observed = Arc::new(seen);
            is_news
        });
    }

    /// Tells the log what is new about the trouble.
    fn say(&self, trouble: Option<&str>) {
        let known = self.observed.borrow().trouble.clone();
        match trouble {
            Some(trouble) if known.as_deref() != Some(trouble) => {
                warn!(store = %self.place, reason = trouble, "The certificates' store is in trouble");
            }
            None if known.is_some() => {
                info!(store = %self.place, "The certificates' store works again");
            }
            _ => {}
        }
    }

    fn broken(&self) -> StoreError {
        StoreError::Unusable {
            place: self.place.clone(),
            message: "the work on it was cut short".to_owned(),
        }
    }

    /// Looks at the file unless somebody began to after this was called, and not too often.
    async fn look_for_somebody(&self) -> Result<(), StoreError> {
        let asked = Instant::now();
        let mut looked = self.looked.lock().await;
        if let Some(last) = *looked {
            if last >= asked {
                return Ok(());
            }
            sleep_until(last + REFRESH).await;
        }
        *looked = Some(Instant::now());
        self.look().await
    }

    async fn try_lock(
        &self,
        name: &str,
        patience: Duration,
    ) -> Result<Option<Box<dyn Lease>>, StoreError> {
        let locks = self.on_disk(Disk::locks).await?;
        let (name, file) = (name.to_owned(), Arc::clone(&locks));
        let tried = spawn_blocking(move || {
            let now = std::time::Instant::now();
            file.try_lock(Subject::Name(&name), patience, now)
        });
        let tried = tried.await.map_err(|_| self.broken())?;
        let held = tried.map_err(|error| StoreError::Unusable {
            place: self.place.clone(),
            message: format!("a lock can't be taken: {error}"),
        })?;
        let path = locks.file().to_owned();
        Ok(held.map(|held| lease::keep(held, path, patience)))
    }
}

impl Store for FileStore {
    fn place(&self) -> &str {
        &self.place
    }

    fn observed(&self) -> watch::Receiver<Arc<Observed>> {
        self.observed.subscribe()
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.look_for_somebody().boxed()
    }

    fn apply<'a>(
        &'a self,
        resolver: &'a str,
        changes: Vec<Change>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let resolver = resolver.to_owned();
        self.on_disk(move |disk| disk.apply(&resolver, changes, SystemTime::now()))
            .boxed()
    }

    fn lock<'a>(
        &'a self,
        name: &'a str,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Lease>>, StoreError>> {
        self.try_lock(name, patience).boxed()
    }
}
