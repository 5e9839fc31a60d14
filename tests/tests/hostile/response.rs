//! Servers that answer wrongly, partly, without end or out of turn. A client
//! never gets an answer that looks whole and is not, in HTTP/1.1 or HTTP/2.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use scenarios::raw::{Broken, PATIENCE, Peer, Scripted, Talk, exchange};
use scenarios::site::{Routes, Site};
use tokio::net::TcpStream;

/// What a client may make of an answer.
#[derive(Clone, Copy, Debug)]
enum View {
    /// An error of the proxy's own.
    Error,
    /// Cut, or an error of the proxy's own.
    NotWhole,
    /// This body with status 200.
    Whole(&'static str),
    /// This body, or an error of the proxy's own.
    WholeOrError(&'static str),
}

/// What the server does when it has said its piece.
#[derive(Clone, Copy, Debug)]
enum Then {
    Close,
    Reset,
    /// Waits for another request, and says the same again.
    Linger,
    /// Says the last piece again until nobody listens.
    Repeat(&'static str),
}

type Case = (&'static str, String, Then, View);

/// What one client got: a status and a body, or nothing whole.
type Got = Result<(u16, Vec<u8>), String>;

fn ok(headers: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}")
}

#[expect(clippy::too_many_lines, reason = "a table reads best in one piece")]
fn broken_framings() -> Vec<Case> {
    use Then::{Close, Linger, Reset};
    use View::{Error, NotWhole, Whole, WholeOrError};
    let chunked = |body: &str| ok("Transfer-Encoding: chunked\r\n", body);
    vec![
        (
            "whole",
            ok("Content-Length: 5\r\n", "hello"),
            Linger,
            Whole("hello"),
        ),
        ("to the end", ok("", "hello"), Close, Whole("hello")),
        ("to a reset", ok("", "hello"), Reset, NotWhole),
        ("closed at once", String::new(), Close, Error),
        ("reset at once", String::new(), Reset, Error),
        (
            "half a head",
            "HTTP/1.1 200 OK\r\nContent-Le".to_owned(),
            Close,
            Error,
        ),
        (
            "shorter than its length",
            ok("Content-Length: 50\r\n", "hello"),
            Close,
            NotWhole,
        ),
        (
            "reset before its length",
            ok("Content-Length: 50\r\n", "hello"),
            Reset,
            NotWhole,
        ),
        (
            "nothing of its length",
            ok("Content-Length: 50\r\n", ""),
            Close,
            NotWhole,
        ),
        (
            "chunks without an end",
            chunked("5\r\nhello\r\n"),
            Close,
            NotWhole,
        ),
        (
            "chunks to a reset",
            chunked("5\r\nhello\r\n"),
            Reset,
            NotWhole,
        ),
        ("half a chunk", chunked("50\r\nhello"), Close, NotWhole),
        (
            "half the last chunk",
            chunked("5\r\nhello\r\n0\r\n"),
            Close,
            NotWhole,
        ),
        (
            "a chunk size that is none",
            chunked("5\r\nhello\r\nxyz\r\n"),
            Linger,
            NotWhole,
        ),
        (
            "an overflowing chunk size",
            chunked("5\r\nhello\r\nFFFFFFFFFFFFFFFFF\r\n"),
            Linger,
            NotWhole,
        ),
        (
            "a chunk without its end",
            chunked("5\r\nhelloX0\r\n\r\n"),
            Linger,
            NotWhole,
        ),
        (
            "chunked and a length",
            ok(
                "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
            Close,
            WholeOrError("hello"),
        ),
        (
            "a length and chunked",
            ok(
                "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
            Close,
            WholeOrError("hello"),
        ),
        (
            "two lengths",
            ok("Content-Length: 5\r\nContent-Length: 2\r\n", "hello"),
            Close,
            Error,
        ),
        (
            "a list of lengths",
            ok("Content-Length: 5, 2\r\n", "hello"),
            Close,
            Error,
        ),
        (
            "the same length twice",
            ok("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
            Close,
            WholeOrError("hello"),
        ),
        (
            "a negative length",
            ok("Content-Length: -5\r\n", "hello"),
            Close,
            Error,
        ),
        (
            "a length with a plus",
            ok("Content-Length: +5\r\n", "hello"),
            Close,
            Error,
        ),
        (
            "a broken length",
            ok("Content-Length: five\r\n", "hello"),
            Close,
            Error,
        ),
        (
            "chunked, then gzip",
            ok(
                "Transfer-Encoding: chunked, gzip\r\n",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
            Close,
            NotWhole,
        ),
        (
            "xchunked",
            ok("Transfer-Encoding: xchunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            Close,
            NotWhole,
        ),
        (
            "a second answer behind",
            format!(
                "{}{}",
                ok("Content-Length: 5\r\n", "hello"),
                ok("Content-Length: 6\r\n", "POISON")
            ),
            Linger,
            Whole("hello"),
        ),
    ]
}

fn broken_heads() -> Vec<Case> {
    use Then::{Close, Linger, Repeat};
    use View::{Error, WholeOrError};
    let header = |line: &str| ok(&format!("Content-Length: 5\r\n{line}\r\n"), "hello");
    vec![
        ("no HTTP", "HELO mail.test\r\n\r\n".to_owned(), Close, Error),
        ("bytes", "\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{50}".to_owned(), Close, Error),
        ("HTTP/2", "\0\0\0\u{4}\0\0\0\0\0".to_owned(), Close, Error),
        ("HTTP/0.9", "<html>hello</html>".to_owned(), Close, Error),
        ("another version", "HTTP/3.7 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(), Close, Error),
        ("a status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(), Close, Error),
        ("a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(), Close, Error),
        ("a status with a minus", "HTTP/1.1 -20 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(), Close, Error),
        ("a NUL in a value", header("X: a\0b"), Linger, Error),
        ("a header behind a bare CR", header("X: a\rSet-Cookie: evil=1"), Linger, Error),
        ("a bare CR before the end", header("X: a\r\r\nSet-Cookie: evil=1"), Linger, Error),
        ("a folded header", header("X: a\r\n Set-Cookie: b"), Linger, WholeOrError("hello")),
        ("a space before a colon", header("X : a"), Linger, WholeOrError("hello")),
        ("a length with a space before its colon", ok("Content-Length : 5\r\n", "hello"), Close, Error),
        ("a space in a name", header("X Y: a"), Linger, Error),
        ("no colon", header("nonsense"), Linger, Error),
        ("bare LFs", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello".to_owned(), Linger, WholeOrError("hello")),
        ("an unasked switch", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello".to_owned(), Linger, Error),
        ("an unasked switch to nothing", "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(), Linger, Error),
        ("a flood of headers", header(&"X: aaaaaaaaaaaaaaaa\r\n".repeat(20_000)), Linger, Error),
        ("a header without end", "HTTP/1.1 200 OK\r\nX: ".to_owned(), Repeat("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), Error),
        ("headers without end", "HTTP/1.1 200 OK\r\n".to_owned(), Repeat("X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"), Error),
        ("chunk extensions without end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;".to_owned(), Repeat("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), View::NotWhole),
        ("trailers without end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n".to_owned(), Repeat("X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"), View::NotWhole),
        ("ten thousand early hints", format!("{}{}", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(10_000), header("X: a")), Linger, WholeOrError("hello")),
        ("a hint, then the answer", format!("HTTP/1.1 100 Continue\r\n\r\n{}", header("X: a")), Linger, View::Whole("hello")),
    ]
}

async fn play(mut peer: Peer, text: String, then: Then) {
    let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap()).collect();
    while peer.request().await.is_some() {
        let _ = peer.say(&bytes).await;
        match then {
            Then::Linger => {}
            Then::Close => return,
            Then::Reset => {
                // What was said shall be read before the reset takes it away.
                tokio::time::sleep(Duration::from_millis(50)).await;
                return peer.reset();
            }
            Then::Repeat(piece) => while peer.say(piece.repeat(64)).await {},
        }
    }
}

async fn over_h1(site: &Site, host: &str) -> Got {
    let request = format!("GET /case HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let mut talk = Talk::open(site.web).await.unwrap();
    talk.say(request).await.unwrap();
    match talk.final_response().await {
        Ok(answer) if answer.all("set-cookie").is_empty() => Ok((answer.status(), answer.body)),
        Ok(answer) => Ok((0, format!("{answer:?}").into_bytes())),
        Err(Broken::Silence) => Ok((0, b"silence".to_vec())),
        Err(Broken::Malformed(what)) => Ok((0, what.into_bytes())),
        Err(broken) => Err(broken.to_string()),
    }
}

async fn over_h2(site: &Site, host: &str) -> Got {
    let stream = TcpStream::connect(site.web).await.unwrap();
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let uri = format!("http://{host}/case");
    let request = http::Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
    let exchange = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        Ok((status, body.to_bytes().to_vec()))
    };
    let got = tokio::time::timeout(PATIENCE, exchange).await;
    connection.abort();
    got.unwrap_or_else(|_| Ok((0, b"silence".to_vec())))
}

fn verdict(view: View, got: &Got) -> bool {
    let is_error = matches!(got, Ok((500 | 502 | 504, _)));
    let is_whole = |body: &str| matches!(got, Ok((200, got)) if got == body.as_bytes());
    match view {
        View::Error => is_error,
        View::NotWhole => is_error || got.is_err(),
        View::Whole(body) => is_whole(body),
        View::WholeOrError(body) => is_error || is_whole(body),
    }
}

async fn judge(cases: Vec<Case>) {
    let mut servers = Vec::new();
    let mut routes = Routes::default();
    for (index, (_, text, then, _)) in cases.iter().enumerate() {
        let (text, then) = (text.clone(), *then);
        let server = Scripted::start(move |peer| play(peer, text.clone(), then))
            .await
            .unwrap();
        let url = format!("{{url: \"http://{}\"}}", server.address());
        routes = routes.route(
            &format!("s{index}"),
            &format!("Host(`s{index}.test`)"),
            &url,
            "",
        );
        servers.push(server);
    }
    let good = Scripted::obliging().await.unwrap();
    let url = format!("{{url: \"http://{}\"}}", good.address());
    let site = Site::start(&routes.route("good", "Host(`good.test`)", &url, ""), &[])
        .await
        .unwrap();
    let before = site.descriptors().unwrap();
    let mut failures = String::new();
    for (index, (name, _, _, view)) in cases.iter().enumerate() {
        let host = format!("s{index}.test");
        // Twice each: a connection that went wrong must not serve the second.
        for (protocol, got) in [
            ("h1", over_h1(&site, &host).await),
            ("h1", over_h1(&site, &host).await),
            ("h2", over_h2(&site, &host).await),
            ("h2", over_h2(&site, &host).await),
        ] {
            if !verdict(*view, &got) {
                let got =
                    got.map(|(status, body)| (status, String::from_utf8_lossy(&body).into_owned()));
                let _ = writeln!(
                    failures,
                    "- {name} over {protocol}: {view:?} expected, got {got:?}"
                );
            }
        }
        let still = exchange(
            site.web,
            "GET / HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\n\r\n",
        )
        .await;
        if !still.is_ok_and(|answer| answer.status() == 200) {
            let _ = writeln!(failures, "- {name}: no longer serves");
        }
    }
    assert!(failures.is_empty(), "{} cases:\n{failures}", cases.len());
    drop(servers);
    super::crowd::settles(&site, before + 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_never_looks_whole() {
    judge(broken_framings()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_none_is_an_error() {
    judge(broken_heads()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_an_answer_reaches_nobody() {
    let answers: [(&str, &str, &[u8]); 4] = [
        ("GET", "200", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"),
        ("HEAD", "200", b"HTTP/1.1 200 OK\r\nContent-Length: 55\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"),
        ("GET", "304", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 55\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"),
        ("GET", "204", b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"),
    ];
    for (method, status, answer) in answers {
        let server = Scripted::start(move |mut peer| async move {
            while peer.request().await.is_some() {
                if !peer.say(answer).await {
                    return;
                }
            }
        });
        let server = server.await.unwrap();
        let site = Site::start(&Routes::all_to(&[server.address()]), &[])
            .await
            .unwrap();
        for _ in 0..50 {
            let mut talk = Talk::open(site.web).await.unwrap();
            let request =
                format!("{method} / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
            talk.say(request).await.unwrap();
            let all = talk.reader().rest().await.unwrap();
            let all = String::from_utf8_lossy(&all).into_owned();
            assert!(
                all.starts_with(&format!("HTTP/1.1 {status}")),
                "{method} {status}: {all}"
            );
            assert!(!all.contains("POISON"), "{method} {status}: {all}");
        }
    }
}

/// The server answers the head and never reads the body.
#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_frees_the_client_and_ends_the_connection() {
    let server = Scripted::start(|mut peer| async move {
        while let Some(head) = peer.request_head().await {
            let body = if head.start.starts_with("GET") {
                "get"
            } else {
                "no!"
            };
            let answer =
                format!("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\n{body}");
            if !peer.say(answer).await {
                return;
            }
        }
    });
    let server = server.await.unwrap();
    let site = Site::start(&Routes::all_to(&[server.address()]), &[])
        .await
        .unwrap();
    let framings = [
        "Content-Length: 10485760\r\n",
        "Transfer-Encoding: chunked\r\n",
    ];
    for framing in framings {
        for _ in 0..20 {
            let mut talk = Talk::open(site.web).await.unwrap();
            let head = format!("POST / HTTP/1.1\r\nHost: a.test\r\n{framing}\r\n");
            talk.say(head).await.unwrap();
            if framing.starts_with('T') {
                talk.say("10000\r\n").await.unwrap();
            }
            // Looks like a request to a server that takes the connection up again.
            talk.say("GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n".repeat(20))
                .await
                .unwrap();
            let answer = talk.final_response().await.unwrap();
            assert_eq!(
                (answer.status(), answer.body.as_slice()),
                (413, b"no!".as_slice())
            );
            let next = exchange(site.web, "GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n")
                .await
                .unwrap();
            assert_eq!(next.body, b"get");
        }
    }
    // This server takes bodies for requests: nobody else's may follow on such a connection.
    let mut spoiled = HashSet::new();
    for seen in server.take() {
        let Ok(head) = seen.request else { continue };
        match head.target() {
            "/" => assert!(spoiled.insert(seen.connection), "a body follows a body"),
            "/next" => assert!(
                !spoiled.contains(&seen.connection),
                "a request follows a body"
            ),
            _ => {}
        }
    }
    assert_eq!(spoiled.len(), 40);
    assert!(site.serves().await);
}
