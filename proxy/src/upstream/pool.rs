//! The connections of this worker: idle ones, and those that requests share.
//!
//! One pool for each thread, so nothing in it is ever locked; only the number
//! of idle connections is counted over all of them, and those that one worker
//! has too many of are there for all. Kept in order of last use,
//! the youngest taken first. A sweep each second closes what is too old or was
//! closed by its server, and ends when there is nothing left.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::address::Scheme;
use super::http1::Connection;
use super::http2::{Dial, Multiplexed};
use super::shared::Shared;
use super::wire::is_socket_silent;
use crate::clock;

const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Idle connections to one server that a worker keeps for itself.
const OWN_IDLE: usize = 4;

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

/// This worker's connections to one server.
pub(super) struct Host {
    shared: Arc<Shared>,
    idle: Vec<Idle>,
    pub(super) multiplexed: Vec<Rc<Multiplexed>>,
    pub(super) dial: Option<Rc<Dial>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Idle {
    fn is_over(&self, now: Instant, age: u32) -> bool {
        let idle_for = now.duration_since(self.since);
        let is_old = |limit| idle_for >= limit;
        self.connection.age != age || self.connection.keep_for.is_some_and(is_old)
    }
}

impl Host {
    fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            idle: Vec::new(),
            multiplexed: Vec::new(),
            dial: None,
        }
    }

    fn sort_out(&mut self, now: Instant) {
        let age = self.shared.age();
        let limit = self.shared.transport.idle_timeout;
        self.idle.retain_mut(|idle| {
            if idle.is_over(now, age) {
                return false;
            }
            let is_open = idle.connection.is_silent(false);
            if !is_open {
                let idle_for = now.duration_since(idle.since);
                self.shared.patience.note_close(idle_for, now);
            }
            is_open
        });
        self.give_away(now);
        let closed = self
            .shared
            .spares
            .sort_out(|spare| !spare.is_over(now, age) && is_socket_silent(&spare.socket));
        (0..closed).for_each(|_| self.shared.remove_idle());
        self.multiplexed.retain(|one| !one.is_over(now, age, limit));
    }

    /// Lets other workers have what this one has not needed for a while.
    fn give_away(&mut self, now: Instant) {
        if self.shared.url.scheme() != Scheme::Http {
            return;
        }
        let surplus = self.idle.len().saturating_sub(OWN_IDLE);
        let is_rested = |idle: &&Idle| now.duration_since(idle.since) >= SWEEP_EVERY;
        let count = self.idle.iter().take(surplus).take_while(is_rested).count();
        for Idle { connection, since } in self.idle.drain(..count) {
            connection.give_away(since);
        }
    }

    fn is_empty(&self) -> bool {
        self.shared.spares.is_empty()
            && self.idle.is_empty()
            && self.multiplexed.is_empty()
            && self.dial.is_none()
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
/// repeated it must not have been idle for so long that its server may be
/// closing it.
pub(super) fn take(shared: &Arc<Shared>, can_repeat: bool) -> Option<Connection> {
    let now = clock::now();
    let limit = (!can_repeat).then(|| shared.patience.sure(now));
    loop {
        let Some(idle) = pop(shared, now, limit) else {
            return take_spare(shared, now, limit);
        };
        let Idle {
            mut connection,
            since,
        } = idle;
        connection.wake();
        let idle_for = now.saturating_duration_since(since);
        if connection.is_silent(!can_repeat && idle_for > SURELY_SILENT) {
            connection.reused_after = Some(idle_for);
            return Some(connection);
        }
        shared.patience.note_close(idle_for, now);
    }
}

/// Takes one that another worker does not need.
fn take_spare(shared: &Arc<Shared>, now: Instant, limit: Option<Duration>) -> Option<Connection> {
    // All of them have rested for longer than is sure.
    while limit.is_none()
        && let Some(spare) = shared.spares.take()
    {
        let idle_for = now.saturating_duration_since(spare.since);
        let is_over = spare.is_over(now, shared.age());
        let is_silent = is_socket_silent(&spare.socket);
        let Ok(mut connection) = Connection::take_up(spare, shared) else {
            continue;
        };
        if !is_over && is_silent {
            connection.reused_after = Some(idle_for);
            return Some(connection);
        }
        if !is_over {
            shared.patience.note_close(idle_for, now);
        }
    }
    None
}

fn pop(shared: &Arc<Shared>, now: Instant, limit: Option<Duration>) -> Option<Idle> {
    POOL.with_borrow_mut(|pool| {
        let host = pool.hosts.get_mut(&shared.id)?;
        let last = host.idle.last()?;
        if last.is_over(now, shared.age()) {
            // The others are older still.
            host.idle.clear();
            return None;
        }
        if limit.is_some_and(|limit| now.duration_since(last.since) >= limit) {
            return None;
        }
        host.idle.pop()
    })
}

/// Keeps a connection for later, if it may be kept.
pub(super) fn put(mut connection: Connection) {
    let shared = connection.shared();
    let is_wanted =
        connection.age == shared.age() && connection.keep_for.is_none_or(|limit| !limit.is_zero());
    if !is_wanted || !connection.rest() {
        return;
    }
    let since = clock::now();
    POOL.with_borrow_mut(|pool| {
        let host = match pool.hosts.entry(connection.shared().id) {
            Entry::Occupied(host) => host.into_mut(),
            Entry::Vacant(place) => place.insert(Host::new(connection.shared())),
        };
        host.idle.push(Idle { connection, since });
        pool.watch();
    });
}

impl Pool {
    fn watch(&mut self) {
        if !self.is_swept {
            self.is_swept = true;
            spawn_local(sweep(Sweeping));
        }
    }

    fn sort_out(&mut self, now: Instant) {
        self.hosts.retain(|_, host| {
            host.sort_out(now);
            !host.is_empty()
        });
    }
}

/// Says that nobody sweeps any more, even if the worker stops in between.
struct Sweeping;

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
    loop {
        sleep(SWEEP_EVERY).await;
        let is_empty = POOL.with_borrow_mut(|pool| {
            pool.sort_out(Instant::now());
            pool.hosts.is_empty()
        });
        if is_empty {
            break;
        }
    }
    drop(sweeping);
}
