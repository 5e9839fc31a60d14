//! HTTP/2 connections to a server: shared by the requests of one worker.
//!
//! As many streams on each as the server allows; when all are taken, one more
//! connection. Requests that come while one is being opened wait for it
//! together, and share its failure.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http2::{self, Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::address::Scheme;
use super::dial::{Protocol, dial};
use super::http1::Connection;
use super::limit::HeadLimit;
use super::place::{self, Grant};
use super::pool;
use super::request::{Outgoing, Prepared, Sending};
use super::shared::Shared;
use super::wire::Wire;
use crate::http::{ErrorKind, ProxyError, Retry};

/// What a server may send on one stream before its client has read it.
const STREAM_WINDOW: u32 = 64 * 1024;

/// Most streams on one connection, whatever the server allows.
const MAX_STREAMS: usize = 100;

/// Room for full windows on all streams, so that clients who don't read never
/// keep the others from being served.
const CONNECTION_WINDOW: u32 = 100 * STREAM_WINDOW;

/// What is held of a request's body while the server takes no more.
const SEND_BUFFER: usize = 64 * 1024;

/// Largest head of a response.
const MAX_HEAD: u32 = 32 * 1024;

type Driver = http2::Connection<TokioIo<Wire>, Outgoing, LocalExecutor>;

/// A connection that requests share.
pub(super) struct Multiplexed {
    sender: SendRequest<Outgoing>,
    /// Run by a task of its own; looked at for what the server allows.
    driver: Rc<RefCell<Option<Driver>>>,
    streams: Cell<usize>,
    idle_since: Cell<Instant>,
    is_used: Cell<bool>,
    age: u32,
    #[expect(dead_code, reason = "held for its drop")]
    counted: Counted,
}

/// One of the HTTP/2 connections that exist. They need no place: the slots of
/// the balancer limit their streams.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.count(|counters| &counters.multiplexed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let count = &self.0.counters.multiplexed;
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One stream; until it is dropped it counts.
pub(super) struct Stream {
    connection: Rc<Multiplexed>,
    pub(super) is_reused: bool,
}

/// A request that brought no response.
pub(super) struct Lost {
    pub(super) error: ProxyError,
    /// Whether hyper never looked at the request.
    pub(super) is_stale: bool,
}

/// What came of a dial, for everybody who waited for it.
type Outcome = Result<(), (ErrorKind, Rc<str>)>;

/// A connection being opened, and everyone who waits for it.
#[derive(Default)]
pub(super) struct Dial {
    notify: Notify,
    outcome: RefCell<Option<Outcome>>,
    /// What the handshake brought if the server doesn't speak HTTP/2.
    http1: RefCell<Option<Connection>>,
}

/// What [`open`] came to.
pub(super) enum Opened {
    /// Look for a stream.
    Multiplexed,
    /// The server speaks HTTP/1.1; the first who asks gets the connection.
    Http1(Option<Connection>),
}

impl Multiplexed {
    async fn open(wire: Wire, shared: &Arc<Shared>) -> hyper::Result<Self> {
        let transport = &shared.transport;
        let (sender, connection) = Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEAD)
            .keep_alive_interval(transport.ping_after)
            .keep_alive_timeout(transport.ping_timeout)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(wire))
            .await?;
        let driver = Rc::new(RefCell::new(Some(connection)));
        spawn_local(drive(Rc::clone(&driver)));
        Ok(Self {
            sender,
            driver,
            streams: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            is_used: Cell::new(false),
            age: shared.age(),
            counted: Counted::new(shared),
        })
    }

    fn has_room(&self, age: u32) -> bool {
        let driver = self.driver.borrow();
        let Some(limit) = driver.as_ref().map(Driver::current_max_send_streams) else {
            return false;
        };
        let limit = limit.min(MAX_STREAMS);
        !self.sender.is_closed() && self.age == age && self.streams.get() < limit.max(1)
    }

    pub(super) fn is_over(&self, now: Instant, age: u32, limit: Option<Duration>) -> bool {
        if self.sender.is_closed() || self.age != age {
            return true;
        }
        let idle_for = now.duration_since(self.idle_since.get());
        self.streams.get() == 0 && limit.is_some_and(|limit| idle_for >= limit)
    }
}

/// Runs a connection. What is left of it at the end is dropped at once, which
/// hands requests back that came too late.
async fn drive(driver: Rc<RefCell<Option<Driver>>>) {
    let ended = poll_fn(|cx| match &mut *driver.borrow_mut() {
        Some(driver) => Pin::new(driver).poll(cx),
        None => Poll::Ready(Ok(())),
    })
    .await;
    let rest = driver.take();
    drop(rest);
    if let Err(error) = ended {
        tracing::debug!(%error, "HTTP/2 connection to a server ended");
    }
}

/// A stream on one of this worker's connections; with `is_fresh` on one that
/// no request has used.
pub(super) fn stream(shared: &Arc<Shared>, is_fresh: bool) -> Option<Stream> {
    let age = shared.age();
    let connection = pool::with_host(shared, |host| {
        let mut fitting = host.multiplexed.iter();
        let found = fitting.find(|one| one.has_room(age) && !(is_fresh && one.is_used.get()));
        found.map(Rc::clone)
    })?;
    connection.streams.set(connection.streams.get() + 1);
    let is_reused = connection.is_used.replace(true);
    Some(Stream {
        connection,
        is_reused,
    })
}

