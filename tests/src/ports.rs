//! Ports for processes that cannot be asked to bind port 0.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// Below the range that the kernel gives to outgoing connections (32768 and
/// up), so that nobody's client socket takes the port in between.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

static HANDED_OUT: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port that nothing listens on, free for TCP and UDP on all addresses, and
/// never handed out twice in one process.
///
/// # Errors
/// No free port was found in many tries.
pub fn free() -> io::Result<u16> {
    let mut handed_out = HANDED_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    let handed_out = handed_out.get_or_insert_default();
    for _ in 0..1000 {
        // Random, so that test processes that run side by side rarely meet.
        let port = fastrand::u16(RANGE);
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let is_free = TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok();
        if is_free && handed_out.insert(port) {
            return Ok(port);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        "no free port found",
    ))
}

/// [`free`] on the loopback address.
///
/// # Errors
/// As [`free`].
pub fn free_address() -> io::Result<SocketAddr> {
    free().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_comes_twice() {
        let ports: HashSet<u16> = (0..50).map(|_| free().unwrap()).collect();
        assert_eq!(ports.len(), 50);
    }
}
