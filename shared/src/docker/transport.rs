//! The way to an engine: one connection for each request.
//!
//! bollard's own connectors read answers of any size, know no basic
//! authentication and keep their client to themselves. This transport serves
//! both bollard and the one request that bollard can't make, over a Unix socket,
//! TCP or TLS, and cuts a connection that brings more than it may.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{AUTHORIZATION, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::Endpoint;

/// Longest time to connect, TLS handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach an engine and what to say to it first.
#[derive(Clone)]
pub(super) struct Transport {
    pub(super) endpoint: Endpoint,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    pub(super) authorization: Option<HeaderValue>,
}

impl Transport {
    /// Sends `request`, whose URI needs only path and query, and returns the
    /// head of the answer. The connection breaks after `most` bytes.
    pub(super) async fn send<B>(
        &self,
        request: Request<B>,
        most: u64,
    ) -> io::Result<Response<Incoming>>
    where
        B: Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let request = self.dress(request)?;
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, self.connect())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let stream = Bounded { stream, left: most };
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(256 << 10)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(async move {
            // An error shows in the answer as well, where somebody looks at it.
            drop(connection.await);
        });
        sender.send_request(request).await.map_err(io::Error::other)
    }

    /// Gives the request the form that an HTTP/1.1 server wants.
    fn dress<B>(&self, mut request: Request<B>) -> io::Result<Request<B>> {
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str());
        let (base, host) = match &self.endpoint {
            Endpoint::Unix(_) => ("", "localhost".to_owned()),
            Endpoint::Tcp {
                host, port, base, ..
            } if host.contains(':') => (base.as_str(), format!("[{host}]:{port}")),
            Endpoint::Tcp {
                host, port, base, ..
            } => (base.as_str(), format!("{host}:{port}")),
        };
        let uri: Uri = format!("{base}{path}").parse().map_err(io::Error::other)?;
        let host = HeaderValue::try_from(host).map_err(io::Error::other)?;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(HOST, host);
        headers.insert(USER_AGENT, HeaderValue::from_static("tidegate"));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match &self.endpoint {
            Endpoint::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Endpoint::Tcp { host, port, .. } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                keep_alive(&stream)?;
                let Some(tls) = &self.tls else {
                    return Ok(Box::new(stream));
                };
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let connector = TlsConnector::from(Arc::clone(tls));
                Ok(Box::new(connector.connect(name, stream).await?))
            }
        }
    }
}

/// Notices an engine that went away without a word: the event stream may be
/// silent for hours.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// What a connection needs.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream that fails once too much came out of it.
struct Bounded {
    stream: Box<dyn Stream>,
    left: u64,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let count = buffer.filled().len().saturating_sub(before) as u64;
        match self.left.checked_sub(count) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Ok(()))
            }
            None => Poll::Ready(Err(io::Error::other("the engine sends more than it may"))),
        }
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
