//! Heads of responses, as they are written.

use super::*;

fn head(status: u16, headers: &[(&str, &str)]) -> Response<()> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap()
}

/// What is written but the date, and the framing.
fn written(head: &Response<()>, size: Size, terms: &Terms) -> (String, Encoded) {
    let mut out = Vec::new();
    let encoded = encode(&mut out, head, size, terms, Instant::now());
    let text = String::from_utf8(out).unwrap();
    let lines = text
        .split("\r\n")
        .filter(|line| !line.starts_with("date: "));
    (lines.collect::<Vec<_>>().join("|"), encoded)
}

const NEW: Terms = Terms {
    framing: super::super::head::Framing::None,
    is_head: false,
    is_http10: false,
    keeps_alive: true,
    awaits_continue: false,
    wants_upgrade: false,
    takes_trailers: false,
    is_ambiguous: false,
};
const HEAD: Terms = Terms {
    is_head: true,
    ..NEW
};
const OLD: Terms = Terms {
    is_http10: true,
    keeps_alive: false,
    ..NEW
};
const OLD_KEPT: Terms = Terms {
    is_http10: true,
    ..NEW
};
const LAST: Terms = Terms {
    keeps_alive: false,
    ..NEW
};

#[expect(clippy::too_many_lines, reason = "a table reads best in one piece")]
#[test]
fn framings_by_version_method_status_and_body() {
    use Size::{Known, Unknown};
    let chunked = || Shape::Chunked(Trailers::Announced(Vec::new()));
    let none = Size::None;
    let no = Shape::None;
    let until_close = Shape::UntilClose;
    let rows = [
        (
            NEW,
            200,
            Known(3),
            "HTTP/1.1 200 OK|content-length: 3||",
            Shape::Length(3),
            false,
        ),
        (
            NEW,
            200,
            none,
            "HTTP/1.1 200 OK|content-length: 0||",
            no.clone(),
            false,
        ),
        (
            NEW,
            200,
            Unknown,
            "HTTP/1.1 200 OK|transfer-encoding: chunked||",
            chunked(),
            false,
        ),
        (
            NEW,
            404,
            Known(3),
            "HTTP/1.1 404 Not Found|content-length: 3||",
            Shape::Length(3),
            false,
        ),
        (
            NEW,
            599,
            none,
            "HTTP/1.1 599 <none>|content-length: 0||",
            no.clone(),
            false,
        ),
        (
            NEW,
            204,
            none,
            "HTTP/1.1 204 No Content||",
            no.clone(),
            false,
        ),
        (
            NEW,
            204,
            Unknown,
            "HTTP/1.1 204 No Content||",
            no.clone(),
            false,
        ),
        (
            NEW,
            304,
            Known(3),
            "HTTP/1.1 304 Not Modified||",
            no.clone(),
            false,
        ),
        (
            NEW,
            101,
            none,
            "HTTP/1.1 101 Switching Protocols||",
            no.clone(),
            false,
        ),
        (
            HEAD,
            200,
            Known(3),
            "HTTP/1.1 200 OK|content-length: 3||",
            no.clone(),
            false,
        ),
        (HEAD, 200, Unknown, "HTTP/1.1 200 OK||", no.clone(), false),
        (HEAD, 200, none, "HTTP/1.1 200 OK||", no.clone(), false),
        (
            LAST,
            200,
            none,
            "HTTP/1.1 200 OK|connection: close|content-length: 0||",
            no.clone(),
            true,
        ),
        (
            LAST,
            200,
            Unknown,
            "HTTP/1.1 200 OK|connection: close|transfer-encoding: chunked||",
            chunked(),
            true,
        ),
        (
            OLD,
            200,
            Known(3),
            "HTTP/1.0 200 OK|content-length: 3||",
            Shape::Length(3),
            true,
        ),
        (
            OLD,
            200,
            Unknown,
            "HTTP/1.0 200 OK||",
            until_close.clone(),
            true,
        ),
        (
            OLD_KEPT,
            200,
            Known(3),
            "HTTP/1.0 200 OK|connection: keep-alive|content-length: 3||",
            Shape::Length(3),
            false,
        ),
        (
            OLD_KEPT,
            200,
            Unknown,
            "HTTP/1.0 200 OK||",
            until_close,
            true,
        ),
    ];
    for (terms, status, size, text, shape, is_last) in rows {
        let found = written(&head(status, &[]), size, &terms);
        let encoded = Encoded { shape, is_last };
        assert_eq!(found, (text.to_owned(), encoded), "{status} {size:?}");
    }
}

