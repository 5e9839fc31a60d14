//! The one HTTP/1.1 request that a probe sends, and the status of the answer.
//!
//! Nothing but the status line is read; informational answers before it are
//! skipped. What comes from the server is hostile: it is bounded in bytes here
//! and in time by the caller.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Failure, socket};

/// More bytes than this before the status is known are no answer.
const LONGEST: usize = 8192;

/// The request. The host may bring its own port.
pub(super) fn request(
    host: Option<&str>,
    target: SocketAddr,
    standard: u16,
    path: &str,
) -> Result<Vec<u8>, Failure> {
    let address = || match target {
        SocketAddr::V4(it) => it.ip().to_string(),
        SocketAddr::V6(it) => format!("[{}]", it.ip()),
    };
    let mut host = host.map_or_else(address, str::to_owned);
    if target.port() != standard && without_port(&host) == host {
        host = format!("{host}:{}", target.port());
    }
    let breaks = |text: &str| text.bytes().any(|byte| byte <= b' ' || byte == 0x7f);
    if breaks(&host) || breaks(path) || !path.starts_with('/') {
        let words = format!("{path:?} of {host:?} can't be written in a request");
        return Err(Failure::Own(words));
    }
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tidegate-director\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    );
    Ok(request.into_bytes())
}

/// A host without the port that may follow it.
pub(super) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.parse::<u16>().is_ok() && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

/// Reads as far as the final status.
pub(super) async fn status(stream: &mut (impl AsyncRead + Unpin)) -> Result<u16, Failure> {
    let mut heard = Vec::new();
    let mut chunk = [0; 512];
    loop {
        let count = stream.read(&mut chunk).await;
        let count = count.map_err(|error| socket::failure(&error))?;
        let news = chunk.get(..count).unwrap_or_default();
        heard.extend_from_slice(news);
        if let Some(status) = look(&heard)? {
            return Ok(status);
        }
        if news.is_empty() {
            return Err(Failure::Closed);
        }
        if heard.len() > LONGEST {
            return Err(Failure::NotHttp);
        }
    }
}

/// The final status, once it is there.
fn look(mut heard: &[u8]) -> Result<Option<u16>, Failure> {
    loop {
        let Some(status) = status_of(heard)? else {
            return Ok(None);
        };
        if !(100..200).contains(&status) || status == 101 {
            return Ok(Some(status));
        }
        let end = heard.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let Some(rest) = end.and_then(|end| heard.get(end + 4..)) else {
            return Ok(None);
        };
        heard = rest;
    }
}

/// The status of the answer that starts here: `HTTP/1.1 200`, then a space or
/// the line's end (RFC 9112 section 4). Wrong as soon as it can't become one.
fn status_of(heard: &[u8]) -> Result<Option<u16>, Failure> {
    const FORM: &[u8; 13] = b"HTTP/1.d ddd$";
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'd' => byte.is_ascii_digit(),
        b'$' => matches!(byte, b' ' | b'\r' | b'\n'),
        _ => byte == form,
    };
    if !heard.iter().zip(FORM).all(fits) {
        return Err(Failure::NotHttp);
    }
    if heard.len() < FORM.len() {
        return Ok(None);
    }
    let digits = heard.get(9..12).unwrap_or_default().iter();
    let status = digits.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    Ok(Some(status))
}
