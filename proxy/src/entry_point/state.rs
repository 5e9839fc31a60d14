//! What the parts of one connection tell each other: where it is in its life,
//! until when that may last, and how much waits to be written.
//!
//! The socket wrapper, the handler and the bodies report; the task that drives
//! the connection reads. Only one thread touches it at a time; the atomics are
//! there because hyper moves the socket of an upgraded connection in a `Send` box.
//!
//! Phases of HTTP/1, and who moves them:
//! `Head` -(handler)-> `Busy` -(ticket dropped)-> `Answered` -(flushed)-> `Idle`
//! -(bytes read)-> `Head`. From `Busy` the handler may go to `Free` (upgraded),
//! and from anywhere a shutdown of the socket goes to `Lingering`. HTTP/2 knows
//! only `Busy` (streams are open) and `Idle`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use crate::config::startup::RespondingTimeouts;

/// How many bytes of bodies may wait unwritten on an HTTP/1 connection for the
/// next piece to be handed to hyper: small pieces are written together, and a
/// client that doesn't read costs one large one. With TLS they wait as
/// ciphertext too.
const MAX_UNWRITTEN: usize = 8 * 1024;
const MAX_UNWRITTEN_TLS: usize = 4 * 1024;

/// How long unread bytes of a client are taken in after the last response, so
/// that a reset does not destroy that response on its way.
const LINGER: Duration = Duration::from_secs(1);

/// Time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) read: Option<Duration>,
    pub(super) write: Option<Duration>,
    pub(super) idle: Option<Duration>,
}