#[test]
fn only_our_framing_counts() {
    let length = ("content-length", "5");
    let rows = [
        (
            NEW,
            vec![length],
            Size::Unknown,
            "content-length: 5|",
            Shape::Length(5),
        ),
        (
            NEW,
            vec![length],
            Size::Known(5),
            "content-length: 5|",
            Shape::Length(5),
        ),
        (
            NEW,
            vec![length],
            Size::None,
            "content-length: 0|",
            Shape::None,
        ),
        (
            HEAD,
            vec![length],
            Size::None,
            "content-length: 5|",
            Shape::None,
        ),
        (
            NEW,
            vec![length, length],
            Size::Unknown,
            "content-length: 5|",
            Shape::Length(5),
        ),
        (
            NEW,
            vec![("transfer-encoding", "gzip"), ("content-length", "x")],
            Size::Unknown,
            "transfer-encoding: chunked|",
            Shape::Chunked(Trailers::Announced(Vec::new())),
        ),
    ];
    for (terms, headers, size, text, shape) in rows {
        let (found, encoded) = written(&head(200, &headers), size, &terms);
        assert_eq!(found, format!("HTTP/1.1 200 OK|{text}|"), "{headers:?}");
        assert_eq!(encoded.shape, shape, "{headers:?}");
    }
}

#[test]
fn order_and_connection_headers() {
    let headers = [("b", "1"), ("connection", "x"), ("a", "2"), ("b", "3")];
    let (found, _) = written(&head(200, &headers), Size::None, &NEW);
    assert_eq!(
        found,
        "HTTP/1.1 200 OK|b: 1|b: 3|a: 2|connection: x|content-length: 0||"
    );
    let (found, encoded) = written(&head(200, &[("connection", "Close")]), Size::None, &NEW);
    assert_eq!(
        found,
        "HTTP/1.1 200 OK|connection: Close|content-length: 0||"
    );
    assert!(encoded.is_last);
    let (found, _) = written(&head(200, &headers), Size::None, &LAST);
    assert!(found.contains("|connection: x, close|"), "{found}");
    let dated = head(200, &[("date", "then")]);
    let mut out = Vec::new();
    encode(&mut out, &dated, Size::None, &NEW, Instant::now());
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.matches("date: ").count(), 1, "{text}");
}

#[test]
fn trailers_that_may_be_sent() {
    let mut trailers = HeaderMap::new();
    for name in ["x-sum", "x-other", "content-length", "set-cookie"] {
        trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
    }
    let announced = head(200, &[("trailer", "X-Sum, content-length")]);
    let (found, encoded) = written(&announced, Size::Unknown, &NEW);
    assert!(
        found.contains("|trailer: x-sum, content-length|"),
        "{found}"
    );
    let asking = Terms {
        takes_trailers: true,
        ..NEW
    };
    let (_, all) = written(&head(200, &[]), Size::Unknown, &asking);
    for (shape, expected) in [
        (encoded.shape, "x-sum: 1\r\n"),
        (all.shape, "x-sum: 1\r\nx-other: 1\r\n"),
    ] {
        let Shape::Chunked(wanted) = shape else {
            panic!("{shape:?}");
        };
        let mut out = Vec::new();
        wanted.write(&mut out, &trailers);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn sizes_in_both_bases() {
    for number in [0, 1, 9, 10, 15, 16, 255, 4096, 65_535, usize::MAX] {
        let (mut hexadecimal, mut digits) = (Vec::new(), Vec::new());
        chunk_size(&mut hexadecimal, number);
        decimal(&mut digits, number as u64);
        assert_eq!(hexadecimal, format!("{number:X}\r\n").into_bytes());
        assert_eq!(digits, number.to_string().into_bytes());
    }
}
