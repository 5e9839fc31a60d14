//! The body of a request, as the service sees it.
//!
//! Owns the time limit of its reading and the count of its bytes; everything
//! else is the [`Wire`]'s, which it shares with the connection.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::super::body::Deadline;
use super::wire::Wire;
use crate::http::{BodyError, ErrorKind, Exchange, ProxyError};

/// The body of a request.
#[derive(Debug)]
pub(super) struct RequestBody {
    wire: Rc<RefCell<Wire>>,
    deadline: Deadline,
    exchange: Rc<Exchange>,
    /// Whether nothing more is to be had from it. The wire may be with the next
    /// request then.
    is_over: bool,
}

impl RequestBody {
    /// The body that begins on `wire`, to be read until `until`.
    pub(super) fn new(
        wire: Rc<RefCell<Wire>>,
        until: Option<Instant>,
        exchange: Rc<Exchange>,
    ) -> Self {
        wire.borrow_mut().hold();
        Self {
            wire,
            deadline: Deadline::new(until),
            exchange,
            is_over: false,
        }
    }

    fn poll_wire(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let mut wire = self.wire.borrow_mut();
        match wire.poll_frame(cx) {
            Poll::Ready(frame) => {
                let is_last = !matches!(frame, Some(Ok(_))) || wire.is_body_over();
                self.is_over = is_last;
                if is_last {
                    wire.let_go();
                }
                Poll::Ready(frame)
            }
            Poll::Pending => {
                ready!(self.deadline.poll_passed(cx));
                self.is_over = true;
                wire.let_go();
                Poll::Ready(Some(Err(ErrorKind::ClientTimeout.into())))
            }
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
        if self.is_over {
            return Poll::Ready(None);
        }
        let frame = ready!(self.poll_wire(cx));
        if let Some(Ok(frame)) = &frame {
            self.exchange.count_request(frame);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_over {
            return SizeHint::with_exact(0);
        }
        let left = self.wire.borrow().body_left();
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.is_over
            && let Ok(mut wire) = self.wire.try_borrow_mut()
        {
            wire.let_go();
        }
    }
}
