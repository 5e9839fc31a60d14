//! The connections of this worker: idle ones, and those that requests share.
//!
//! One pool for each thread, so nothing in it is ever locked; only the number
//! of idle connections is counted over all of them, and those that one worker
//! has too many of are there for all. Kept in order of last use,
//! the youngest taken first. A sweep each second closes what is too old or was
//! closed by its server, and ends when there is nothing left. While it runs, the
//! worker can be asked by others: for a connection to a server that may have no
//! more, or to close those that are to be given up.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

use super::address::Scheme;
use super::host::{Host, Idle};
use super::http1::Connection;
use super::mailbox::Mailbox;
use super::patience::Survival;
use super::place::{self, Place};
use super::shared::Shared;
use super::spare::Spare;
use super::wire::is_socket_silent;
use crate::clock;

/// How often connections are looked through.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(1);

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

#[derive(Default)]
struct Pool {
    hosts: HashMap<u64, Host, BuildHasherDefault<Id>>,
    is_swept: bool,
}

/// Hashes the numbers of servers, which count up and come from nobody else.
#[derive(Default)]
struct Id(u64);

impl Hasher for Id {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Spreads them over the high bits too, which the table looks at first.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Runs `work` on this worker's connections to a server.
pub(super) fn with_host<T>(shared: &Arc<Shared>, work: impl FnOnce(&mut Host) -> T) -> T {
    POOL.with_borrow_mut(|pool| {
        let host = pool.hosts.entry(shared.id);
        let result = work(host.or_insert_with(|| Host::new(shared)));
        pool.watch();
        result
    })
}

/// How long a connection that was just used is believed without asking the
/// kernel, even for a request that can't be repeated.
const SURELY_SILENT: Duration = Duration::from_millis(1);

/// Takes an idle connection that is still silent. For a request that can't be
/// repeated it must not have been idle for longer than its `reach`, so that its
/// server is not just closing it.
pub(super) fn take(shared: &Arc<Shared>, reach: Option<Duration>) -> Option<Connection> {
    let now = clock::now();
    loop {
        let Some(idle) = pop(shared, now, reach) else {
            return take_spare(shared, now, reach);
        };
        let Idle {
            mut connection,
            since,
            ..
        } = idle;
        connection.wake();
        let idle_for = now.saturating_duration_since(since);
        if connection.is_silent(reach.is_some() && idle_for > SURELY_SILENT) {
            connection.reused_after = Some(idle_for);
            return Some(connection);
        }
        shared.patience.note_close(idle_for, now);
        with_host(shared, |host| host.survived = Survival::default());
    }
}

/// Takes one that another worker does not need.
fn take_spare(shared: &Shared, now: Instant, reach: Option<Duration>) -> Option<Connection> {
    let is_near = |spare: &Spare| {
        reach.is_none_or(|reach| now.saturating_duration_since(spare.since) < reach)
    };
    while let Some(spare) = shared.spares.take_if(is_near) {
        // Otherwise its place is free again.
        if let Ok(connection) = revive(spare, reach) {
            return Some(connection);
        }
    }
    None
}

/// Takes a spare connection up, if it is alive and good for a request with this
/// `reach`; returned if it is not.
pub(super) fn revive(spare: Spare, reach: Option<Duration>) -> Result<Connection, Left> {
    let now = clock::now();
    let patience = &spare.place.patience;
    let idle_for = now.saturating_duration_since(spare.since);
    let is_alive = is_socket_silent(&spare.socket);
    if is_alive {
        patience.note_alive(Survival::of(spare.since, spare.seen, now));
    } else {
        patience.note_close(idle_for, now);
    }
    let is_over = spare.is_over(now, spare.place.age());
    let is_good = is_alive && !is_over && reach.is_none_or(|reach| idle_for < reach);
    match Connection::take_up(spare, now) {
        Ok(connection) if is_good => Ok(connection),
        Ok(connection) => Err(Left::Connection(Box::new(connection))),
        Err(place) => Err(Left::Place(place)),
    }
}

/// What is left where a connection was to be had.
pub(super) enum Left {
    /// One that is of no use.
    Connection(Box<Connection>),
    /// Only its place.
    Place(Place),
}

impl Left {
    /// The place for a new connection.
    pub(super) async fn vacate(self) -> Place {
        match self {
            Self::Connection(connection) => connection.leave_place().await,
            Self::Place(place) => place,
        }
    }
}

fn pop(shared: &Arc<Shared>, now: Instant, reach: Option<Duration>) -> Option<Idle> {
    POOL.with_borrow_mut(|pool| {
        let host = pool.hosts.get_mut(&shared.id)?;
        let last = host.idle.last()?;
        if last.is_over(now, shared.age(), host.retire_after) {
            // The others are older still.
            host.idle.clear();
            return None;
        }
        if reach.is_some_and(|reach| now.saturating_duration_since(last.since) >= reach) {
            return None;
        }
        host.survived.add(Survival::of(last.since, last.seen, now));
        host.idle.pop()
    })
}

/// An idle connection that has to make place for a new one: the oldest of this
/// worker, or one that is there for all.
pub(super) fn evict(shared: &Shared) -> Option<Connection> {
    let now = clock::now();
    let own = POOL.with_borrow_mut(|pool| {
        let host = pool.hosts.get_mut(&shared.id)?;
        (!host.idle.is_empty()).then(|| host.idle.remove(0))
    });
    let Some(Idle {
        mut connection,
        since,
        seen,
    }) = own
    else {
        return Connection::take_up(shared.spares.take_first()?, now).ok();
    };
    connection.wake();
    let patience = &shared.patience;
    if connection.is_silent(true) {
        patience.note_alive(Survival::of(since, seen, now));
    } else {
        patience.note_close(now.saturating_duration_since(since), now);
    }
    Some(connection)
}

/// Keeps a connection for later, if it may be kept.
pub(super) fn put(mut connection: Connection) {
    let shared = connection.shared();
    let is_wanted =
        connection.age == shared.age() && connection.keep_for.is_none_or(|limit| !limit.is_zero());
    if !is_wanted {
        return;
    }
    let is_limited = shared.places.is_limited();
    if is_limited {
        let Some(kept) = share(connection) else {
            return;
        };
        connection = kept;
    }
    if !connection.rest() {
        return;
    }
    let since = clock::now();
    POOL.with_borrow_mut(|pool| {
        let host = match pool.hosts.entry(connection.shared().id) {
            Entry::Occupied(host) => host.into_mut(),
            Entry::Vacant(place) => place.insert(Host::new(connection.shared())),
        };
        host.idle.push(Idle {
            connection,
            since,
            seen: since,
        });
        if !pool.is_swept {
            pool.watch();
            // Whoever joined the line before this worker could be asked has not
            // asked it. The mailbox's lock lies between, so the line is seen now.
            if is_limited {
                pool.attend();
            }
        }
    });
}

/// Passes a connection of a server with a limit on, if others need it more.
fn share(connection: Connection) -> Option<Connection> {
    let places = &connection.shared().places;
    if places.is_exceeded() {
        return None;
    }
    let now = clock::now();
    let is_awaited = places.is_awaited();
    if !is_awaited && !places.is_contended(now) {
        return Some(connection);
    }
    if connection.shared().url.scheme() != Scheme::Http {
        // It can't go to another worker, but its place can.
        return (!is_awaited).then_some(connection);
    }
    place::offer(connection.into_spare(now, now)?);
    None
}

impl Pool {
    fn watch(&mut self) {
        if !self.is_swept {
            self.is_swept = true;
            spawn_local(sweep(Sweeping(Mailbox::open())));
        }
    }

    fn attend(&mut self) {
        self.hosts.values_mut().for_each(Host::attend);
    }

    fn sort_out(&mut self, now: Instant) {
        self.hosts.retain(|_, host| {
            host.sort_out(now);
            !host.is_empty()
        });
    }
}

/// Says that nobody sweeps any more, even if the worker stops in between.
struct Sweeping(Mailbox);

impl Drop for Sweeping {
    fn drop(&mut self) {
        // The pool may be gone already when the thread ends.
        let _ = POOL.try_with(|pool| {
            if let Ok(mut pool) = pool.try_borrow_mut() {
                pool.is_swept = false;
            }
        });
    }
}

async fn sweep(sweeping: Sweeping) {
    let mut next = Instant::now() + SWEEP_EVERY;
    loop {
        let is_asked = select! {
            biased;
            () = sweeping.0.letter() => true,
            () = sleep_until(next) => false,
        };
        let is_empty = POOL.with_borrow_mut(|pool| {
            if is_asked {
                pool.attend();
                return false;
            }
            next = Instant::now() + SWEEP_EVERY;
            pool.sort_out(Instant::now());
            pool.hosts.is_empty()
        });
        if is_empty {
            break;
        }
    }
    drop(sweeping);
}
