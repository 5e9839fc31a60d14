//! How one worker asks the others to look after their pools.
//!
//! There is one mailbox for each worker that has connections. A letter says no
//! more than "look": what is wanted stands in what all share of the servers. So
//! any number of letters is one, and none is lost. The pool opens and reads it.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

static ALL: Mutex<Vec<Arc<Notify>>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: RefCell<Option<Arc<Notify>>> = const { RefCell::new(None) };
}

/// This worker's mailbox. Closed when it is dropped.
#[derive(Debug)]
pub(super) struct Mailbox(Arc<Notify>);

impl Mailbox {
    /// Opens the mailbox of this worker, which had none.
    pub(super) fn open() -> Self {
        let letters = Arc::new(Notify::new());
        all().push(Arc::clone(&letters));
        OWN.set(Some(Arc::clone(&letters)));
        Self(letters)
    }

    /// Waits for a letter. Nothing is lost when the wait is given up.
    pub(super) async fn letter(&self) {
        self.0.notified().await;
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        all().retain(|one| !Arc::ptr_eq(one, &self.0));
        // Gone already when the thread ends.
        let _ = OWN.try_with(|own| own.replace(None));
    }
}

/// Asks all workers but this one; false if there is none.
pub(super) fn ask_others() -> bool {
    OWN.try_with(|own| ask(own.borrow().as_ref()))
        .unwrap_or(false)
}

/// Asks all workers.
pub(super) fn ask_all() {
    ask(None);
}

fn ask(but: Option<&Arc<Notify>>) -> bool {
    let is_meant = |one: &&Arc<Notify>| but.is_none_or(|own| !Arc::ptr_eq(one, own));
    let all = all();
    all.iter()
        .filter(is_meant)
        .map(|one| one.notify_one())
        .count()
        > 0
}

fn all() -> MutexGuard<'static, Vec<Arc<Notify>>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}
