//! The head of a response (RFC 9112 sections 4 to 6), and where its body ends.
//!
//! Owns the choice of framing: a length if one is known, chunks if not, the end
//! of the connection for clients that know no chunks. Headers go out in the order
//! and spelling they have; only what frames the message or concerns this
//! connection is ours. It writes into memory and sends nothing.

use ::http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, TRAILER, TRANSFER_ENCODING};
use ::http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;
use tokio::time::Instant;

use super::date;
use super::head::{Terms, has, length};
use crate::http::{Body, ServerLines};

/// Headers that mean nothing, or too much, behind a body (RFC 9110 section 6.5.1).
const NO_TRAILERS: [HeaderName; 16] = [
    ::http::header::AUTHORIZATION,
    ::http::header::CACHE_CONTROL,
    CONNECTION,
    ::http::header::CONTENT_ENCODING,
    CONTENT_LENGTH,
    ::http::header::CONTENT_RANGE,
    ::http::header::CONTENT_TYPE,
    ::http::header::HOST,
    ::http::header::MAX_FORWARDS,
    ::http::header::SET_COOKIE,
    ::http::header::TE,
    TRAILER,
    TRANSFER_ENCODING,
    ::http::header::UPGRADE,
    ::http::header::WWW_AUTHENTICATE,
    ::http::header::LOCATION,
];

/// How the body of a response is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// In chunks, with those trailers.
    Chunked(Trailers),
    /// So many bytes.
    Length(u64),
    /// There is none, whatever the headers say.
    None,
    /// Up to the end of the connection.
    UntilClose,
}

/// Which trailers are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trailers {
    /// All: the client asked for them.
    All,
    /// Those that the head announced.
    Announced(Vec<HeaderName>),
}

impl Trailers {
    /// Writes those of `trailers` that may be sent.
    pub(super) fn write(&self, out: &mut Vec<u8>, trailers: &HeaderMap) {
        for (name, value) in trailers {
            let is_wanted = match self {
                Self::All => true,
                Self::Announced(names) => names.contains(name),
            };
            if is_wanted && !NO_TRAILERS.contains(name) {
                line(out, name, value);
            }
        }
    }
}

/// What is known of a response's body before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Known(u64),
    None,
    Unknown,
}

impl Size {
    pub(super) fn of(body: &Body) -> Self {
        if body.is_end_stream() {
            return Self::None;
        }
        body.size_hint().exact().map_or(Self::Unknown, Self::Known)
    }
}

/// A head that was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Encoded {
    pub(super) shape: Shape,
    /// Whether the connection ends with this response.
    pub(super) is_last: bool,
}

