//! What the parts of one HTTP/2 connection tell each other: how many streams are
//! open, until when that may last, and whether more may follow.
//!
//! The handler and the bodies report; the driver of the connection reads. All of
//! it is on one thread.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::config::startup::RespondingTimeouts;

/// Time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) read: Option<Duration>,
    pub(super) write: Option<Duration>,
    pub(super) idle: Option<Duration>,
}

impl From<&RespondingTimeouts> for Limits {
    fn from(timeouts: &RespondingTimeouts) -> Self {
        Self {
            read: timeouts.read_timeout.limit(),
            write: timeouts.write_timeout.limit(),
            // Go, and so Traefik, lets the other limit stand in for this one.
            idle: timeouts
                .idle_timeout
                .limit()
                .or_else(|| timeouts.read_timeout.limit()),
        }
    }
}

#[derive(Debug)]
pub(super) struct State {
    opened: Instant,
    limits: Limits,
    deadline: Cell<Option<Instant>>,
    requests: Cell<u64>,
    streams: Cell<usize>,
    is_last: Cell<bool>,
}

impl State {
    /// A connection that was accepted at `opened` and speaks HTTP now.
    pub(super) fn new(opened: Instant, limits: Limits) -> Self {
        Self {
            opened,
            limits,
            deadline: Cell::new(limits.idle.map(|limit| opened + limit)),
            requests: Cell::new(0),
            streams: Cell::new(0),
            is_last: Cell::new(false),
        }
    }

    /// Until when the connection may go on as it is.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.get()
    }

    /// Lets the connection go on as it is for `limit` from now on.
    pub(super) fn extend(&self, limit: Duration) {
        self.deadline.set(Some(clock::now() + limit));
    }

    /// A request's head is complete.
    pub(super) fn begin_request(self: &Rc<Self>) -> Ticket {
        self.requests.set(self.requests.get() + 1);
        self.streams.set(self.streams.get() + 1);
        self.deadline.set(None);
        let Limits { read, write, .. } = self.limits;
        let until = |limit| clock::now() + limit;
        Ticket {
            count: self.requests.get(),
            read_until: read.map(until),
            write_until: write.map(until),
            state: Rc::clone(self),
        }
    }

    fn end_request(&self) {
        self.streams.set(self.streams.get().saturating_sub(1));
        if !self.has_streams() {
            self.deadline
                .set(self.limits.idle.map(|limit| clock::now() + limit));
        }
    }

    /// Whether requests are being answered.
    pub(super) fn has_streams(&self) -> bool {
        self.streams.get() > 0
    }

    /// No request shall follow the present ones.
    pub(super) fn set_last(&self) {
        self.is_last.set(true);
    }

    /// Whether no request shall follow.
    pub(super) fn is_last(&self) -> bool {
        self.is_last.get()
    }

    /// How long the connection has lived.
    pub(super) fn age(&self) -> Duration {
        clock::now() - self.opened
    }
}

/// A request that is being answered; dropped when its response is all handed over.
#[derive(Debug)]
pub(super) struct Ticket {
    /// The how-manieth request of its connection it is, from 1.
    pub(super) count: u64,
    /// Until when its body must have been read.
    pub(super) read_until: Option<Instant>,
    /// Until when its response must have been written.
    pub(super) write_until: Option<Instant>,
    state: Rc<State>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.state.end_request();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        read: Some(Duration::from_secs(60)),
        write: None,
        idle: Some(Duration::from_secs(180)),
    };

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_without_streams() {
        let opened = Instant::now();
        let state = Rc::new(State::new(opened, LIMITS));
        assert_eq!(state.deadline(), Some(opened + Duration::from_secs(180)));
        let (one, two) = (state.begin_request(), state.begin_request());
        assert_eq!(
            one.read_until.map(|at| at - opened),
            Some(Duration::from_secs(60))
        );
        drop(one);
        assert_eq!(state.deadline(), None);
        tokio::time::advance(Duration::from_secs(5)).await;
        drop(two);
        assert_eq!(state.deadline(), Some(opened + Duration::from_secs(185)));
    }
}
