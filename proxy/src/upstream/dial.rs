//! Opens connections: name, TCP, TLS.
//!
//! Every failure here happened before a byte of a request was sent, so that the
//! request may always be tried again.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::address::{Host, Scheme, ServerUrl};
use super::shared::Shared;
use super::transport::{HANDSHAKE_TIMEOUT, Transport};
use super::wire::Wire;
use crate::http::{ErrorKind, ProxyError, Retry};

/// Go's TCP keep-alive, which Traefik leaves as it is.
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Which HTTP is spoken on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Opens a connection to a server. With `only_http1` HTTP/2 is not offered.
///
/// A server that leaves meanwhile is given up at once: its address may be
/// nobody's by then, and an overlay network answers for nobody.
pub(super) async fn dial(
    shared: &Shared,
    only_http1: bool,
) -> Result<(Wire, Protocol), ProxyError> {
    let opening = open(&shared.url, &shared.transport, only_http1);
    match shared.gone.run_until_cancelled(opening).await {
        Some(opened) => opened,
        None => Err(failure(ErrorKind::Connect).because("the server left")),
    }
}

async fn open(
    url: &ServerUrl,
    transport: &Transport,
    only_http1: bool,
) -> Result<(Wire, Protocol), ProxyError> {
    let stream = within(transport.dial_timeout, connect(url, transport.dial_timeout)).await?;
    // Neither is worth failing for.
    let _ = stream.set_nodelay(true);
    let keep_alive = TcpKeepalive::new()
        .with_time(TCP_KEEP_ALIVE)
        .with_interval(TCP_KEEP_ALIVE);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&keep_alive);
    match url.scheme() {
        Scheme::Http => Ok((Wire::Plain(stream), Protocol::Http1)),
        Scheme::H2c => Ok((Wire::Plain(stream), Protocol::Http2)),
        Scheme::Https => {
            let handshake = shake_hands(stream, url, transport, only_http1);
            within(Some(HANDSHAKE_TIMEOUT), handshake).await
        }
    }
}

async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, Box<dyn Error + Send + Sync>>>,
) -> Result<T, ProxyError> {
    let result = match limit {
        None => work.await,
        Some(limit) => timeout(limit, work)
            .await
            .map_err(|late| failure(ErrorKind::ConnectTimeout).because(late))?,
    };
    result.map_err(|error| failure(kind(error.as_ref())).because(error))
}

fn kind(error: &(dyn Error + 'static)) -> ErrorKind {
    match error.downcast_ref::<io::Error>() {
        Some(error) if error.kind() == io::ErrorKind::TimedOut => ErrorKind::ConnectTimeout,
        _ => ErrorKind::Connect,
    }
}

fn failure(kind: ErrorKind) -> ProxyError {
    ProxyError::new(kind).retry(Retry::Always)
}

async fn connect(
    url: &ServerUrl,
    limit: Option<Duration>,
) -> Result<TcpStream, Box<dyn Error + Send + Sync>> {
    let name = match url.host() {
        Host::Ip(address) => return Ok(connect_to(&(*address, url.port()).into()).await?),
        Host::Name(name) => name.as_ref(),
    };
    let started = Instant::now();
    let addresses: Vec<_> = lookup_host((name, url.port())).await?.collect();
    let limit = limit.map(|limit| limit.saturating_sub(started.elapsed()));
    connect_any(&addresses, limit).await
}

/// Tries the addresses of a name in turn. One that never answers takes no more
/// than its share of the time.
async fn connect_any(
    addresses: &[SocketAddr],
    limit: Option<Duration>,
) -> Result<TcpStream, Box<dyn Error + Send + Sync>> {
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let share = limit.map_or(Duration::MAX, |limit| limit / count);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match timeout(share, connect_to(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last.into())
}

/// Connects in such a way that Linux keeps the last segment of the handshake back
/// until there are bytes to go with it (at most 200 ms). So the server accepts the
/// connection together with the request, and its clock for idle connections does
/// not start before; and there is a segment less.
async fn connect_to(address: &SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Where that is unknown it is no loss.
    let _ = SockRef::from(&socket).set_tcp_quickack(false);
    socket.connect(*address).await
}

async fn shake_hands(
    stream: TcpStream,
    url: &ServerUrl,
    transport: &Transport,
    only_http1: bool,
) -> Result<(Wire, Protocol), Box<dyn Error + Send + Sync>> {
    let config = if only_http1 {
        &transport.tls_http1
    } else {
        &transport.tls
    };
    let name = match &transport.server_name {
        Some(name) => name.clone(),
        None => server_name(url.host())?,
    };
    let connector = TlsConnector::from(Arc::clone(config));
    let stream = connector.connect(name, stream).await?;
    let protocol = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http1,
    };
    Ok((Wire::tls(stream), protocol))
}

fn server_name(host: &Host) -> Result<ServerName<'static>, Box<dyn Error + Send + Sync>> {
    match host {
        Host::Ip(address) => Ok(ServerName::IpAddress((*address).into())),
        Host::Name(name) => Ok(ServerName::try_from(name.as_ref().to_owned())?),
    }
}
