//! The byte stream to one server, and what is known of it.
//!
//! Lies between hyper and the socket (or TLS), so that the pool can tell
//! whether a request reached the wire, whether a byte of the answer came back,
//! and whether the server has closed or written unasked on an idle connection.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// The stream.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    gauge: Arc<Gauge>,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What went over a [`Wire`]. The stream moves into hyper, which wants it to be
/// `Send` for the sake of upgrades; hence atomics, though one thread uses them.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    written: AtomicU64,
    read: AtomicU64,
    is_blocked: AtomicBool,
    must_peek: AtomicBool,
}

impl Gauge {
    /// Bytes of plain text that were taken for sending.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Bytes of plain text that were received.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Whether bytes wait because the last write found no room.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }

    /// Makes the next read look at the socket itself, whatever the event loop
    /// knows, and fail if there is anything but silence.
    pub(super) fn demand_peek(&self) {
        self.must_peek.store(true, Ordering::Relaxed);
    }

    /// Whether the look that [`Gauge::demand_peek`] asked for is still due.
    pub(super) fn must_peek(&self) -> bool {
        self.must_peek.load(Ordering::Relaxed)
    }

    fn note_write(&self, result: &Poll<io::Result<usize>>) {
        self.is_blocked
            .store(result.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Ok(count)) = result {
            self.written.fetch_add(*count as u64, Ordering::Relaxed);
        }
    }
}

impl Wire {
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self::new(Stream::Plain(stream))
    }

    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self::new(Stream::Tls(Box::new(stream)))
    }

    fn new(stream: Stream) -> Self {
        Self {
            stream,
            gauge: Arc::default(),
        }
    }

    pub(super) fn gauge(&self) -> Arc<Gauge> {
        Arc::clone(&self.gauge)
    }

    /// An idle connection must be silent: neither closed nor written to. Asks
    /// the kernel, and rustls for what it has decrypted already.
    fn peek(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => peek_socket(stream),
            Stream::Tls(stream) => ready_or(peek_socket(stream.get_ref().0), || {
                let mut byte = [0];
                let mut buf = ReadBuf::new(&mut byte);
                ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
                if buf.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
            }),
        }
    }
}

fn ready_or<T>(first: Poll<T>, second: impl FnOnce() -> Poll<T>) -> Poll<T> {
    if first.is_ready() { first } else { second() }
}

fn peek_socket(socket: &TcpStream) -> Poll<io::Result<()>> {
    let mut byte = [MaybeUninit::uninit()];
    match SockRef::from(socket).peek(&mut byte) {
        Ok(0) => Poll::Ready(Ok(())),
        Ok(_) => Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        Err(error) => Poll::Ready(Err(error)),
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gauge.must_peek() {
            self.gauge.must_peek.store(false, Ordering::Relaxed);
            return self.peek(cx);
        }
        let before = buf.filled().len();
        let result = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        let count = buf.filled().len() - before;
        self.gauge.read.fetch_add(count as u64, Ordering::Relaxed);
        result
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.gauge.note_write(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        self.gauge.note_write(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => {
                let result = Pin::new(stream).poll_flush(cx);
                self.gauge
                    .is_blocked
                    .store(result.is_pending(), Ordering::Relaxed);
                result
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
