//! The sending half of an exchange.
//!
//! The head goes out at once, in the same write as a body that is already at
//! hand; the rest of the body follows whenever there is something of it and the
//! server takes it. The request itself stays whole until its body is touched.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::http::header::{HeaderMap, HeaderName, TRAILER};
use bytes::{Buf as _, Bytes};
use http_body::{Body as _, Frame};
use smallvec::SmallVec;
use tokio::io::AsyncWrite as _;

use super::super::shared::Shared;
use super::super::wire::Wire;
use super::encode::{self, Framing};
use super::hold::Hold;
use crate::http::{Body, BodyError, Request};

/// Most bytes of a body that are copied behind the head, to go in one piece.
const SMALL: usize = 4 * 1024;

/// What is kept of the buffer in which heads are written.
const KEPT: usize = 16 * 1024;

thread_local! {
    static HEAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is on its way to the server.
pub(super) struct Outbound {
    framing: Framing,
    /// Mostly empty, for heads and small bodies are written at once.
    queue: Vec<Bytes>,
    announced: Vec<HeaderName>,
    hold: Option<Hold>,
    /// Whether anything of the body is gone.
    is_touched: bool,
    /// Whether the whole body was taken.
    is_taken: bool,
    is_written: bool,
    is_flushed: bool,
}

/// Why nothing more is sent.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client's side broke off.
    Body(BodyError),
    /// The server's side did.
    Wire(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Wire(error)
    }
}

impl Outbound {
    pub(super) fn new(request: &Request) -> Self {
        let is_empty = request.body.is_end_stream();
        Self {
            framing: Framing::Empty,
            queue: Vec::new(),
            announced: Vec::new(),
            hold: (!is_empty && encode::expects_continue(&request.head)).then(Hold::new),
            is_touched: false,
            is_taken: is_empty,
            is_written: false,
            is_flushed: true,
        }
    }

    /// Whether the request can't be sent again.
    pub(super) fn is_touched(&self) -> bool {
        self.is_touched
    }

    /// Whether the server may have seen anything of it.
    pub(super) fn is_written(&self) -> bool {
        self.is_written
    }

    /// Whether the client has nothing more to send.
    pub(super) fn is_taken(&self) -> bool {
        self.is_taken
    }

    /// Whether everything was sent.
    pub(super) fn is_finished(&self) -> bool {
        self.is_taken && self.queue.is_empty() && self.is_flushed
    }

    /// Whether the body still waits for the server's word.
    pub(super) fn is_held(&self) -> bool {
        self.hold.is_some()
    }

    /// The server has given its word.
    pub(super) fn release(&mut self) {
        self.hold = None;
    }

    /// Writes the head, and what is there of the body.
    pub(super) fn begin(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut Wire,
        request: &mut Request,
        shared: &Shared,
    ) -> Result<(), Stop> {
        HEAD.with_borrow_mut(|out| {
            out.clear();
            let host = shared.url.authority();
            let lines = request.exchange.lines.borrow().clone();
            let lines = lines.as_ref().map_or(&[][..], |lines| lines.as_bytes());
            self.framing = encode::head(out, &request.head, lines, &request.body, host);
            if !self.is_taken {
                self.first(cx, out, request)?;
            }
            let result = self.write_head(cx, wire, out);
            out.shrink_to(KEPT);
            result
        })
    }

    fn first(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        request: &mut Request,
    ) -> Result<(), Stop> {
        if self.framing == Framing::Chunked && request.head.headers.contains_key(TRAILER) {
            self.announced = encode::announced(&request.head.headers);
        }
        if self.is_held() {
            return Ok(());
        }
        if let Poll::Ready(frame) = Pin::new(&mut request.body).poll_frame(cx) {
            self.take(frame, &request.body)?;
        }
        if self.queue.iter().map(Bytes::len).sum::<usize>() <= SMALL {
            self.queue
                .drain(..)
                .for_each(|part| out.extend_from_slice(&part));
        }
        Ok(())
    }

