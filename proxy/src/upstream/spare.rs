//! Idle connections that no worker claims.
//!
//! A worker keeps a few idle connections to each server for itself and gives
//! the others here once they have rested for a while; a worker that has none
//! looks here before it opens one. Busy connections come here only while workers
//! compete for those of a server with a limit, so otherwise the lock is touched
//! only where a connection would be opened. Never dropped under that lock: who
//! drops a spare frees a place, and may find somebody who waits for it.

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::place::Place;

/// An idle connection in the clear, which belongs to no event loop.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) socket: TcpStream,
    pub(super) since: Instant,
    /// When it was last found alive.
    pub(super) seen: Instant,
    pub(super) keep_for: Option<Duration>,
    pub(super) age: u32,
    /// Below the socket, which has to be closed first.
    pub(super) place: Place,
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

    /// Closes the connection and leaves its place.
    pub(super) fn into_place(self) -> Place {
        drop(self.socket);
        let mut place = self.place;
        place.wake();
        place
    }
}

impl Spares {
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    pub(super) fn give(&self, spare: Spare) {
        self.change(|list| list.push(spare));
    }

    /// Takes the one that was given last.
    pub(super) fn take(&self) -> Option<Spare> {
        self.take_if(|_| true)
    }

    /// Takes the one that was given last, if it is `wanted`.
    pub(super) fn take_if(&self, wanted: impl FnOnce(&Spare) -> bool) -> Option<Spare> {
        if self.is_empty() {
            return None;
        }
        self.change(|list| list.pop_if(|spare| wanted(spare)))
    }

    /// Takes the one that was given first.
    pub(super) fn take_first(&self) -> Option<Spare> {
        if self.is_empty() {
            return None;
        }
        self.change(|list| (!list.is_empty()).then(|| list.remove(0)))
    }

    pub(super) fn take_all(&self) -> Vec<Spare> {
        self.take_unless(|_| false)
    }

    /// Takes all that are not `wanted`.
    pub(super) fn take_unless(&self, mut wanted: impl FnMut(&mut Spare) -> bool) -> Vec<Spare> {
        if self.is_empty() {
            return Vec::new();
        }
        self.change(|list| list.extract_if(.., |spare| !wanted(spare)).collect())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<Spare>) -> T) -> T {
        let mut list = self.lock();
        let result = change(&mut list);
        self.count.store(list.len(), Ordering::SeqCst);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Spare>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
