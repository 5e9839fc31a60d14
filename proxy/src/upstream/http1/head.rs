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
use crate::http::{ErrorKind, ProxyError, ServerLines, may_pass};

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
    /// Whether the coding was found to be `chunked` and nothing else.
    is_chunked: bool,
    close: bool,
    keep_for: Option<Duration>,
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
            self.keep_for = self.keep_for.or_else(|| keep_alive(value.as_bytes()));
        }
    }

    /// Notes a header of a response that is passed on line by line. Tells whether
    /// its line is to go on; nothing if this can't be such a response.
    fn note_line(&mut self, name: &HeaderName, value: &[u8]) -> Option<bool> {
        if may_pass(name) {
            return Some(true);
        }
        let is_first = match *name {
            CONTENT_LENGTH if self.lengths == 0 => {
                self.lengths = 1;
                self.length = parse_length(value);
                self.length.is_some()
            }
            TRANSFER_ENCODING if !self.coding => {
                self.coding = true;
                self.is_chunked = value.eq_ignore_ascii_case(b"chunked");
                self.is_chunked
            }
            CONNECTION => value.eq_ignore_ascii_case(b"keep-alive"),
            _ if *name == KEEP_ALIVE => {
                self.keep_for = self.keep_for.or_else(|| keep_alive(value));
                true
            }
            _ => false,
        };
        is_first.then_some(false)
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

/// The head of a usual response to a request whose method is not HEAD, with a body
/// or at least a place for one; its lines go to `lines`. Nothing if there is
/// anything about it that must be looked at as [`parse`] does.
pub(super) fn parse_lines(bytes: &[u8], lines: &mut ServerLines) -> Option<Head> {
    let (status, length) = status_line(bytes)?;
    let has_body = !status.is_informational()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !has_body {
        return None;
    }
    lines.clear();
    let mut seen = Seen::default();
    let length = memo::lines(bytes, length, MAX_HEADERS, |name, value, line| {
        if seen.note_line(name, value)? {
            lines.push(name, line);
        }
        Some(())
    })?;
    let is_clear = !seen.coding || seen.lengths == 0;
    is_clear.then_some(Head {
        status,
        reason: None,
        length,
        is_current: true,
        seen,
    })
}

/// The head of a usual response, which is nearly every one.
fn parse_usual(bytes: &[u8], headers: &mut HeaderMap) -> Option<Head> {
    let (status, length) = status_line(bytes)?;
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

/// The status in a usual status line, and how long that line is.
fn status_line(bytes: &[u8]) -> Option<(StatusCode, usize)> {
    Some(match bytes.strip_prefix(b"HTTP/1.1 ")? {
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
        Ok(Terms {
            framing,
            is_reusable: self.is_current && is_clear && !self.seen.close && !is_endless,
            keep_for: self.seen.keep_for,
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
            if !self.seen.is_chunked && !is_only_chunked(headers) {
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

fn keep_alive(value: &[u8]) -> Option<Duration> {
    let value = std::str::from_utf8(value).ok()?;
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
    use crate::http::hop_by_hop;

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

    /// Status and framing, whether the connection may be used again, and for how
    /// long; and the lines.
    type Told = (String, bool, Option<Duration>, Vec<String>);

    /// What a client is told by either way.
    fn told(text: &str) -> [Option<Told>; 2] {
        let mut map = HeaderMap::new();
        let apart = parse(text.as_bytes(), &mut map).ok().flatten();
        let mut lines = ServerLines::new();
        let whole = parse_lines(text.as_bytes(), &mut lines);
        let told = |head: Head, mut headers: HeaderMap, lines: &ServerLines| {
            let terms = head.terms(&Method::GET, &mut headers).ok()?;
            hop_by_hop::response(&mut headers);
            headers.remove(CONTENT_LENGTH);
            let mut told: Vec<_> = headers
                .iter()
                .map(|(name, value)| format!("{name}:{}", value.as_bytes().escape_ascii()))
                .collect();
            let lines = lines.as_bytes().split(|byte| *byte == b'\n');
            told.extend(lines.filter(|line| !line.is_empty()).map(|line| {
                let (name, value) = line.split_at(line.iter().position(|b| *b == b':').unwrap());
                let name = name.to_ascii_lowercase().escape_ascii().to_string();
                format!("{name}:{}", value[1..].trim_ascii().escape_ascii())
            }));
            told.sort();
            let framing = format!("{} {:?}", head.status, terms.framing);
            Some((framing, terms.is_reusable, terms.keep_for, told))
        };
        let apart = apart.and_then(|head| told(head, map, &ServerLines::new()));
        let whole = whole.and_then(|head| told(head, HeaderMap::new(), &lines));
        [apart, whole]
    }

    #[test]
    fn lines_say_what_headers_would_say() {
        const LINES: [&str; 26] = [
            "Server: nginx/1.22.1",
            "Date: Sat, 21 Nov 2026 10:00:00 GMT",
            "content-type: text/plain; charset=utf-8",
            "ETag:\"abc\"",
            "Content-Length: 5",
            "Content-Length: 5",
            "Content-Length: +5",
            "Content-Length: 5, 5",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: Chunked",
            "Transfer-Encoding: gzip, chunked",
            "Connection: keep-alive",
            "Connection: close",
            "Connection: X-Private",
            "X-Private: 1",
            "Keep-Alive: timeout=5, max=100",
            "Keep-Alive: timeout=x",
            "Set-Cookie: a=b; Path=/",
            "X-Long-Value-Of-A-Header: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "X-Blanks:  \t a b \t",
            "Trailer: X-End",
            "Upgrade: h2c",
            "X-Empty-Header:",
            "Bad Name: x",
            "X-Control-Byte: a\u{1}b",
            "X-Latin-Value: \u{e9}",
        ];
        const STATUS: [&str; 6] = [
            "200 OK",
            "404 Not Found",
            "204 No Content",
            "304 Not Modified",
            "200 Fine",
            "503 Service Unavailable",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        let mut passed = 0;
        for _ in 0..20_000 {
            let mut text = format!("HTTP/1.1 {}\r\n", STATUS[random.usize(..STATUS.len())]);
            for _ in 0..random.usize(..6) {
                text += LINES[random.usize(..LINES.len())];
                text += if random.u8(..200) == 0 { "\n" } else { "\r\n" };
            }
            text += "\r\nhello";
            let [apart, whole] = told(&text);
            passed += u32::from(whole.is_some());
            if whole.is_some() {
                assert_eq!(whole, apart, "{text:?}");
            }
        }
        assert!(passed > 4_000, "{passed}");
    }
}