impl From<&RespondingTimeouts> for Limits {
    fn from(timeouts: &RespondingTimeouts) -> Self {
        Self {
            read: timeouts.read_timeout.limit(),
            write: timeouts.write_timeout.limit(),
            // Go, and so Traefik, lets the other limit stand in for this one.
            idle: timeouts
                .idle_timeout
                .limit()
                .or_else(|| timeouts.read_timeout.limit()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    Head,
    Busy,
    Answered,
    Idle,
    Lingering,
    Free,
}

impl Phase {
    const ALL: [Self; 6] = [
        Self::Head,
        Self::Busy,
        Self::Answered,
        Self::Idle,
        Self::Lingering,
        Self::Free,
    ];
}

#[derive(Debug)]
pub(super) struct State {
    opened: Instant,
    limits: Limits,
    is_http2: bool,
    phase: AtomicU8,
    /// Nanoseconds since `opened`; 0 is none.
    deadline: AtomicU64,
    /// When the first byte of the present request came, as `deadline`.
    head_began: AtomicU64,
    unwritten: AtomicUsize,
    max_unwritten: usize,
    written: AtomicWaker,
    is_body_waiting: AtomicBool,
    /// The time of the present turn, as `deadline`, or [`NO_TURN`], or [`UNREAD_CLOCK`].
    turn: AtomicU64,
    requests: AtomicU64,
    /// The number of a request that its raw bytes condemn; 0 is none.
    refused: AtomicU64,
    streams: AtomicUsize,
    has_read: AtomicBool,
    has_eof: AtomicBool,
    is_body_open: AtomicBool,
    has_failed: AtomicBool,
    is_last: AtomicBool,
    shall_rest: AtomicBool,
}

/// No turn of the connection is under way: the clock must be read.
const NO_TURN: u64 = 0;
/// In the present turn nobody has read the clock yet.
const UNREAD_CLOCK: u64 = 1;

/// Adds to a counter that only one thread changes at a time, which spares the
/// locked instruction. Returns the new value.
fn bump(counter: &AtomicUsize, by: usize) -> usize {
    let sum = counter.load(Relaxed).wrapping_add(by);
    counter.store(sum, Relaxed);
    sum
}

impl State {
    /// A connection that was accepted at `opened` and speaks HTTP now.
    pub(super) fn new(opened: Instant, limits: Limits, is_http2: bool, is_tls: bool) -> Self {
        let state = Self {
            opened,
            limits,
            is_http2,
            phase: AtomicU8::new(Phase::Head as u8),
            deadline: AtomicU64::new(0),
            head_began: AtomicU64::new(0),
            unwritten: AtomicUsize::new(0),
            max_unwritten: if is_tls {
                MAX_UNWRITTEN_TLS
            } else {
                MAX_UNWRITTEN
            },
            written: AtomicWaker::new(),
            is_body_waiting: AtomicBool::new(false),
            turn: AtomicU64::new(NO_TURN),
            requests: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            has_read: AtomicBool::new(false),
            has_eof: AtomicBool::new(false),
            is_body_open: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            is_last: AtomicBool::new(false),
            shall_rest: AtomicBool::new(false),
        };
        if is_http2 {
            state.enter(Phase::Idle, limits.idle);
        } else {
            state.begin_head();
        }
        state
    }

    pub(super) fn phase(&self) -> Phase {
        Phase::ALL
            .get(usize::from(self.phase.load(Relaxed)))
            .copied()
            .unwrap_or(Phase::Free)
    }

    fn enter(&self, phase: Phase, limit: Option<Duration>) {
        self.phase.store(phase as u8, Relaxed);
        let deadline = limit.map_or(0, |limit| self.nanos().saturating_add(nanos(limit)));
        self.deadline.store(deadline, Relaxed);
    }

    fn begin_head(&self) {
        let now = self.nanos();
        self.head_began.store(now, Relaxed);
        self.phase.store(Phase::Head as u8, Relaxed);
        let deadline = self
            .limits
            .read
            .map_or(0, |limit| now.saturating_add(nanos(limit)));
        self.deadline.store(deadline, Relaxed);
    }

    /// The connection is polled. Until [`Self::end_turn`] the clock is read once
    /// at most.
    pub(super) fn begin_turn(&self) {
        self.turn.store(UNREAD_CLOCK, Relaxed);
    }

    /// The turn is over, time goes on.
    pub(super) fn end_turn(&self) {
        self.turn.store(NO_TURN, Relaxed);
    }

    /// Nanoseconds since the connection was opened; never a value that means
    /// something else.
    fn nanos(&self) -> u64 {
        let known = self.turn.load(Relaxed);
        if known > UNREAD_CLOCK {
            return known;
        }
        let now = nanos(self.opened.elapsed()).max(UNREAD_CLOCK + 1);
        if known == UNREAD_CLOCK {
            self.turn.store(now, Relaxed);
        }
        now
    }

    /// Until when the present phase may last, in nanoseconds since the
    /// connection was opened.
    pub(super) fn deadline(&self) -> Option<u64> {
        Some(self.deadline.load(Relaxed)).filter(|deadline| *deadline > 0)
    }

    /// The moment `nanos` nanoseconds after the connection was opened.
    pub(super) fn moment(&self, nanos: u64) -> Instant {
        self.opened + Duration::from_nanos(nanos)
    }

    /// Makes the present phase end after `limit` at the latest.
    pub(super) fn hurry(&self, limit: Duration) {
        let latest = self.nanos().saturating_add(nanos(limit));
        let deadline = self.deadline.load(Relaxed);
        if deadline == 0 || deadline > latest {
            self.deadline.store(latest, Relaxed);
        }
    }

    /// Makes the present phase last `limit` from now.
    pub(super) fn extend(&self, limit: Duration) {
        self.deadline
            .store(self.nanos().saturating_add(nanos(limit)), Relaxed);
    }

    pub(super) fn is_http2(&self) -> bool {
        self.is_http2
    }

    /// `count` bytes came from the client; 0 is the end.
    pub(super) fn on_read(&self, count: usize) {
        if count == 0 {
            self.has_eof.store(true, Relaxed);
            return;
        }
        self.has_read.store(true, Relaxed);
        if !self.is_http2 && self.phase() == Phase::Idle {
            self.begin_head();
        }
    }

    /// Whether the client has sent anything in HTTP yet.
    pub(super) fn has_read(&self) -> bool {
        self.has_read.load(Relaxed)
    }

    /// Everything that hyper had to write is written.
    pub(super) fn on_flush(&self) {
        if self.unwritten.load(Relaxed) > 0 {
            self.unwritten.store(0, Relaxed);
            if self.is_body_waiting.load(Relaxed) {
                self.is_body_waiting.store(false, Relaxed);
                self.written.wake();
            }
        }
        if self.phase() == Phase::Answered {
            self.enter(Phase::Idle, self.limits.idle);
        }
    }

    /// Ready when a body may give hyper more bytes.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_http2 || self.unwritten.load(Relaxed) <= self.max_unwritten {
            return Poll::Ready(());
        }
        self.is_body_waiting.store(true, Relaxed);
        self.written.register(cx.waker());
        Poll::Pending
    }

    /// A body gave hyper `count` bytes.
    pub(super) fn on_body(&self, count: usize) {
        if !self.is_http2 {
            bump(&self.unwritten, count);
        }
    }

    /// A request's head is complete.
    pub(super) fn begin_request(self: &Arc<Self>, has_body: bool) -> Ticket {
        let now = self.nanos();
        let count = self.requests.load(Relaxed) + 1;
        self.requests.store(count, Relaxed);
        bump(&self.streams, 1);
        let read_began = if self.is_http2 {
            now
        } else {
            self.is_body_open.store(has_body, Relaxed);
            self.head_began.load(Relaxed)
        };
        let conn_limit = if self.is_http2 {
            None
        } else {
            self.limits.write
        };
        self.enter(Phase::Busy, conn_limit);
        Ticket {
            count,
            read_until: self
                .limits
                .read
                .map(|limit| self.moment(read_began) + limit),
            write_until: self.limits.write.map(|limit| self.moment(now) + limit),
            state: Arc::clone(self),
        }
    }

    fn end_request(&self) {
        let open = bump(&self.streams, 1_usize.wrapping_neg());
        if self.phase() != Phase::Busy || open > 0 {
            return;
        }
        if self.is_http2 {
            self.enter(Phase::Idle, self.limits.idle);
        } else {
            // The time limit for writing lasts until everything is flushed.
            self.phase.store(Phase::Answered as u8, Relaxed);
        }
    }

    /// Whether requests are being answered.
    pub(super) fn has_streams(&self) -> bool {
        self.streams.load(Relaxed) > 0
    }

    /// How many requests there have been.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Whether this is an HTTP/1 connection on which nothing happens: no byte of
    /// a next request is there, and the last response is all written.
    pub(super) fn is_quiet(&self) -> bool {
        let is_idle = match self.phase() {
            Phase::Idle => true,
            Phase::Head => !self.has_read(),
            _ => false,
        };
        is_idle && !self.is_http2 && !self.is_last() && !self.has_eof.load(Relaxed)
    }

    /// The connection should give back what it doesn't need, if it is still quiet.
    pub(super) fn ask_to_rest(&self) {
        self.shall_rest.store(true, Relaxed);
    }

    /// Whether the connection was asked to rest since the last call and is quiet.
    pub(super) fn shall_rest(&self) -> bool {
        if !self.shall_rest.load(Relaxed) {
            return false;
        }
        self.shall_rest.store(false, Relaxed);
        self.is_quiet()
    }

    /// The whole body of the present request was read.
    pub(super) fn on_body_end(&self) {
        self.is_body_open.store(false, Relaxed);
    }

    /// The protocol was switched; from now on no limit holds.
    pub(super) fn set_free(&self) {
        self.enter(Phase::Free, None);
    }

    /// A response ended early. The client must see that.
    pub(super) fn set_failed(&self) {
        if !self.is_http2 {
            self.has_failed.store(true, Relaxed);
        }
    }

    /// Whether a response ended early.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Relaxed)
    }

