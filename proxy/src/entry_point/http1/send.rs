//! One response on its way to the client.
//!
//! Owns what is written and not yet taken by the socket: the head and small
//! frames in one buffer, so that they go out together, and at most one large
//! frame as it is. The next frame of the body is asked for only when that is
//! gone, so a client that does not read costs no more. The buffer is lent by the
//! thread while there is something in it.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::http::HeaderMap;
use bytes::{Buf, Bytes};
use http_body::Body as _;
use thiserror::Error;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::encode::{Shape, Size, chunk_size, encode};
use super::head::Terms;
use super::stock;
use super::wire::Wire;
use crate::http::{Body, BodyError, Response};

/// From this size on a frame is written as it is.
const LARGE: usize = 8 * 1024;
/// Most bytes of small frames that are collected for one write.
const MAX_COLLECTED: usize = 16 * 1024;
/// Largest buffer that a thread keeps.
const MAX_KEPT: usize = 64 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Why a response could not be sent to its end. The client must not take what
/// it has of it for the whole.
#[derive(Debug, Error)]
pub(super) enum SendError {
    #[error("client can't be written to")]
    Client(#[from] io::Error),
    #[error("body ended with an error")]
    Body(#[source] BodyError),
    #[error("body is not as long as its head says")]
    Length,
}

/// A response that is being sent.
#[derive(Debug)]
pub(super) struct Sending {
    body: Option<Body>,
    shape: Shape,
    out: Vec<u8>,
    sent: usize,
    large: Bytes,
    /// What comes behind `large`.
    tail: &'static [u8],
}

impl Sending {
    /// Begins `response` to a request with `terms`, behind `interim`, and takes
    /// its headers and its body. Says whether the connection ends with it.
    pub(super) fn begin(
        response: &mut Response,
        terms: &Terms,
        interim: &[u8],
        now: Instant,
    ) -> (Self, bool) {
        let mut out = BUFFER.take();
        out.extend_from_slice(interim);
        let encoded = encode(&mut out, response, Size::of(response.body()), terms, now);
        stock::give_back(mem::take(response.headers_mut()));
        let has_body = !matches!(encoded.shape, Shape::None | Shape::Length(0));
        let sending = Self {
            body: has_body.then(|| mem::replace(response.body_mut(), Body::empty())),
            shape: encoded.shape,
            out,
            sent: 0,
            large: Bytes::new(),
            tail: &[],
        };
        (sending, encoded.is_last)
    }

    /// Ready when the whole response is written.
    pub(super) fn poll(
        &mut self,
        wire: &RefCell<Wire>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        loop {
            let is_waiting = self.collect(cx)?;
            let mut wire = wire.borrow_mut();
            ready!(self.poll_write(&mut wire, cx))?;
            if is_waiting || self.body.is_none() {
                let flushed = Pin::new(&mut wire.socket).poll_flush(cx)?;
                self.give_back();
                if is_waiting {
                    return Poll::Pending;
                }
                return flushed.map(|()| Ok(()));
            }
        }
    }

    /// Asks the body for what can be written together. True if it has to be waited for.
    fn collect(&mut self, cx: &mut Context<'_>) -> Result<bool, SendError> {
        if self.out.capacity() == 0 {
            self.out = BUFFER.take();
        }
        while self.large.is_empty() && self.out.len() - self.sent < MAX_COLLECTED {
            let Some(body) = &mut self.body else {
                break;
            };
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(None) => self.end(None)?,
                Poll::Ready(Some(Err(error))) => return Err(SendError::Body(error)),
                Poll::Ready(Some(Ok(frame))) => {
                    let is_end = body.is_end_stream();
                    match frame.into_data() {
                        Ok(data) => self.push(data)?,
                        Err(other) => {
                            let trailers = other.into_trailers().unwrap_or_default();
                            self.end(Some(&trailers))?;
                        }
                    }
                    if is_end && self.body.is_some() {
                        self.end(None)?;
                    }
                }
            }
        }
        Ok(false)
    }

    fn push(&mut self, data: Bytes) -> Result<(), SendError> {
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.shape {
            Shape::Length(left) => {
                let size = data.len() as u64;
                *left = left.checked_sub(size).ok_or(SendError::Length)?;
                if *left == 0 {
                    self.body = None;
                }
            }
            Shape::Chunked(_) => {
                chunk_size(&mut self.out, data.len());
                self.tail = b"\r\n";
            }
            Shape::None | Shape::UntilClose => {}
        }
        if data.len() >= LARGE {
            self.large = data;
        } else {
            self.out.extend_from_slice(&data);
            self.out.extend_from_slice(mem::take(&mut self.tail));
        }
        Ok(())
    }

    /// The body has ended.
    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), SendError> {
        self.body = None;
        match &self.shape {
            Shape::Length(1..) => return Err(SendError::Length),
            // Nothing but the end can follow a large frame that is still here.
            Shape::Chunked(_) if !self.large.is_empty() => self.tail = b"\r\n0\r\n\r\n",
            Shape::Chunked(wanted) => {
                self.out.extend_from_slice(b"0\r\n");
                if let Some(trailers) = trailers {
                    wanted.write(&mut self.out, trailers);
                }
                self.out.extend_from_slice(b"\r\n");
            }
            Shape::Length(0) | Shape::None | Shape::UntilClose => {}
        }
        Ok(())
    }

    fn poll_write(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let socket = Pin::new(&mut wire.socket);
            let small = self.out.get(self.sent..).unwrap_or_default();
            let count = if !self.large.is_empty() || !self.tail.is_empty() {
                let slices = [small, &self.large, self.tail].map(IoSlice::new);
                ready!(socket.poll_write_vectored(cx, &slices))?
            } else if !small.is_empty() {
                ready!(socket.poll_write(cx, small))?
            } else {
                return Poll::Ready(Ok(()));
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(count);
        }
    }

    /// Forgets what was written.
    fn advance(&mut self, count: usize) {
        let small = count.min(self.out.len() - self.sent);
        self.sent += small;
        let large = (count - small).min(self.large.len());
        self.large.advance(large);
        self.tail = self.tail.get(count - small - large..).unwrap_or_default();
    }

    /// Returns the buffer, which is all written, to the thread.
    fn give_back(&mut self) {
        let mut out = mem::take(&mut self.out);
        self.sent = 0;
        if out.capacity() <= MAX_KEPT && out.capacity() > 0 {
            out.clear();
            BUFFER.set(out);
        }
    }
}
