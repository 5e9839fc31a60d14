//! Sockets to listen on: the address as it is configured, and the bind.
//!
//! Owns the spelling of listen addresses and every socket option of a listener.
//! It never accepts; entry points and the admin listener do. Options that
//! accepted sockets inherit from their listener on Linux (keep-alive, no delay)
//! are set here once, not once per connection.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use thiserror::Error;

/// Connections that may wait to be accepted. The kernel caps it at
/// `net.core.somaxconn`, which is 4096 by default.
const BACKLOG: i32 = 4096;

/// How long an accepted connection is silent before the kernel probes it, and
/// the time between probes; Traefik's three minutes.
const KEEP_ALIVE: Duration = Duration::from_secs(180);

/// Where to listen: `[host]:port[/tcp]`, as Traefik's users write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// Every address of both families.
    Any,
    Ip(IpAddr),
    Name(String),
}

/// The text is not an address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseListenAddressError {
    /// There is no colon before a port.
    #[error("{0:?} has no port; write [host]:port, such as :443")]
    MissingPort(String),
    /// The port is not a number up to 65535.
    #[error("{port:?} in {address:?} is not a port; it must be a number from 0 to 65535")]
    Port {
        /// The whole text.
        address: String,
        /// Its part that should be a port.
        port: String,
    },
    /// An IPv6 address stands without its brackets, or the brackets don't match.
    #[error("the host in {0:?} is malformed; an IPv6 address stands in brackets, as in [::1]:443")]
    Host(String),
    /// UDP entry points are not supported.
    #[error("{0:?} asks for UDP, which is not supported; only TCP is")]
    Udp(String),
    /// Neither `tcp` nor `udp`.
    #[error("{protocol:?} in {address:?} is not a protocol; only /tcp is supported")]
    Protocol {
        /// The whole text.
        address: String,
        /// Its part behind the slash.
        protocol: String,
    },
}

impl ListenAddress {
    /// The port; 0 lets the kernel choose one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Every socket address that may be meant, best first.
    fn candidates(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(match &self.host {
            Host::Any => vec![
                (Ipv6Addr::UNSPECIFIED, self.port).into(),
                (Ipv4Addr::UNSPECIFIED, self.port).into(),
            ],
            Host::Ip(ip) => vec![(*ip, self.port).into()],
            Host::Name(name) => (name.as_str(), self.port).to_socket_addrs()?.collect(),
        })
    }
}

impl FromStr for ListenAddress {
    type Err = ParseListenAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = strip_protocol(text)?;
        let (host, port) = address
            .rsplit_once(':')
            .ok_or_else(|| ParseListenAddressError::MissingPort(text.to_owned()))?;
        let host =
            Host::parse(host).ok_or_else(|| ParseListenAddressError::Host(text.to_owned()))?;
        let port = match port.parse() {
            Ok(number) if port.bytes().all(|byte| byte.is_ascii_digit()) => number,
            _ => {
                return Err(ParseListenAddressError::Port {
                    address: text.to_owned(),
                    port: port.to_owned(),
                });
            }
        };
        Ok(Self { host, port })
    }
}

fn strip_protocol(text: &str) -> Result<&str, ParseListenAddressError> {
    let Some((address, protocol)) = text.split_once('/') else {
        return Ok(text);
    };
    if protocol.eq_ignore_ascii_case("tcp") {
        Ok(address)
    } else if protocol.eq_ignore_ascii_case("udp") {
        Err(ParseListenAddressError::Udp(text.to_owned()))
    } else {
        Err(ParseListenAddressError::Protocol {
            address: text.to_owned(),
            protocol: protocol.to_owned(),
        })
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::Any);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let ip: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Ip(ip.into()));
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Some(Self::Ip(ip.into()));
        }
        let is_name = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        is_name.then(|| Self::Name(text.to_owned()))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Any => write!(f, ":{}", self.port),
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Binds `count` listeners to one address, so that each worker has its own
/// queue of connections (`SO_REUSEPORT`). With port 0 all get the same port.
///
/// Unless `is_shared`, the address must be free: sockets that share a port hide
/// another process on it, so that is looked for first.
///
/// # Errors
/// The operating system's, for the first address that was tried and failed with
/// anything but an absent address family.
pub fn bind(
    address: &ListenAddress,
    count: usize,
    is_shared: bool,
) -> io::Result<Vec<TcpListener>> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in address.candidates()? {
        match bind_all(candidate, count, is_shared) {
            Ok(listeners) => return Ok(listeners),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_all(address: SocketAddr, count: usize, is_shared: bool) -> io::Result<Vec<TcpListener>> {
    if !is_shared && address.port() != 0 {
        drop(open(address, false)?);
    }
    let first = open(address, true)?;
    let bound = first
        .local_addr()?
        .as_socket()
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(open(bound, true)?);
    }
    sockets.into_iter().map(listen).collect()
}

fn open(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if let IpAddr::V6(ip) = address.ip() {
        // The wildcard takes IPv4 too, whatever `net.ipv6.bindv6only` says.
        socket.set_only_v6(!ip.is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen(socket: Socket) -> io::Result<TcpListener> {
    let keep_alive = TcpKeepalive::new()
        .with_time(KEEP_ALIVE)
        .with_interval(KEEP_ALIVE);
    socket.set_tcp_keepalive(&keep_alive)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn addresses_are_understood() {
        let rows = [
            (":80", ":80"),
            (":80/tcp", ":80"),
            ("127.0.0.1:8080/TCP", "127.0.0.1:8080"),
            ("[::1]:443", "[::1]:443"),
            ("localhost:0", "localhost:0"),
            ("0.0.0.0:1", "0.0.0.0:1"),
        ];
        for (text, shown) in rows {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown, "{text}");
        }
    }

    #[test]
    fn refusals_name_the_fault() {
        let rows = [
            ("80", "has no port"),
            ("", "has no port"),
            (":http", "not a port"),
            (":+80", "not a port"),
            (":65536", "not a port"),
            ("::1:80", "malformed"),
            ("[::1:80", "malformed"),
            ("[1.2.3.4]:80", "malformed"),
            ("a b:80", "malformed"),
            (":53/udp", "asks for UDP"),
            (":53/sctp", "only /tcp"),
        ];
        for (text, part) in rows {
            let error = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn workers_share_one_port() {
        let address: ListenAddress = "127.0.0.1:0".parse().unwrap();
        let listeners = bind(&address, 3, false).unwrap();
        let ports: Vec<u16> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap().port())
            .collect();
        assert_eq!(ports.len(), 3);
        assert!(ports.iter().all(|port| *port == ports[0]));
    }

    #[test]
    fn a_port_in_use_is_found_although_ports_can_be_shared() {
        let first = bind(&"127.0.0.1:0".parse().unwrap(), 1, false).unwrap();
        let taken: ListenAddress = first[0].local_addr().unwrap().to_string().parse().unwrap();
        let error = bind(&taken, 1, false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(bind(&taken, 1, true).is_ok());
    }

    #[test]
    fn no_host_means_both_families() {
        let listeners = bind(&":0".parse().unwrap(), 1, false).unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    }
}