    /// The raw bytes of a request, counted from 1, say that it must be refused.
    pub(super) fn set_refused(&self, request: u64) {
        self.refused.store(request, Relaxed);
    }

    /// Whether the raw bytes of a request say that it must be refused.
    pub(super) fn is_refused(&self, request: u64) -> bool {
        self.refused.load(Relaxed) == request
    }

    /// No request shall follow the present ones.
    pub(super) fn set_last(&self) {
        self.is_last.store(true, Relaxed);
    }

    /// Whether no request shall follow.
    pub(super) fn is_last(&self) -> bool {
        self.is_last.load(Relaxed)
    }

    /// The way to the client is shut. Says whether bytes of the client that
    /// nobody wants should be waited for.
    pub(super) fn begin_linger(&self) -> bool {
        let is_reading = match self.phase() {
            Phase::Lingering => return true,
            Phase::Head => self.has_read(),
            _ => self.is_body_open.load(Relaxed),
        };
        let lingers = is_reading && !self.is_http2 && !self.has_eof.load(Relaxed);
        if lingers {
            self.enter(Phase::Lingering, Some(LINGER));
        }
        lingers
    }

    /// How long the connection has lived.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A request that is being answered; dropped when its response is all handed over.
#[derive(Debug)]
pub(super) struct Ticket {
    /// The how-manieth request of its connection it is, from 1.
    pub(super) count: u64,
    /// Until when its body must have been read.
    pub(super) read_until: Option<Instant>,
    /// Until when its response must have been written.
    pub(super) write_until: Option<Instant>,
    pub(super) state: Arc<State>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.state.end_request();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        read: Some(Duration::from_secs(60)),
        write: None,
        idle: Some(Duration::from_secs(180)),
    };

    fn left(state: &State) -> Option<u64> {
        let left = state.moment(state.deadline()?) - Instant::now();
        Some((left + Duration::from_millis(500)).as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn an_http1_connection_goes_round() {
        let state = Arc::new(State::new(Instant::now(), LIMITS, false, false));
        assert_eq!((state.phase(), left(&state)), (Phase::Head, Some(60)));
        let ticket = state.begin_request(true);
        assert_eq!((state.phase(), left(&state)), (Phase::Busy, None));
        drop(ticket);
        assert_eq!(state.phase(), Phase::Answered);
        state.on_flush();
        assert_eq!((state.phase(), left(&state)), (Phase::Idle, Some(180)));
        state.on_read(1);
        assert_eq!((state.phase(), left(&state)), (Phase::Head, Some(60)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_http2_connection_is_idle_without_streams() {
        let state = Arc::new(State::new(Instant::now(), LIMITS, true, false));
        assert_eq!((state.phase(), left(&state)), (Phase::Idle, Some(180)));
        let (one, two) = (state.begin_request(false), state.begin_request(false));
        drop(one);
        assert_eq!((state.phase(), left(&state)), (Phase::Busy, None));
        drop(two);
        assert_eq!((state.phase(), left(&state)), (Phase::Idle, Some(180)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_upgraded_connection_is_free() {
        let state = Arc::new(State::new(Instant::now(), LIMITS, false, false));
        let ticket = state.begin_request(false);
        state.set_free();
        drop(ticket);
        state.on_flush();
        state.on_read(5);
        assert_eq!((state.phase(), left(&state)), (Phase::Free, None));
    }
}
