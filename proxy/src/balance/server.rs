//! The state of one server, whatever the configuration of the day.
//!
//! Owns what must survive a configuration change: the in-flight count, health
//! and draining bits, limits, counters. Requests take and give back slots here
//! without a lock; the control plane (health, providers) changes it and the
//! group hands what came free to the waiters. Never dials, never knows an
//! address: the target belongs to the caller.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;

use super::gate::Gate;
use super::group::Group;

const UP: u8 = 1;
const DRAINING: u8 = 2;
const MEMBER: u8 = 4;

/// Names a server within its group; small, cheap to copy, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerKey(pub(super) u64);

/// What a server may hold; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight at once (HAProxy's `maxconn`).
    pub max_in_flight: u32,
    /// The least that the limit in force falls to while the service is idle; 0 is
    /// a fixed limit (HAProxy's `minconn`).
    pub min_in_flight: u32,
    /// Requests waiting for just this server (HAProxy's `maxqueue`). Those that
    /// any server may answer wait at the service and do not count.
    pub max_queue: u32,
}

/// One server as a configuration describes it.
#[derive(Clone, Debug)]
pub struct ServerSpec<T> {
    /// Its identity: a server known by this name keeps its state.
    pub id: Arc<str>,
    /// Its share of new requests. 0 takes only requests bound to it.
    pub weight: u32,
    /// Its limits, altered in place when the server is known.
    pub limits: Limits,
    /// Whether it is up when it joins; a member keeps what health says of it.
    pub up: bool,
    /// What the caller needs to reach it, swapped in place likewise.
    pub target: Arc<T>,
}

/// One server of one group; shared by slots, health and metrics.
pub struct ServerState<T> {
    key: ServerKey,
    id: Arc<str>,
    target: ArcSwap<T>,
    pub(super) gate: Gate,
    weight: AtomicU32,
    max_queue: AtomicU32,
    flags: AtomicU8,
    pub(super) queued: AtomicU32,
    pub(super) served: AtomicU64,
    group: Weak<Group<T>>,
}

impl<T> ServerState<T> {
    /// A server outside of its group yet, so closed.
    pub(super) fn new(key: ServerKey, spec: &ServerSpec<T>, group: Weak<Group<T>>) -> Self {
        Self {
            key,
            id: Arc::clone(&spec.id),
            target: ArcSwap::new(Arc::clone(&spec.target)),
            gate: Gate::new(spec.limits.max_in_flight),
            weight: AtomicU32::new(0),
            max_queue: AtomicU32::new(0),
            flags: AtomicU8::new(0),
            queued: AtomicU32::new(0),
            served: AtomicU64::new(0),
            group,
        }
    }

    /// Its name within the group.
    pub const fn key(&self) -> ServerKey {
        self.key
    }

    /// Its identity over configuration changes.
    pub const fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// What the caller needs to reach it, as last configured.
    pub fn target(&self) -> Arc<T> {
        self.target.load_full()
    }

    /// Its share of new requests.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Whether health calls it up.
    pub fn is_up(&self) -> bool {
        self.has(UP)
    }

    /// Whether it takes no more requests because it is about to go.
    pub fn is_draining(&self) -> bool {
        self.has(DRAINING)
    }

    /// Whether it takes no request at all now: down, draining, or removed.
    pub fn is_closed(&self) -> bool {
        self.gate.is_closed()
    }

    /// Requests in flight, each holding a slot.
    pub fn in_flight(&self) -> u32 {
        self.gate.in_flight()
    }

    /// Requests waiting for just this server.
    pub fn queued(&self) -> u32 {
        self.queued.load(Ordering::Relaxed)
    }

    /// Slots given out since the start.
    pub fn served_total(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        Limits {
            max_in_flight: self.gate.limit(),
            min_in_flight: 0,
            max_queue: self.max_queue.load(Ordering::Relaxed),
        }
    }

    /// Health's verdict. A server that comes up serves waiters at once; the
    /// waiters of one that goes down move on, what is in flight may finish.
    pub fn set_up(&self, up: bool) {
        self.set_flag(UP, up);
    }

    /// Starts or ends draining: no new request, those in flight may finish.
    pub fn set_draining(&self, draining: bool) {
        self.set_flag(DRAINING, draining);
    }

    /// Whether this group made it.
    pub(super) fn belongs_to(&self, group: &Weak<Group<T>>) -> bool {
        Weak::ptr_eq(&self.group, group)
    }

    /// Takes on what the configuration says; the queue's lock is held.
    pub(super) fn adopt(&self, spec: &ServerSpec<T>) {
        let newly_joined = !self.has(MEMBER);
        self.target.store(Arc::clone(&spec.target));
        self.weight.store(spec.weight, Ordering::Relaxed);
        self.max_queue
            .store(spec.limits.max_queue, Ordering::Relaxed);
        self.gate.set_limit(spec.limits.max_in_flight);
        if newly_joined {
            self.store_flag(UP, spec.up);
            self.store_flag(DRAINING, false);
            self.store_flag(MEMBER, true);
        }
    }

    /// Leaves the group; the queue's lock is held.
    pub(super) fn leave(&self) {
        self.store_flag(MEMBER, false);
    }

    /// Sets a flag and the gate with it; the queue's lock is held.
    pub(super) fn store_flag(&self, flag: u8, on: bool) {
        if on {
            self.flags.fetch_or(flag, Ordering::AcqRel);
        } else {
            self.flags.fetch_and(!flag, Ordering::AcqRel);
        }
        let open = self.flags.load(Ordering::Acquire) & (UP | DRAINING | MEMBER) == UP | MEMBER;
        self.gate.set_closed(!open);
    }

    /// Ends one request; called by the drop of its slot alone.
    pub(super) fn release(this: &Arc<Self>) {
        if this.gate.release() {
            return;
        }
        match this.group.upgrade() {
            Some(group) => group.settle_slot(this),
            // Waiters hold the group, so there are none left.
            None => this.gate.release_settled(),
        }
    }

    fn has(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Acquire) & flag != 0
    }

    fn set_flag(&self, flag: u8, on: bool) {
        if self.has(flag) == on {
            return;
        }
        match self.group.upgrade() {
            Some(group) => group.change(|| self.store_flag(flag, on)),
            None => self.store_flag(flag, on),
        }
    }
}

impl<T> fmt::Debug for ServerState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerState")
            .field("id", &self.id)
            .field("weight", &self.weight())
            .field("up", &self.is_up())
            .field("draining", &self.is_draining())
            .field("in_flight", &self.in_flight())
            .field("limits", &self.limits())
            .finish_non_exhaustive()
    }
}
