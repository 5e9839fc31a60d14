//! The connections of one entry point on one worker, and how they are woken.
//!
//! Owns the answer to "does the entry point close?", which every connection asks
//! in every turn and so must cost nothing, and sees to it that memory goes back
//! to the system when the connections have become quiet. It touches no socket;
//! the accept loop runs what is to be run.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::hint::black_box;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// How long a connection that never asked anything is kept when the entry point closes.
pub(super) const LAST_CALL: Duration = Duration::from_secs(1);

/// For how long nothing must have happened for the connections to count as
/// quiet: a little longer than the allocator's own delay of a second.
const QUIET: Duration = Duration::from_millis(2500);

/// Longer than anything the allocator serves from a shared page.
const REMINDER_SIZE: usize = 4 * 1024 * 1024;

/// All connections of an entry point on this worker.
#[derive(Debug, Default)]
pub(super) struct Roster {
    is_closing: Cell<bool>,
    /// Whether anything has happened since it was last asked.
    is_busy: Cell<bool>,
    becomes_busy: Notify,
    seats: RefCell<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    all: Vec<Option<Seat>>,
    free: Vec<usize>,
}

/// The task of a connection, once that is known.
type Seat = Option<Waker>;

impl Roster {
    /// A place for one more connection.
    pub(super) fn join(self: &Rc<Self>) -> Member {
        let mut seats = self.seats.borrow_mut();
        let seat = seats.free.pop().unwrap_or(seats.all.len());
        match seats.all.get_mut(seat) {
            Some(place) => *place = Some(None),
            None => seats.all.push(Some(None)),
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
        for waker in self.seats.borrow().all.iter().flatten().flatten() {
            waker.wake_by_ref();
        }
    }

    /// Gives memory back for ever, whenever the connections have become quiet.
    pub(super) async fn keep_tidy(&self) {
        loop {
            self.becomes_busy.notified().await;
            while self.is_busy.replace(false) {
                sleep(QUIET).await;
            }
            remind_allocator();
        }
    }

    fn leave(&self, index: usize) {
        let mut seats = self.seats.borrow_mut();
        if let Some(seat) = seats.all.get_mut(index) {
            *seat = None;
        }
        seats.free.push(index);
        if seats.free.len() == seats.all.len() {
            *seats = Seats::default();
        }
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
        if !self.roster.is_busy.replace(true) {
            self.roster.becomes_busy.notify_one();
        }
        let is_known = |known: &Waker| known.will_wake(cx.waker());
        if self.waker.as_ref().is_some_and(is_known) {
            return;
        }
        self.waker = Some(cx.waker().clone());
        let mut seats = self.roster.seats.borrow_mut();
        if let Some(seat) = seats.all.get_mut(self.seat) {
            *seat = Some(Some(cx.waker().clone()));
        }
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
}

impl Drop for Member {
    fn drop(&mut self) {
        self.roster.leave(self.seat);
    }
}
