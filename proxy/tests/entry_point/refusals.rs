//! Requests that must be refused, as raw bytes.

use std::sync::atomic::Ordering::SeqCst;

use crate::client::{Client, edge, status};

/// Requests and the status that each must get.
const MALFORMED: &[(&str, u16)] = &[
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: \u{fc}.example\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
    ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", 400),
    ("GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /?q#f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET http://a/x#f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET http://a#f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\n X: y\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", 400),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/3.7\r\nHost: a\r\n\r\n", 400),
    ("GET /\r\n\r\n", 400),
    ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        501,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        501,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        501,
    ),
    (
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: the-unexpected\r\n\r\n",
        417,
    ),
    ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501),
];

#[test]
fn malformed_requests_are_refused_and_the_connection_closes() {
    let edge = edge(|_| {});
    let long_name = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(2 << 20)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "x: y\r\n".repeat(200)
    );
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000));
    let long = [
        (long_name.as_str(), 431),
        (many.as_str(), 431),
        (long_target.as_str(), 414),
    ];
    let mut wrong = Vec::new();
    for (request, expected) in MALFORMED.iter().chain(&long) {
        let response = edge.ask(request);
        let shown = request.get(..80).unwrap_or(request);
        if status(&response) != *expected {
            wrong.push(format!("{shown:?}: {response}"));
            continue;
        }
        assert_eq!(
            response.matches("HTTP/1.").count(),
            1,
            "{shown:?}: {response}"
        );
        assert!(
            response.contains("connection: close"),
            "{shown:?}: {response}"
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(edge.toy.calls.load(SeqCst), 0);
    assert_eq!(status(&edge.ask("GET / HTTP/1.0\r\n\r\n")), 200);
}

#[test]
fn unusual_requests_are_served() {
    let edge = edge(|_| {});
    let rows = [
        ("GET /x HTTP/1.0\r\n\r\n", "GET /x host= "),
        (
            "GET http://a/x HTTP/1.1\r\nHost: A:80\r\nConnection: close\r\n\r\n",
            "GET /x host=a ",
        ),
        (
            "GET http://a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "GET / host=a ",
        ),
        (
            "TRACE /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "TRACE /x host=a ",
        ),
        (
            "get /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "get /x host=a ",
        ),
        (
            "\r\nGET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "GET /x host=a ",
        ),
        (
            "GET /x HTTP/1.1\nHost: a\nConnection: close\n\n",
            "GET /x host=a ",
        ),
    ];
    for (request, expected) in rows {
        let response = edge.ask(request);
        assert!(response.contains(expected), "{request:?}: {response}");
    }
    let response = edge.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&response), 200);
    assert!(response.ends_with("\r\n\r\n"), "{response}");
}

/// Both orders of the two framings are refused, and nothing on the connection is
/// taken for a second request.
#[test]
fn two_framings_never_get_through() {
    let edge = edge(|_| {});
    let rows = [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
    ];
    for framing in rows {
        let response = edge.ask(format!(
            "POST /x HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        assert_eq!(
            response.matches("HTTP/1.1 ").count(),
            1,
            "{framing}: {response}"
        );
        assert!(!response.contains("smuggled"), "{framing}: {response}");
        assert_eq!(status(&response), 400, "{framing}: {response}");
    }
    let response = edge.ask(
        "POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    );
    assert!(response.contains("x-length-0: 2"), "{response}");
    assert!(!response.contains("x-length-1"), "{response}");
}

#[test]
fn broken_bodies_never_look_whole() {
    let edge = edge(|_| {});
    let rows = [
        ("Content-Length: 10\r\n\r\nhello", true, 0),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", true, 0),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX", false, 400),
        ("Transfer-Encoding: chunked\r\n\r\nzz\r\n", false, 400),
        (
            "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            false,
            400,
        ),
        ("Content-Length: 5\r\n\r\nhello", false, 200),
        (
            "Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: t\r\n\r\n",
            false,
            200,
        ),
    ];
    for (rest, ends, expected) in rows {
        let mut client = edge.connect();
        client.send(format!(
            "POST /collect HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{rest}"
        ));
        if ends {
            client.finish();
        }
        let response = client.rest();
        assert!(
            !response.contains(" bytes") || expected == 200,
            "{rest:?}: {response}"
        );
        if expected != 0 {
            assert_eq!(status(&response), expected, "{rest:?}: {response}");
        }
    }
}

/// The client sends more than anybody wants and reads only afterwards.
#[test]
fn a_refusal_survives_a_body_that_nobody_reads() {
    let edge = edge(|_| {});
    for (host, expected) in [("Host: a\r\nHost: b", 400), ("Host: a", 200)] {
        let mut client = edge.connect();
        client.send(format!(
            "POST / HTTP/1.1\r\n{host}\r\nContent-Length: 400000\r\n\r\n"
        ));
        client.send(vec![b'x'; 400_000]);
        assert_eq!(status(&client.rest()), expected);
    }
}

#[test]
fn a_failed_response_is_cut() {
    let edge = edge(|_| {});
    let response = edge.ask("GET /broken HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!response.contains("\r\n0\r\n"), "{response}");
    let mut old: Client = edge.connect();
    old.send("GET /broken HTTP/1.0\r\n\r\n");
    let (text, error) = old.rest_and_error();
    assert!(error.is_some(), "an orderly end after {text:?}");
}

#[test]
fn a_panic_costs_one_request() {
    let edge = edge(|_| {});
    let mut client = edge.connect();
    client.send("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status(&client.until("\r\n\r\nInternal Server Error")), 500);
    client.send("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&client.rest()), 200);
    assert_eq!(edge.toy.panics.load(SeqCst), 1);
}
