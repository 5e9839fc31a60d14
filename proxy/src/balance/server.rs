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
use std::time::Duration;

use arc_swap::ArcSwap;

use super::gate::Gate;
use super::group::Group;
use super::limit::{Demand, Limits};
use super::rendezvous;
use super::slow_start::Rise;

const UP: u8 = 1;
const DRAINING: u8 = 2;
const MEMBER: u8 = 4;

/// Means are kept below this many nanoseconds, about 18 minutes.
const LONGEST_MEAN: u64 = 1 << 40;
/// How much of the mean each answer renews, and each fading takes away.
const RENEWAL: u64 = 8;
const FADING: u64 = 64;

/// Names a server within its group; small, cheap to copy, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerKey(pub(super) u64);

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
    identity: u64,
    weight: AtomicU32,
    max_in_flight: AtomicU32,
    min_in_flight: AtomicU32,
    max_queue: AtomicU32,
    pub(super) rise: Rise,
    flags: AtomicU8,
    pub(super) queued: AtomicU32,
    pub(super) served: AtomicU64,
    /// Nanoseconds to the first byte; 0 is unknown.
    mean_time: AtomicU64,
    group: Weak<Group<T>>,
}

impl<T> ServerState<T> {
    /// A server outside of its group yet, so closed.
    pub(super) fn new(key: ServerKey, spec: &ServerSpec<T>, group: Weak<Group<T>>) -> Self {
        Self {
            key,
            id: Arc::clone(&spec.id),
            target: ArcSwap::new(Arc::clone(&spec.target)),
            gate: Gate::new(spec.limits.most()),
            identity: rendezvous::identity(&spec.id),
            weight: AtomicU32::new(0),
            max_in_flight: AtomicU32::new(0),
            min_in_flight: AtomicU32::new(0),
            max_queue: AtomicU32::new(0),
            rise: Rise::default(),
            flags: AtomicU8::new(0),
            queued: AtomicU32::new(0),
            served: AtomicU64::new(0),
            mean_time: AtomicU64::new(0),
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

    /// Its share of new requests, as configured.
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

    /// The limits as configured.
    pub fn limits(&self) -> Limits {
        Limits {
            max_in_flight: self.max_in_flight.load(Ordering::Relaxed),
            min_in_flight: self.min_in_flight.load(Ordering::Relaxed),
            max_queue: self.max_queue.load(Ordering::Relaxed),
        }
    }

    /// The limit in force now, which a range and a slow start make lower than the
    /// configured one; 0 is none.
    pub fn limit(&self) -> u32 {
        self.gate.limit()
    }

    /// How far it has come in its slow start, in percent; 100 is all the way.
    pub fn warmth(&self) -> u32 {
        self.rise.share().0
    }

    /// The mean time to the first byte of its answers, once there was one. The
    /// time for the strategy [`LeastTime`](super::Strategy::LeastTime), which lets
    /// it fade while the server is idle.
    pub fn mean_time(&self) -> Option<Duration> {
        let mean = self.mean_nanos();
        (mean > 0).then(|| Duration::from_nanos(mean))
    }

    /// Takes one answer's time to the first byte into the mean. Only the strategy
    /// [`LeastTime`](super::Strategy::LeastTime) needs it.
    pub fn note_time(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(LONGEST_MEAN);
        let time = time.clamp(1, LONGEST_MEAN - 1);
        self.change_mean(|mean| match mean {
            0 => time,
            mean => (mean * (RENEWAL - 1) + time).div_ceil(RENEWAL),
        });
    }

    /// Health's verdict, without a slow start. A server that comes up serves
    /// waiters at once; the waiters of one that goes down move on, what is in
    /// flight may finish.
    pub fn set_up(&self, up: bool) {
        self.set_flag(UP, up, None);
    }

    /// Health's verdict at a time since any epoch. A server that was down and comes
    /// up begins a slow start if its service has one; [`Group::tick`], with the
    /// same epoch, carries it on. Joining is not coming up: who joins as up has its
    /// full limit and weight, who joins as down begins slowly after its first
    /// passed check (as with HAProxy's `init-state down`).
    pub fn set_up_at(&self, up: bool, now: Duration) {
        self.set_flag(UP, up, Some(now));
    }

    /// Starts or ends draining: no new request, those in flight may finish.
    pub fn set_draining(&self, draining: bool) {
        self.set_flag(DRAINING, draining, None);
    }

    /// Whether it is a member of its group now.
    pub(super) fn is_member(&self) -> bool {
        self.has(MEMBER)
    }

    /// The hash of its name, the same in all runs.
    pub(super) const fn identity(&self) -> u64 {
        self.identity
    }

    /// [`Self::mean_time`] in nanoseconds, below 2^40; 0 is unknown.
    pub(super) fn mean_nanos(&self) -> u64 {
        self.mean_time.load(Ordering::Relaxed)
    }

    /// Lowers the mean time by a small part, so that the server is tried again.
    pub(super) fn fade(&self) {
        self.change_mean(|mean| mean - mean / FADING);
    }

    /// Whether this group made it.
    pub(super) fn belongs_to(&self, group: &Weak<Group<T>>) -> bool {
        Weak::ptr_eq(&self.group, group)
    }

    /// Takes on what the configuration says; the queue's lock is held. The limit
    /// in force and the way in follow, see [`Self::refresh_limit`] and [`Self::join`].
    pub(super) fn adopt(&self, spec: &ServerSpec<T>) {
        self.target.store(Arc::clone(&spec.target));
        self.weight.store(spec.weight, Ordering::Relaxed);
        let limits = spec.limits;
        self.max_in_flight
            .store(limits.max_in_flight, Ordering::Relaxed);
        self.min_in_flight
            .store(limits.min_in_flight, Ordering::Relaxed);
        self.max_queue.store(limits.max_queue, Ordering::Relaxed);
    }

    /// Becomes a member unless it is one; the queue's lock is held.
    pub(super) fn join(&self, up: bool) {
        if !self.is_member() {
            self.rise.finish();
            self.store_flag(UP, up);
            self.store_flag(DRAINING, false);
            self.store_flag(MEMBER, true);
        }
    }

    /// Sets the limit in force; the queue's lock is held.
    pub(super) fn refresh_limit(&self, demand: Demand) {
        let limit = self.limits().in_force(demand, self.rise.share());
        if self.gate.limit() != limit {
            self.gate.set_limit(limit);
        }
    }

    /// Leaves the group; the queue's lock is held.
    pub(super) fn leave(&self) {
        self.store_flag(MEMBER, false);
    }

    /// Sets a flag and the gate with it; the queue's lock is held. A limited server
    /// opens marked: waiters come before newcomers, and the caller sets the mark
    /// right afterwards.
    fn store_flag(&self, flag: u8, on: bool) {
        if on {
            self.flags.fetch_or(flag, Ordering::AcqRel);
        } else {
            self.flags.fetch_and(!flag, Ordering::AcqRel);
        }
        let open = self.flags.load(Ordering::Acquire) & (UP | DRAINING | MEMBER) == UP | MEMBER;
        if open && self.gate.is_closed() && self.gate.limit() > 0 {
            self.gate.set_marked(true);
        }
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

    /// Sets a flag by way of the group, so that waiters learn of it.
    fn set_flag(&self, flag: u8, on: bool, now: Option<Duration>) {
        if self.has(flag) == on {
            return;
        }
        match self.group.upgrade() {
            Some(group) => group.change(|slow_start| {
                if flag == UP {
                    self.rise.finish();
                }
                if let Some(now) = now
                    && on
                    && !slow_start.is_zero()
                {
                    self.rise.begin(now);
                }
                self.store_flag(flag, on);
            }),
            None => self.store_flag(flag, on),
        }
    }

    fn change_mean(&self, next: impl Fn(u64) -> u64) {
        let change = |mean| Some(next(mean));
        let outcome = self
            .mean_time
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        debug_assert!(outcome.is_ok(), "the change never declines");
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
            .field("limit", &self.limit())
            .field("limits", &self.limits())
            .finish_non_exhaustive()
    }
}