/// Writes the head of a response to a request with `terms`.
pub(super) fn encode<B>(
    out: &mut Vec<u8>,
    head: &Response<B>,
    size: Size,
    terms: &Terms,
    now: Instant,
) -> Encoded {
    status_line(out, head, terms.is_http10);
    let mut plan = Plan::new(head.status(), size, terms);
    if let Some(lines) = head.extensions().get::<ServerLines>() {
        out.extend_from_slice(lines.as_bytes());
        plan.has_date = lines.has_date();
    }
    for (name, value) in head.headers() {
        plan.header(out, name, value);
    }
    plan.connection(out, head.headers());
    let shape = plan.frame(out);
    if !plan.has_date {
        out.extend_from_slice(b"date: ");
        date::write(out, now);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    let is_last = plan.is_last || shape == Shape::UntilClose;
    Encoded { shape, is_last }
}

fn status_line<B>(out: &mut Vec<u8>, head: &Response<B>, is_http10: bool) {
    let status = head.status();
    // A server's own words, where they are not the usual ones.
    let reason = head.extensions().get::<ReasonPhrase>();
    if status == StatusCode::OK && !is_http10 && reason.is_none() {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    let version: &[u8] = if is_http10 {
        b"HTTP/1.0 "
    } else {
        b"HTTP/1.1 "
    };
    out.extend_from_slice(version);
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    let usual = || status.canonical_reason().unwrap_or("<none>").as_bytes();
    out.extend_from_slice(reason.map_or_else(usual, ReasonPhrase::as_bytes));
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Decides while the headers are written.
struct Plan<'a> {
    terms: &'a Terms,
    size: Size,
    /// Whether this status may have a body, or a length.
    has_content: bool,
    length: Option<u64>,
    has_length_line: bool,
    has_date: bool,
    is_switch: bool,
    is_last: bool,
    has_connection: bool,
    announced: Vec<HeaderName>,
    has_trailer_line: bool,
}

impl<'a> Plan<'a> {
    fn new(status: StatusCode, size: Size, terms: &'a Terms) -> Self {
        let has_content = !status.is_informational()
            && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Self {
            terms,
            size,
            has_content,
            length: None,
            has_length_line: false,
            has_date: false,
            is_switch: status == StatusCode::SWITCHING_PROTOCOLS,
            is_last: !terms.keeps_alive,
            has_connection: false,
            announced: Vec::new(),
            has_trailer_line: false,
        }
    }

    fn can_be_chunked(&self) -> bool {
        self.has_content && !self.terms.is_head && !self.terms.is_http10
    }

    fn header(&mut self, out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
        match *name {
            CONTENT_LENGTH => return self.length_line(out, value),
            // Framing never follows from what a header says.
            TRANSFER_ENCODING => return,
            CONNECTION => {
                self.has_connection = true;
                self.is_last |= has(value, b"close");
                if !self.is_switch {
                    return;
                }
            }
            TRAILER if !self.can_be_chunked() => return,
            // Written where it is known whether there are chunks.
            TRAILER => return self.announce(value),
            DATE => self.has_date = true,
            _ => {}
        }
        line(out, name, value);
    }

    /// A length that the headers claim.
    fn length_line(&mut self, out: &mut Vec<u8>, value: &HeaderValue) {
        let is_meant = match self.size {
            Size::None => self.terms.is_head,
            Size::Known(_) | Size::Unknown => self.has_content,
        };
        let Some(claimed) = length(value.as_bytes()) else {
            return;
        };
        if is_meant && self.has_content && !self.has_length_line {
            self.has_length_line = true;
            self.length = Some(claimed);
            line(out, &CONTENT_LENGTH, value);
        }
    }

    fn announce(&mut self, value: &HeaderValue) {
        let names = value.as_bytes().split(|byte| *byte == b',');
        let names = names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
        self.announced.extend(names);
        self.has_trailer_line = true;
    }

    /// Says whether the connection goes on, where the client can't know.
    fn connection(&mut self, out: &mut Vec<u8>, headers: &HeaderMap) {
        if self.is_switch {
            return;
        }
        let has_own = |token: &[u8]| headers.get_all(CONNECTION).iter().any(|v| has(v, token));
        let says = match (self.is_last, self.terms.is_http10) {
            (true, false) if !self.has_connection || !has_own(b"close") => Some("close"),
            (false, true) if !has_own(b"keep-alive") && !self.ends_with_connection() => {
                Some("keep-alive")
            }
            _ => None,
        };
        if !self.has_connection && says.is_none() {
            return;
        }
        out.extend_from_slice(b"connection: ");
        let own = headers
            .get_all(CONNECTION)
            .iter()
            .map(HeaderValue::as_bytes);
        for (index, value) in own.chain(says.map(str::as_bytes)).enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(value);
        }
        out.extend_from_slice(b"\r\n");
    }

    fn ends_with_connection(&self) -> bool {
        self.size == Size::Unknown
            && !self.has_length_line
            && self.has_content
            && !self.terms.is_head
            && self.terms.is_http10
    }

    /// Writes what tells the client where the body ends.
    fn frame(&mut self, out: &mut Vec<u8>) -> Shape {
        let has_body = self.has_content && !self.terms.is_head;
        match (self.length, self.size) {
            (Some(length), Size::Known(_) | Size::Unknown) if has_body => Shape::Length(length),
            (Some(_), _) => Shape::None,
            (None, Size::Unknown) if self.ends_with_connection() => Shape::UntilClose,
            (None, Size::Unknown) if has_body => self.chunks(out),
            (None, Size::Known(length)) if self.has_content && length > 0 => {
                length_line(out, length);
                if has_body {
                    Shape::Length(length)
                } else {
                    Shape::None
                }
            }
            (None, Size::None | Size::Known(_)) => {
                if has_body {
                    out.extend_from_slice(b"content-length: 0\r\n");
                }
                Shape::None
            }
            (None, Size::Unknown) => Shape::None,
        }
    }

    fn chunks(&mut self, out: &mut Vec<u8>) -> Shape {
        if self.has_trailer_line {
            out.extend_from_slice(b"trailer: ");
            for (index, name) in self.announced.iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                out.extend_from_slice(name.as_str().as_bytes());
            }
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        Shape::Chunked(if self.terms.takes_trailers {
            Trailers::All
        } else {
            Trailers::Announced(std::mem::take(&mut self.announced))
        })
    }
}

fn length_line(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(20 - used..).unwrap_or_default());
}

/// Writes the size in front of a chunk's data.
pub(super) fn chunk_size(out: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let nibble = (size >> (digit * 4)) & 15;
        out.push(b"0123456789ABCDEF".get(nibble).copied().unwrap_or(b'0'));
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
