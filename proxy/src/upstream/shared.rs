//! What all workers share of one server.
//!
//! Its settings, counters, and what has been learned of it: atomics only, since
//! the path of a request waits for nobody. The connections themselves are each
//! worker's own, in the pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use tokio_util::sync::CancellationToken;

use super::address::{Scheme, ServerUrl};
use super::mailbox;
use super::patience::Patience;
use super::place::Places;
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
    pub(super) places: Places,
}

/// Connections to one server since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) opened: AtomicU64,
    pub(super) reused: AtomicU64,
    pub(super) failed: AtomicU64,
    /// HTTP/2 connections that exist.
    pub(super) multiplexed: AtomicU64,
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
            places: Places::new(),
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
        drop(self.spares.take_all());
        mailbox::ask_all();
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
