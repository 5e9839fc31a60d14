//! The servers of one service, the way in, and the handing over of slots.
//!
//! Owns the lock around the waiting lines. Requests call `acquire`; a released
//! slot that somebody waits for comes here; `control` has the other half, which
//! the control plane calls. Outlives configuration changes. The invariants are at
//! the head of `queue`.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;

use arc_swap::ArcSwap;
use smallvec::SmallVec;

use super::Refusal;
use super::ask::{Acquire, Ask, GroupSettings};
use super::gate::Entry;
use super::policy::Policy;
use super::roster::Roster;
use super::server::{ServerKey, ServerState};
use super::slot::Slot;
use super::view::View;
use super::waiter::{Excluded, Seat, Waiter};

/// Those to wake once the lock is released.
pub(super) type Wakers = SmallVec<[Waker; 4]>;

/// The servers of one service and those who wait for them.
pub struct Group<T> {
    pub(super) this: Weak<Self>,
    pub(super) seed: u64,
    pub(super) view: ArcSwap<View<T>>,
    roster: Mutex<Roster<T>>,
    /// Whether a slow start is under way.
    pub(super) rising: AtomicBool,
    queued: AtomicUsize,
    queued_free: AtomicUsize,
    handed: AtomicU64,
    withdrawn: AtomicU64,
    overflowed: AtomicU64,
}

