//! The waiting lines of one service, and the rules that keep them honest.
//!
//! Owns two kinds of line, as HAProxy has them: one per server for requests
//! bound there (a sticky cookie, a hash) and one for those that any server may
//! answer. Pure bookkeeping: it takes no slot and wakes nobody; `group` holds
//! its lock and does both.
//!
//! # Invariants
//!
//! A request is in one of four states: *new*, *waiting* (its seat stands in
//! exactly one line), *settled* (the seat is out of the line and holds a slot or
//! a refusal), *gone*. New to waiting: the request itself. Waiting to settled:
//! whoever frees a slot, or the control plane, under the group's lock. Waiting
//! or settled to gone: the request, by collecting the answer or by dropping its
//! future, which passes an uncollected slot on.
//!
//! 1. In flight never exceeds the limit in force when the slot was taken. All
//!    counting is compare-and-swap on the server's gate, limit in the same word.
//! 2. Whenever the group's lock is free, no request waits while a server that it
//!    may use has room. So whoever finds room under the lock overtakes nobody.
//! 3. A server with a limit is *marked* while somebody waits whom it could serve.
//!    A mark turns newcomers and releases to the lock; bits change only there.
//! 4. Servers without a limit are never marked, so their requests never lock,
//!    unless 7 says otherwise.
//! 5. A freed slot goes to the best waiter: lower class, then older key, then
//!    order of joining; between the two lines a tie goes to the server's own. It
//!    stays counted while it changes hands.
//! 6. Lock order: group, then seat. Wakers run and slots drop with no lock held.
//! 7. Where a member's limit moves with the number of requests at the service, all
//!    members are marked at all times. So each request joins and leaves under the
//!    lock, which sets the limits anew and hands out what that brings: a newcomer
//!    may raise a limit for somebody who waited before it.
//! 8. Nobody waits for a server that is not there, except in a service that holds
//!    requests: these wait, whatever servers they exclude, until there is one.
//!
//! # Why no wake-up is lost
//!
//! The danger: a newcomer finds all full; the last request ends, sees nobody
//! waiting, gives its slot back and leaves; the newcomer joins the line and
//! nobody is left to wake it. Here the newcomer, under the lock, first *marks*
//! every server it could use and only then tries once more to take a slot.
//! Count and mark share one atomic word, so its changes have one order that all
//! threads agree on. A release that came before the mark is seen by the second
//! try, which takes that slot. A release that comes after it finds the mark, its
//! compare-and-swap declines, and it queues up for the lock, where it finds the
//! newcomer in line. There is no third case. The control plane (a limit raised,
//! a server come up) does the same: mark, then try, then let the lock go.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Refusal;
use super::server::{ServerKey, ServerState};
use super::waiter::Seat;

/// Who goes first: the lower class, then the earlier time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    class: i16,
    /// Microseconds since the caller's epoch, offset included.
    due: i64,
}

impl Rank {
    /// A priority class (lower goes first), the time of arrival since any epoch
    /// that all callers of one group share, and a shift of it in milliseconds
    /// (HAProxy's `set-priority-class` and `set-priority-offset`).
    pub fn new(class: i16, arrival: Duration, offset_millis: i32) -> Self {
        let arrival = i64::try_from(arrival.as_micros()).unwrap_or(i64::MAX);
        let offset = i64::from(offset_millis) * 1000;
        Self {
            class,
            due: arrival.saturating_add(offset),
        }
    }

    /// Class zero, no offset.
    pub fn at(arrival: Duration) -> Self {
        Self::new(0, arrival, 0)
    }
}

/// A rank made unique by the order of joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) rank: Rank,
    pub(super) serial: u64,
}

type Line<T> = BTreeMap<Place, Arc<Seat<T>>>;

