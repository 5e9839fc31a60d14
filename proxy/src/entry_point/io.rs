//! The socket as hyper sees it.
//!
//! Owns the client's socket with or without TLS, puts bytes back that were read
//! to find out what the client speaks, reports progress to the connection's
//! [`State`], and closes in a way that neither loses a last response nor makes
//! half of one look whole. It knows nothing of HTTP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::ConnectionEvents;
use super::pace::Pace;
use super::raw_head::RawHead;
use super::state::{Phase, State};

/// Most bytes that one read takes, so that a fast upload does not make hyper's
/// buffer grow. TLS records bound it already.
const MAX_READ: usize = 16 * 1024;

/// Most bytes that are taken in after the last response.
const MAX_LINGER: usize = 1024 * 1024;

/// A socket, and what was read from it too early.
#[derive(Debug)]
pub(super) struct Rewound {
    early: BytesMut,
    socket: TcpStream,
}

impl Rewound {
    pub(super) fn new(early: BytesMut, socket: TcpStream) -> Self {
        Self { early, socket }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        let count = self.early.len().min(buf.remaining());
        buf.put_slice(self.early.get(..count).unwrap_or_default());
        self.early.advance(count);
        if self.early.is_empty() {
            self.early = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// With or without TLS.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Rewound),
    Tls(Box<TlsStream<Rewound>>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(plain) => &plain.socket,
            Self::Tls(tls) => &tls.get_ref().0.socket,
        }
    }

    /// Whether nothing that was read or is to be written is kept in here, so
    /// that news can only come from the socket.
    fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(plain) => plain.early.is_empty(),
            Self::Tls(tls) => {
                let (below, session) = tls.get_ref();
                below.early.is_empty() && session.wants_read() && !session.wants_write()
            }
        }
    }
}

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
pub(super) struct Open {
    events: Arc<dyn ConnectionEvents>,
    _token: TaskTrackerToken,
}

impl Open {
    pub(super) fn new(events: Arc<dyn ConnectionEvents>, token: TaskTrackerToken) -> Self {
        events.opened();
        Self {
            events,
            _token: token,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.events.closed();
    }
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    state: Arc<State>,
    raw_head: RawHead,
    pace: Pace,
    /// What hyper had read already when it was taken off the connection.
    unread: Bytes,
    lingered: usize,
    _open: Open,
}

impl Watched {
    pub(super) fn new(stream: Stream, state: Arc<State>, open: Open) -> Self {
        Self {
            stream,
            state,
            raw_head: RawHead::new(),
            pace: Pace::new(),
            unread: Bytes::new(),
            lingered: 0,
            _open: open,
        }
    }

    /// Lets `bytes`, which were read before, be read again.
    pub(super) fn put_back(&mut self, bytes: Bytes) {
        // Empty bytes may still hold on to the whole buffer that they are a part of.
        if !bytes.is_empty() {
            self.unread = bytes;
        }
    }

    /// Whether news can only come from the socket.
    pub(super) fn is_quiet(&self) -> bool {
        self.unread.is_empty() && self.stream.is_quiet()
    }

    /// Ready when the socket has something to read, or failed.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.socket().poll_read_ready(cx).map(drop)
    }

    fn poll_stream_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(plain) if buf.remaining() > MAX_READ => {
                let mut window = ReadBuf::new(buf.initialize_unfilled_to(MAX_READ));
                ready!(Pin::new(plain).poll_read(cx, &mut window))?;
                let count = window.filled().len();
                buf.advance(count);
                Poll::Ready(Ok(()))
            }
            Stream::Plain(plain) => Pin::new(plain).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
        }
    }

    /// Takes in what the client still sends, until it has seen our end.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 4096];
        while self.lingered < MAX_LINGER {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(self.poll_stream_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => self.lingered += buf.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

/// Writes to a TLS session as much as suits the client's pace.
fn poll_seal(
    tls: &mut TlsStream<Rewound>,
    pace: &mut Pace,
    cx: &mut Context<'_>,
    slices: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let limit = pace.limit(slices.iter().map(|slice| slice.len()).sum());
    tls.get_mut().1.set_buffer_limit(Some(limit));
    let written = Pin::new(&mut *tls).poll_write_vectored(cx, slices);
    match &written {
        Poll::Ready(Ok(count)) if !tls.get_ref().1.wants_write() => pace.went(*count),
        _ => pace.stuck(limit),
    }
    written
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let count = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread.split_to(count));
            if self.unread.is_empty() {
                self.unread = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(self.poll_stream_read(cx, buf))?;
        let news = buf.filled().get(before..).unwrap_or_default();
        self.state.on_read(news.len());
        if !self.state.is_http2()
            && self.state.phase() != Phase::Free
            && let Some(request) = self.raw_head.feed(news)
        {
            self.state.set_refused(request);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        match &mut this.stream {
            Stream::Plain(plain) => Pin::new(plain).poll_write_vectored(cx, slices),
            Stream::Tls(tls) => poll_seal(tls, &mut this.pace, cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(plain) => ready!(Pin::new(plain).poll_flush(cx))?,
            Stream::Tls(tls) => {
                ready!(Pin::new(tls.as_mut()).poll_flush(cx))?;
                self.pace.went(0);
            }
        }
        self.state.on_flush();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(plain) => ready!(Pin::new(plain).poll_shutdown(cx))?,
            Stream::Tls(tls) => ready!(Pin::new(tls.as_mut()).poll_shutdown(cx))?,
        }
        if self.state.begin_linger() {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.state.has_failed() {
            // A response that ends with the connection (HTTP/1.0) would look
            // whole after an orderly close; a reset can't be mistaken.
            let _ = self.stream.socket().set_zero_linger();
        }
    }
}
