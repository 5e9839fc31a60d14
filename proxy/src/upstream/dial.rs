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
use super::wire::{Wire, hold_back};
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

pub(super) async fn open(
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
        Host::Ip(address) => {
            return Ok(connect_to(&(*address, url.port()).into(), url.scheme()).await?);
        }
        Host::Name(name) => name.as_ref(),
    };
    let started = Instant::now();
    let addresses: Vec<_> = lookup_host((name, url.port())).await?.collect();
    let limit = limit.map(|limit| limit.saturating_sub(started.elapsed()));
    connect_any(&addresses, url.scheme(), limit).await
}

/// Tries the addresses of a name in turn. One that never answers takes no more
/// than its share of the time.
async fn connect_any(
    addresses: &[SocketAddr],
    scheme: Scheme,
    limit: Option<Duration>,
) -> Result<TcpStream, Box<dyn Error + Send + Sync>> {
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let share = limit.map_or(Duration::MAX, |limit| limit / count);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match timeout(share, connect_to(address, scheme)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last.into())
}

/// Connects. The handshake of a connection in the clear ends with its request.
async fn connect_to(address: &SocketAddr, scheme: Scheme) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // TLS and HTTP/2 have something to say at once.
    if scheme == Scheme::Http {
        hold_back(&socket, true);
    }
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[tokio::test]
    async fn a_server_accepts_a_connection_with_its_request() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        server.set_nonblocking(true).unwrap();
        let address = server.local_addr().unwrap();
        let would_block = |result: io::Result<_>| {
            result.is_err_and(|error: io::Error| error.kind() == io::ErrorKind::WouldBlock)
        };

        let client = connect_to(&address, Scheme::Http).await.unwrap();
        assert!(would_block(server.accept().map(drop)));
        client.try_write(b"x").unwrap();
        // On the loopback what was sent is there.
        let (mut peer, _) = server.accept().unwrap();
        peer.set_nonblocking(true).unwrap();
        assert_eq!(peer.read(&mut [0; 2]).unwrap(), 1);

        // An answer in two pieces is not kept waiting by Nagle's algorithm.
        hold_back(&client, false);
        peer.write_all(b"a").unwrap();
        peer.write_all(b"b").unwrap();
        let sent = SockRef::from(&client).peek(&mut [std::mem::MaybeUninit::uninit(); 3]);
        assert_eq!(sent.unwrap(), 2);

        let _client = connect_to(&address, Scheme::Https).await.unwrap();
        assert!(server.accept().is_ok());
    }
}
