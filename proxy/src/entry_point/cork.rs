//! A cork in an HTTP/2 connection: many small frames become one write.
//!
//! h2 writes and flushes as often as a stream has something to say. This collects
//! what it writes and lets it out once per turn of the event loop, or when a
//! whole TLS record's worth is there; nothing is kept longer. h2 sends no further
//! frame while a flush is under way, so its flushes succeed at once, and
//! [`Corked`], which owns the connection, sees to it that each turn ends with
//! everything written or with the drain under way.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker, ready};

use futures_util::task::AtomicWaker;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;

use super::state::State;

/// How much is collected: the plaintext of one full TLS record. Longer writes go
/// past the cork, in multiples of this.
const CAPACITY: usize = 16 * 1024;

/// A stream whose writes are collected. Clones share it.
#[derive(Debug)]
pub(super) struct Cork<T>(Rc<RefCell<Held<T>>>);

#[derive(Debug)]
struct Held<T> {
    inner: T,
    bytes: Vec<u8>,
    /// How many of `bytes` are written.
    written: usize,
    /// Whether `inner` was given anything since it was last flushed.
    is_unflushed: bool,
    /// Whether `inner` took nothing when it was last asked to.
    is_blocked: bool,
}

impl<T> Clone for Cork<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T: AsyncWrite + Unpin> Cork<T> {
    pub(super) fn new(inner: T) -> Self {
        Self(Rc::new(RefCell::new(Held {
            inner,
            bytes: Vec::new(),
            written: 0,
            is_unflushed: false,
            is_blocked: false,
        })))
    }

    /// Whether everything that was written is out.
    pub(super) fn is_empty(&self) -> bool {
        let held = self.0.borrow();
        held.bytes.is_empty() && !held.is_unflushed
    }

    /// Lets out what was collected. Ready when nothing is left, in the stream
    /// below neither.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_drain(cx)
    }
}

impl<T: AsyncWrite + Unpin> Held<T> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let drained = self.poll_out(cx);
        self.is_blocked = drained.is_pending();
        drained
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.bytes.is_empty() {
            let rest = self.bytes.get(self.written..).unwrap_or_default();
            let count = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            self.out(count)?;
        }
        if self.is_unflushed {
            ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// `count` bytes left. Returns how many of them were not collected before.
    fn out(&mut self, count: usize) -> io::Result<usize> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.is_unflushed = true;
        let collected = self.bytes.len() - self.written;
        if count < collected {
            self.written += count;
            return Ok(0);
        }
        // Given back at once: most connections are silent most of the time.
        self.bytes = Vec::new();
        self.written = 0;
        Ok(count - collected)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // What a slow client doesn't take stays with the streams, not in here too.
        if self.is_blocked {
            ready!(self.poll_drain(cx))?;
        }
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        loop {
            let room = CAPACITY - self.bytes.len();
            if total <= room {
                self.collect(slices);
                return Poll::Ready(Ok(total));
            }
            let past = ready!(self.poll_past(cx, slices))?;
            if past > 0 {
                return Poll::Ready(Ok(past));
            }
        }
    }

    fn collect(&mut self, slices: &[IoSlice<'_>]) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(CAPACITY);
        }
        for slice in slices {
            self.bytes.extend_from_slice(slice);
        }
    }

    /// Writes what was collected and `slices` in one go, as many bytes as fill
    /// whole records. Returns how many of `slices` were written.
    fn poll_past(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let collected = self.bytes.get(self.written..).unwrap_or_default();
        let available = collected.len() + slices.iter().map(|slice| slice.len()).sum::<usize>();
        let mut left = (available - available % CAPACITY).max(CAPACITY);
        let mut all: SmallVec<[IoSlice<'_>; 8]> = SmallVec::new();
        for bytes in std::iter::once(collected).chain(slices.iter().map(|slice| &**slice)) {
            let bytes = bytes.get(..left).unwrap_or(bytes);
            if !bytes.is_empty() {
                all.push(IoSlice::new(bytes));
            }
            left -= bytes.len();
        }
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, &all);
        drop(all);
        self.is_blocked = written.is_pending();
        let count = ready!(written)?;
        Poll::Ready(self.out(count))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Cork<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Cork<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// A promise that the owner of the connection keeps before its turn ends.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.borrow_mut();
        ready!(held.poll_drain(cx))?;
        Pin::new(&mut held.inner).poll_shutdown(cx)
    }
}

/// A connection and the cork in it.
#[derive(Debug)]
pub(super) struct Corked<C, T: AsyncWrite + Unpin> {
    pub(super) connection: Pin<Box<C>>,
    cork: Cork<T>,
    state: Rc<State>,
    turn: Turn,
}

impl<C, T: AsyncWrite + Unpin> Corked<C, T> {
    /// `connection` writes into a clone of `cork`.
    pub(super) fn new(connection: Pin<Box<C>>, cork: Cork<T>, state: Rc<State>) -> Self {
        Self {
            connection,
            cork,
            state,
            turn: Turn::default(),
        }
    }

    /// Sees to it that what the connection has written gets out: at the end of
    /// the turn, or now if no stream could add anything.
    fn poll_settle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cork.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if self.state.has_streams() {
            ready!(self.turn.poll_end(cx));
        }
        self.turn.begin();
        self.cork.poll_drain(cx)
    }
}

impl<C: Future<Output = hyper::Result<()>>, T: AsyncWrite + Unpin> Future for Corked<C, T> {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        if let Poll::Ready(end) = self.connection.as_mut().poll(cx) {
            return Poll::Ready(end);
        }
        match self.poll_settle(cx) {
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "A connection can't be written to");
                Poll::Ready(Ok(()))
            }
            _ => Poll::Pending,
        }
    }
}

impl<C, T: AsyncWrite + Unpin> Drop for Corked<C, T> {
    /// What h2 believes to be sent is offered to the kernel even if the
    /// connection is cut.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = self
                .cork
                .poll_drain(&mut Context::from_waker(Waker::noop()));
        }
    }
}

/// Tells when the present turn of the event loop has ended.
#[derive(Debug, Default)]
struct Turn {
    end: Arc<TurnEnd>,
    is_awaited: bool,
}

#[derive(Debug, Default)]
struct TurnEnd {
    has_come: AtomicBool,
    connection: AtomicWaker,
}

impl Wake for TurnEnd {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_come.store(true, Relaxed);
        self.connection.wake();
    }
}

impl Turn {
    fn begin(&mut self) {
        self.is_awaited = false;
        self.end.has_come.store(false, Relaxed);
    }

    /// Ready when the event loop has run whatever was ready to run. The stream
    /// tasks wake the connection as well, so the end has a waker of its own.
    fn poll_end(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.end.has_come.load(Relaxed) {
            return Poll::Ready(());
        }
        self.end.connection.register(cx.waker());
        if !self.is_awaited {
            self.is_awaited = true;
            let waker = Waker::from(Arc::clone(&self.end));
            if pin!(yield_now())
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
            {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
