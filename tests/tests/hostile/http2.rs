//! The same harm over HTTP/2, where a server behind speaks HTTP/1.1: what is
//! plain data in a frame could be framing on the other side.

use std::fmt::Write as _;

use scenarios::eventually;
use scenarios::raw::{Broken, PATIENCE, Scripted, Seen, exchange};
use scenarios::site::{Routes, Site};

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, RST_STREAM, Wire, block, frame,
};

/// What must become of a request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// No 2xx answer, and the server hears nothing whole.
    Refused,
    /// Passed on as one request with this body.
    Served(&'static str),
    /// Reset, whether the server heard a request with this body or none.
    ResetAfter(&'static str),
    /// Refused or served.
    RefusedOr(&'static str),
}

type Pairs = Vec<(&'static str, &'static str)>;
type Case = (&'static str, Pairs, Option<&'static str>, Fate);

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "a.test"),
    (":path", "/case"),
];

fn get(more: &[(&'static str, &'static str)]) -> Pairs {
    GET.iter().chain(more).copied().collect()
}

/// [`GET`] with one pseudo-header replaced, or left out if the value is `-`.
fn other(name: &'static str, value: &'static str) -> Pairs {
    let replaced = GET.map(|pair| if pair.0 == name { (name, value) } else { pair });
    replaced.into_iter().filter(|pair| pair.1 != "-").collect()
}

