//! Bodies between hyper and the service, with time limits.
//!
//! Owns the two wrappers of HTTP/2. The one around a request's body turns what
//! can go wrong with it into a [`ProxyError`]; the one around a response's body
//! tells when the response has ended. Neither collects anything.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::task::spawn_local;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::state::Ticket;
use crate::http::{Body, BodyError, ErrorKind, Exchange, ProxyError};

/// Most bytes of an unwanted body that are read after all, and for how long.
const MAX_DISCARDED: usize = 64 * 1024;
const DISCARD_TIME: Duration = Duration::from_millis(250);

/// A moment that is only watched while something is waited for.
#[derive(Debug)]
pub(super) struct Deadline {
    at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    pub(super) fn new(at: Option<Instant>) -> Self {
        Self { at, sleep: None }
    }

    /// Ready when the moment has passed.
    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else {
            return Poll::Pending;
        };
        self.sleep
            .get_or_insert_with(|| Box::pin(sleep_until(at)))
            .as_mut()
            .poll(cx)
    }
}

/// The body of a request.
#[derive(Debug)]
pub(super) struct RequestBody {
    /// Taken only when the body is dropped.
    inner: Option<Incoming>,
    deadline: Deadline,
    exchange: Rc<Exchange>,
}

impl RequestBody {
    pub(super) fn new(inner: Incoming, ticket: &Ticket, exchange: Rc<Exchange>) -> Self {
        Self {
            inner: Some(inner),
            deadline: Deadline::new(ticket.read_until),
            exchange,
        }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let frame = match Pin::new(inner).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(self.deadline.poll_passed(cx));
                return Poll::Ready(Some(Err(ProxyError::new(ErrorKind::ClientTimeout).into())));
            }
        };
        if let Some(Ok(frame)) = &frame {
            self.exchange.count_request(frame);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| explain(error).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else {
            return;
        };
        if !inner.is_end_stream() && !std::thread::panicking() {
            spawn_local(discard(inner));
        }
    }
}

/// Reads on for a moment where nobody wants the rest of a body: in HTTP/2 its
/// drop resets the stream, and the client may take that for a failure of a
/// response that it has not read yet.
async fn discard(mut body: Incoming) {
    let work = async {
        let mut left = MAX_DISCARDED;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(1, Bytes::len).max(1));
            if left == 0 {
                return;
            }
        }
    };
    let _ = timeout(DISCARD_TIME, work).await;
}

/// A malformed chunk is a bad request, everything else means that the client is gone.
pub(super) fn explain(error: hyper::Error) -> ProxyError {
    let is_malformed = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|source| {
            matches!(
                source.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
            )
        });
    let kind = if is_malformed {
        ErrorKind::BadRequest
    } else {
        ErrorKind::ClientGone
    };
    ProxyError::new(kind).because(error)
}

/// The body of a response.
#[derive(Debug)]
pub(super) struct ResponseBody {
    inner: Body,
    deadline: Deadline,
    /// Dropped with the body, when the response has ended.
    _ticket: Ticket,
}

impl ResponseBody {
    pub(super) fn new(inner: Body, ticket: Ticket) -> Self {
        Self {
            inner,
            deadline: Deadline::new(ticket.write_until),
            _ticket: ticket,
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        ready!(self.deadline.poll_passed(cx));
        Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
