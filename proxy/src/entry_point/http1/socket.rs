//! The client's socket under HTTP/1.
//!
//! Owns nothing but the choice between clear and TLS, the hard cut that keeps
//! half a response from looking whole, and the form in which a connection is
//! given away after a change of protocol. It knows nothing of messages.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
#[cfg(test)]
use tokio::io::DuplexStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::io::{Open, Stream};

/// A client's connection.
#[derive(Debug)]
pub(super) enum Socket {
    Client(Stream),
    /// It was given away.
    Gone,
    #[cfg(test)]
    Memory(DuplexStream),
}

impl Socket {
    /// Whether the peer expects more than the end of the TCP connection.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Client(Stream::Tls(_)))
    }

    /// Makes the end of the connection a reset, which nobody takes for the end
    /// of a response.
    pub(super) fn cut(&self) {
        match self {
            Self::Client(stream) => {
                let _ = stream.socket().set_zero_linger();
            }
            Self::Gone => {}
            #[cfg(test)]
            Self::Memory(_) => {}
        }
    }
}

/// Calls a method of whatever is inside.
macro_rules! inside {
    ($socket:expr, $method:ident($($argument:expr),*)) => {
        match $socket {
            Socket::Client(io) => Pin::new(io).$method($($argument),*),
            Socket::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            #[cfg(test)]
            Socket::Memory(io) => Pin::new(io).$method($($argument),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        inside!(&mut *self, poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        inside!(&mut *self, poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        inside!(&mut *self, poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(&mut *self, poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(&mut *self, poll_shutdown(cx))
    }
}

/// A connection that was given away: what the client had sent ahead, then the rest.
#[derive(Debug)]
pub(super) struct Switched {
    early: BytesMut,
    socket: Socket,
    _open: Open,
}

impl Switched {
    pub(super) fn new(early: BytesMut, socket: Socket, open: Open) -> Self {
        Self {
            early,
            socket,
            _open: open,
        }
    }
}

impl AsyncRead for Switched {
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

impl AsyncWrite for Switched {
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