    fn write_head(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut Wire,
        head: &[u8],
    ) -> Result<(), Stop> {
        self.is_flushed = false;
        let written = if self.queue.is_empty() {
            Pin::new(wire).poll_write(cx, head)?
        } else {
            let mut slices: SmallVec<[IoSlice<'_>; 4]> = SmallVec::new();
            slices.push(IoSlice::new(head));
            slices.extend(self.queue.iter().map(|part| IoSlice::new(part)));
            Pin::new(wire).poll_write_vectored(cx, &slices)?
        };
        let count = match written {
            Poll::Ready(count) => count,
            Poll::Pending => 0,
        };
        self.is_written = count > 0;
        match head.get(count..) {
            Some(rest) if !rest.is_empty() => self.queue.insert(0, Bytes::copy_from_slice(rest)),
            _ => self.advance(count.saturating_sub(head.len())),
        }
        Ok(())
    }

    /// Sends what can be sent. Ready when everything was.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut Wire,
        body: &mut Body,
    ) -> Poll<Result<(), Stop>> {
        loop {
            while !self.queue.is_empty() {
                ready!(self.poll_write(cx, wire))?;
            }
            if !self.is_flushed {
                self.is_flushed = Pin::new(&mut *wire).poll_flush(cx)?.is_ready();
            }
            if self.is_taken {
                return if self.is_flushed {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            if let Some(hold) = &mut self.hold {
                ready!(hold.poll(cx));
                self.hold = None;
            }
            let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
            self.take(frame, body)?;
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<io::Result<()>> {
        let slices: SmallVec<[IoSlice<'_>; 4]> =
            self.queue.iter().map(|part| IoSlice::new(part)).collect();
        let count = ready!(Pin::new(wire).poll_write_vectored(cx, &slices))?;
        drop(slices);
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.is_written = true;
        self.is_flushed = false;
        self.advance(count);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(part) = self.queue.first_mut() {
            if count < part.len() {
                part.advance(count);
                return;
            }
            count -= part.len();
            self.queue.remove(0);
        }
    }

    fn take(
        &mut self,
        frame: Option<Result<Frame<Bytes>, BodyError>>,
        body: &Body,
    ) -> Result<(), Stop> {
        let Some(frame) = frame else {
            return self.end(&HeaderMap::new());
        };
        self.is_touched = true;
        match frame.map_err(Stop::Body)?.into_data() {
            Ok(data) => self.data(data, body),
            Err(frame) => self.end(&frame.into_trailers().unwrap_or_default()),
        }
    }

    fn data(&mut self, mut data: Bytes, body: &Body) -> Result<(), Stop> {
        match &mut self.framing {
            Framing::Empty => return Ok(()),
            Framing::Length(left) => {
                // More than was announced must not look like the next request.
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
                self.is_taken = *left == 0;
                if !data.is_empty() {
                    self.queue.push(data);
                }
            }
            Framing::Chunked => {
                if !data.is_empty() {
                    let size = format!("{:x}\r\n", data.len());
                    self.queue.push(size.into());
                    self.queue.push(data);
                    self.queue.push(Bytes::from_static(b"\r\n"));
                }
                if body.is_end_stream() {
                    return self.end(&HeaderMap::new());
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, trailers: &HeaderMap) -> Result<(), Stop> {
        match self.framing {
            Framing::Length(1..) => {
                let short = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(Stop::Body(short.into()));
            }
            Framing::Chunked if trailers.is_empty() => {
                self.queue.push(Bytes::from_static(b"0\r\n\r\n"));
            }
            Framing::Chunked => {
                let end = encode::last_chunk(trailers, &self.announced);
                self.queue.push(end.into());
            }
            Framing::Empty | Framing::Length(0) => {}
        }
        self.is_taken = true;
        Ok(())
    }
}
