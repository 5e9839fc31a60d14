//! The head of a request (RFC 9112 sections 2 to 6).
//!
//! Owns what `httparse` leaves open: which framing a request has, whether its
//! connection goes on, and what must be refused because two servers could read
//! it in two ways. A usual head takes a short way; `httparse` has the word on all
//! others. It reads and answers nothing; what needs no parsing is checked later, by
//! [`crate::http::validate`].

use std::cell::RefCell;
use std::mem::MaybeUninit;

use ::http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH,
    CONTENT_TYPE, EXPECT, HOST, HeaderName, HeaderValue, PRAGMA, TE, TRANSFER_ENCODING, UPGRADE,
    UPGRADE_INSECURE_REQUESTS, USER_AGENT,
};
use ::http::request::Parts;
use ::http::{HeaderMap, Method, Request, StatusCode, Uri, Version};
use bytes::Bytes;
use httparse::{Header, Status};

use super::{stock, targets};
use crate::http::memo::Memo;

/// Most headers of a request.
const MAX_HEADERS: usize = 100;
/// Room for the headers that are added on the way to a server.
const ADDED_HEADERS: usize = 8;
/// Longest target that `http::Uri` takes.
const MAX_TARGET: usize = 65_534;

thread_local! {
    static KNOWN: RefCell<Memo> = const { RefCell::new(Memo::new(is_common)) };
}

/// How long a request's body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Framing {
    Chunked,
    Length(u64),
    #[default]
    None,
}

/// What a request asks of its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) framing: Framing,
    pub(super) is_head: bool,
    pub(super) is_http10: bool,
    /// Whether another request may follow.
    pub(super) keeps_alive: bool,
    /// Whether the body comes only after a `100 Continue`.
    pub(super) awaits_continue: bool,
    /// Whether it asks for another protocol.
    pub(super) wants_upgrade: bool,
    /// Whether trailers need not be announced to it.
    pub(super) takes_trailers: bool,
    /// Whether it is one that two servers could take for two things.
    pub(super) is_ambiguous: bool,
}

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) parts: Parts,
    pub(super) terms: Terms,
}

/// Puts the head that `bytes` begin with into `head`, which spares moving what is
/// large. Says how long it is; `None` if it is not complete.
///
/// # Errors
/// The status that a client gets whose bytes are no head. Nothing that follows
/// on the connection may be read as a request then.
pub(super) fn parse(bytes: &[u8], head: &mut Option<Head>) -> Result<Option<usize>, StatusCode> {
    match parse_usual(bytes, head) {
        Some(length) => Ok(Some(length)),
        None => parse_any(bytes, head),
    }
}

/// The head of a usual request. Nothing if there is anything else about it: what
/// that means is for [`parse_any`] to say.
fn parse_usual(bytes: &[u8], head: &mut Option<Head>) -> Option<usize> {
    let (method, behind) = usual_method(bytes)?;
    let end = behind.iter().position(|byte| !is_plain(*byte))?;
    let (target, behind) = behind.split_at_checked(end)?;
    let lines = behind.strip_prefix(b" HTTP/1.1\r\n")?;
    if target.first() != Some(&b'/') || target.len() > MAX_TARGET {
        return None;
    }
    let mut terms = Terms {
        is_head: method == Method::HEAD,
        ..Terms::default()
    };
    let (headers, length) = usual_headers(lines, &mut terms)?;
    let uri = targets::read(target)?;
    Head::put(head, method, uri, headers, terms);
    Some(bytes.len() - lines.len() + length)
}

fn usual_method(bytes: &[u8]) -> Option<(Method, &[u8])> {
    match bytes {
        [b'G', b'E', b'T', b' ', behind @ ..] => Some((Method::GET, behind)),
        [b'H', b'E', b'A', b'D', b' ', behind @ ..] => Some((Method::HEAD, behind)),
        [b'P', b'O', b'S', b'T', b' ', behind @ ..] => Some((Method::POST, behind)),
        _ => None,
    }
}

/// Whether every reader takes this byte of a path or query for the same.
fn is_plain(byte: u8) -> bool {
    matches!(byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' | b'%' | b'?'
        | b'=' | b'&' | b'+' | b',' | b':' | b';' | b'@' | b'!' | b'$' | b'(' | b')' | b'*')
}

fn usual_headers(lines: &[u8], terms: &mut Terms) -> Option<(HeaderMap, usize)> {
    let mut headers = stock::take();
    let mut seen = Seen::default();
    terms.keeps_alive = true;
    let take = |name, value| {
        if seen.note(&name, &value, terms).ok()? {
            headers.append(name, value);
        }
        Some(())
    };
    let length = KNOWN
        .with_borrow_mut(|known| known.fields(lines, MAX_HEADERS, Bytes::copy_from_slice, take));
    match length.filter(|_| seen.settle(terms).is_ok()) {
        Some(length) => Some((headers, length)),
        None => {
            stock::give_back(headers);
            None
        }
    }
}

