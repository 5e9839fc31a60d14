//! A connection for whoever speaks on it themselves: health checks.
//!
//! It is opened as any other, by the rules of the server's transport, but is
//! nobody's: not pooled, not counted, and free of the worker threads.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::address::ServerUrl;
use super::dial::{self, Protocol};
use super::transport::Transport;
use super::wire::Wire;
use crate::http::ProxyError;

/// The bytes of a connection.
pub struct ByteStream(Wire);

/// Opens a connection to a server. True if HTTP/2 is to be spoken on it.
///
/// # Errors
/// As for any request: name, TCP, TLS, or the transport's time limit.
pub async fn connect(
    url: &ServerUrl,
    transport: &Transport,
) -> Result<(ByteStream, bool), ProxyError> {
    let (wire, protocol) = dial::open(url, transport, false).await?;
    Ok((ByteStream(wire), protocol == Protocol::Http2))
}

impl AsyncRead for ByteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream").finish_non_exhaustive()
    }
}
