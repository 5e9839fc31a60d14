//! The PROXY protocol, versions 1 and 2, on byte slices.
//!
//! Owns the recognition of a header at the start of a connection and its
//! encoding. It does no I/O and believes nobody: whether the sender may speak
//! for a client is the caller's question. Source: HAProxy's `proxy-protocol.txt`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// The longest header of version 1, with its line end.
pub const MAX_V1: usize = 107;
/// The longest header of version 2 that is accepted, extensions included.
pub const MAX_V2: usize = 16 * 1024;

const V1_PREFIX: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Perhaps a header; more bytes will tell.
    NeedMore,
    /// No header.
    NotProxy,
    /// A whole header.
    Header(Header),
}

/// A PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whom it speaks for. Nothing for `LOCAL`, `UNKNOWN` and other families
    /// than IP: the connection stands for itself.
    pub addresses: Option<Addresses>,
    /// How many bytes it takes; what follows belongs to the connection.
    pub len: usize,
}

/// The two ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// What the client connected to.
    pub destination: SocketAddr,
}

/// The bytes begin like a header and are none. The connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed PROXY header: {0}")]
pub struct Malformed(&'static str);

/// Looks for a header at the start of `bytes`. Call it again with all bytes so
/// far when more of them have come.
///
/// # Errors
/// [`Malformed`] as soon as the bytes can't become a header any more.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    if starts_alike(bytes, V2_SIGNATURE) {
        return if bytes.len() < V2_SIGNATURE.len() {
            Ok(Parsed::NeedMore)
        } else {
            parse_v2(bytes)
        };
    }
    if starts_alike(bytes, V1_PREFIX) {
        return if bytes.len() < V1_PREFIX.len() {
            Ok(Parsed::NeedMore)
        } else {
            parse_v1(bytes)
        };
    }
    Ok(Parsed::NotProxy)
}

/// Whether `bytes` and `prefix` agree as far as both go.
fn starts_alike(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes
        .iter()
        .zip(prefix)
        .all(|(byte, wanted)| byte == wanted)
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let window = bytes.get(..MAX_V1).unwrap_or(bytes);
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() >= MAX_V1 {
            Err(Malformed("no line end within 107 bytes"))
        } else {
            Ok(Parsed::NeedMore)
        };
    };
    let line = window
        .get(V1_PREFIX.len()..end)
        .and_then(|line| std::str::from_utf8(line).ok())
        .ok_or(Malformed("not ASCII"))?;
    let addresses = v1_addresses(line)?;
    let len = end + 2;
    Ok(Parsed::Header(Header { addresses, len }))
}

fn v1_addresses(line: &str) -> Result<Option<Addresses>, Malformed> {
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let mut word = || words.next().ok_or(Malformed("too few fields"));
    let (source, destination) = (word()?, word()?);
    let (source_port, destination_port) = (v1_port(word()?)?, v1_port(word()?)?);
    if words.next().is_some() {
        return Err(Malformed("too many fields"));
    }
    let (source, destination) = match family {
        "TCP4" => (v1_ip::<Ipv4Addr>(source)?, v1_ip::<Ipv4Addr>(destination)?),
        "TCP6" => (v1_ip::<Ipv6Addr>(source)?, v1_ip::<Ipv6Addr>(destination)?),
        _ => return Err(Malformed("unknown protocol")),
    };
    Ok(Some(Addresses {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    }))
}

fn v1_ip<T>(text: &str) -> Result<std::net::IpAddr, Malformed>
where
    T: std::str::FromStr + Into<std::net::IpAddr>,
{
    text.parse::<T>()
        .map(Into::into)
        .map_err(|_| Malformed("not an address of its family"))
}

fn v1_port(text: &str) -> Result<u16, Malformed> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| is_plain && (text.len() == 1 || !text.starts_with('0')))
        .ok_or(Malformed("not a port"))
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let Some(&[command, family, high, low]) = bytes.get(12..V2_FIXED) else {
        return match bytes.get(12) {
            Some(command) if command >> 4 != 2 => Err(Malformed("not version 2")),
            _ => Ok(Parsed::NeedMore),
        };
    };
    if command >> 4 != 2 {
        return Err(Malformed("not version 2"));
    }
    let len = V2_FIXED + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_V2 {
        return Err(Malformed("longer than 16 KiB"));
    }
    let Some(block) = bytes.get(V2_FIXED..len) else {
        return Ok(Parsed::NeedMore);
    };
    let addresses = match command & 0xf {
        0 => None,
        1 => v2_addresses(family, block)?,
        _ => return Err(Malformed("unknown command")),
    };
    Ok(Parsed::Header(Header { addresses, len }))
}

/// TCP and UDP over IPv4 and IPv6; other families carry nothing of use here.
fn v2_addresses(family: u8, block: &[u8]) -> Result<Option<Addresses>, Malformed> {
    match family {
        0x11 | 0x12 => v2_pair::<4>(block).map(Some),
        0x21 | 0x22 => v2_pair::<16>(block).map(Some),
        0x00 | 0x31 | 0x32 => Ok(None),
        _ => Err(Malformed("unknown address family")),
    }
}