/// Opens one more connection, or waits for the one that is being opened.
pub(super) async fn open(shared: &Arc<Shared>) -> Result<Opened, ProxyError> {
    let dial = pool::with_host(shared, |host| {
        let dial = host.dial.get_or_insert_with(|| {
            let dial = Rc::new(Dial::default());
            // A task of its own: the first who asks may go away.
            spawn_local(run(Arc::clone(shared), Rc::clone(&dial)));
            dial
        });
        Rc::clone(dial)
    });
    loop {
        let notified = dial.notify.notified();
        if let Some(outcome) = &*dial.outcome.borrow() {
            return match outcome {
                Ok(()) if shared.may_speak_http2() => Ok(Opened::Multiplexed),
                Ok(()) => Ok(Opened::Http1(dial.http1.take())),
                Err((kind, reason)) => Err(ProxyError::new(*kind)
                    .retry(Retry::Always)
                    .because(reason.as_ref())),
            };
        }
        notified.await;
    }
}

async fn run(shared: Arc<Shared>, waiting: Rc<Dial>) {
    let outcome = connect(&shared, &waiting).await;
    let outcome = outcome.map_err(|error| (error.kind, report(&error)));
    shared.count(|counters| match outcome {
        Ok(()) => &counters.opened,
        Err(_) => &counters.failed,
    });
    waiting.outcome.replace(Some(outcome));
    pool::with_host(&shared, |host| host.dial = None);
    waiting.notify.notify_waiters();
}

async fn connect(shared: &Arc<Shared>, waiting: &Dial) -> Result<(), ProxyError> {
    // It may turn out to speak HTTP/1.1 only.
    let place = match shared.url.scheme() {
        Scheme::H2c => None,
        _ => Some(match place::obtain(shared, false).await? {
            Grant::Place(place) => place,
            Grant::Spare(spare) => spare.into_place(),
        }),
    };
    let (wire, protocol) = dial(shared, false).await?;
    shared.set_http1(protocol == Protocol::Http1);
    if let Some(place) = place
        && protocol == Protocol::Http1
    {
        let connection = Connection::new(wire, place);
        waiting.http1.replace(Some(connection));
        return Ok(());
    }
    let connection = Multiplexed::open(wire, shared)
        .await
        .map_err(|error| ProxyError::new(ErrorKind::Connect).because(error))?;
    pool::with_host(shared, |host| host.multiplexed.push(Rc::new(connection)));
    Ok(())
}

/// The whole chain of an error, for all who waited.
fn report(error: &ProxyError) -> Rc<str> {
    let mut cause = std::error::Error::source(error);
    let mut text = String::new();
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text.into()
}

impl Stream {
    /// Sends a request and waits for the head of its response.
    pub(super) async fn exchange(
        &self,
        prepared: Prepared,
        limit: Option<Duration>,
    ) -> Result<::http::Response<Incoming>, Lost> {
        let Prepared { request, sending } = prepared;
        let mut answer = pin!(self.connection.sender.clone().try_send_request(request));
        let mut limit = HeadLimit::new(limit);
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(outcome) = answer.as_mut().poll(cx) {
                return Poll::Ready(Some(outcome));
            }
            limit.poll(cx, sending.is_done()).map(|()| None)
        })
        .await;
        match outcome {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut error)) => {
                let is_unsent = error.take_message().is_some();
                let error = judge(error.into_error(), &sending, is_unsent);
                Err(Lost {
                    error,
                    is_stale: is_unsent,
                })
            }
            None => Err(Lost {
                error: ErrorKind::ResponseTimeout.into(),
                is_stale: false,
            }),
        }
    }
}

fn judge(error: hyper::Error, sending: &Sending, is_unsent: bool) -> ProxyError {
    if let Some(kind) = sending.fault() {
        return ProxyError::new(kind).because(error);
    }
    let retry = if is_unsent || is_refused(&error) {
        Retry::Always
    } else if is_cut(&error) {
        Retry::Idempotent
    } else {
        Retry::Never
    };
    ProxyError::new(ErrorKind::ConnectionLost)
        .retry(retry)
        .because(error)
}

impl Drop for Stream {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection
            .streams
            .set(connection.streams.get().saturating_sub(1));
        connection.idle_since.set(Instant::now());
    }
}

fn cause(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// Whether the server promises that it has done nothing (RFC 9113 §8.7): it
/// refused the stream, or its GOAWAY left it out.
fn is_refused(error: &hyper::Error) -> bool {
    cause(error).is_some_and(|error| {
        let is_goaway = error.is_go_away() && error.is_remote();
        is_goaway || error.reason() == Some(h2::Reason::REFUSED_STREAM)
    })
}

/// Whether the connection itself broke.
fn is_cut(error: &hyper::Error) -> bool {
    cause(error).is_none_or(h2::Error::is_io)
}

/// Runs hyper's tasks on this worker.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        spawn_local(async move {
            future.await;
        });
    }
}
