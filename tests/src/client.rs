//! A plain HTTP/1.1 client for the scenarios: one connection at a time, no
//! retries, no redirects, no pooling, so that a lost request is seen as lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tidegate_shared::any_certificate::AnyCertificate;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// No request of a scenario takes longer, body included.
const PATIENCE: Duration = Duration::from_secs(30);

/// A kept-alive connection.
#[derive(Debug)]
pub struct Connection(SendRequest<Empty<Bytes>>);

impl Connection {
    /// Opens a plain connection.
    ///
    /// # Errors
    /// The connection is refused or takes too long.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        Self::start(dial(address).await?).await
    }

    /// Opens a TLS connection that asks for `name` and believes any certificate.
    ///
    /// # Errors
    /// The connection or the handshake fails.
    pub async fn open_tls(address: SocketAddr, name: &str) -> anyhow::Result<Self> {
        Self::start(tls(address, name, b"http/1.1").await?).await
    }

    async fn start(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// Whatever kept the answer from arriving whole.
    pub async fn send(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> anyhow::Result<Response<Bytes>> {
        let exchange = async {
            self.0.ready().await?;
            let (head, body) = self.0.send_request(request).await?.into_parts();
            Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .context("no answer in time")?
    }

    /// GET of `path` at `host` on this connection.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub async fn get(&mut self, host: &str, path: &str) -> anyhow::Result<Response<Bytes>> {
        self.send(Request::get(path).header("host", host).body(Empty::new())?)
            .await
    }
}

/// GET on a connection of its own.
///
/// # Errors
/// As [`Connection::open`] and [`Connection::send`].
pub async fn get(address: SocketAddr, host: &str, path: &str) -> anyhow::Result<Response<Bytes>> {
    Connection::open(address).await?.get(host, path).await
}

/// GET over TLS on a connection of its own; any certificate will do.
///
/// # Errors
/// As [`Connection::open_tls`] and [`Connection::send`].
pub async fn get_tls(
    address: SocketAddr,
    host: &str,
    path: &str,
) -> anyhow::Result<Response<Bytes>> {
    Connection::open_tls(address, host)
        .await?
        .get(host, path)
        .await
}

/// A TLS connection that asks for `name`, offers one protocol by ALPN and
/// believes any certificate.
///
/// # Errors
/// The connection or the handshake fails.
pub async fn tls(
    address: SocketAddr,
    name: &str,
    protocol: &[u8],
) -> anyhow::Result<TlsStream<TcpStream>> {
    tls_over(dial(address).await?, name, protocol).await
}

/// The same over a connection that is open already.
///
/// # Errors
/// The handshake fails.
pub async fn tls_over(
    stream: TcpStream,
    name: &str,
    protocol: &[u8],
) -> anyhow::Result<TlsStream<TcpStream>> {
    let mut config = credulous()?;
    config.alpn_protocols = vec![protocol.to_owned()];
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(name.to_owned())?;
    Ok(tokio::time::timeout(PATIENCE, connector.connect(name, stream)).await??)
}

async fn dial(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn credulous() -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(config)
}

/// A client that makes a connection for each request, keeps its TLS sessions and believes
/// any certificate.
#[expect(missing_debug_implementations, reason = "it would show sessions")]
pub struct Visitor(TlsConnector);

impl Visitor {
    /// One that has no sessions yet.
    ///
    /// # Errors
    /// The protocol versions can't be had.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(TlsConnector::from(Arc::new(credulous()?))))
    }

    /// Makes a request: how the handshake went, and the whole answer as it came.
    ///
    /// # Errors
    /// The connection, the handshake or the request fails.
    pub async fn visit(
        &self,
        address: SocketAddr,
        host: &str,
        path: &str,
    ) -> anyhow::Result<(Option<HandshakeKind>, String)> {
        let name = ServerName::try_from(host.to_owned())?;
        let mut stream = self.0.connect(name, dial(address).await?).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let kind = stream.get_ref().1.handshake_kind();
        Ok((kind, String::from_utf8_lossy(&answer).into_owned()))
    }

    /// Whether a session of one server is resumed by another.
    ///
    /// # Errors
    /// As [`Visitor::visit`].
    pub async fn is_resumed(from: SocketAddr, to: SocketAddr, host: &str) -> anyhow::Result<bool> {
        let visitor = Self::new()?;
        visitor.visit(from, host, "/").await?;
        let (kind, _) = visitor.visit(to, host, "/").await?;
        Ok(kind == Some(HandshakeKind::Resumed))
    }
}