/// Whether a line may be kept: those that browsers and programs send with each
/// request, and that tell nothing about who sends them.
fn is_common(name: &HeaderName) -> bool {
    matches!(
        *name,
        ACCEPT
            | ACCEPT_ENCODING
            | ACCEPT_LANGUAGE
            | CACHE_CONTROL
            | CONNECTION
            | CONTENT_TYPE
            | HOST
            | PRAGMA
            | TE
            | UPGRADE_INSECURE_REQUESTS
            | USER_AGENT
    ) || name.as_str().starts_with("sec-fetch-")
        || name.as_str().starts_with("sec-ch-ua")
}

fn parse_any(bytes: &[u8], head: &mut Option<Head>) -> Result<Option<usize>, StatusCode> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_request_with_uninit_headers(
        &mut request,
        bytes,
        &mut lines,
    );
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        Err(_) => return Err(StatusCode::BAD_REQUEST),
    };
    let target = request.path.unwrap_or_default();
    if target.len() > MAX_TARGET {
        return Err(StatusCode::URI_TOO_LONG);
    }
    let copy = Copy {
        whole: Bytes::copy_from_slice(bytes.get(..length).unwrap_or_default()),
        begin: bytes.as_ptr() as usize,
    };
    let method = Method::from_bytes(request.method.unwrap_or_default().as_bytes())
        .map_err(|_| StatusCode::BAD_REQUEST)?;
    let mut terms = Terms {
        is_head: method == Method::HEAD,
        is_http10: request.version != Some(1),
        is_ambiguous: target.contains('#'),
        ..Terms::default()
    };
    let headers = read_headers(request.headers, &copy, &mut terms)?;
    let uri =
        Uri::from_maybe_shared(copy.of(target.as_bytes())).map_err(|_| StatusCode::BAD_REQUEST)?;
    Head::put(head, method, uri, headers, terms);
    Ok(Some(length))
}

impl Head {
    fn put(place: &mut Option<Self>, method: Method, uri: Uri, headers: HeaderMap, terms: Terms) {
        let (parts, ()) = Request::new(()).into_parts();
        let parts = &mut place.insert(Self { parts, terms }).parts;
        parts.method = method;
        parts.uri = uri;
        if terms.is_http10 {
            parts.version = Version::HTTP_10;
        }
        parts.headers = headers;
    }
}

/// The head in memory of its own, shared by all that is taken from it.
struct Copy {
    whole: Bytes,
    /// Where the original begins.
    begin: usize,
}

impl Copy {
    /// The copy of `part`, which must lie in the original.
    fn of(&self, part: &[u8]) -> Bytes {
        if part.is_empty() {
            return Bytes::new();
        }
        let start = (part.as_ptr() as usize).saturating_sub(self.begin);
        self.whole.slice(start..start + part.len())
    }
}

fn read_headers(
    lines: &[Header<'_>],
    copy: &Copy,
    terms: &mut Terms,
) -> Result<HeaderMap, StatusCode> {
    let mut headers = stock::take();
    headers.reserve(lines.len() + ADDED_HEADERS);
    let mut seen = Seen::default();
    terms.keeps_alive = !terms.is_http10;
    for line in lines {
        let name =
            HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| StatusCode::BAD_REQUEST)?;
        let value = HeaderValue::from_maybe_shared(copy.of(line.value))
            .map_err(|_| StatusCode::BAD_REQUEST)?;
        if seen.note(&name, &value, terms)? {
            headers.append(name, value);
        }
    }
    seen.settle(terms)?;
    Ok(headers)
}

/// What the headers said so far of framing and connection.
#[derive(Debug, Default)]
struct Seen {
    length: Option<u64>,
    has_coding: bool,
    is_chunked: bool,
    closes: bool,
}

impl Seen {
    /// Takes a header down; says whether the request keeps it.
    fn note(
        &mut self,
        name: &HeaderName,
        value: &HeaderValue,
        terms: &mut Terms,
    ) -> Result<bool, StatusCode> {
        match *name {
            CONTENT_LENGTH => return self.note_length(value),
            TRANSFER_ENCODING => {
                if terms.is_http10 {
                    return Err(StatusCode::BAD_REQUEST);
                }
                self.has_coding = true;
                // Of several codings the last decides where the body ends.
                self.is_chunked = has_last(value, b"chunked");
            }
            CONNECTION => self.note_connection(value, terms),
            EXPECT => {
                terms.awaits_continue =
                    !terms.is_http10 && value.as_bytes().eq_ignore_ascii_case(b"100-continue");
            }
            UPGRADE => terms.wants_upgrade = !terms.is_http10,
            TE => terms.takes_trailers |= has(value, b"trailers"),
            _ => {}
        }
        Ok(true)
    }

