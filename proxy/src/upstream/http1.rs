//! One HTTP/1.1 connection to a server.
//!
//! hyper's side of it is no task of its own: it runs inside whoever waits for
//! it, first the request, then the response's body. So nothing is woken twice,
//! a dropped request or body takes its connection with it, and an idle
//! connection can be looked at without asking anybody.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, Sleep, sleep};

use super::request::{Outgoing, Prepared, Sending};
use super::shared::Shared;
use super::wire::{Gauge, Wire};
use crate::http::{ErrorKind, ProxyError, Retry};

/// Largest head of a response, and the most that is read of a body at once. A
/// client that doesn't read keeps about four times as much for its response,
/// on both sides of the proxy together.
const BUFFER: usize = 16 * 1024;

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>>>>;

/// A connection. Dropping it closes it.
pub(super) struct Connection {
    sender: SendRequest<Outgoing>,
    driver: Option<Driver>,
    gauge: Arc<Gauge>,
    shared: Arc<Shared>,
    /// How long it may be idle.
    pub(super) keep_for: Option<Duration>,
    /// How long it was idle before the request at hand, unless it is new.
    pub(super) reused_after: Option<Duration>,
    pub(super) age: u32,
    /// Gauge readings when the current request came.
    written_before: u64,
    read_before: u64,
}

/// A request that brought no response.
pub(super) struct Lost {
    pub(super) error: ProxyError,
    /// The request, if hyper never looked at it.
    pub(super) unsent: Option<::http::Request<Outgoing>>,
    /// Whether the connection was dead before the request came to it.
    pub(super) is_stale: bool,
}

impl Lost {
    pub(super) fn late() -> Self {
        Self {
            error: ErrorKind::ResponseTimeout.into(),
            unsent: None,
            is_stale: false,
        }
    }
}

impl Connection {
    pub(super) async fn open(wire: Wire, shared: Arc<Shared>) -> Result<Self, ProxyError> {
        let gauge = wire.gauge();
        let (sender, connection) = Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(|error| {
                ProxyError::new(ErrorKind::Connect)
                    .retry(Retry::Always)
                    .because(error)
            })?;
        Ok(Self {
            sender,
            driver: Some(Box::pin(connection.with_upgrades())),
            gauge,
            keep_for: shared.transport.idle_timeout,
            age: shared.age(),
            shared,
            reused_after: None,
            written_before: 0,
            read_before: 0,
        })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether an idle connection still is one, as far as the event loop knows.
    pub(super) fn is_open(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.drive(&mut cx);
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Whether an idle connection still is one, as far as the kernel knows.
    pub(super) fn is_silent(&mut self) -> bool {
        self.gauge.demand_peek();
        self.is_open() && !self.gauge.must_peek()
    }

    /// Moves bytes. To be called by whoever waits for something of this connection.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && driver.as_mut().poll(cx).is_ready()
        {
            // What hyper had to say, it has told the request or the body.
            self.driver = None;
        }
    }

    /// Whether another request may follow the one whose response has ended:
    /// neither side has closed, and the server has taken all that was sent.
    pub(super) fn is_reusable(&self) -> bool {
        self.driver.is_some() && !self.sender.is_closed() && !self.gauge.is_blocked()
    }

    /// Goes on by itself until the handle is aborted.
    pub(super) fn detach(self) -> Option<AbortHandle> {
        let driver = self.driver?;
        let sender = self.sender;
        let task = spawn_local(async move {
            let _sender = sender;
            let _ = driver.await;
        });
        Some(task.abort_handle())
    }

    /// What is left to run when the connection becomes something else.
    pub(super) async fn run_out(self) {
        if let Some(driver) = self.driver {
            // What went wrong, the two sides of the upgrade learn from it.
            let _ = driver.await;
        }
    }

    /// Sends a request and waits for the head of its response.
    pub(super) async fn exchange(
        &mut self,
        prepared: Prepared,
    ) -> Result<::http::Response<Incoming>, Lost> {
        let Prepared { request, sending } = prepared;
        self.written_before = self.gauge.written();
        self.read_before = self.gauge.read();
        let mut answer = pin!(self.sender.try_send_request(request));
        let mut limit = HeadLimit::new(self.shared.transport.header_timeout);
        let outcome = poll_fn(|cx| {
            self.drive(cx);
            if let Poll::Ready(outcome) = answer.as_mut().poll(cx) {
                return Poll::Ready(Some(outcome));
            }
            limit.poll(cx, &sending).map(|()| None)
        })
        .await;
        match outcome {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut error)) => {
                let unsent = error.take_message();
                let error = self.judge(error.into_error(), &sending, unsent.is_some());
                self.learn(&error);
                Err(Lost {
                    is_stale: error.retry == Retry::Always,
                    error,
                    unsent,
                })
            }
            None => Err(Lost::late()),
        }
    }

    /// A connection that died between two requests tells of its server's patience.
    fn learn(&self, error: &ProxyError) {
        if error.retry != Retry::Never
            && let Some(idle_for) = self.reused_after
        {
            let patience = &self.shared.patience;
            patience.note_close(idle_for, Instant::now());
        }
    }

    fn judge(&self, error: hyper::Error, sending: &Sending, is_unsent: bool) -> ProxyError {
        let is_written = self.gauge.written() != self.written_before;
        let is_answered = self.gauge.read() != self.read_before;
        if let Some(kind) = sending.fault() {
            return ProxyError::new(kind).because(error);
        }
        if is_unsent || !is_written {
            return ProxyError::new(ErrorKind::ConnectionLost)
                .retry(Retry::Always)
                .because(error);
        }
        if error.is_parse() {
            return ProxyError::new(ErrorKind::BadResponse).because(error);
        }
        let retry = if self.reused_after.is_some() && !is_answered {
            Retry::Idempotent
        } else {
            Retry::Never
        };
        ProxyError::new(ErrorKind::ConnectionLost)
            .retry(retry)
            .because(error)
    }
}

/// The limit for a response's head, which begins when the request is sent.
pub(super) struct HeadLimit {
    limit: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl HeadLimit {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { limit, sleep: None }
    }

    /// Ready when the time is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, sending: &Sending) -> Poll<()> {
        let Some(limit) = self.limit.filter(|_| sending.is_done()) else {
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(limit)));
        sleep.as_mut().poll(cx)
    }
}
