//! `tidegate-proxy healthcheck`: asks the ping endpoint of a running proxy.
//!
//! Made for a container's HEALTHCHECK in an image without any other program. It
//! reads the same settings as the proxy that it asks, and blocks: nothing else
//! runs in its process.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use thiserror::Error;
use tidegate_shared::listen::ListenAddress;

use crate::config::startup::StaticConfig;
use crate::tls::client::ClientTls;

/// How long the proxy may take for each step of its answer, as in Traefik.
const PATIENCE: Duration = Duration::from_secs(5);

/// The proxy is not well, or can't be asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Unwell {
    /// There is no ping endpoint to ask.
    #[error("ping is off: nothing can be asked (--ping turns it on)")]
    Off,
    /// Its entry point is not one that can be connected to.
    #[error("ping's entry point {0:?} has no usable address")]
    Address(String),
    /// No answer came.
    #[error("no answer from {address}")]
    Silent {
        /// Who was asked.
        address: SocketAddr,
        /// Why it did not answer.
        source: io::Error,
    },
    /// The answer is not the one of a healthy proxy.
    #[error("{address} answered {answer:?}")]
    Refused {
        /// Who was asked.
        address: SocketAddr,
        /// The first line of what it said.
        answer: String,
    },
}

/// Asks the proxy with these settings. Says who answered when all is well.
///
/// # Errors
/// If it is not.
pub fn ask(config: &StaticConfig) -> Result<SocketAddr, Unwell> {
    let ping = config.ping.as_ref().ok_or(Unwell::Off)?;
    let unusable = || Unwell::Address(ping.entry_point.clone());
    let entry_point = config
        .entry_points
        .get(&ping.entry_point)
        .ok_or_else(unusable)?;
    let address = reachable(&entry_point.address).ok_or_else(unusable)?;
    let is_tls = entry_point.http.tls.is_some();
    let answer = exchange(address, is_tls).map_err(|source| Unwell::Silent { address, source })?;
    if answer.split(' ').nth(1) == Some("200") {
        Ok(address)
    } else {
        Err(Unwell::Refused { address, answer })
    }
}

/// Where a listening address can be connected to from its own host.
fn reachable(text: &str) -> Option<SocketAddr> {
    let address: ListenAddress = text.parse().ok()?;
    let plain = text.split('/').next()?;
    let host = plain.rsplit_once(':')?.0;
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
    if host.is_empty() {
        return Some(local);
    }
    let found = plain.to_socket_addrs().ok()?.next()?;
    match found.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Some(local),
        IpAddr::V6(ip) if ip.is_unspecified() => Some(local),
        _ => Some(found),
    }
}

/// The first line of the answer.
fn exchange(address: SocketAddr, is_tls: bool) -> io::Result<String> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    if !is_tls {
        return talk(stream, address);
    }
    // The certificate is for a public name; this end of it is our own host.
    let config = ClientTls::default()
        .trust_anyone()
        .config(&[])
        .map_err(io::Error::other)?;
    let name = ServerName::IpAddress(address.ip().into());
    let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    talk(StreamOwned::new(connection, stream), address)
}

fn talk(mut stream: impl Read + Write, address: SocketAddr) -> io::Result<String> {
    write!(
        stream,
        "HEAD /ping HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    stream.flush()?;
    let mut line = String::new();
    BufReader::new(stream.take(1024)).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_addresses_are_asked_from_their_own_host() {
        for (text, expected) in [
            (":8080", "127.0.0.1:8080"),
            ("0.0.0.0:8080/tcp", "127.0.0.1:8080"),
            ("[::]:8080", "127.0.0.1:8080"),
            ("127.0.0.2:8080", "127.0.0.2:8080"),
        ] {
            assert_eq!(reachable(text), expected.parse().ok(), "{text}");
        }
        assert_eq!(reachable("nonsense"), None);
    }

    #[test]
    fn without_ping_nothing_is_asked() {
        assert!(matches!(ask(&StaticConfig::default()), Err(Unwell::Off)));
    }
}
