//! What all workers share of one server.
//!
//! Its settings, counters, and what has been learned of it: atomics only, since
//! the path of a request waits for nobody. The connections themselves are each
//! worker's own, in the pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::address::{Scheme, ServerUrl};
use super::spare::Spares;
use super::transport::Transport;

/// A server's settings and counters. Connections hold on to it; nothing in it
/// is ever waited for.
#[derive(Debug)]
pub(super) struct Shared {
    /// Never used twice in one process.
    pub(super) id: u64,
    pub(super) url: ServerUrl,
    pub(super) transport: Arc<Transport>,
    pub(super) counters: Counters,
    idle: AtomicUsize,
    /// Counts how often all connections were given up.
    age: AtomicU32,
    is_http1: AtomicBool,
    /// Ends the wait for new connections once nobody is to use the server any more.
    pub(super) gone: CancellationToken,
    pub(super) patience: Patience,
    pub(super) spares: Spares,
}

/// Connections to one server since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) opened: AtomicU64,
    pub(super) reused: AtomicU64,
    pub(super) failed: AtomicU64,
}

impl Shared {
    pub(super) fn new(url: ServerUrl, transport: Arc<Transport>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            url,
            transport,
            counters: Counters::default(),
            idle: AtomicUsize::new(0),
            age: AtomicU32::new(0),
            is_http1: AtomicBool::new(false),
            gone: CancellationToken::new(),
            patience: Patience::new(),
            spares: Spares::default(),
        }
    }

    pub(super) fn count(&self, counter: impl Fn(&Counters) -> &AtomicU64) {
        counter(&self.counters).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn idle(&self) -> usize {
        self.idle.load(Ordering::Relaxed)
    }

    /// Counts one more idle connection, if all workers together have room for it.
    pub(super) fn add_idle(&self) -> bool {
        let has_room = self.idle.fetch_add(1, Ordering::Relaxed) < self.transport.max_idle;
        if !has_room {
            self.remove_idle();
        }
        has_room
    }

    pub(super) fn remove_idle(&self) {
        self.idle.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn age(&self) -> u32 {
        self.age.load(Ordering::Relaxed)
    }

    pub(super) fn retire(&self) {
        self.age.fetch_add(1, Ordering::Relaxed);
        self.set_http1(false);
    }

    /// Whether HTTP/2 is to be expected, or at least to be offered.
    pub(super) fn may_speak_http2(&self) -> bool {
        match self.url.scheme() {
            Scheme::Http => false,
            Scheme::H2c => true,
            Scheme::Https => {
                !self.transport.is_http1_only() && !self.is_http1.load(Ordering::Relaxed)
            }
        }
    }

    /// Remembers what the server chose in a handshake.
    pub(super) fn set_http1(&self, is_http1: bool) {
        self.is_http1.store(is_http1, Ordering::Relaxed);
    }
}

/// How long a connection may have been idle for a request that must not be sent
/// twice, as long as nothing worse is known: less than usual servers' patience.
const SURE_IDLE: Duration = Duration::from_secs(1);

/// How long an observation counts.
const MEMORY: Duration = Duration::from_secs(60);

/// How soon the server has been seen to close an idle connection.
///
/// What is noted is never less than the truth, for a close is noticed late, so
/// only half of it is relied on. It only serves requests that can't be
/// repeated; a wrong guess costs them a new connection.
#[derive(Debug)]
pub(super) struct Patience {
    start: Instant,
    least_micros: AtomicU64,
    seen_at_secs: AtomicU64,
}

impl Patience {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            least_micros: AtomicU64::new(u64::MAX),
            seen_at_secs: AtomicU64::new(0),
        }
    }

    fn seconds(&self, now: Instant) -> u64 {
        now.duration_since(self.start).as_secs()
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        let seen_at = self.seen_at_secs.load(Ordering::Relaxed);
        self.seconds(now).saturating_sub(seen_at) >= MEMORY.as_secs()
    }

    /// The server has closed a connection that was idle for `idle_for`.
    pub(super) fn note_close(&self, idle_for: Duration, now: Instant) {
        let micros = u64::try_from(idle_for.as_micros()).unwrap_or(u64::MAX);
        if self.is_forgotten(now) {
            self.least_micros.store(micros, Ordering::Relaxed);
        } else {
            self.least_micros.fetch_min(micros, Ordering::Relaxed);
        }
        self.seen_at_secs
            .store(self.seconds(now), Ordering::Relaxed);
    }

    /// How long a connection may have been idle to be relied on.
    pub(super) fn sure(&self, now: Instant) -> Duration {
        if self.is_forgotten(now) {
            return SURE_IDLE;
        }
        let least = self.least_micros.load(Ordering::Relaxed);
        SURE_IDLE.min(Duration::from_micros(least) / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_learned_and_forgotten() {
        let patience = Patience::new();
        let start = patience.start;
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(patience.sure(at(0)), SURE_IDLE);
        patience.note_close(Duration::from_secs(5), at(1));
        assert_eq!(patience.sure(at(1)), SURE_IDLE);
        patience.note_close(Duration::from_millis(50), at(2));
        patience.note_close(Duration::from_millis(90), at(30));
        assert_eq!(patience.sure(at(80)), Duration::from_millis(25));
        assert_eq!(patience.sure(at(90)), SURE_IDLE);
        patience.note_close(Duration::from_millis(90), at(91));
        assert_eq!(patience.sure(at(91)), Duration::from_millis(45));
    }
}
