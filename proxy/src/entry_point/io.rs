//! The client's socket, with or without TLS.
//!
//! Owns the socket and puts bytes back that were read to find out what the
//! client speaks. With TLS it takes as much at once as suits the client's pace.
//! It knows nothing of HTTP.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::ConnectionEvents;
use super::pace::Pace;
use crate::socket::{poll_read, poll_send};

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
            return poll_read(&mut self.socket, cx, buf);
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
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        poll_send(&self.socket, cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
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

/// A TLS session, and how fast its client reads.
#[derive(Debug)]
pub(super) struct Session {
    tls: TlsStream<Rewound>,
    pace: Pace,
}

impl Session {
    /// Writes as much as suits the client's pace.
    fn poll_seal(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let tls = &mut self.tls;
        let limit = self
            .pace
            .limit(slices.iter().map(|slice| slice.len()).sum());
        tls.get_mut().1.set_buffer_limit(Some(limit));
        let written = Pin::new(&mut *tls).poll_write_vectored(cx, slices);
        match &written {
            Poll::Ready(Ok(count)) if !tls.get_ref().1.wants_write() => self.pace.went(*count),
            _ => self.pace.stuck(limit),
        }
        written
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.tls).poll_flush(cx))?;
        self.pace.went(0);
        Poll::Ready(Ok(()))
    }
}

/// With or without TLS.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Rewound),
    Tls(Box<Session>),
}

impl Stream {
    pub(super) fn tls(tls: TlsStream<Rewound>) -> Self {
        let pace = Pace::new();
        Self::Tls(Box::new(Session { tls, pace }))
    }

    /// The protocol that was agreed upon in the TLS handshake.
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(session) => session.tls.get_ref().1.alpn_protocol(),
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(plain) => &plain.socket,
            Self::Tls(session) => &session.tls.get_ref().0.socket,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(plain) => Pin::new(plain).poll_read(cx, buf),
            Self::Tls(session) => Pin::new(&mut session.tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(plain) => Pin::new(plain).poll_write(cx, bytes),
            Self::Tls(session) => session.poll_seal(cx, &[IoSlice::new(bytes)]),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(plain) => Pin::new(plain).poll_write_vectored(cx, slices),
            Self::Tls(session) => session.poll_seal(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(plain) => Pin::new(plain).poll_flush(cx),
            Self::Tls(session) => session.poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(plain) => Pin::new(plain).poll_shutdown(cx),
            Self::Tls(session) => Pin::new(&mut session.tls).poll_shutdown(cx),
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
