//! The connections of one entry point on one worker, and how they are woken.
//!
//! Owns the answer to "does the entry point close?", which every connection asks
//! in every turn and so must cost nothing, and the sweep that finds HTTP/1
//! connections that have been idle for a moment and tells them to give back what
//! they don't need. It touches no socket; the accept loop runs the sweep.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::state::State;

/// How often idle connections are looked for. One that is found idle twice in a
/// row, without a request in between, is told to rest.
const SWEEP: Duration = Duration::from_millis(500);

/// How many sweeps after connections went to rest the allocator is reminded of
/// the memory that they gave back: a little longer than its own delay of a second.
const REMINDER: u32 = 4;

/// Longer than anything the allocator serves from a shared page.
const REMINDER_SIZE: usize = 4 * 1024 * 1024;

/// All connections of an entry point on this worker.
#[derive(Debug, Default)]
pub(super) struct Roster {
    is_closing: Cell<bool>,
    /// How many connections the sweep has to look at.
    watched: Cell<usize>,
    is_wanted: Notify,
    seats: RefCell<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    all: Vec<Option<Seat>>,
    free: Vec<usize>,
}

#[derive(Debug, Default)]
struct Seat {
    waker: Option<Waker>,
    /// Present as long as the sweep shall look at the connection.
    state: Option<Arc<State>>,
    /// How many requests there had been when it was last found idle.
    idle_since: Option<u64>,
}

impl Roster {
    /// A place for one more connection.
    pub(super) fn join(self: &Rc<Self>) -> Member {
        let mut seats = self.seats.borrow_mut();
        let seat = seats.free.pop().unwrap_or(seats.all.len());
        match seats.all.get_mut(seat) {
            Some(place) => *place = Some(Seat::default()),
            None => seats.all.push(Some(Seat::default())),
        }
        drop(seats);
        Member {
            roster: Rc::clone(self),
            seat,
            waker: None,
        }
    }

    /// Tells all connections, those to come too, that the entry point closes.
    pub(super) fn close(&self) {
        self.is_closing.set(true);
        for seat in self.seats.borrow().all.iter().flatten() {
            seat.waker.iter().for_each(Waker::wake_by_ref);
        }
    }

    /// Looks for idle connections for ever, as long as there are any to look at.
    pub(super) async fn keep_sweeping(&self) {
        let mut reminder = 0;
        loop {
            if self.watched.get() == 0 && reminder == 0 {
                self.is_wanted.notified().await;
            }
            sleep(SWEEP).await;
            let rested = self.sweep();
            if reminder > 0 {
                reminder -= 1;
                if reminder == 0 {
                    remind_allocator();
                }
            } else if rested > 0 {
                reminder = REMINDER;
            }
        }
    }

    /// Returns how many connections were told to rest.
    fn sweep(&self) -> usize {
        let mut seats = self.seats.borrow_mut();
        let seats = seats.all.iter_mut().flatten();
        seats.map(Seat::look).filter(|rests| *rests).count()
    }

    /// Whether no connection is in hyper's hands.
    #[cfg(test)]
    pub(super) fn rests(&self) -> bool {
        self.watched.get() == 0
    }

    fn leave(&self, index: usize) {
        let mut seats = self.seats.borrow_mut();
        let seat = seats.all.get_mut(index).and_then(Option::take);
        seats.free.push(index);
        if seats.free.len() == seats.all.len() {
            *seats = Seats::default();
        }
        drop(seats);
        if seat.is_some_and(|seat| seat.state.is_some()) {
            self.watched.set(self.watched.get() - 1);
        }
    }

    fn with_seat<R>(&self, index: usize, act: impl FnOnce(&mut Seat) -> R) -> Option<R> {
        self.seats
            .borrow_mut()
            .all
            .get_mut(index)
            .and_then(Option::as_mut)
            .map(act)
    }
}

impl Seat {
    /// Whether the connection was told to rest.
    fn look(&mut self) -> bool {
        let Some(state) = &self.state else {
            return false;
        };
        let requests = state.is_quiet().then(|| state.requests());
        let rests = requests.is_some() && requests == self.idle_since;
        if rests {
            state.ask_to_rest();
            self.waker.iter().for_each(Waker::wake_by_ref);
        }
        self.idle_since = requests;
        rests
    }
}

/// mimalloc gives free memory back to the system when its time has come and a
/// whole page is freed; on a server that has become quiet none is. So one is
/// freed, of which no byte was ever touched.
fn remind_allocator() {
    drop(black_box(Vec::<u8>::with_capacity(REMINDER_SIZE)));
}

/// The place of one connection, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Member {
    roster: Rc<Roster>,
    seat: usize,
    /// What the seat holds, to be compared without looking there.
    waker: Option<Waker>,
}

impl Member {
    /// Whether the entry point closes.
    pub(super) fn is_closing(&self) -> bool {
        self.roster.is_closing.get()
    }

    /// Has the task of `cx` woken by the roster from now on.
    pub(super) fn register(&mut self, cx: &Context<'_>) {
        let is_known = |known: &Waker| known.will_wake(cx.waker());
        if self.waker.as_ref().is_some_and(is_known) {
            return;
        }
        self.waker = Some(cx.waker().clone());
        let waker = Some(cx.waker().clone());
        self.roster.with_seat(self.seat, |seat| seat.waker = waker);
    }

    /// Resolves when the entry point closes.
    pub(super) async fn closed(&mut self) {
        poll_fn(|cx| {
            if self.is_closing() {
                return Poll::Ready(());
            }
            self.register(cx);
            Poll::Pending
        })
        .await;
    }

    /// Lets the sweep look at the connection.
    pub(super) fn watch(&self, state: &Arc<State>) {
        let state = Some(Arc::clone(state));
        let before = self.roster.with_seat(self.seat, |seat| {
            seat.idle_since = None;
            std::mem::replace(&mut seat.state, state)
        });
        if matches!(before, Some(None)) {
            let watched = self.roster.watched.get();
            self.roster.watched.set(watched + 1);
            if watched == 0 {
                self.roster.is_wanted.notify_one();
            }
        }
    }

    /// Hides the connection from the sweep.
    pub(super) fn unwatch(&self) {
        let before = self.roster.with_seat(self.seat, |seat| seat.state.take());
        if matches!(before, Some(Some(_))) {
            self.roster.watched.set(self.roster.watched.get() - 1);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.roster.leave(self.seat);
    }
}
