//! The byte stream to one server: TCP, or TLS on it.
//!
//! Knows what an idle connection must be asked before it is used again, and
//! how to ask it without a system call as long as the event loop has seen
//! nothing happen. Which protocol is spoken is not its concern.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::unconstrained;
use tokio_rustls::client::TlsStream;

use crate::socket::{poll_read, poll_send};

/// The stream.
#[derive(Debug)]
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self::Tls(Box::new(stream))
    }

    /// Whether to hold acknowledgements back, as is done on connections that are
    /// [not used yet](hold_back).
    pub(super) fn hold_back(&self, is_held: bool) {
        if let Self::Plain(stream) = self {
            hold_back(stream, is_held);
        }
    }

    /// Has an idle connection end by a reset when it is dropped. Whoever closes
    /// first in order keeps the port for a minute, and where each request takes a
    /// connection of its own there would soon be none left.
    pub(super) fn forsake(&self) {
        let socket = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        // Where it is not possible it only takes a port.
        let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    }

    /// Ready when a read is worth the memory for it. TLS may have something
    /// that the socket knows nothing of, so it is always worth a try.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_read_ready(cx),
            Self::Tls(_) => Poll::Ready(Ok(())),
        }
    }

    /// Whether an idle connection is neither closed nor written to. The kernel
    /// is asked if the event loop has heard of anything, or with `is_careful`.
    pub(super) fn is_silent(&mut self, is_careful: bool) -> bool {
        match self {
            Self::Plain(stream) if is_careful => is_socket_silent(stream),
            Self::Plain(stream) => is_nothing(&stream.try_io(Interest::READABLE, || peek(stream))),
            Self::Tls(stream) => {
                (!is_careful || is_socket_silent(stream.get_ref().0)) && is_tls_silent(stream)
            }
        }
    }
}

/// Lets rustls have what is for it alone, such as session tickets.
fn is_tls_silent(stream: &mut TlsStream<TcpStream>) -> bool {
    let mut byte = [0];
    let read = pin!(unconstrained(stream.read(&mut byte)));
    read.poll(&mut Context::from_waker(Waker::noop()))
        .is_pending()
}

/// Whether nothing has come on a socket, by the kernel's own word.
pub(super) fn is_socket_silent(socket: &impl AsFd) -> bool {
    is_nothing(&peek(socket))
}

/// Has Linux send acknowledgements together with data, if there will be some
/// within 200 ms. Before the socket is connected that holds for the last segment
/// of the handshake too: so the server accepts the connection together with the
/// first request, its clock for idle connections does not start before, and
/// there is a segment less. Once that is sent it is to be ended, since a server
/// that writes its answer in pieces may wait for an acknowledgement of the first.
pub(super) fn hold_back(socket: &impl AsFd, is_held: bool) {
    // Where it is not possible nothing is lost.
    let _ = SockRef::from(socket).set_tcp_quickack(!is_held);
}

fn peek(socket: &impl AsFd) -> io::Result<usize> {
    SockRef::from(socket).peek(&mut [MaybeUninit::uninit()])
}

fn is_nothing(peeked: &io::Result<usize>) -> bool {
    matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => poll_read(stream, cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => poll_send(stream, cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