impl<T> Group<T> {
    /// A service without servers. The seed feeds the random strategies.
    pub fn new(settings: GroupSettings, seed: u64) -> Arc<Self> {
        let policy = Arc::new(Policy::new(settings.strategy, seed));
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            seed,
            view: ArcSwap::from_pointee(View::new(Vec::new(), policy)),
            roster: Mutex::new(Roster::new(settings)),
            rising: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
            queued_free: AtomicUsize::new(0),
            handed: AtomicU64::new(0),
            withdrawn: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
        })
    }

    /// Takes a slot or joins the queue. Without a limit in the way this is one
    /// compare-and-swap on the server and never a lock.
    pub fn acquire(&self, ask: &Ask<'_, T>) -> Result<Acquire<T>, Refusal> {
        let at_once = match self.usable_bound(ask) {
            Some(server) => server
                .gate
                .take(Entry::Newcomer)
                .then(|| Arc::clone(server)),
            None => self.view.load().take(ask, Entry::Newcomer),
        };
        match at_once {
            Some(server) => Ok(Acquire::Slot(Slot::counted(server))),
            None => self.acquire_locked(ask),
        }
    }

    /// The servers of the service as last configured.
    pub fn servers(&self) -> Vec<Arc<ServerState<T>>> {
        self.view.load().members.clone()
    }

    /// Requests waiting, in all lines.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Requests waiting in the service's own line, for any server.
    pub fn queued_free(&self) -> usize {
        self.queued_free.load(Ordering::Relaxed)
    }

    /// Whether there is a server for requests that any server may answer: one that
    /// is up, not draining, and has a weight, full or not. Tells apart the wait for
    /// a slot from that for a server, see [`GroupSettings::holds`].
    pub fn has_server(&self) -> bool {
        self.view.load().has_server()
    }

    /// Slots that went to a waiter, since the start.
    pub fn handed_total(&self) -> u64 {
        self.handed.load(Ordering::Relaxed)
    }

    /// Requests that left the queue unserved (time-out, client gone), since the start.
    pub fn withdrawn_total(&self) -> u64 {
        self.withdrawn.load(Ordering::Relaxed)
    }

    /// Requests refused because the queue was full, since the start.
    pub fn overflowed_total(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Passes a slot, still counted, to the best waiter; frees it if there is none.
    pub(super) fn settle_slot(&self, server: &Arc<ServerState<T>>) {
        self.locked(|roster| {
            if roster.dynamic {
                roster.refresh_limits_for_one_less(server);
            }
            let best = if server.gate.may_pass_on() {
                roster.queue.best(server)
            } else {
                None
            };
            let Some(seat) = best else {
                server.gate.release_settled();
                roster.refresh_mark(server);
                return Wakers::new();
            };
            let waker = self.hand_over(roster, &seat, server);
            roster.refresh_after_leaving(server);
            waker.into_iter().collect()
        });
    }

    /// Takes a request that gave up out of its line.
    pub(super) fn withdraw(&self, seat: &Seat<T>) {
        self.locked(|roster| {
            if roster.queue.remove(seat) {
                self.withdrawn.fetch_add(1, Ordering::Relaxed);
                match &seat.bound {
                    Some(server) => roster.refresh_after_leaving(server),
                    None => roster.refresh_spread(),
                }
                if roster.dynamic {
                    roster.refresh_limits();
                }
            }
            Wakers::new()
        });
    }

    /// The server that this request is bound to, if that one takes requests.
    fn usable_bound<'a>(&self, ask: &Ask<'a, T>) -> Option<&'a Arc<ServerState<T>>> {
        ask.bound.filter(|server| {
            server.belongs_to(&self.this)
                && !server.is_closed()
                && !ask.excluded.contains(&server.key())
        })
    }

    fn acquire_locked(&self, ask: &Ask<'_, T>) -> Result<Acquire<T>, Refusal> {
        let mut answer = Err(Refusal::NoServer);
        self.locked(|roster| {
            let mut wakers = self.make_way(roster, ask);
            answer = self.join_any(roster, ask);
            if roster.dynamic {
                roster.refresh_limits();
                wakers.extend(self.hand_out_room(roster, None));
            }
            wakers
        });
        if matches!(answer, Err(Refusal::QueueFull)) {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// Where limits move with the demand, a newcomer may raise them; what that
    /// brings goes first to those who wait and are not behind it.
    fn make_way(&self, roster: &mut Roster<T>, ask: &Ask<'_, T>) -> Wakers {
        if !roster.dynamic {
            return Wakers::new();
        }
        roster.refresh_limits_for_one_more();
        self.hand_out_room(roster, Some(ask.rank))
    }

    /// To the server that the request is bound to, else to any.
    fn join_any(&self, roster: &mut Roster<T>, ask: &Ask<'_, T>) -> Result<Acquire<T>, Refusal> {
        let Some(server) = self.usable_bound(ask) else {
            return self.join_service(roster, ask);
        };
        match self.join_server(roster, ask, server) {
            Err(Refusal::QueueFull)
                if ask.redispatch && self.view.load().has_candidate(ask.excluded) =>
            {
                self.join_service(roster, ask)
            }
            answer => answer,
        }
    }

    /// The second try at one server, then its line. See the head of `queue` for
    /// why the mark comes first.
    fn join_server(
        &self,
        roster: &mut Roster<T>,
        ask: &Ask<'_, T>,
        server: &Arc<ServerState<T>>,
    ) -> Result<Acquire<T>, Refusal> {
        Roster::mark(server);
        let answer = if server.gate.take(Entry::Queue) {
            Ok(Acquire::Slot(Slot::counted(Arc::clone(server))))
        } else {
            let admitted = roster.queue.admit(Some(server), roster.settings.max_length);
            admitted.map(|()| self.join(roster, ask, Some(server)))
        };
        roster.refresh_mark(server);
        answer
    }

    /// The second try at all servers, then the service's line.
    fn join_service(
        &self,
        roster: &mut Roster<T>,
        ask: &Ask<'_, T>,
    ) -> Result<Acquire<T>, Refusal> {
        let view = self.view.load();
        if is_hopeless(&view, roster.settings, ask.excluded) {
            return Err(Refusal::NoServer);
        }
        roster.mark_all();
        let answer = if let Some(server) = view.take(ask, Entry::Queue) {
            Ok(Acquire::Slot(Slot::counted(server)))
        } else {
            let admitted = roster.queue.admit(None, roster.settings.max_length);
            admitted.map(|()| self.join(roster, ask, None))
        };
        roster.refresh_spread();
        answer
    }

    fn join(
        &self,
        roster: &mut Roster<T>,
        ask: &Ask<'_, T>,
        server: Option<&Arc<ServerState<T>>>,
    ) -> Acquire<T> {
        let place = roster.queue.place(ask.rank);
        let excluded = Excluded::from_slice(ask.excluded);
        let seat = Arc::new(Seat::new(place, server.cloned(), excluded));
        roster.queue.push(Arc::clone(&seat));
        let group = self.this.upgrade().expect("the caller holds the group");
        Acquire::Wait(Waiter::new(seat, group))
    }

    /// Moves a waiter out of its line and leaves it a slot counted before.
    pub(super) fn hand_over(
        &self,
        roster: &mut Roster<T>,
        seat: &Seat<T>,
        server: &Arc<ServerState<T>>,
    ) -> Option<Waker> {
        roster.queue.remove(seat);
        self.handed.fetch_add(1, Ordering::Relaxed);
        seat.settle(Ok(Slot::counted(Arc::clone(server))))
    }

    /// Runs `work` under the lock, then wakes whom it served.
    pub(super) fn locked(&self, work: impl FnOnce(&mut Roster<T>) -> Wakers) {
        let mut roster = self.lock();
        let wakers = work(&mut roster);
        self.queued.store(roster.queue.len(), Ordering::Relaxed);
        self.queued_free
            .store(roster.queue.free_len(), Ordering::Relaxed);
        drop(roster);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Roster<T>> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there is no server for a request and no point in waiting for one. A
/// service that holds requests lets them wait as long as there is none at all; one
/// that has excluded all there are is refused.
pub(super) fn is_hopeless<T>(
    view: &View<T>,
    settings: GroupSettings,
    excluded: &[ServerKey],
) -> bool {
    let may_hold = settings.holds && !view.has_server();
    !may_hold && !view.has_candidate(excluded)
}

impl<T> fmt::Debug for Group<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("servers", &self.view.load().members)
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
