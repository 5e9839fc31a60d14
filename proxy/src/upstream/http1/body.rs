//! The body of a response, as it is read.
//!
//! The connection runs while somebody reads, and goes back to the pool with the
//! last byte. A body that is dropped early takes its connection with it. If the
//! request's body is still on its way, a small task sends it meanwhile, for the
//! client may want to send everything before it reads anything.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::io::AsyncReadExt as _;
use tokio::task::spawn_local;
use tokio_util::task::AbortOnDropHandle;

use super::super::pool;
use super::Connection;
use super::budget::Permit;
use super::head::{Framing, Terms};
use super::outbound::{Outbound, Stop};
use crate::http::chunked::Item;
use crate::http::{Body, BodyError, Exchange};

/// The most that is read at once without a permit.
const SMALL: usize = 16 * 1024;

/// The most that is read at once.
const LARGE: usize = 256 * 1024;

/// How many full small reads show that a large one is worth its memory.
const PATIENCE: u8 = 8;

/// Less room than this is not worth a read, unless no more is expected.
const LEAST: usize = 4 * 1024;

/// The body of a response whose request is sent. `input` came with its head.
pub(super) fn settled(
    connection: Connection,
    mut input: Bytes,
    terms: Terms,
    exchange: &Rc<Exchange>,
) -> Body {
    if let Framing::Length(length) = terms.framing
        && let Ok(length) = usize::try_from(length)
        && length <= input.len()
    {
        let whole = input.split_to(length);
        count(exchange, &whole);
        if terms.is_reusable && input.is_empty() {
            pool::put(connection);
        }
        return Body::full(whole);
    }
    let link = if terms.is_reusable {
        Link::Reusable(connection)
    } else {
        Link::Last(connection)
    };
    Body::new(Receiving::new(link, input, terms.framing, exchange))
}

/// The body of a response that came before the request was sent.
pub(super) fn unsettled(
    sending: Sending,
    input: Bytes,
    terms: Terms,
    exchange: &Rc<Exchange>,
) -> Body {
    if matches!(terms.framing, Framing::Length(0)) {
        return Body::empty();
    }
    let is_held = sending.outbound.is_held();
    let sending = Rc::new(RefCell::new(sending));
    // A body that the server was not interested in stays here.
    let task = (!is_held).then(|| Sending::run(Rc::clone(&sending)));
    let link = Link::Sending(sending, task);
    Body::new(Receiving::new(link, input, terms.framing, exchange))
}

fn count(exchange: &Exchange, data: &Bytes) {
    let sum = &exchange.origin_bytes;
    sum.set(sum.get().saturating_add(data.len() as u64));
}

/// What a body hangs on.
enum Link {
    /// A connection that is used again after the response.
    Reusable(Connection),
    /// One that is closed after it.
    Last(Connection),
    /// The same, on which a request is still being sent.
    Sending(
        Rc<RefCell<Sending>>,
        #[expect(dead_code, reason = "held for its drop")] Option<AbortOnDropHandle<()>>,
    ),
    Closed,
}

/// A request that is still on its way while its response is read.
pub(super) struct Sending {
    connection: Connection,
    outbound: Outbound,
    body: Body,
    /// Why the client sends no more.
    fault: Option<BodyError>,
    reader: Option<Waker>,
}

impl Sending {
    pub(super) fn new(connection: Connection, outbound: Outbound, body: Body) -> Self {
        Self {
            connection,
            outbound,
            body,
            fault: None,
            reader: None,
        }
    }

    fn run(sending: Rc<RefCell<Self>>) -> AbortOnDropHandle<()> {
        let task = std::future::poll_fn(move |cx| sending.borrow_mut().poll(cx));
        AbortOnDropHandle::new(spawn_local(task))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let wire = &mut self.connection.wire;
        // A server that takes no more may still go on with its response.
        if let Err(Stop::Body(error)) = ready!(self.outbound.poll(cx, wire, &mut self.body)) {
            self.fault = Some(error);
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        Poll::Ready(())
    }
}

/// A body as it comes from a server.
struct Receiving {
    link: Link,
    /// What was read and not handed out yet.
    input: Bytes,
    framing: Framing,
    is_over: bool,
    /// How many reads in a row have found much.
    full_reads: u8,
    exchange: Rc<Exchange>,
}

impl Receiving {
    fn new(link: Link, input: Bytes, framing: Framing, exchange: &Rc<Exchange>) -> Self {
        Self {
            link,
            input,
            framing,
            is_over: false,
            full_reads: 0,
            exchange: Rc::clone(exchange),
        }
    }

