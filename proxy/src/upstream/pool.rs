//! The connections of this worker: idle ones, and those that requests share.
//!
//! One pool for each thread, so nothing in it is ever locked; only the number
//! of idle connections is counted over all of them. Kept in order of last use,
//! the youngest taken first. A sweep each second closes what is too old or was
//! closed by its server, and ends when there is nothing left.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::http1::Connection;
use super::http2::{Dial, Multiplexed};
use super::shared::{IdlePermit, Shared};

const SWEEP_EVERY: Duration = Duration::from_secs(1);

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

#[derive(Default)]
struct Pool {
    hosts: HashMap<u64, Host>,
    is_swept: bool,
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
    _permit: IdlePermit,
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
            let is_open = idle.connection.is_open();
            if !is_open {
                let idle_for = now.duration_since(idle.since);
                self.shared.patience.note_close(idle_for, now);
            }
            is_open
        });
        self.multiplexed.retain(|one| !one.is_over(now, age, limit));
    }

    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.multiplexed.is_empty() && self.dial.is_none()
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

/// Takes an idle connection that has been idle for less than `limit` and is
/// still silent.
pub(super) fn take(shared: &Arc<Shared>, limit: Option<Duration>) -> Option<Connection> {
    loop {
        let Idle {
            mut connection,
            since,
            _permit,
        } = pop(shared, limit)?;
        let now = Instant::now();
        let idle_for = now.duration_since(since);
        if connection.is_silent() {
            connection.reused_after = Some(idle_for);
            return Some(connection);
        }
        shared.patience.note_close(idle_for, now);
    }
}

fn pop(shared: &Arc<Shared>, limit: Option<Duration>) -> Option<Idle> {
    POOL.with_borrow_mut(|pool| {
        let host = pool.hosts.get_mut(&shared.id)?;
        let now = Instant::now();
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
pub(super) fn put(connection: Connection) {
    let shared = Arc::clone(connection.shared());
    let is_wanted =
        connection.age == shared.age() && connection.keep_for.is_none_or(|limit| !limit.is_zero());
    if !is_wanted {
        return;
    }
    let Some(permit) = IdlePermit::take(&shared) else {
        return;
    };
    let idle = Idle {
        connection,
        since: Instant::now(),
        _permit: permit,
    };
    with_host(&shared, |host| host.idle.push(idle));
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
