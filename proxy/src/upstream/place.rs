//! Places: how many connections to one server there may be, over all workers.
//!
//! Every HTTP/1.1 connection holds a place from before it is dialed until it is
//! closed, idle or upgraded ones too, since a server with few workers spends one
//! on each. HTTP/2 connections need none: their streams are limited by the slots
//! of the balancer. Who finds no place stands in line until a connection closes
//! or becomes free; the pools of all workers are asked for one.
//!
//! Nobody in line is forgotten. Who joins does so first, then looks for a place
//! or a spare connection, then asks the other workers. Whoever frees a place or
//! gives a spare does so first and looks at the line then. All of these are
//! sequentially consistent, so at least one of two who do it at once sees the
//! other. A connection that lies in a worker's own pool is found when the worker
//! is asked, if it was put there before that; if later, the worker sees the line
//! when it puts it there (see `pool`).

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot::{self, Receiver, Sender};
use tokio::time::{Instant, timeout};

use super::mailbox;
use super::pool;
use super::shared::Shared;
use super::spare::Spare;
use crate::clock;
use crate::http::{ErrorKind, ProxyError, Retry};

/// How long after a request for a connection free ones go to all workers alike.
const CONTENTION: Duration = Duration::from_secs(1);

/// The count of places, and the line for them.
#[derive(Debug)]
pub(super) struct Places {
    start: Instant,
    /// 0 means that there is always a place.
    limit: AtomicU32,
    taken: AtomicUsize,
    /// The length of the line, to be asked without the lock.
    waiting: AtomicUsize,
    /// Until when workers share what becomes free, in milliseconds.
    contended_until: AtomicU64,
    line: Mutex<VecDeque<Sender<Grant>>>,
}

/// What ends the wait for a connection.
#[derive(Debug)]
pub(super) enum Grant {
    /// One may be opened.
    Place(Place),
    /// One that is open.
    Spare(Spare),
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            limit: AtomicU32::new(0),
            taken: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            contended_until: AtomicU64::new(0),
            line: Mutex::default(),
        }
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    pub(super) fn is_limited(&self) -> bool {
        self.limit.load(Ordering::Relaxed) != 0
    }

    /// Sets a limit. False if it is the present one.
    pub(super) fn set_limit(&self, limit: u32) -> bool {
        self.limit.swap(limit, Ordering::SeqCst) != limit
    }

    /// Whether there are more connections than may be, as the limit was lowered.
    pub(super) fn is_exceeded(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        limit != 0 && self.taken() > count(limit)
    }

    /// Whether somebody is in line.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) != 0
    }

    /// Whether several workers have lately been after the same connections.
    pub(super) fn is_contended(&self, now: Instant) -> bool {
        self.contended_until.load(Ordering::Relaxed) > self.millis(now)
    }

    fn contend(&self, now: Instant) {
        let until = self.millis(now + CONTENTION);
        self.contended_until.store(until, Ordering::Relaxed);
    }

    fn millis(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.start).as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX)
    }

    fn add(&self) -> bool {
        let added = self
            .taken
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |taken| {
                let limit = self.limit.load(Ordering::SeqCst);
                (limit == 0 || taken < count(limit)).then_some(taken + 1)
            });
        added.is_ok()
    }

    fn join(&self, sender: Sender<Grant>) {
        let mut line = self.line();
        // Those who have gone meanwhile.
        line.retain(|sender| !sender.is_closed());
        line.push_back(sender);
        self.waiting.store(line.len(), Ordering::SeqCst);
    }

    /// Gives to the first in line; returned if there is nobody.
    fn hand(&self, mut grant: Grant) -> Option<Grant> {
        while let Some(sender) = self.first() {
            match sender.send(grant) {
                Ok(()) => return None,
                Err(refused) => grant = refused,
            }
        }
        Some(grant)
    }

    fn first(&self) -> Option<Sender<Grant>> {
        let mut line = self.line();
        let first = line.pop_front();
        self.waiting.store(line.len(), Ordering::SeqCst);
        first
    }

    fn line(&self) -> MutexGuard<'_, VecDeque<Sender<Grant>>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// A connection's place among those to its server, and whether it is idle there.