    /// Equal lengths are one (RFC 9110 section 8.6).
    fn note_length(&mut self, value: &HeaderValue) -> Result<bool, StatusCode> {
        let length = length(value.as_bytes()).ok_or(StatusCode::BAD_REQUEST)?;
        match self.length.replace(length) {
            None => Ok(true),
            Some(other) if other == length => Ok(false),
            Some(_) => Err(StatusCode::BAD_REQUEST),
        }
    }

    /// `close` wins over everything said elsewhere.
    fn note_connection(&mut self, value: &HeaderValue, terms: &mut Terms) {
        self.closes |= has(value, b"close");
        if self.closes {
            terms.keeps_alive = false;
        } else if !terms.keeps_alive {
            terms.keeps_alive = has(value, b"keep-alive");
        }
    }

    fn settle(&self, terms: &mut Terms) -> Result<(), StatusCode> {
        if self.has_coding && !self.is_chunked {
            return Err(StatusCode::BAD_REQUEST);
        }
        terms.framing = match self.length {
            _ if self.has_coding => Framing::Chunked,
            Some(length) if length > 0 => Framing::Length(length),
            _ => Framing::None,
        };
        terms.is_ambiguous |= self.has_coding && self.length.is_some();
        terms.awaits_continue &= terms.framing != Framing::None;
        Ok(())
    }
}

