//! What a store shows of itself, and how often it is read for those who ask.
//!
//! Shared by the stores that talk to a service: keeps what was last read, tells a
//! trouble once when it begins and once when it is over, names each value that is of no
//! use once, and lets many who want to know at once wait for one reading. What a value
//! means is the stores' own matter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{self, Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::object::Unreadable;
use super::{Contents, Observed, StoreError};

/// The shortest time between two readings: whoever asks for nonsense makes no more.
const PACE: Duration = Duration::from_millis(50);

/// The last reading, for all who watch.
pub(super) struct Shown {
    place: String,
    sender: watch::Sender<Arc<Observed>>,
    /// When the last reading began.
    began: Mutex<Option<Instant>>,
    /// Values that were complained about.
    named: sync::Mutex<BTreeSet<String>>,
}

impl Shown {
    pub(super) fn new(place: String) -> Self {
        let nothing = Observed {
            contents: None,
            at: None,
            trouble: None,
        };
        Self {
            place,
            sender: watch::Sender::new(Arc::new(nothing)),
            began: Mutex::new(None),
            named: sync::Mutex::default(),
        }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn receiver(&self) -> watch::Receiver<Arc<Observed>> {
        self.sender.subscribe()
    }

    /// Reads by `read`, unless somebody else has begun to after this was called, and
    /// shows the outcome. `read` gives the contents and a remark on what is wrong with them.
    pub(super) async fn refresh<F>(&self, read: impl FnOnce() -> F) -> Result<(), StoreError>
    where
        F: Future<Output = Result<(Contents, Option<String>), StoreError>>,
    {
        let called = Instant::now();
        let mut began = self.began.lock().await;
        if let Some(last) = *began {
            if last >= called && self.sender.borrow().trouble.is_none() {
                return Ok(());
            }
            sleep_until(last + PACE).await;
        }
        let now = Instant::now();
        *began = Some(now);
        match read().await {
            Ok((contents, remark)) => {
                self.seen(contents, Some(now), remark);
                Ok(())
            }
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    /// The same for a part: `read` gives the contents with that part as it is now. What
    /// else is there is not younger for it.
    pub(super) async fn refresh_part<F>(&self, read: impl FnOnce() -> F) -> Result<(), StoreError>
    where
        F: Future<Output = Result<(Contents, Option<String>), StoreError>>,
    {
        let _turn = self.began.lock().await;
        let (contents, remark) = read().await.inspect_err(|error| self.failed(error))?;
        let at = self.sender.borrow().at;
        self.seen(contents, at, remark);
        Ok(())
    }

    /// Names in the log each value that is of no use, once. Returns what an operator must
    /// know: of values that this proxy should be able to read and can't. `what` is what
    /// holds a value there.
    pub(super) fn remark(
        &self,
        what: &str,
        unreadable: &BTreeMap<String, Unreadable>,
    ) -> Option<String> {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, trouble) in unreadable {
            if !named.contains(name) {
                let (store, error) = (self.place(), trouble.message.as_str());
                warn!(
                    store,
                    name, error, "A value is none of ours and is left alone"
                );
            }
        }
        *named = unreadable.keys().cloned().collect();
        let mut foreign = unreadable.iter().filter(|(_, it)| it.is_foreign);
        let (first, trouble) = foreign.next()?;
        let more = match foreign.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = &trouble.message;
        Some(format!("{what} {first}{more} can't be read: {message}"))
    }

    fn seen(&self, contents: Contents, at: Option<Instant>, trouble: Option<String>) {
        self.report(trouble.as_deref());
        self.sender.send_modify(|observed| {
            let known = observed.contents.as_ref();
            let contents = match known.filter(|known| ***known == contents) {
                Some(known) => Arc::clone(known),
                None => Arc::new(contents),
            };
            *observed = Arc::new(Observed {
                contents: Some(contents),
                at,
                trouble,
            });
        });
    }

    /// Nobody knows what is there now; what was known stays.
    fn failed(&self, error: &StoreError) {
        let trouble = error.to_string();
        self.report(Some(&trouble));
        self.sender.send_modify(|observed| {
            *observed = Arc::new(Observed {
                trouble: Some(trouble),
                ..(**observed).clone()
            });
        });
    }

    fn report(&self, trouble: Option<&str>) {
        let before = self.sender.borrow().trouble.clone();
        match (before.as_deref(), trouble) {
            (before, Some(now)) if before != Some(now) => {
                warn!(
                    store = self.place,
                    error = now,
                    "A certificate store has trouble"
                );
            }
            (Some(_), None) => info!(store = self.place, "A certificate store is well again"),
            _ => {}
        }
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_share_a_reading() {
        let shown = Shown::new("there".to_owned());
        let readings = AtomicUsize::new(0);
        let read = async || {
            readings.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
            Ok((Contents::default(), None))
        };
        let asked = (0..100).map(|_| shown.refresh(read));
        futures_util::future::try_join_all(asked).await.unwrap();
        // One had begun when the others asked; the next one is theirs.
        assert!(readings.load(Ordering::Relaxed) <= 2);
        assert!(shown.receiver().borrow().contents.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_leaves_what_was_known() {
        let shown = Shown::new("there".to_owned());
        let remark = || Some("one is broken".to_owned());
        let good = async || Ok((Contents::default(), remark()));
        shown.refresh(good).await.unwrap();
        let bad = async || {
            Err(StoreError::ReadOnly {
                place: "there".to_owned(),
            })
        };
        let first = shown.receiver().borrow().clone();
        assert_eq!(first.trouble, remark());
        shown.refresh(bad).await.unwrap_err();
        let second = shown.receiver().borrow().clone();
        assert!(second.contents.is_some());
        assert_eq!(second.at, first.at);
        let words = "there can only be read by this proxy";
        assert_eq!(second.trouble.as_deref(), Some(words));
    }
}