/// All lines of one service.
pub(super) struct Queue<T> {
    service: Line<T>,
    bound: BTreeMap<ServerKey, Line<T>>,
    length: usize,
    serial: u64,
}

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Self {
            service: BTreeMap::new(),
            bound: BTreeMap::new(),
            length: 0,
            serial: 0,
        }
    }

    /// All who wait, in whichever line.
    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// Those who wait for just any server.
    pub(super) fn free_len(&self) -> usize {
        self.service.len()
    }

    /// Whether anyone waits for just any server.
    pub(super) fn has_free_waiters(&self) -> bool {
        !self.service.is_empty()
    }

    /// The place of one who joins now.
    pub(super) const fn place(&mut self, rank: Rank) -> Place {
        self.serial += 1;
        Place {
            rank,
            serial: self.serial,
        }
    }

    /// Joins the line of the server that the seat is bound to, else the service's.
    pub(super) fn push(&mut self, seat: Arc<Seat<T>>) {
        self.length += 1;
        let Some(server) = &seat.bound else {
            self.service.insert(seat.place, seat);
            return;
        };
        server.queued.fetch_add(1, Ordering::Relaxed);
        self.bound
            .entry(server.key())
            .or_default()
            .insert(seat.place, seat);
    }

    /// Whether a mark on this server would serve anyone.
    pub(super) fn concerns(&self, server: &ServerState<T>) -> bool {
        server.weight() > 0 && self.has_free_waiters() || self.bound.contains_key(&server.key())
    }

    /// The waiter that a free slot of this server belongs to.
    pub(super) fn best(&self, server: &ServerState<T>) -> Option<Arc<Seat<T>>> {
        let key = server.key();
        let own = self.bound.get(&key).and_then(|line| line.values().next());
        let free = if server.weight() > 0 {
            self.service
                .values()
                .find(|seat| !seat.excluded.contains(&key))
        } else {
            None
        };
        match (own, free) {
            (Some(own), Some(free)) if free.place.rank < own.place.rank => Some(free),
            (Some(own), _) => Some(own),
            (None, free) => free,
        }
        .cloned()
    }

    /// Leaves the line; says whether it stood in one.
    pub(super) fn remove(&mut self, seat: &Seat<T>) -> bool {
        let found = self.leave_bound(seat) || self.service.remove(&seat.place).is_some();
        self.length -= usize::from(found);
        found
    }

    /// Moves those who wait for a server that is closed to the service's line,
    /// where they keep their age.
    pub(super) fn unbind_closed(&mut self) {
        let closed = |line: &Line<T>| {
            let server = line.values().next().and_then(|seat| seat.bound.as_ref());
            server.is_none_or(|server| server.is_closed())
        };
        let lines = mem::take(&mut self.bound);
        let (lost, kept): (BTreeMap<_, _>, _) = lines.into_iter().partition(|(_, l)| closed(l));
        self.bound = kept;
        for (place, seat) in lost.into_values().flatten() {
            if let Some(server) = &seat.bound {
                server.queued.fetch_sub(1, Ordering::Relaxed);
            }
            self.service.insert(place, seat);
        }
    }

    /// Takes out those in the service's line for whom no server is left.
    pub(super) fn remove_hopeless(
        &mut self,
        hopeless: impl Fn(&Seat<T>) -> bool,
    ) -> Vec<Arc<Seat<T>>> {
        let lost = self.service.values().filter(|seat| hopeless(seat));
        let lost: Vec<_> = lost.cloned().collect();
        for seat in &lost {
            self.service.remove(&seat.place);
        }
        self.length -= lost.len();
        lost
    }

    /// Whether a server's own line, or all lines together, may grow.
    pub(super) fn admit(
        &self,
        server: Option<&ServerState<T>>,
        max_length: u32,
    ) -> Result<(), Refusal> {
        let within = |length: usize, limit: u32| limit == 0 || length < limit as usize;
        let own =
            server.is_none_or(|server| within(server.queued() as usize, server.limits().max_queue));
        if own && within(self.length, max_length) {
            Ok(())
        } else {
            Err(Refusal::QueueFull)
        }
    }

    fn leave_bound(&mut self, seat: &Seat<T>) -> bool {
        let Some(server) = &seat.bound else {
            return false;
        };
        let Some(line) = self.bound.get_mut(&server.key()) else {
            return false;
        };
        if line.remove(&seat.place).is_none() {
            return false;
        }
        if line.is_empty() {
            self.bound.remove(&server.key());
        }
        server.queued.fetch_sub(1, Ordering::Relaxed);
        true
    }
}
