//! The reading side of a connection, which the connection and the body of its
//! present request share.
//!
//! Owns the socket, what was read ahead of its time, and how much of the present
//! body is still to come. Whoever wants bytes reads: the connection when it waits
//! for a head, the body when it is polled. Heads are read into memory of the
//! thread, so a connection that waits for one holds none. It answers nothing but
//! `100 Continue`.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use ::http::StatusCode;
use bytes::{Buf, BufMut, BytesMut};
use http_body::Frame;
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::head::{Framing, Head, parse};
use super::socket::Socket;
use crate::http::chunked::{Decoder, Item};
use crate::http::{ErrorKind, ProxyError};

/// Most bytes that one read takes.
const MAX_READ: usize = 16 * 1024;
/// Smallest room that a chunked body is read into.
const MIN_ROOM: usize = 1024;
/// Bytes of further requests that are taken in while one is answered.
const MAX_AHEAD: usize = 16 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Why there is no head.
#[derive(Debug)]
pub(super) enum NoHead {
    /// The client is gone, or has said its last.
    Gone(Option<io::Error>),
    /// What it said is to be refused so.
    Refused(StatusCode),
}

/// What is still to come of a request's body.
#[derive(Debug)]
enum Rest {
    Broken,
    Chunked(Box<Decoder>),
    Length(u64),
    None,
}

/// The reading side of a connection.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) socket: Socket,
    /// Read, and not used yet.
    input: BytesMut,
    /// How much of `input` is known not to complete a head.
    scanned: usize,
    has_read: bool,
    has_eof: bool,
    rest: Rest,
    /// What is left to write of a `100 Continue`.
    interim: &'static [u8],
    /// Whether somebody may still read the body.
    is_held: bool,
    /// The connection's task, which waits for the end of the body.
    task: Option<Waker>,
}

impl Wire {
    pub(super) fn new(socket: Socket) -> Self {
        Self {
            socket,
            input: BytesMut::new(),
            scanned: 0,
            has_read: false,
            has_eof: false,
            rest: Rest::None,
            interim: &[],
            is_held: false,
            task: None,
        }
    }

    /// Whether the client has ever said anything.
    pub(super) fn has_read(&self) -> bool {
        self.has_read
    }

    /// Whether bytes wait to be used.
    pub(super) fn is_ahead(&self) -> bool {
        !self.input.is_empty()
    }

    pub(super) fn has_eof(&self) -> bool {
        self.has_eof
    }

