//! The servers of one service, the way in, and the handing over of slots.
//!
//! Owns the lock around the waiting lines and everything that happens under it.
//! Requests call `acquire`; a released slot that somebody waits for comes here;
//! the control plane changes members, limits and health here. Outlives
//! configuration changes. The invariants are at the head of `queue`.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use arc_swap::ArcSwap;
use smallvec::SmallVec;

use super::Refusal;
use super::gate::Entry;
use super::policy::{Policy, Strategy};
use super::queue::Rank;
use super::roster::Roster;
use super::server::{ServerKey, ServerSpec, ServerState};
use super::slot::Slot;
use super::view::View;
use super::waiter::{Excluded, Seat, Waiter};

type Wakers = SmallVec<[Waker; 4]>;

/// What a configuration says of a service as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupSettings {
    /// How requests are shared out.
    pub strategy: Strategy,
    /// Requests that may wait at this service, in all lines; 0 is no limit.
    pub max_length: u32,
    /// Requests at the service at which dynamic limits reach their most (HAProxy's
    /// `fullconn`); 0 is the sum of the servers' limits.
    pub full_conn: u32,
    /// How long a server that came up again takes to its full limit and weight.
    pub slow_start: Duration,
    /// Whether requests wait when there is no server at all.
    pub holds: bool,
}

/// One request's wish.
#[derive(Debug)]
pub struct Ask<'a, T> {
    /// Its place among those who wait.
    pub rank: Rank,
    /// The server it belongs to. If that one is closed, any other will do.
    pub bound: Option<&'a Arc<ServerState<T>>>,
    /// Whether any other will do also when the line of the bound one is full.
    pub redispatch: bool,
    /// Servers not to go to, such as one that has just refused to connect.
    pub excluded: &'a [ServerKey],
    /// What stands for the client, for strategies that keep it at one server.
    pub key: u64,
}

impl<T> Ask<'_, T> {
    /// Any server will do.
    pub const fn new(rank: Rank) -> Self {
        Self {
            rank,
            bound: None,
            redispatch: false,
            excluded: &[],
            key: 0,
        }
    }
}

/// The answer to an ask.
#[derive(Debug)]
pub enum Acquire<T> {
    /// A slot, at once.
    Slot(Slot<T>),
    /// All are full: await this, within the queue's time limit.
    Wait(Waiter<T>),
}

/// The servers of one service and those who wait for them.
pub struct Group<T> {
    this: Weak<Self>,
    seed: u64,
    view: ArcSwap<View<T>>,
    roster: Mutex<Roster<T>>,
    queued: AtomicUsize,
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
            roster: Mutex::new(Roster::new(settings.max_length)),
            queued: AtomicUsize::new(0),
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
            None => self.view.load().take(ask.excluded, Entry::Newcomer),
        };
        match at_once {
            Some(server) => Ok(Acquire::Slot(Slot::counted(server))),
            None => self.acquire_locked(ask),
        }
    }

    /// Takes on a configuration. Known servers keep their state; those who wait
    /// for a server that leaves move on; new room is handed out before this
    /// returns. Of two servers with one identity the first counts.
    pub fn update(&self, settings: GroupSettings, specs: &[ServerSpec<T>]) {
        self.locked(|roster| {
            roster.max_length = settings.max_length;
            roster.replace_members(specs, &self.this);
            let policy = &self.view.load().policy;
            let policy = if policy.strategy() == settings.strategy {
                Arc::clone(policy)
            } else {
                Arc::new(Policy::new(settings.strategy, self.seed))
            };
            self.settle(roster, policy)
        });
    }

    /// The servers of the service as last configured.
    pub fn servers(&self) -> Vec<Arc<ServerState<T>>> {
        self.view.load().members.clone()
    }

    /// Requests waiting, in all lines.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
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

    /// Makes a change to a server and hands out the room that it brings.
    pub(super) fn change(&self, change: impl FnOnce()) {
        self.locked(|roster| {
            change();
            let policy = Arc::clone(&self.view.load().policy);
            self.settle(roster, policy)
        });
    }

    /// Passes a slot, still counted, to the best waiter; frees it if there is none.
    pub(super) fn settle_slot(&self, server: &Arc<ServerState<T>>) {
        self.locked(|roster| {
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
            answer = match self.usable_bound(ask) {
                Some(server) => match self.join_server(roster, ask, server) {
                    Err(Refusal::QueueFull) if ask.redispatch => self.join_service(roster, ask),
                    answer => answer,
                },
                None => self.join_service(roster, ask),
            };
            Wakers::new()
        });
        if matches!(answer, Err(Refusal::QueueFull)) {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
        }
        answer
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
            let admitted = roster.queue.admit(Some(server), roster.max_length);
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
        if !view.has_candidate(ask.excluded) {
            return Err(Refusal::NoServer);
        }
        roster.mark_all();
        let answer = if let Some(server) = view.take(ask.excluded, Entry::Queue) {
            Ok(Acquire::Slot(Slot::counted(server)))
        } else {
            let admitted = roster.queue.admit(None, roster.max_length);
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
    fn hand_over(
        &self,
        roster: &mut Roster<T>,
        seat: &Seat<T>,
        server: &Arc<ServerState<T>>,
    ) -> Option<Waker> {
        roster.queue.remove(seat);
        self.handed.fetch_add(1, Ordering::Relaxed);
        seat.settle(Ok(Slot::counted(Arc::clone(server))))
    }

    /// Brings view, lines and marks in order after any change by the control plane.
    fn settle(&self, roster: &mut Roster<T>, policy: Arc<Policy>) -> Wakers {
        let view = Arc::new(View::new(roster.members.clone(), policy));
        view.resume(&self.view.load());
        self.view.store(Arc::clone(&view));
        roster.queue.unbind_closed();
        roster.refresh_marks();
        let mut wakers = self.hand_out_room(roster);
        let hopeless = roster
            .queue
            .remove_hopeless(|seat| !view.has_candidate(&seat.excluded));
        wakers.extend(
            hopeless
                .iter()
                .filter_map(|seat| seat.settle(Err(Refusal::NoServer))),
        );
        roster.refresh_marks();
        wakers
    }

    /// Gives all room to those who wait for it, one slot per server and round.
    fn hand_out_room(&self, roster: &mut Roster<T>) -> Wakers {
        let mut wakers = Wakers::new();
        let members = roster.members.clone();
        loop {
            let before = roster.queue.len();
            for server in &members {
                let Some(seat) = roster.queue.best(server) else {
                    continue;
                };
                if server.gate.take(Entry::Queue) {
                    wakers.extend(self.hand_over(roster, &seat, server));
                }
            }
            if roster.queue.len() == before {
                return wakers;
            }
        }
    }

    /// Runs `work` under the lock, then wakes whom it served.
    fn locked(&self, work: impl FnOnce(&mut Roster<T>) -> Wakers) {
        let mut roster = self.lock();
        let wakers = work(&mut roster);
        self.queued.store(roster.queue.len(), Ordering::Relaxed);
        drop(roster);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Roster<T>> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
