//! The head of a response, and what it says of the body and the connection.
//!
//! Takes nothing of what it reads along but copies. Framing that two readers could
//! read differently is refused (RFC 9112 §6.3), or made unmistakable; and a
//! server that is confused about it isn't trusted with another request.

use std::mem::MaybeUninit;
use std::time::Duration;

use ::http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use ::http::{Method, StatusCode};
use httparse::Status;
use hyper::ext::ReasonPhrase;

use super::super::response::{bad, content_length, is_only_chunked, parse_length};
use super::memo;
use crate::http::chunked::Decoder;
use crate::http::{ErrorKind, ProxyError};

/// Most headers of a response.
const MAX_HEADERS: usize = 256;

/// Part of the time that a server says it keeps a connection for which it is
/// used, in percent: its clock started before ours.
const TRUSTED_PERCENT: u32 = 80;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// How a body's end is told.
#[derive(Debug)]
pub(super) enum Framing {
    /// By its length, of which this much is left.
    Length(u64),
    Chunked(Decoder),
    /// By the end of the connection.
    Close,
}

/// A response's head. Its headers are with whoever lent the map.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// What the status line says, if it is not the usual.
    pub(super) reason: Option<ReasonPhrase>,
    /// Its length in bytes.
    pub(super) length: usize,
    is_current: bool,
    seen: Seen,
}

/// What follows from a head.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) framing: Framing,
    /// Whether another request may follow on the connection.
    pub(super) is_reusable: bool,
    /// How long the server keeps the connection, less a margin.
    pub(super) keep_for: Option<Duration>,
}

/// What the headers that concern us say, noted on the way.
#[derive(Debug, Default)]
struct Seen {
    lengths: u32,
    /// The last of the lengths, if it is plain.
    length: Option<u64>,
    coding: bool,
    close: bool,
    keep_alive: bool,
}

impl Seen {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) {
        if name == CONTENT_LENGTH {
            self.lengths += 1;
            self.length = parse_length(value.as_bytes());
        } else if name == TRANSFER_ENCODING {
            self.coding = true;
        } else if name == CONNECTION {
            self.close |= says_close(value);
        } else if name == KEEP_ALIVE {
            self.keep_alive = true;
        }
    }
}

/// Takes the head that `bytes` begins with apart, into `headers`, whose old
/// content goes; absent when there is more to come.
pub(super) fn parse(bytes: &[u8], headers: &mut HeaderMap) -> Result<Option<Head>, ProxyError> {
    match parse_usual(bytes, headers) {
        Some(head) => Ok(Some(head)),
        None => parse_any(bytes, headers),
    }
}

/// The head of a usual response, which is nearly every one.
fn parse_usual(bytes: &[u8], headers: &mut HeaderMap) -> Option<Head> {
    let (status, length) = match bytes.strip_prefix(b"HTTP/1.1 ")? {
        rest if rest.starts_with(b"200 OK\r\n") => (StatusCode::OK, 17),
        rest => {
            let end = memchr::memchr(b'\r', rest)?;
            let (code, reason) = rest.get(..end)?.split_at_checked(3)?;
            let status = StatusCode::from_bytes(code).ok()?;
            let usual = status.canonical_reason()?.as_bytes();
            let is_usual = reason.strip_prefix(b" ") == Some(usual);
            let is_line = rest.get(end..)?.starts_with(b"\r\n");
            (is_usual && is_line).then_some((status, b"HTTP/1.1 ".len() + end + 2))?
        }
    };
    let mut seen = Seen::default();
    headers.clear();
    let length = memo::fields(bytes, length, MAX_HEADERS, headers, |name, value| {
        seen.note(name, value);
        // It says what is so anyway, and would only be taken out again.
        *name != CONNECTION || value != "keep-alive"
    })?;
    Some(Head {
        status,
        reason: None,
        length,
        is_current: true,
        seen,
    })
}

fn parse_any(bytes: &[u8], headers: &mut HeaderMap) -> Result<Option<Head>, ProxyError> {
    let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let length = match parser.parse_response_with_uninit_headers(&mut parsed, bytes, &mut room) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(ProxyError::new(ErrorKind::BadResponse).because(error)),
    };
    let code = parsed.code.unwrap_or_default();
    let status = StatusCode::from_u16(code).map_err(|_| bad("a status that is none"))?;
    let seen = fill(headers, parsed.headers)?;
    let reason = parsed.reason.unwrap_or_default();
    let is_usual = status.canonical_reason() == Some(reason);
    Ok(Some(Head {
        status,
        reason: (!is_usual)
            .then(|| ReasonPhrase::try_from(reason.as_bytes()).ok())
            .flatten(),
        length,
        is_current: parsed.version == Some(1),
        seen,
    }))
}

