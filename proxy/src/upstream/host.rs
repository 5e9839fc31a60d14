//! A worker's connections to one server: idle ones, and those that requests share.
//!
//! Looks them through each second, closes what is over, and learns from what it
//! finds how long the server keeps them. Lets other workers have some, a few when
//! there are too many and all that are asked for. Which one a request gets is the
//! pool's business.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::address::Scheme;
use super::http1::Connection;
use super::http2::{Dial, Multiplexed};
use super::patience::Survival;
use super::place;
use super::pool::SWEEP_EVERY;
use super::shared::Shared;
use super::wire::is_socket_silent;

/// Idle connections to one server that a worker keeps for itself.
const OWN_IDLE: usize = 4;

/// This worker's connections to one server.
pub(super) struct Host {
    shared: Arc<Shared>,
    pub(super) idle: Vec<Idle>,
    /// When connections of this server are better closed, as of the last sweep.
    pub(super) retire_after: Option<Duration>,
    /// What connections were seen to survive since the last sweep.
    pub(super) survived: Survival,
    pub(super) multiplexed: Vec<Rc<Multiplexed>>,
    pub(super) dial: Option<Rc<Dial>>,
}

/// An idle connection.
pub(super) struct Idle {
    pub(super) connection: Connection,
    pub(super) since: Instant,
    /// When it was last found alive.
    pub(super) seen: Instant,
}

impl Idle {
    pub(super) fn is_over(&self, now: Instant, age: u32, retire_after: Option<Duration>) -> bool {
        let idle_for = now.saturating_duration_since(self.since);
        let is_old = |limit| idle_for >= limit;
        self.connection.age != age
            || self.connection.keep_for.is_some_and(is_old)
            || retire_after.is_some_and(is_old)
    }
}

impl Host {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            idle: Vec::new(),
            retire_after: None,
            survived: Survival::default(),
            multiplexed: Vec::new(),
            dial: None,
        }
    }

    pub(super) fn sort_out(&mut self, now: Instant) {
        self.look_through(now);
        self.give_away(now);
        self.sort_spares(now);
        let age = self.shared.age();
        let limit = self.shared.transport.idle_timeout;
        self.multiplexed.retain(|one| !one.is_over(now, age, limit));
    }

    /// Closes what is over or closed, and learns from it.
    fn look_through(&mut self, now: Instant) {
        let age = self.shared.age();
        let patience = &self.shared.patience;
        let mut survived = std::mem::take(&mut self.survived);
        self.retire_after = patience.retire_after(now);
        self.idle.retain_mut(|idle| {
            if !idle.connection.is_silent(false) {
                let idle_for = now.saturating_duration_since(idle.since);
                patience.note_close(idle_for, now);
                survived = Survival::default();
                return false;
            }
            survived.add(Survival::of(idle.since, idle.seen, now));
            idle.seen = now;
            !idle.is_over(now, age, self.retire_after)
        });
        patience.note_alive(survived);
    }

    /// Does the same with those of all workers.
    fn sort_spares(&self, now: Instant) {
        let age = self.shared.age();
        let patience = &self.shared.patience;
        let retire_after = self.retire_after;
        drop(self.shared.spares.take_unless(|spare| {
            let idle_for = now.saturating_duration_since(spare.since);
            if !is_socket_silent(&spare.socket) {
                patience.note_close(idle_for, now);
                return false;
            }
            patience.note_alive(Survival::of(spare.since, spare.seen, now));
            spare.seen = now;
            !spare.is_over(now, age) && retire_after.is_none_or(|limit| idle_for < limit)
        }));
    }

    /// Lets other workers have what this one has not needed for a while.
    fn give_away(&mut self, now: Instant) {
        if self.shared.url.scheme() != Scheme::Http {
            return;
        }
        let surplus = self.idle.len().saturating_sub(OWN_IDLE);
        let is_rested = |idle: &&Idle| now.duration_since(idle.since) >= SWEEP_EVERY;
        let count = self.idle.iter().take(surplus).take_while(is_rested).count();
        for idle in self.idle.drain(..count) {
            if let Some(spare) = idle.connection.into_spare(idle.since, idle.seen) {
                place::offer(spare);
            }
        }
    }

    /// Does what other workers may have asked for.
    pub(super) fn attend(&mut self) {
        let age = self.shared.age();
        self.idle.retain(|idle| idle.connection.age == age);
        let places = &self.shared.places;
        while places.is_exceeded() && !self.idle.is_empty() {
            self.idle.remove(0);
        }
        while places.is_awaited()
            && let Some(Idle {
                connection,
                since,
                seen,
            }) = self.idle.pop()
        {
            // One that can't be passed on is closed, which leaves its place.
            if let Some(spare) = connection.into_spare(since, seen) {
                place::offer(spare);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shared.spares.is_empty()
            && self.idle.is_empty()
            && self.multiplexed.is_empty()
            && self.dial.is_none()
    }
}
