//! What all workers share of one server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::address::{Scheme, ServerUrl};
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
        }
    }

    pub(super) fn count(&self, counter: impl Fn(&Counters) -> &AtomicU64) {
        counter(&self.counters).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn idle(&self) -> usize {
        self.idle.load(Ordering::Relaxed)
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

/// The right to keep one connection idle, out of those that all workers have together.
#[derive(Debug)]
pub(super) struct IdlePermit(Arc<Shared>);

impl IdlePermit {
    pub(super) fn take(shared: &Arc<Shared>) -> Option<Self> {
        let limit = shared.transport.max_idle;
        if shared.idle.fetch_add(1, Ordering::Relaxed) < limit {
            return Some(Self(Arc::clone(shared)));
        }
        shared.idle.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for IdlePermit {
    fn drop(&mut self) {
        self.0.idle.fetch_sub(1, Ordering::Relaxed);
    }
}
