//! Idle connections that no worker claims.
//!
//! A worker keeps a few idle connections to each server for itself and gives
//! the others here once they have rested for a while; a worker that has none
//! looks here before it opens one. Busy connections never come here, so the
//! lock is touched only where otherwise a connection would be opened.

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// An idle connection in the clear, which belongs to no event loop.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) socket: TcpStream,
    pub(super) since: Instant,
    pub(super) keep_for: Option<Duration>,
    pub(super) age: u32,
}

/// All spare connections to one server.
#[derive(Debug, Default)]
pub(super) struct Spares {
    list: Mutex<Vec<Spare>>,
    /// Their number, to be asked without the lock.
    count: AtomicUsize,
}

impl Spare {
    pub(super) fn is_over(&self, now: Instant, age: u32) -> bool {
        let idle_for = now.saturating_duration_since(self.since);
        self.age != age || self.keep_for.is_some_and(|limit| idle_for >= limit)
    }
}

impl Spares {
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    pub(super) fn give(&self, spare: Spare) {
        let mut list = self.lock();
        list.push(spare);
        self.count.store(list.len(), Ordering::Relaxed);
    }

    /// Takes the one that was given last.
    pub(super) fn take(&self) -> Option<Spare> {
        if self.is_empty() {
            return None;
        }
        let mut list = self.lock();
        let spare = list.pop();
        self.count.store(list.len(), Ordering::Relaxed);
        spare
    }

    /// Closes all that are not `wanted`, and tells how many.
    pub(super) fn sort_out(&self, wanted: impl FnMut(&Spare) -> bool) -> usize {
        if self.is_empty() {
            return 0;
        }
        let mut list = self.lock();
        let before = list.len();
        list.retain(wanted);
        self.count.store(list.len(), Ordering::Relaxed);
        before - list.len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Spare>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