    /// Takes a frame out of what was read.
    fn decode(&mut self) -> Result<Option<Frame<Bytes>>, BodyError> {
        let input = &mut self.input;
        let frame = match &mut self.framing {
            Framing::Chunked(decoder) => {
                let item = decoder.next(input)?;
                self.is_over = decoder.is_over();
                match item {
                    Item::Data(data) => Some(Frame::data(data)),
                    Item::Trailers(trailers) => Some(Frame::trailers(trailers)),
                    Item::More | Item::End => None,
                }
            }
            _ if input.is_empty() => None,
            Framing::Length(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let data = input.split_to(input.len().min(most));
                *left -= data.len() as u64;
                self.is_over = *left == 0;
                Some(Frame::data(data))
            }
            Framing::Close => Some(Frame::data(std::mem::take(input))),
        };
        Ok(frame)
    }

    fn finish(&mut self) {
        let link = std::mem::replace(&mut self.link, Link::Closed);
        if let Link::Reusable(connection) = link
            && self.input.is_empty()
        {
            pool::put(connection);
        }
    }

    /// Reads more. False at the end of the connection.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
        let pace = if self.full_reads < PATIENCE {
            SMALL
        } else {
            LARGE
        };
        let room = match self.framing {
            // A byte more than is due, so that no read comes back full and
            // leaves it open whether there is another.
            Framing::Length(left) => usize::try_from(left)
                .unwrap_or(usize::MAX)
                .saturating_add(1)
                .min(pace),
            _ => pace,
        };
        let read = match &mut self.link {
            Link::Reusable(connection) | Link::Last(connection) => read(cx, connection, room),
            Link::Sending(sending, _) => {
                let mut sending = sending.borrow_mut();
                if let Some(error) = sending.fault.take() {
                    return Poll::Ready(Err(error));
                }
                sending.reader = Some(cx.waker().clone());
                read(cx, &mut sending.connection, room)
            }
            Link::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        };
        let input = ready!(read)?;
        if input.len() < SMALL {
            self.full_reads = 0;
        } else {
            self.full_reads = self.full_reads.saturating_add(1);
        }
        self.input = input;
        Poll::Ready(Ok(!self.input.is_empty()))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        while !self.is_over {
            if let Some(frame) = self.decode()? {
                return Poll::Ready(Ok(Some(frame)));
            }
            if !self.is_over && !ready!(self.poll_more(cx))? {
                if !matches!(self.framing, Framing::Close) {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
                }
                self.is_over = true;
            }
        }
        Poll::Ready(Ok(None))
    }
}

/// Reads once, about `room` bytes, or fewer if large buffers are scarce.
fn read(
    cx: &mut Context<'_>,
    connection: &mut Connection,
    mut room: usize,
) -> Poll<io::Result<Bytes>> {
    ready!(connection.wire.poll_readable(cx))?;
    let permit = if room > SMALL { Permit::take() } else { None };
    let Some(permit) = permit else {
        room = room.min(SMALL);
        let buffer = &mut connection.buffer;
        if buffer.capacity() < room.min(LEAST) {
            *buffer = BytesMut::with_capacity(room);
        }
        ready!(pin!(connection.wire.read_buf(buffer)).poll(cx))?;
        return Poll::Ready(Ok(buffer.split().freeze()));
    };
    let mut buffer = BytesMut::with_capacity(room);
    ready!(pin!(connection.wire.read_buf(&mut buffer)).poll(cx))?;
    Poll::Ready(Ok(permit.freeze(buffer)))
}

impl http_body::Body for Receiving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.poll(cx));
        if let Ok(Some(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            count(&self.exchange, data);
        }
        if self.is_over {
            self.finish();
        } else if frame.is_err() {
            // Nobody shall take the rest for whole.
            self.link = Link::Closed;
            self.input = Bytes::new();
        }
        Poll::Ready(frame.transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::Length(left) => SizeHint::with_exact(left),
            _ if self.is_over => SizeHint::with_exact(0),
            _ => SizeHint::new(),
        }
    }
}