fn post(more: &[(&'static str, &'static str)]) -> Pairs {
    other(":method", "POST")
        .iter()
        .chain(more)
        .copied()
        .collect()
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[expect(clippy::too_many_lines, reason = "a table reads best in one piece")]
fn headers() -> Vec<Case> {
    use Fate::{Refused, RefusedOr, Served};
    let with = |name, value| get(&[(name, value)]);
    vec![
        ("a plain GET", get(&[]), None, Served("")),
        (
            "connection: close",
            with("connection", "close"),
            None,
            Refused,
        ),
        (
            "connection: keep-alive",
            with("connection", "keep-alive"),
            None,
            Refused,
        ),
        ("keep-alive", with("keep-alive", "5"), None, Refused),
        (
            "proxy-connection",
            with("proxy-connection", "x"),
            None,
            Refused,
        ),
        ("upgrade", with("upgrade", "h2c"), None, Refused),
        (
            "transfer-encoding",
            post(&[("transfer-encoding", "chunked")]),
            Some("0\r\n\r\n"),
            Refused,
        ),
        ("te: trailers", with("te", "trailers"), None, Served("")),
        ("te: gzip", with("te", "gzip"), None, Refused),
        ("an upper-case name", with("X-Upper", "a"), None, Refused),
        (
            "an upper-case framing name",
            post(&[("Transfer-Encoding", "chunked")]),
            Some("0\r\n\r\n"),
            Refused,
        ),
        ("a name with a space", with("x y", "a"), None, Refused),
        ("a name with a colon", with("x:y", "a"), None, Refused),
        ("a name with CR LF", with("x\r\ny", "a"), None, Refused),
        (
            "a header in a name",
            with("x: a\r\ncontent-length", "5"),
            None,
            Refused,
        ),
        ("an empty name", with("", "a"), None, Refused),
        ("a name with a NUL", with("x\0", "a"), None, Refused),
        (
            "a value with CR LF",
            with("x", "a\r\ncontent-length: 5"),
            None,
            Refused,
        ),
        (
            "a value with a request",
            with("x", "a\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a"),
            None,
            Refused,
        ),
        ("a value with LF", with("x", "a\nb"), None, Refused),
        ("a value with CR", with("x", "a\rb"), None, Refused),
        ("a value with NUL", with("x", "a\0b"), None, Refused),
        ("a value with a bell", with("x", "a\u{7}b"), None, Refused),
        (
            "a value with spaces around",
            with("x", " a "),
            None,
            RefusedOr(""),
        ),
        ("an unknown pseudo-header", with(":x", "a"), None, Refused),
        (
            "a status in a request",
            with(":status", "200"),
            None,
            Refused,
        ),
        (
            "a pseudo-header after a header",
            get(&[("x", "a"), (":path", "/evil")]),
            None,
            Refused,
        ),
        ("two paths", with(":path", "/evil"), None, Refused),
        ("two methods", with(":method", "PUT"), None, Refused),
        (
            "two authorities",
            with(":authority", "b.test"),
            None,
            Refused,
        ),
        ("a protocol", with(":protocol", "websocket"), None, Refused),
        (
            "crumbs of a cookie",
            get(&[("cookie", "a=1"), ("cookie", "b=2")]),
            None,
            Served(""),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table reads best in one piece")]
fn targets() -> Vec<Case> {
    use Fate::{Refused, RefusedOr, Served};
    vec![
        ("no method", other(":method", "-"), None, Refused),
        ("no path", other(":path", "-"), None, Refused),
        ("no scheme", other(":scheme", "-"), None, Refused),
        (
            "no authority",
            other(":authority", "-"),
            None,
            RefusedOr(""),
        ),
        (
            "host instead",
            other(":authority", "-")
                .into_iter()
                .chain([("host", "a.test")])
                .collect(),
            None,
            Served(""),
        ),
        (
            "the same host",
            get(&[("host", "a.test")]),
            None,
            RefusedOr(""),
        ),
        ("another host", get(&[("host", "b.test")]), None, Refused),
        (
            "two hosts",
            get(&[("host", "a.test"), ("host", "a.test")]),
            None,
            Refused,
        ),
        (
            "an empty authority",
            other(":authority", ""),
            None,
            RefusedOr(""),
        ),
        (
            "an authority with a user",
            other(":authority", "root@a.test"),
            None,
            Refused,
        ),
        (
            "an authority with a path",
            other(":authority", "a.test/evil"),
            None,
            Refused,
        ),
        (
            "an authority with a space",
            other(":authority", "a.test evil"),
            None,
            Refused,
        ),
        (
            "an authority with CR LF",
            other(":authority", "a.test\r\nx: y"),
            None,
            Refused,
        ),
        (
            "a port out of range",
            other(":authority", "a.test:99999"),
            None,
            Refused,
        ),
        ("an empty path", other(":path", ""), None, Refused),
        (
            "a path without a slash",
            other(":path", "case"),
            None,
            Refused,
        ),
        (
            "a path with a space",
            other(":path", "/case HTTP/1.1"),
            None,
            Refused,
        ),
        (
            "a request in a path",
            other(":path", "/case HTTP/1.1\r\nhost: a\r\n\r\nGET /smuggled"),
            None,
            Refused,
        ),
        (
            "a fragment",
            other(":path", "/case#part"),
            None,
            RefusedOr(""),
        ),
        (
            "a whole URL",
            other(":path", "http://b.test/case"),
            None,
            Refused,
        ),
        (
            "a method with a space",
            other(":method", "GET /smuggled HTTP/1.1\r\nx:"),
            None,
            Refused,
        ),
        ("an empty method", other(":method", ""), None, Refused),
        (
            "CONNECT",
            vec![(":method", "CONNECT"), (":authority", "a.test:80")],
            None,
            Refused,
        ),
        (
            "a scheme with CR LF",
            other(":scheme", "http\r\nx: y"),
            None,
            Refused,
        ),
        (
            "a scheme of its own",
            other(":scheme", "gopher"),
            None,
            RefusedOr(""),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table reads best in one piece")]
fn lengths() -> Vec<Case> {
    use Fate::{Refused, Served};
    let length = |value| post(&[("content-length", value)]);
    vec![
        (
            "the length that it is",
            length("5"),
            Some("hello"),
            Served("hello"),
        ),
        ("no length", post(&[]), Some("hello"), Served("hello")),
        (
            "longer than its length",
            length("2"),
            Some("hello"),
            Refused,
        ),
        (
            "shorter than its length",
            length("9"),
            Some("hello"),
            Refused,
        ),
        (
            "a request behind length 0",
            length("0"),
            Some(SMUGGLED),
            Fate::ResetAfter(""),
        ),
        ("a length and no body", length("5"), None, Refused),
        ("a length with a plus", length("+5"), Some("hello"), Refused),
        ("a negative length", length("-5"), Some("hello"), Refused),
        (
            "a list of lengths",
            length("5, 5"),
            Some("hello"),
            Fate::RefusedOr("hello"),
        ),
        (
            "two lengths",
            post(&[("content-length", "5"), ("content-length", "6")]),
            Some("hello"),
            Refused,
        ),
        (
            "the same length twice",
            post(&[("content-length", "5"), ("content-length", "5")]),
            Some("hello"),
            Fate::RefusedOr("hello"),
        ),
        ("an empty length", length(""), Some("hello"), Refused),
        (
            "a length that wraps",
            length("18446744073709551621"),
            Some("hello"),
            Refused,
        ),
        (
            "a request as body",
            post(&[]),
            Some(SMUGGLED),
            Served(SMUGGLED),
        ),
        (
            "chunks as body",
            post(&[]),
            Some("0\r\n\r\n"),
            Served("0\r\n\r\n"),
        ),
    ]
}

async fn send(site: &Site, pairs: &Pairs, body: Option<&str>) -> Result<Outcome, String> {
    let mut wire = Wire::open(site.web)
        .await
        .map_err(|error| error.to_string())?;
    let end = if body.is_none() { END_STREAM } else { 0 };
    let _ = wire
        .send(HEADERS, END_HEADERS | end, 1, &block(pairs))
        .await;
    if let Some(body) = body {
        let _ = wire.send(DATA, END_STREAM, 1, body.as_bytes()).await;
    }
    wire.outcome(1).await
}

fn judge_one(fate: Fate, outcome: &Outcome, seen: &[Seen]) -> Result<(), String> {
    let is_ok = outcome.status.is_some_and(|status| status < 300);
    let is_whole = |seen: &&Seen| !matches!(seen.request, Err(Broken::Cut(_)));
    let whole: Vec<_> = seen.iter().filter(is_whole).collect();
    let refused = !is_ok && whole.is_empty();
    let heard = |body: &str| match whole.as_slice() {
        [
            Seen {
                request: Ok(request),
                ..
            },
        ] => {
            request.body == body.as_bytes()
                && request.trailers.is_empty()
                && request.all("host").len() == 1
                && request.all("cookie").len() <= 1
        }
        _ => false,
    };
    let served = |body| outcome.status == Some(200) && outcome.is_whole && heard(body);
    let is_right = match fate {
        Fate::Refused => refused,
        Fate::ResetAfter(body) => outcome.reset.is_some() && (refused || heard(body)),
        Fate::Served(body) => served(body),
        Fate::RefusedOr(body) => refused || served(body),
    };
    if is_right {
        Ok(())
    } else {
        Err(format!("{fate:?}: {outcome:?}, the server saw {seen:?}"))
    }
}

async fn judge(cases: Vec<Case>) {
    let server = Scripted::obliging().await.unwrap();
    let site = Site::start(&Routes::all_to(&[server.address()]), &[])
        .await
        .unwrap();
    let mut failures = String::new();
    for (name, pairs, body, fate) in &cases {
        let found = match send(&site, pairs, *body).await {
            Ok(outcome) => {
                let barrier = "GET /barrier HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
                exchange(site.web, barrier).await.unwrap();
                let mut seen = server.take();
                let is_barrier =
                    |seen: &Seen| matches!(&seen.request, Ok(r) if r.target() == "/barrier");
                seen.retain(|seen| !is_barrier(seen));
                judge_one(*fate, &outcome, &seen)
            }
            Err(error) => Err(error),
        };
        if let Err(what) = found {
            let _ = writeln!(failures, "- {name}: {what}");
        }
    }
    assert!(failures.is_empty(), "{} cases:\n{failures}", cases.len());
    assert!(site.serves().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_http1_would_read_differently_reach_nobody() {
    judge(headers()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_target_reaches_nobody() {
    judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_lies_reaches_nobody() {
    judge(lengths()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_change_nothing() {
    let server = Scripted::obliging().await.unwrap();
    let site = Site::start(&Routes::all_to(&[server.address()]), &[])
        .await
        .unwrap();
    let trailers: [&[(&str, &str)]; 5] = [
        &[("x-sum", "1")],
        &[("content-length", "9")],
        &[("transfer-encoding", "chunked")],
        &[("x-forwarded-for", "6.6.6.6"), ("host", "evil.test")],
        &[(":path", "/evil")],
    ];
    for trailers in trailers {
        let mut wire = Wire::open(site.web).await.unwrap();
        wire.send(HEADERS, END_HEADERS, 1, &block(&post(&[])))
            .await
            .unwrap();
        wire.send(DATA, 0, 1, b"hello").await.unwrap();
        let _ = wire
            .send(HEADERS, END_HEADERS | END_STREAM, 1, &block(trailers))
            .await;
        wire.outcome(1).await.unwrap();
        exchange(site.web, "GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        for seen in server.take() {
            let Ok(request) = seen.request else { continue };
            let harm = request.trailers.iter().find(|(name, _)| {
                [
                    "content-length",
                    "transfer-encoding",
                    "x-forwarded-for",
                    "host",
                    ":path",
                ]
                .contains(&name.as_str())
            });
            assert_eq!(harm, None, "{trailers:?}: {request:?}");
            assert_eq!(
                request.only("host").map(|host| host.starts_with('a')),
                Some(true)
            );
        }
    }
    assert!(site.serves().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_frames_ends_its_own_connection() {
    let server = Scripted::obliging().await.unwrap();
    let site = Site::start(&Routes::all_to(&[server.address()]), &[])
        .await
        .unwrap();
    let get = block(&get(&[]));
    let header = block(&[(
        "x-flood",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    )]);
    let resets = (0..20_000).flat_map(|n| {
        let stream = n * 2 + 1;
        let mut both = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get);
        both.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        both
    });
    let continuations = (0..100_000).map(|_| frame(CONTINUATION, 0, 1, &header));
    let floods: [(&str, Vec<u8>); 4] = [
        ("requests that are reset at once", resets.collect()),
        (
            "one head without end",
            frame(HEADERS, END_STREAM, 1, &get)
                .into_iter()
                .chain(continuations.flatten())
                .collect(),
        ),
        (
            "one head of empty pieces",
            frame(HEADERS, END_STREAM, 1, &get)
                .into_iter()
                .chain(frame(CONTINUATION, 0, 1, b"").repeat(200_000))
                .collect(),
        ),
        (
            "empty data",
            frame(HEADERS, END_HEADERS, 1, &block(&post(&[])))
                .into_iter()
                .chain(frame(DATA, 0, 1, b"").repeat(200_000))
                .collect(),
        ),
    ];
    let before = site.proxy.memory().unwrap();
    for (name, bytes) in floods {
        let mut wire = Wire::open(site.web).await.unwrap();
        let flood = tokio::time::timeout(PATIENCE, wire.send_raw(&bytes));
        // Not taking any more of it is an answer too.
        let taken = flood.await.expect("a flood is taken or cut");
        println!("{name}: {taken:?}");
        assert!(site.serves().await, "{name}");
        drop(wire);
    }
    let grown = || async { site.proxy.memory().unwrap().saturating_sub(before) < 32 * 1024 * 1024 };
    eventually(PATIENCE, grown)
        .await
        .expect("memory stays bounded");
}