fn fill(headers: &mut HeaderMap, parsed: &[httparse::Header<'_>]) -> Result<Seen, ProxyError> {
    let mut seen = Seen::default();
    headers.clear();
    headers.reserve(parsed.len());
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(bad("a header that is none"));
        };
        seen.note(&name, &value);
        headers.append(name, value);
    }
    Ok(seen)
}

impl Head {
    /// Reads the terms of the response to a request with `method`, and corrects
    /// `headers` where they say too much.
    pub(super) fn terms(
        &self,
        method: &Method,
        headers: &mut HeaderMap,
    ) -> Result<Terms, ProxyError> {
        let (framing, is_clear) = self.framing(method, headers)?;
        let is_endless = matches!(framing, Framing::Close);
        let keep_for = if self.seen.keep_alive {
            keep_alive(headers)
        } else {
            None
        };
        Ok(Terms {
            framing,
            is_reusable: self.is_current && is_clear && !self.seen.close && !is_endless,
            keep_for,
        })
    }

    fn framing(
        &self,
        method: &Method,
        headers: &mut HeaderMap,
    ) -> Result<(Framing, bool), ProxyError> {
        let is_bodiless = *method == Method::HEAD
            || matches!(
                self.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        if self.status == StatusCode::NO_CONTENT {
            headers.remove(CONTENT_LENGTH);
            headers.remove(TRANSFER_ENCODING);
            return Ok((Framing::Length(0), true));
        }
        if self.seen.coding && !is_bodiless {
            if !self.is_current {
                return Err(bad("a transfer coding in HTTP/1.0"));
            }
            if !is_only_chunked(headers) {
                return Err(bad("a transfer coding other than chunked"));
            }
        }
        let mut is_clear = true;
        let mut length = None;
        if self.seen.coding && self.seen.lengths > 0 {
            // Chunked rules (RFC 9112 §6.3), but one of its authors is confused.
            headers.remove(CONTENT_LENGTH);
            is_clear = false;
        } else if self.seen.lengths == 1 && self.seen.length.is_some() {
            length = self.seen.length;
        } else if self.seen.lengths > 0 {
            length = content_length(headers)?;
        }
        let framing = match length {
            _ if is_bodiless => Framing::Length(0),
            _ if self.seen.coding => Framing::Chunked(Decoder::default()),
            Some(length) => Framing::Length(length),
            None => Framing::Close,
        };
        Ok((framing, is_clear))
    }
}

fn says_close(list: &HeaderValue) -> bool {
    let mut tokens = list.as_bytes().split(|byte| *byte == b',');
    tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
}

fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let seconds = value.split(',').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_timeout = name.trim().eq_ignore_ascii_case("timeout");
        is_timeout.then(|| value.trim().trim_matches('"').parse::<u32>().ok())?
    })?;
    Some(Duration::from_secs(seconds.into()) * TRUSTED_PERCENT / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<(Head, HeaderMap)>, ProxyError> {
        let mut headers = HeaderMap::new();
        headers.insert("old", HeaderValue::from_static("x"));
        Ok(parse(text.as_bytes(), &mut headers)?.map(|head| (head, headers)))
    }

    /// The framing, and whether the connection may be used again.
    fn terms(method: &str, text: &str) -> Option<(String, bool)> {
        let (head, mut headers) = parsed(text).ok()??;
        let terms = head.terms(&method.parse().unwrap(), &mut headers).ok()?;
        let framing = match terms.framing {
            Framing::Length(length) => length.to_string(),
            Framing::Chunked(_) => "chunked".to_owned(),
            Framing::Close => "close".to_owned(),
        };
        Some((framing, terms.is_reusable))
    }

    #[test]
    fn a_head_is_whole_with_its_last_byte() {
        let text = "HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nA: 3\r\n\r\n";
        for end in 0..text.len() {
            assert!(parsed(&text[..end]).unwrap().is_none(), "{end}");
        }
        let (head, headers) = parsed(&format!("{text}body")).unwrap().unwrap();
        assert_eq!(head.status, StatusCode::OK);
        assert_eq!(head.length, text.len());
        assert_eq!(head.reason, None);
        assert_eq!(headers.len(), 3);
        let both: Vec<_> = headers.get_all("a").iter().collect();
        assert_eq!(both, ["1", "3"]);
    }

    #[test]
    fn an_unusual_reason_is_kept() {
        let (head, _) = parsed("HTTP/1.1 200 Fine\r\n\r\n").unwrap().unwrap();
        assert_eq!(head.reason.unwrap().as_bytes(), b"Fine");
    }

    #[test]
    fn heads_are_strict() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(257));
        let table = [
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.2 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 +20 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA B: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
            &many,
        ];
        for text in table {
            let error = parsed(text).unwrap_err();
            assert_eq!(error.kind, ErrorKind::BadResponse, "{text}");
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table reads best in one piece")]
    fn framing_is_read_one_way() {
        let table = [
            ("GET", "1.1 200 OK", "Content-Length: 5", Some(("5", true))),
            (
                "GET",
                "1.1 200 OK",
                "Content-Length: 5, 5",
                Some(("5", true)),
            ),
            (
                "GET",
                "1.1 200 OK",
                "Content-Length: 5\r\nConnection: x, Close",
                Some(("5", false)),
            ),
            (
                "GET",
                "1.0 200 OK",
                "Content-Length: 5\r\nConnection: keep-alive",
                Some(("5", false)),
            ),
            (
                "GET",
                "1.1 200 OK",
                "Transfer-Encoding: Chunked",
                Some(("chunked", true)),
            ),
            (
                "GET",
                "1.1 200 OK",
                "Content-Length: 5\r\nTransfer-Encoding: chunked",
                Some(("chunked", false)),
            ),
            ("GET", "1.1 200 OK", "A: b", Some(("close", false))),
            ("HEAD", "1.1 200 OK", "Content-Length: 5", Some(("0", true))),
            (
                "HEAD",
                "1.1 200 OK",
                "Transfer-Encoding: chunked",
                Some(("0", true)),
            ),
            ("HEAD", "1.1 200 OK", "A: b", Some(("0", true))),
            (
                "GET",
                "1.1 304 Not Modified",
                "Content-Length: 5",
                Some(("0", true)),
            ),
            (
                "GET",
                "1.1 204 No Content",
                "Content-Length: 5",
                Some(("0", true)),
            ),
            (
                "GET",
                "1.1 200 OK",
                "Content-Length: 5\r\nContent-Length: 6",
                None,
            ),
            ("GET", "1.1 200 OK", "Content-Length: -5", None),
            ("GET", "1.1 200 OK", "Content-Length: 0x5", None),
            ("GET", "1.1 200 OK", "Content-Length:", None),
            (
                "GET",
                "1.1 200 OK",
                "Transfer-Encoding: gzip, chunked",
                None,
            ),
            (
                "GET",
                "1.1 200 OK",
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                None,
            ),
            ("GET", "1.1 200 OK", "Transfer-Encoding: xchunked", None),
            ("GET", "1.0 200 OK", "Transfer-Encoding: chunked", None),
            (
                "HEAD",
                "1.1 200 OK",
                "Content-Length: 5\r\nContent-Length: 6",
                None,
            ),
        ];
        for (method, status, fields, expected) in table {
            let text = format!("HTTP/{status}\r\n{fields}\r\n\r\n");
            let expected = expected.map(|(framing, again)| (framing.to_owned(), again));
            assert_eq!(terms(method, &text), expected, "{method} {text}");
        }
    }

    #[test]
    fn the_servers_patience_is_learned() {
        let table = [
            ("timeout=5, max=100", Some(4000)),
            ("max=1, Timeout = \"10\"", Some(8000)),
            ("timeout=0", Some(0)),
            ("timeout=-1", None),
            ("max=5", None),
        ];
        for (value, expected) in table {
            let text = format!("HTTP/1.1 200 OK\r\nKeep-Alive: {value}\r\n\r\n");
            let (head, mut headers) = parsed(&text).unwrap().unwrap();
            let terms = head.terms(&Method::GET, &mut headers).unwrap();
            assert_eq!(
                terms.keep_for,
                expected.map(Duration::from_millis),
                "{value}"
            );
        }
    }
}