/// Whoever holds it drops it after the connection is closed.
#[derive(Debug)]
pub(super) struct Place {
    shared: Arc<Shared>,
    is_idle: bool,
}

impl Place {
    /// A place that is free, unless others wait for it.
    pub(super) fn take(shared: &Arc<Shared>) -> Option<Self> {
        if shared.places.is_awaited() {
            return None;
        }
        Self::any(shared)
    }

    fn any(shared: &Arc<Shared>) -> Option<Self> {
        shared.places.add().then(|| Self {
            shared: Arc::clone(shared),
            is_idle: false,
        })
    }

    /// Counts its connection as idle, if there may be one more.
    pub(super) fn rest(&mut self) -> bool {
        self.is_idle = self.is_idle || self.shared.add_idle();
        self.is_idle
    }

    /// Counts it as idle no more.
    pub(super) fn wake(&mut self) {
        if std::mem::take(&mut self.is_idle) {
            self.shared.remove_idle();
        }
    }
}

impl Deref for Place {
    type Target = Arc<Shared>;

    fn deref(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.wake();
        self.shared.places.taken.fetch_sub(1, Ordering::SeqCst);
        serve(&self.shared);
    }
}

/// Gives what is free to those in line.
pub(super) fn serve(shared: &Arc<Shared>) {
    while shared.places.is_awaited() {
        let spare = shared.spares.take().map(Grant::Spare);
        let Some(grant) = spare.or_else(|| Place::any(shared).map(Grant::Place)) else {
            return;
        };
        // Whoever waited has gone; and somebody may have come since.
        if let Some(Grant::Spare(spare)) = shared.places.hand(grant) {
            shared.spares.give(spare);
        }
    }
}

/// Gives a connection to the first in line, or else to whoever comes.
pub(super) fn offer(mut spare: Spare) {
    let shared = Arc::clone(&spare.place);
    if shared.places.is_awaited() {
        match shared.places.hand(Grant::Spare(spare)) {
            Some(Grant::Spare(returned)) => spare = returned,
            _ => return,
        }
    }
    if spare.place.rest() {
        shared.spares.give(spare);
        serve(&shared);
    }
}

/// Waits until a connection may be opened, or somebody leaves one. Where all
/// places are taken, an idle connection that this request has not taken is closed
/// for it; with `replaces` everywhere, so that such requests pile none up.
pub(super) async fn obtain(shared: &Arc<Shared>, replaces: bool) -> Result<Grant, ProxyError> {
    if replaces && let Some(connection) = pool::evict(shared) {
        return Ok(Grant::Place(connection.leave_place().await));
    }
    if let Some(place) = Place::take(shared) {
        return Ok(Grant::Place(place));
    }
    if let Some(connection) = pool::evict(shared) {
        return Ok(Grant::Place(connection.leave_place().await));
    }
    let (sender, receiver) = oneshot::channel();
    let mut ticket = Ticket(receiver);
    shared.places.join(sender);
    serve(shared);
    if mailbox::ask_others() {
        shared.places.contend(clock::now());
    }
    let wait = async {
        match shared.transport.dial_timeout {
            Some(limit) => timeout(limit, &mut ticket.0).await,
            None => Ok((&mut ticket.0).await),
        }
    };
    match shared.gone.run_until_cancelled(wait).await {
        Some(Ok(Ok(grant))) => Ok(grant),
        Some(_) => Err(failure(
            ErrorKind::ConnectTimeout,
            "no connection became free",
        )),
        None => Err(failure(ErrorKind::Connect, "the server left")),
    }
}

/// Somebody's place in the line. Who leaves it with a connection at the last
/// moment passes the connection on.
struct Ticket(Receiver<Grant>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.close();
        if let Ok(Grant::Spare(spare)) = self.0.try_recv() {
            offer(spare);
        }
    }
}

fn failure(kind: ErrorKind, reason: &'static str) -> ProxyError {
    ProxyError::new(kind).retry(Retry::Always).because(reason)
}
