//! A request in the queue.
//!
//! Owns the seat, where whoever frees a slot leaves it for this request, and the
//! future that the request awaits. The caller puts its own timer around the
//! future; dropping it leaves the queue, and a slot that had been handed over
//! meanwhile passes on to the next.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use smallvec::SmallVec;

use super::Refusal;
use super::group::Group;
use super::queue::{Place, Rank};
use super::server::{ServerKey, ServerState};
use super::slot::Slot;

/// Servers that a request will not go to.
pub(super) type Excluded = SmallVec<[ServerKey; 4]>;

/// One waiting request, shared by the queue and its future.
pub(super) struct Seat<T> {
    pub(super) place: Place,
    /// The server it wants, even after it moved on to the service's line.
    pub(super) bound: Option<Arc<ServerState<T>>>,
    pub(super) excluded: Excluded,
    state: Mutex<SeatState<T>>,
}

enum SeatState<T> {
    /// In a line; the waker is there from the first poll on.
    Waiting(Option<Waker>),
    /// Out of the line, the answer not yet collected.
    Settled(Result<Slot<T>, Refusal>),
    /// The answer was collected.
    Empty,
}

impl<T> Seat<T> {
    pub(super) const fn new(
        place: Place,
        bound: Option<Arc<ServerState<T>>>,
        excluded: Excluded,
    ) -> Self {
        Self {
            place,
            bound,
            excluded,
            state: Mutex::new(SeatState::Waiting(None)),
        }
    }

    /// Leaves the answer; the seat must be out of its line, the queue's lock
    /// held. The waker is to be woken once that lock is released.
    pub(super) fn settle(&self, answer: Result<Slot<T>, Refusal>) -> Option<Waker> {
        match mem::replace(&mut *self.lock(), SeatState::Settled(answer)) {
            SeatState::Waiting(waker) => waker,
            SeatState::Settled(_) | SeatState::Empty => None,
        }
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<Slot<T>, Refusal>> {
        let mut state = self.lock();
        match &mut *state {
            SeatState::Waiting(Some(known)) => known.clone_from(waker),
            SeatState::Waiting(unknown) => *unknown = Some(waker.clone()),
            SeatState::Settled(_) | SeatState::Empty => {}
        }
        match mem::replace(&mut *state, SeatState::Empty) {
            SeatState::Settled(answer) => Poll::Ready(answer),
            other => {
                *state = other;
                Poll::Pending
            }
        }
    }

    /// Empties the seat; what it held is dropped by the caller, without a lock.
    fn vacate(&self) -> SeatState<T> {
        mem::replace(&mut *self.lock(), SeatState::Empty)
    }

    fn lock(&self) -> MutexGuard<'_, SeatState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's wait for a slot. Resolves to the slot, or to the refusal when no
/// server is left that could serve it. Cancel by dropping.
#[must_use = "a waiter that is dropped leaves the queue"]
pub struct Waiter<T> {
    seat: Arc<Seat<T>>,
    group: Arc<Group<T>>,
    collected: bool,
}

impl<T> Waiter<T> {
    pub(super) const fn new(seat: Arc<Seat<T>>, group: Arc<Group<T>>) -> Self {
        Self {
            seat,
            group,
            collected: false,
        }
    }

    /// The key it waits under, to be used again if the request is redispatched.
    pub fn rank(&self) -> Rank {
        self.seat.place.rank
    }

    /// The answer that lies in the seat, uncollected.
    #[cfg(test)]
    pub(super) fn answer(&self) -> Option<Result<Arc<ServerState<T>>, Refusal>> {
        match &*self.seat.lock() {
            SeatState::Settled(Ok(slot)) => Some(Ok(Arc::clone(slot.server()))),
            SeatState::Settled(Err(refusal)) => Some(Err(*refusal)),
            SeatState::Waiting(_) | SeatState::Empty => None,
        }
    }

    /// Whether it joined the line of this server.
    #[cfg(test)]
    pub(super) fn stands_at(&self, server: &Arc<ServerState<T>>) -> bool {
        self.seat
            .bound
            .as_ref()
            .is_some_and(|bound| Arc::ptr_eq(bound, server))
    }
}

impl<T> Future for Waiter<T> {
    type Output = Result<Slot<T>, Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = self.seat.poll(context.waker());
        self.collected |= answer.is_ready();
        answer
    }
}

impl<T> Drop for Waiter<T> {
    fn drop(&mut self) {
        if self.collected {
            return;
        }
        // Out of the line first: from then on nobody can leave a slot here, and
        // one that was left before passes on as it drops.
        self.group.withdraw(&self.seat);
        drop(self.seat.vacate());
    }
}

impl<T> fmt::Debug for Waiter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter")
            .field("place", &self.seat.place)
            .finish_non_exhaustive()
    }
}
