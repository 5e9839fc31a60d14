//! Reads and writes of TCP streams by the shortest way.
//!
//! tokio goes through the C library, whose `recv` and `send` are cancellation
//! points: with several threads each call costs two locked instructions more.
//! Here the system call is made at once; readiness stays tokio's business.
//! Called where small messages come and go, which is where that can be felt.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{AsyncRead as _, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Reads into `buf`, as `AsyncRead` does.
///
/// # Errors
/// As of `recv(2)`.
pub(crate) fn poll_read(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    // What is no memory of ours yet, only tokio can fill.
    if buf.initialized().len() < buf.capacity() {
        return Pin::new(stream).poll_read(cx, buf);
    }
    let read = poll_recv(stream, cx, buf.initialize_unfilled());
    read.map_ok(|count| buf.advance(count))
}

/// Reads into `buf`. Nothing is the end of the stream, unless `buf` is empty.
fn poll_recv(stream: &TcpStream, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        let room = buf.len();
        let read = once(stream, Interest::READABLE, room, || {
            Ok(recv(stream, &mut *buf, RecvFlags::empty())?)
        });
        if let Some(count) = read? {
            return Poll::Ready(Ok(count));
        }
    }
}

/// Writes what the socket takes of `bytes`.
///
/// # Errors
/// As of `send(2)`. A peer that is gone raises no signal.
pub(crate) fn poll_send(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let written = once(stream, Interest::WRITABLE, bytes.len(), || {
            Ok(send(stream, bytes, SendFlags::NOSIGNAL)?)
        });
        if let Some(count) = written? {
            return Poll::Ready(Ok(count));
        }
    }
}

/// Makes a call. If it moves less than `room`, the socket has no more for now:
/// the next call waits for the event loop's word instead of asking in vain.
/// Nothing if the socket had nothing to begin with.
fn once(
    stream: &TcpStream,
    interest: Interest,
    room: usize,
    mut call: impl FnMut() -> io::Result<usize>,
) -> io::Result<Option<usize>> {
    let mut short = None;
    let moved = stream.try_io(interest, || {
        let count = call()?;
        if (1..room).contains(&count) {
            short = Some(count);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(count)
    });
    match moved {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(short),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
        (one.unwrap(), other.unwrap().0)
    }

    #[tokio::test]
    async fn everything_arrives_in_order_and_then_the_end() {
        const SIZE: usize = 8 * 1024 * 1024;
        let (ours, theirs) = pair().await;
        let sent: Vec<u8> = (0..=250).cycle().take(SIZE).collect();
        let send = async {
            let mut at = 0;
            while at < sent.len() {
                at += poll_fn(|cx| poll_send(&ours, cx, &sent[at..]))
                    .await
                    .unwrap();
            }
            drop(ours);
        };
        let hear = async {
            let (mut heard, mut buf) = (Vec::new(), [0; 3000]);
            loop {
                match poll_fn(|cx| poll_recv(&theirs, cx, &mut buf))
                    .await
                    .unwrap()
                {
                    0 => return heard,
                    count => heard.extend_from_slice(&buf[..count]),
                }
            }
        };
        let ((), heard) = tokio::join!(send, hear);
        assert!(heard == sent);
    }

    #[tokio::test]
    async fn a_silent_socket_is_waited_for_and_tokio_agrees() {
        let (ours, mut theirs) = pair().await;
        let mut ours = ours;
        let mut buf = [0; 16];
        for _ in 0..3 {
            let nothing = poll_fn(|cx| Poll::Ready(poll_recv(&ours, cx, &mut buf).is_pending()));
            assert!(nothing.await);
            theirs.write_all(b"ping").await.unwrap();
            let count = poll_fn(|cx| poll_recv(&ours, cx, &mut buf)).await.unwrap();
            assert_eq!(&buf[..count], b"ping");
            theirs.write_all(b"pong").await.unwrap();
            ours.read_exact(&mut buf[..4]).await.unwrap();
            assert_eq!(&buf[..4], b"pong");
        }
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_an_error() {
        let (ours, theirs) = pair().await;
        theirs.set_zero_linger().unwrap();
        drop(theirs);
        let error = loop {
            match poll_fn(|cx| poll_send(&ours, cx, &[0; 1024])).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        let kinds = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        assert!(kinds.contains(&error.kind()), "{error}");
    }
}