/// A length in decimal digits and nothing else.
pub(super) fn length(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0_u64, |length, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        length.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Whether a list holds `token`, which is in lower case.
pub(super) fn has(list: &HeaderValue, token: &[u8]) -> bool {
    tokens(list).any(|item| item.eq_ignore_ascii_case(token))
}

fn has_last(list: &HeaderValue, token: &[u8]) -> bool {
    tokens(list)
        .last()
        .is_some_and(|item| item.eq_ignore_ascii_case(token))
}

fn tokens(list: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let items = list.as_bytes().split(|byte| *byte == b',');
    items.map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<(Head, usize)>, StatusCode> {
        let mut head = None;
        let length = parse(text.as_bytes(), &mut head)?;
        assert_eq!(head.is_some(), length.is_some());
        Ok(head.zip(length))
    }

    fn terms(lines: &str) -> Result<Terms, u16> {
        let text = format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\nrest");
        let (head, length) = read(&text).map_err(|status| status.as_u16())?.unwrap();
        assert_eq!(&text[length..], "rest");
        Ok(head.terms)
    }

    #[test]
    fn framings() {
        let ok = |framing, is_ambiguous| Ok((framing, is_ambiguous));
        let chunked = Framing::Chunked;
        let rows = [
            ("", ok(Framing::None, false)),
            ("Content-Length: 0\r\n", ok(Framing::None, false)),
            ("Content-Length: 005\r\n", ok(Framing::Length(5), false)),
            ("Content-Length:  5 \t\r\n", ok(Framing::Length(5), false)),
            (
                "Content-Length: 5\r\nContent-Length: 5\r\n",
                ok(Framing::Length(5), false),
            ),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(400)),
            ("Content-Length: 5, 5\r\n", Err(400)),
            ("Content-Length: +5\r\n", Err(400)),
            ("Content-Length:\r\n", Err(400)),
            (
                "Content-Length: 18446744073709551615\r\n",
                ok(Framing::Length(u64::MAX), false),
            ),
            ("Content-Length: 18446744073709551616\r\n", Err(400)),
            ("Transfer-Encoding: Chunked\r\n", ok(chunked, false)),
            ("Transfer-Encoding: gzip, chunked\r\n", ok(chunked, false)),
            ("Transfer-Encoding: chunked, gzip\r\n", Err(400)),
            ("Transfer-Encoding: identity\r\n", Err(400)),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
                Err(400),
            ),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                ok(chunked, true),
            ),
            (
                "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
                ok(chunked, true),
            ),
        ];
        for (lines, expected) in rows {
            let found = terms(lines).map(|terms| (terms.framing, terms.is_ambiguous));
            assert_eq!(found, expected, "{lines:?}");
        }
    }

    #[test]
    fn lives_of_connections() {
        let rows = [
            ("HTTP/1.1", "", true),
            ("HTTP/1.1", "Connection: close\r\n", false),
            ("HTTP/1.1", "Connection: x, CLOSE\r\n", false),
            (
                "HTTP/1.1",
                "Connection: close\r\nConnection: keep-alive\r\n",
                false,
            ),
            ("HTTP/1.0", "", false),
            ("HTTP/1.0", "Connection: Keep-Alive\r\n", true),
            (
                "HTTP/1.0",
                "Connection: keep-alive\r\nConnection: close\r\n",
                false,
            ),
        ];
        for (version, lines, expected) in rows {
            let text = format!("GET / {version}\r\n{lines}\r\n");
            let (head, _) = read(&text).unwrap().unwrap();
            assert_eq!(head.terms.keeps_alive, expected, "{text:?}");
        }
    }

    #[test]
    fn malformed_heads() {
        let many = format!(
            "GET / HTTP/1.1\r\n{}\r\n",
            "X: y\r\n".repeat(MAX_HEADERS + 1)
        );
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(MAX_TARGET));
        let rows: [(&str, u16); 13] = [
            ("GET  / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\n\r\n", 400),
            ("GET / HTTP/1.10\r\n\r\n", 400),
            ("G@T / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nX : y\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nX: y\r\n z\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nX: y\rZ: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nX: \0\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nX\r\n\r\n", 400),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("GET http:///x HTTP/1.1\r\n\r\n", 400),
            (&many, 431),
            (&long, 414),
        ];
        for (text, expected) in rows {
            let status = read(text).err().map(|status| status.as_u16());
            assert_eq!(status, Some(expected), "{text:.60}");
        }
    }

    #[test]
    fn a_head_is_complete_with_its_blank_line() {
        let text =
            "\r\nGET /a?b HTTP/1.1\r\nHost: a.test\r\nX-Two: 1\r\nX-Two: 2\r\nEmpty:\r\n\r\n";
        for end in 0..text.len() {
            assert!(read(&text[..end]).unwrap().is_none(), "{end}");
        }
        let (head, length) = read(text).unwrap().unwrap();
        assert_eq!(length, text.len());
        assert_eq!(head.parts.uri, "/a?b");
        assert_eq!(head.parts.headers["host"], "a.test");
        let twice: Vec<_> = head.parts.headers.get_all("x-two").iter().collect();
        assert_eq!(twice, ["1", "2"]);
        assert_eq!(head.parts.headers["empty"], "");
    }

    #[test]
    fn the_short_way_says_what_the_long_one_says() {
        let targets = [
            "/",
            "/a/b?c=d&e=%20;f",
            "//x",
            "/a#b",
            "/a\u{e9}",
            "/<\">",
            "*",
            "a",
            "http://h/",
        ];
        let lines = [
            "",
            "Host: a.test\r\n",
            "Host:a.test  \r\nAccept: */*\r\nX-Odd-Name: \t v\u{e9} \r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\nHost: a\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\nHost: a\r\n",
            "Transfer-Encoding: chunked\r\nConnection: close\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            "Transfer-Encoding: gzip\r\nConnection: upgrade\r\n",
            "Expect: 100-continue\r\nContent-Length: 3\r\nUpgrade: x\r\nTE: trailers\r\n",
            "Host: a.test\r\n folded\r\n",
            "Host : a.test and more\r\n",
            "Host: a.test\nAccept: */*\n",
            "Host: a\0b and so on and on\r\n",
        ];
        let methods = ["GET", "HEAD", "POST", "GETS", "get"];
        let cases = methods.into_iter().flat_map(|method| {
            let rows = targets
                .iter()
                .flat_map(|target| lines.map(|lines| (*target, lines)));
            rows.map(move |(target, lines)| (method, target, lines))
        });
        let mut taken = 0;
        for (method, target, lines) in cases {
            for version in ["1.1", "1.0"] {
                let text = format!("{method} {target} HTTP/{version}\r\n{lines}\r\nand more of it");
                // Twice: the second time the lines may be known.
                for _ in 0..2 {
                    let (mut short, mut long) = (None, None);
                    let Some(length) = parse_usual(text.as_bytes(), &mut short) else {
                        assert!(short.is_none());
                        continue;
                    };
                    taken += 1;
                    assert_eq!(parse_any(text.as_bytes(), &mut long), Ok(Some(length)));
                    let (short, long) = (short.unwrap(), long.unwrap());
                    assert_eq!(short.terms, long.terms, "{text:?}");
                    assert_eq!(short.parts.method, long.parts.method);
                    assert_eq!(short.parts.uri, long.parts.uri);
                    assert_eq!(short.parts.version, long.parts.version);
                    assert_eq!(short.parts.headers, long.parts.headers);
                }
            }
        }
        assert!(taken > 80, "{taken}");
    }
}