fn v2_pair<const N: usize>(block: &[u8]) -> Result<Addresses, Malformed>
where
    [u8; N]: Into<std::net::IpAddr>,
{
    let short = || Malformed("too short for its addresses");
    let (source, rest) = block.split_first_chunk::<N>().ok_or_else(short)?;
    let (destination, rest) = rest.split_first_chunk::<N>().ok_or_else(short)?;
    let (source_port, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    let (destination_port, _) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    Ok(Addresses {
        source: SocketAddr::new((*source).into(), u16::from_be_bytes(*source_port)),
        destination: SocketAddr::new((*destination).into(), u16::from_be_bytes(*destination_port)),
    })
}

/// A header of version 1 for `addresses`. A pair of mixed families is written as IPv6.
pub fn encode_v1(addresses: &Addresses) -> String {
    let Addresses {
        source,
        destination,
    } = addresses;
    let (from, to) = (source.port(), destination.port());
    match (source, destination) {
        (SocketAddr::V4(a), SocketAddr::V4(b)) => {
            format!("PROXY TCP4 {} {} {from} {to}\r\n", a.ip(), b.ip())
        }
        _ => {
            let (a, b) = (to_v6(source), to_v6(destination));
            format!("PROXY TCP6 {a} {b} {from} {to}\r\n")
        }
    }
}

/// A header of version 2 for `addresses`; none means `LOCAL`.
pub fn encode_v2(addresses: Option<&Addresses>) -> Vec<u8> {
    let mut bytes = V2_SIGNATURE.to_vec();
    let Some(Addresses {
        source,
        destination,
    }) = addresses
    else {
        bytes.extend([0x20, 0x00, 0, 0]);
        return bytes;
    };
    if let (SocketAddr::V4(a), SocketAddr::V4(b)) = (source, destination) {
        bytes.extend([0x21, 0x11, 0, 12]);
        bytes.extend(a.ip().octets());
        bytes.extend(b.ip().octets());
    } else {
        bytes.extend([0x21, 0x21, 0, 36]);
        bytes.extend(to_v6(source).octets());
        bytes.extend(to_v6(destination).octets());
    }
    bytes.extend(source.port().to_be_bytes());
    bytes.extend(destination.port().to_be_bytes());
    bytes
}

fn to_v6(address: &SocketAddr) -> Ipv6Addr {
    match address {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped(),
        SocketAddr::V6(v6) => *v6.ip(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(source: &str, destination: &str) -> Addresses {
        Addresses {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    /// Every shorter piece of `bytes` asks for more; the whole is `expected`.
    fn assert_incremental(bytes: &[u8], expected: Option<Addresses>) {
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Ok(Parsed::NeedMore), "{end} bytes");
        }
        let header = Header {
            addresses: expected,
            len: bytes.len(),
        };
        assert_eq!(parse(bytes), Ok(Parsed::Header(header)));
        let mut longer = bytes.to_vec();
        longer.extend(b"GET / HTTP/1.1\r\n");
        assert_eq!(parse(&longer), Ok(Parsed::Header(header)));
    }

    #[test]
    fn both_versions_survive_the_way_there_and_back() {
        let rows = [
            pair("192.0.2.1:56324", "198.51.100.7:443"),
            pair("[2001:db8::1]:1", "[2001:db8::2]:65535"),
        ];
        for addresses in rows {
            assert_incremental(encode_v1(&addresses).as_bytes(), Some(addresses));
            assert_incremental(&encode_v2(Some(&addresses)), Some(addresses));
        }
        assert_incremental(&encode_v2(None), None);
    }

    #[test]
    fn a_header_may_speak_for_nobody() {
        assert_incremental(b"PROXY UNKNOWN\r\n", None);
        assert_incremental(b"PROXY UNKNOWN ff::1 ff::2 1 2\r\n", None);
        let mut unix = V2_SIGNATURE.to_vec();
        unix.extend([0x21, 0x31, 0, 216]);
        unix.extend([0; 216]);
        assert_incremental(&unix, None);
    }

    #[test]
    fn extensions_are_skipped() {
        let addresses = pair("192.0.2.1:1", "192.0.2.2:2");
        let mut bytes = encode_v2(Some(&addresses));
        bytes[15] += 5;
        bytes.extend([0x04, 0, 2, 1, 2]);
        assert_incremental(&bytes, Some(addresses));
    }

    #[test]
    fn other_protocols_are_told_apart_early() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01",
            b"PRI * HTTP",
            b"\r\nGET",
        ] {
            assert_eq!(parse(bytes), Ok(Parsed::NotProxy), "{bytes:?}");
        }
    }

    #[test]
    fn malformed_headers_are_refused() {
        let mut too_long = V2_SIGNATURE.to_vec();
        too_long.extend([0x21, 0x11, 0xff, 0xff]);
        let mut too_short = V2_SIGNATURE.to_vec();
        too_short.extend([0x21, 0x11, 0, 4, 1, 2, 3, 4]);
        let mut version = V2_SIGNATURE.to_vec();
        version.push(0x31);
        let mut command = V2_SIGNATURE.to_vec();
        command.extend([0x22, 0x11, 0, 0]);
        let endless = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        let rows: [&[u8]; 12] = [
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
            b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
            b"PROXY \xff\r\n",
            &endless,
            &too_long,
            &too_short,
            &version,
            &command,
        ];
        for bytes in rows {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
