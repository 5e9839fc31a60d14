//! The first bytes of a connection: whose it is and what it speaks.
//!
//! Owns the reading of a PROXY header and the choice between TLS, HTTP/2 with
//! prior knowledge and HTTP/1. Nothing is allocated before a first byte is there,
//! and at most one PROXY header is held.

use std::io;

use bytes::{Buf, BytesMut};
use tidegate_shared::proxy_protocol::{self, Addresses, Parsed};
use tokio::net::TcpStream;

use super::io::Rewound;

/// What every HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of a TLS handshake record.
const HANDSHAKE: u8 = 0x16;

/// Bytes asked for at once: most request heads and a ClientHello.
const CHUNK: usize = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Tls,
    Http1,
    Http2,
}

/// A connection whose first bytes are known.
#[derive(Debug)]
pub(super) struct Sniffed {
    pub(super) socket: Rewound,
    pub(super) spoken: Spoken,
    /// What a PROXY header said, believed or not.
    pub(super) proxied: Option<Addresses>,
}

/// Reads until it is clear what `socket` speaks. Cancel it to bound its time.
pub(super) async fn sniff(socket: TcpStream, may_be_proxied: bool) -> io::Result<Sniffed> {
    let mut early = BytesMut::new();
    let mut proxied = None;
    let mut is_header_due = may_be_proxied;
    loop {
        read_more(&socket, &mut early).await?;
        if is_header_due {
            match parse_header(&mut early)? {
                Header::Incomplete => continue,
                Header::Done(addresses) => proxied = addresses,
            }
            is_header_due = false;
        }
        if is_foreign(&early) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not HTTP"));
        }
        if let Some(spoken) = classify(&early) {
            return Ok(Sniffed {
                socket: Rewound::new(early, socket),
                spoken,
                proxied,
            });
        }
    }
}

enum Header {
    Incomplete,
    Done(Option<Addresses>),
}

/// Takes a PROXY header off `early`.
fn parse_header(early: &mut BytesMut) -> io::Result<Header> {
    match proxy_protocol::parse(early) {
        Ok(Parsed::NeedMore) => Ok(Header::Incomplete),
        Ok(Parsed::NotProxy) => Ok(Header::Done(None)),
        Ok(Parsed::Header(header)) => {
            early.advance(header.len);
            Ok(Header::Done(header.addresses))
        }
        Err(malformed) => Err(io::Error::new(io::ErrorKind::InvalidData, malformed)),
    }
}

async fn read_more(socket: &TcpStream, early: &mut BytesMut) -> io::Result<()> {
    loop {
        socket.readable().await?;
        early.reserve(CHUNK);
        match socket.try_read_buf(early) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// What `early` begins; nothing as long as that is open.
fn classify(early: &[u8]) -> Option<Spoken> {
    let first = *early.first()?;
    if first == HANDSHAKE {
        return Some(Spoken::Tls);
    }
    let is_alike = early
        .iter()
        .zip(PREFACE)
        .all(|(byte, wanted)| byte == wanted);
    match is_alike {
        true if early.len() < PREFACE.len() => None,
        true => Some(Spoken::Http2),
        false => Some(Spoken::Http1),
    }
}

/// Whether `early` begins with a line that looks like a request and ends in the
/// name of another protocol. An HTTP/1 answer would mean nothing to its sender;
/// RFC 9113 section 3.4 has a bad HTTP/2 preface end the connection.
fn is_foreign(early: &[u8]) -> bool {
    let mut lines = early.splitn(2, |byte| *byte == b'\n');
    let (Some(line), Some(_)) = (lines.next(), lines.next()) else {
        return false;
    };
    let mut words = line.split(|byte| *byte == b' ');
    let protocol = words.nth(2);
    protocol.is_some_and(|word| !word.starts_with(b"HTTP/"))
        && words.next().is_none()
        && line.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        let rows: [(&[u8], Option<Spoken>); 7] = [
            (b"", None),
            (b"\x16", Some(Spoken::Tls)),
            (b"P", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxyz", Some(Spoken::Http2)),
            (b"POST", Some(Spoken::Http1)),
            (b"GET / HTTP/1.1", Some(Spoken::Http1)),
        ];
        for (bytes, expected) in rows {
            assert_eq!(classify(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn other_protocols_with_request_lines_are_known() {
        let rows: [(&[u8], bool); 6] = [
            (b"INVALID CONNECTION PREFACE\r\n\r\n", true),
            (b"DESCRIBE rtsp://a RTSP/1.0\r\n", true),
            (b"GET / HTTP/1.1\r\n", false),
            (b"GET /\r\n", false),
            (b"GET / x HTTP/1.1\r\n", false),
            (b"GET / RTSP", false),
        ];
        for (bytes, expected) in rows {
            assert_eq!(is_foreign(bytes), expected, "{bytes:?}");
        }
    }
}