    /// Reads the next head, of `max` bytes at most, into `head`, which is empty.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        head: &mut Option<Head>,
    ) -> Poll<Result<(), NoHead>> {
        loop {
            self.take_head(max, head).map_err(NoHead::Refused)?;
            if head.is_some() {
                return Poll::Ready(Ok(()));
            }
            if self.has_eof {
                return Poll::Ready(Err(NoHead::Gone(None)));
            }
            ready!(self.poll_fresh(cx, max, head))?;
            if head.is_some() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads into the thread's memory; where that holds a whole head, nothing
    /// else of it is kept.
    fn poll_fresh(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        head: &mut Option<Head>,
    ) -> Poll<Result<(), NoHead>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let read = ready!(self.poll_scratch(cx, scratch));
            let fresh = read.map_err(|error| NoHead::Gone(Some(error)))?;
            if !self.input.is_empty() || fresh.len() > max {
                self.input.extend_from_slice(fresh);
                return Poll::Ready(Ok(()));
            }
            let used = parse(fresh, head).map_err(NoHead::Refused)?;
            let rest = fresh.get(used.unwrap_or(0)..).unwrap_or_default();
            self.input.extend_from_slice(rest);
            self.scanned = if used.is_some() { 0 } else { rest.len() };
            Poll::Ready(Ok(()))
        })
    }

    /// Reads once. Nothing is the end.
    fn poll_scratch<'a>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &'a mut Vec<u8>,
    ) -> Poll<io::Result<&'a [u8]>> {
        if scratch.is_empty() {
            scratch.resize(MAX_READ, 0);
        }
        let mut buf = ReadBuf::new(scratch);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf))?;
        let count = buf.filled().len();
        self.note_read(count);
        Poll::Ready(Ok(scratch.get(..count).unwrap_or_default()))
    }

    fn note_read(&mut self, count: usize) {
        self.has_eof |= count == 0;
        self.has_read |= count > 0;
    }

    /// A head that is here already.
    fn take_head(&mut self, max: usize, head: &mut Option<Head>) -> Result<(), StatusCode> {
        self.skip_blank_lines();
        if self.input.is_empty() || !self.may_be_complete() {
            return self.check_length(max);
        }
        let Some(length) = parse(&self.input, head)? else {
            self.scanned = self.input.len();
            return self.check_length(max);
        };
        if length > max {
            return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        self.input.advance(length);
        self.scanned = 0;
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        Ok(())
    }

    fn check_length(&self, max: usize) -> Result<(), StatusCode> {
        if self.input.len() > max {
            Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        } else {
            Ok(())
        }
    }

    /// Blank lines in front of a request are ignored (RFC 9112 section 2.2).
    fn skip_blank_lines(&mut self) {
        let mut blank = 0;
        while let Some(rest) = self.input.get(blank..) {
            match rest {
                [b'\r', b'\n', ..] => blank += 2,
                [b'\n', ..] => blank += 1,
                _ => break,
            }
        }
        if blank > 0 {
            self.input.advance(blank);
            self.scanned = 0;
        }
    }

    /// Whether the bytes since the last look can complete a head: heads that
    /// come byte by byte must not be parsed as often.
    fn may_be_complete(&self) -> bool {
        let news = self.input.get(self.scanned.saturating_sub(3)..);
        let news = news.unwrap_or_default();
        self.scanned == 0
            || memmem::find(news, b"\n\r\n").is_some()
            || memmem::find(news, b"\n\n").is_some()
    }

    /// Looks whether the client is gone while it waits for its response. Takes a
    /// little of what it sends ahead; then it is no longer looked after.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !matches!(self.rest, Rest::None) {
            return Poll::Pending;
        }
        while !self.has_eof && self.input.len() < MAX_AHEAD {
            let fresh = SCRATCH.with_borrow_mut(|scratch| {
                let fresh = ready!(self.poll_scratch(cx, scratch))?;
                self.input.extend_from_slice(fresh);
                Poll::Ready(io::Result::Ok(()))
            });
            if ready!(fresh).is_err() {
                return Poll::Ready(());
            }
        }
        if self.has_eof && self.input.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// A request with such a body begins.
    pub(super) fn begin_body(&mut self, framing: Framing, awaits_continue: bool) {
        self.rest = match framing {
            Framing::Chunked => Rest::Chunked(Box::default()),
            Framing::Length(length) => Rest::Length(length),
            Framing::None => Rest::None,
        };
        self.interim = if awaits_continue { CONTINUE } else { &[] };
    }

    /// Somebody is going to read the body.
    pub(super) fn hold(&mut self) {
        self.is_held = true;
    }

    /// Nobody is going to read more of the body.
    pub(super) fn let_go(&mut self) {
        self.is_held = false;
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// The response begins, so `100 Continue` is out of place. What must be
    /// written of it nevertheless, because its beginning was.
    pub(super) fn take_interim(&mut self) -> &'static [u8] {
        match std::mem::take(&mut self.interim) {
            whole if whole.len() == CONTINUE.len() => &[],
            rest => rest,
        }
    }

    /// Whether the body was read to its end.
    pub(super) fn is_body_over(&self) -> bool {
        matches!(self.rest, Rest::None)
    }

    /// How long the rest of the body is, if that is known.
    pub(super) fn body_left(&self) -> Option<u64> {
        match self.rest {
            Rest::None => Some(0),
            Rest::Length(left) => Some(left),
            Rest::Broken | Rest::Chunked(_) => None,
        }
    }

    /// Ready when nobody reads the body any more, or it is over.
    pub(super) fn poll_let_go(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.is_held || self.is_body_over() {
            return Poll::Ready(());
        }
        self.remind(cx);
        Poll::Pending
    }

    /// Wakes this task when the body is over or nobody reads it any more.
    pub(super) fn remind(&mut self, cx: &Context<'_>) {
        if self.is_held {
            self.task = Some(cx.waker().clone());
        }
    }

    /// The next frame of the body.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, ProxyError>>> {
        if let Err(error) = ready!(self.poll_interim(cx)) {
            return Poll::Ready(Some(Err(self.broken(error))));
        }
        loop {
            match self.take_item() {
                Ok(Item::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Item::Trailers(map)) => return Poll::Ready(Some(Ok(Frame::trailers(map)))),
                Ok(Item::End) => return Poll::Ready(None),
                Ok(Item::More) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            if let Err(error) = ready!(self.poll_body_read(cx)) {
                return Poll::Ready(Some(Err(self.broken(error))));
            }
        }
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.interim.is_empty() {
            return Poll::Ready(Ok(()));
        }
        // Who sends the body at once does not wait.
        if self.interim.len() == CONTINUE.len() && !self.input.is_empty() {
            self.interim = &[];
            return Poll::Ready(Ok(()));
        }
        while !self.interim.is_empty() {
            let count = ready!(Pin::new(&mut self.socket).poll_write(cx, self.interim))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim = self.interim.get(count..).unwrap_or_default();
        }
        // What TLS can't send now goes out with the response.
        let _ = Pin::new(&mut self.socket).poll_flush(cx)?;
        Poll::Ready(Ok(()))
    }

    /// The next item of the body that is here already.
    fn take_item(&mut self) -> Result<Item, ProxyError> {
        let (item, is_over) = match &mut self.rest {
            Rest::None => return Ok(Item::End),
            Rest::Length(_) if self.input.is_empty() => (Item::More, false),
            Rest::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX);
                let data = self.input.split_to(count.min(self.input.len())).freeze();
                *left -= data.len() as u64;
                (Item::Data(data), *left == 0)
            }
            Rest::Chunked(decoder) => match decoder.next(&mut self.input) {
                Ok(item) => (item, decoder.is_over()),
                Err(error) => {
                    self.rest = Rest::Broken;
                    return Err(ProxyError::new(ErrorKind::BadRequest).because(error));
                }
            },
            Rest::Broken => return Err(ErrorKind::ClientGone.into()),
        };
        if is_over {
            self.rest = Rest::None;
            self.let_go();
        }
        Ok(item)
    }

    /// Reads some of the body into memory that its frames will share.
    fn poll_body_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let room = match self.rest {
            Rest::Length(left) => usize::try_from(left).map_or(MAX_READ, |left| left.min(MAX_READ)),
            _ => match self.input.capacity() - self.input.len() {
                room @ MIN_ROOM.. => room,
                _ => MAX_READ,
            },
        };
        self.input.reserve(room);
        let count = {
            let mut room = (&mut self.input).limit(room);
            ready!(pin!(self.socket.read_buf(&mut room)).poll(cx))?
        };
        self.note_read(count);
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn broken(&mut self, error: io::Error) -> ProxyError {
        self.rest = Rest::Broken;
        ProxyError::new(ErrorKind::ClientGone).because(error)
    }

    /// Passes over what is left of a body that nobody wants, if it is here.
    pub(super) fn drain(&mut self, cx: &mut Context<'_>) {
        self.interim = &[];
        let mut left = MAX_READ;
        while !self.is_body_over() && left > 0 {
            match self.poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let length = frame.data_ref().map_or(1, bytes::Bytes::len);
                    left = left.saturating_sub(length.max(1));
                }
                _ => return,
            }
        }
    }

    /// Gives memory back that the next request does not need.
    pub(super) fn tidy(&mut self) {
        self.task = None;
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    /// Takes in what the client still sends, and forgets it; the count, or
    /// nothing at its end.
    pub(super) fn poll_waste(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        SCRATCH.with_borrow_mut(|scratch| {
            let wasted = ready!(self.poll_scratch(cx, scratch));
            Poll::Ready(wasted.map_or(0, <[u8]>::len))
        })
    }

    /// Takes what was read ahead.
    pub(super) fn take_input(&mut self) -> BytesMut {
        std::mem::take(&mut self.input)
    }

    /// Takes the socket away for good.
    pub(super) fn take_socket(&mut self) -> Socket {
        self.has_eof = true;
        std::mem::replace(&mut self.socket, Socket::Gone)
    }
}
