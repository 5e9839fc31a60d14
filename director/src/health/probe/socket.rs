//! Sockets for probes, and what their errors say.
//!
//! A probe's socket is bound without a port (the kernel picks one that is free
//! for this very target), may be marked, and is reset when it is closed: IPVS
//! then forgets its entry in seconds, and no TIME_WAIT stays.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::{Failure, Way};

pub(super) async fn connect(way: &Way) -> Result<TcpStream, Failure> {
    let socket = open(way).map_err(|error| Failure::Own(error.to_string()))?;
    let stream = socket.connect(way.target).await;
    stream.map_err(|error| failure(&error))
}

fn open(way: &Way) -> io::Result<TcpSocket> {
    let socket = Socket::new(
        Domain::for_address(way.target),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    if let Some(mark) = way.mark {
        socket.set_mark(mark.get())?;
    }
    match way.hops {
        Some(hops) if way.target.is_ipv4() => socket.set_ttl_v4(hops.into())?,
        Some(hops) => socket.set_unicast_hops_v6(hops.into())?,
        None => {}
    }
    if let Some(source) = way.source {
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// What an error of a probe's socket says of the machine that was asked.
pub(super) fn failure(error: &io::Error) -> Failure {
    let errno = error.raw_os_error().map(Errno::from_raw);
    match errno {
        Some(Errno::ECONNREFUSED) => Failure::Refused,
        Some(Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED) => Failure::Reset,
        Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EHOSTDOWN | Errno::ETIMEDOUT) => {
            Failure::Unreachable
        }
        Some(_) => Failure::Own(error.to_string()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => Failure::Closed,
        None => Failure::Tls(error.to_string()),
    }
}
