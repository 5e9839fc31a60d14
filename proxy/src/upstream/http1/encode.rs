//! The head of a request as it goes over the wire.
//!
//! Written from the request as it is, so that it is whole if it has to go
//! again. The framing is made from the body itself (what the client wrote about
//! it is left out), and cookies that HTTP/2 cut up are joined.

use ::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, MAX_FORWARDS, SET_COOKIE, TE,
    TRAILER, TRANSFER_ENCODING,
};
use ::http::request::Parts;
use ::http::{Method, Version};
use http_body::Body as _;

use crate::http::Body;

/// How a body's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    Empty,
    /// By its length, of which this much is left.
    Length(u64),
    Chunked,
}

/// Writes the head of a request with `body`, and tells how the body is framed.
/// `lines` go out besides its headers, and `host` is for requests that name none.
pub(super) fn head(
    out: &mut Vec<u8>,
    head: &Parts,
    lines: &[u8],
    body: &Body,
    host: &HeaderValue,
) -> Framing {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target(head).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let seen = fields(out, head);
    if !seen.host {
        field(out, &HOST, host.as_bytes());
    }
    out.extend_from_slice(lines);
    let framing = framing(out, head, body, seen.length);
    out.extend_from_slice(b"\r\n");
    framing
}

fn target(head: &Parts) -> &str {
    match head.uri.path_and_query() {
        Some(path) if !path.as_str().is_empty() => path.as_str(),
        _ => "/",
    }
}

/// Headers that decide on others.
#[derive(Default)]
struct Seen {
    host: bool,
    length: bool,
    cookie: bool,
}

fn fields(out: &mut Vec<u8>, head: &Parts) -> Seen {
    let mut seen = Seen::default();
    for (name, value) in &head.headers {
        if name == CONTENT_LENGTH {
            seen.length = true;
        } else if name == COOKIE && head.version == Version::HTTP_2 {
            if !std::mem::replace(&mut seen.cookie, true) {
                cookies(out, &head.headers);
            }
        } else if name != TRANSFER_ENCODING {
            seen.host |= name == HOST;
            field(out, name, value.as_bytes());
        }
    }
    seen
}

fn field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// HTTP/2 clients may cut their cookies up, which only HTTP/2 servers know to
/// put together again (RFC 9113 §8.2.3).
fn cookies(out: &mut Vec<u8>, headers: &HeaderMap) {
    out.extend_from_slice(b"cookie: ");
    for (index, crumb) in headers.get_all(COOKIE).iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b"; ");
        }
        out.extend_from_slice(crumb.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// One framing header, and one that is true.
fn framing(out: &mut Vec<u8>, head: &Parts, body: &Body, was_sized: bool) -> Framing {
    if body.is_end_stream() {
        if was_sized || has_usually_a_body(&head.method) {
            length(out, 0);
        }
        return Framing::Empty;
    }
    if let Some(size) = body.size_hint().exact() {
        length(out, size);
        return Framing::Length(size);
    }
    field(out, &TRANSFER_ENCODING, b"chunked");
    Framing::Chunked
}

fn length(out: &mut Vec<u8>, length: u64) {
    field(out, &CONTENT_LENGTH, length.to_string().as_bytes());
}

/// RFC 9110 §8.6: servers may want to be told that there is none.
pub(in super::super) fn has_usually_a_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Whether the body is to wait for the server's word.
pub(super) fn expects_continue(head: &Parts) -> bool {
    head.headers
        .get(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// The names that a request announces as its trailers.
pub(super) fn announced(headers: &HeaderMap) -> Vec<HeaderName> {
    let lists = headers.get_all(TRAILER).iter();
    lists
        .flat_map(|list| list.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect()
}

/// The end of a chunked body, with those trailers that were announced and may
/// come so late (RFC 9110 §6.5.1).
pub(super) fn last_chunk(trailers: &HeaderMap, announced: &[HeaderName]) -> Vec<u8> {
    let mut out = b"0\r\n".to_vec();
    for (name, value) in trailers {
        if announced.contains(name) && is_trailer(name) {
            field(&mut out, name, value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

fn is_trailer(name: &HeaderName) -> bool {
    const TOO_LATE: [HeaderName; 12] = [
        AUTHORIZATION,
        CACHE_CONTROL,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        HOST,
        MAX_FORWARDS,
        SET_COOKIE,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
    ];
    !TOO_LATE.contains(name)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::StreamBody;

    use super::*;

    fn sized(size: usize) -> Body {
        Body::full(vec![b'x'; size])
    }

    fn endless() -> Body {
        type Frame = Result<http_body::Frame<Bytes>, crate::http::BodyError>;
        Body::new(StreamBody::new(futures_util::stream::pending::<Frame>()))
    }

    fn parts(method: &str, target: &str, fields: &[(&'static str, &'static str)]) -> Parts {
        let (mut head, ()) = ::http::Request::new(()).into_parts();
        head.method = method.parse().unwrap();
        head.uri = target.parse().unwrap();
        for (name, value) in fields {
            let value = HeaderValue::from_static(value);
            head.headers.append(HeaderName::from_static(name), value);
        }
        head
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table reads best in one piece")]
    fn heads_are_written_from_what_is_true() {
        let table = [
            (
                parts("GET", "/a?b", &[]),
                Body::empty(),
                "GET /a?b HTTP/1.1\r\nhost: h\r\n\r\n",
                Framing::Empty,
            ),
            (
                parts("GET", "/", &[("host", "x")]),
                Body::empty(),
                "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
                Framing::Empty,
            ),
            (
                parts("OPTIONS", "*", &[]),
                Body::empty(),
                "OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n",
                Framing::Empty,
            ),
            (
                parts("GET", "http://e", &[]),
                Body::empty(),
                "GET / HTTP/1.1\r\nhost: h\r\n\r\n",
                Framing::Empty,
            ),
            (
                parts("PATCH", "/", &[]),
                Body::empty(),
                "PATCH / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n",
                Framing::Empty,
            ),
            (
                parts("DELETE", "/", &[("content-length", "0")]),
                Body::empty(),
                "DELETE / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n",
                Framing::Empty,
            ),
            (
                parts(
                    "PUT",
                    "/",
                    &[("content-length", "7"), ("transfer-encoding", "chunked")],
                ),
                sized(3),
                "PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\n",
                Framing::Length(3),
            ),
            (
                parts("GET", "/", &[("content-length", "7")]),
                endless(),
                "GET / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n",
                Framing::Chunked,
            ),
            (
                parts("GET", "/", &[("cookie", "a"), ("x", "y"), ("cookie", "b")]),
                Body::empty(),
                "GET / HTTP/1.1\r\ncookie: a\r\ncookie: b\r\nx: y\r\nhost: h\r\n\r\n",
                Framing::Empty,
            ),
        ];
        let host = HeaderValue::from_static("h");
        for (parts, body, text, framing) in table {
            let mut out = Vec::new();
            assert_eq!(head(&mut out, &parts, b"", &body, &host), framing, "{text}");
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn only_announced_and_harmless_trailers_go() {
        let head = parts(
            "POST",
            "/",
            &[("trailer", "X-Sum, host"), ("trailer", "x-b")],
        );
        let names = announced(&head.headers);
        let mut trailers = HeaderMap::new();
        for name in ["x-sum", "host", "x-b", "x-other"] {
            trailers.insert(name, HeaderValue::from_static("1"));
        }
        let end = String::from_utf8(last_chunk(&trailers, &names)).unwrap();
        assert_eq!(end, "0\r\nx-sum: 1\r\nx-b: 1\r\n\r\n");
    }
}
