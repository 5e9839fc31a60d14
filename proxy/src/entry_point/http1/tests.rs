//! Whole connections in memory: what goes in as bytes, and what comes out.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::http::{HeaderMap, Response as HttpResponse};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::super::roster::Roster;
use super::*;
use crate::http::testing::connection;
use crate::http::{BodyError, HttpService, ProxyError};

mod differ;
mod life;

const SECOND: Duration = Duration::from_secs(1);
const GET: &str = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

type Answering = Box<dyn Fn(Request) -> ResponseFuture<'static> + Send + Sync>;

/// Answers as it is told.
struct Told(Answering);

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

impl HttpService for Told {
    fn call<'a>(&'a self, request: Request) -> ResponseFuture<'a> {
        (self.0)(request)
    }
}

fn told<F, R>(answer: F) -> SharedService
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = Response> + 'static,
{
    Arc::new(Told(Box::new(move |request| Box::pin(answer(request)))))
}

/// Says what it was sent: method, target, body, trailers, or how the body failed.
fn echo() -> SharedService {
    told(|request| async move {
        let head = format!("{} {}", request.head.method, request.head.uri);
        let text = match request.body.collect().await {
            Ok(body) => {
                let trailers = body.trailers().map_or(0, HeaderMap::len);
                let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                format!("{head} [{body}] {trailers}\n")
            }
            Err(error) => match error.downcast::<ProxyError>() {
                Ok(error) => format!("{head} {:?}\n", error.kind),
                Err(other) => format!("{head} {other}\n"),
            },
        };
        HttpResponse::new(Body::full(text))
    })
}

/// Never looks at bodies.
fn curt() -> SharedService {
    told(|_| async { HttpResponse::new(Body::full("curt\n")) })
}

fn stuck() -> SharedService {
    told(|_| std::future::pending())
}

const RULES: Rules = Rules {
    limits: Limits {
        read: None,
        write: None,
        idle: None,
    },
    max_head: 8192,
    max_requests: 0,
    max_age: None,
};

fn door(service: SharedService, rules: Rules, events: Arc<dyn ConnectionEvents>) -> Door {
    Door {
        rules,
        service,
        events,
        connection: Rc::new(connection("192.0.2.7:1234")),
        opened: Instant::now(),
    }
}

/// A connection whose other end is the returned stream.
fn open(
    service: SharedService,
    rules: Rules,
    roster: &Rc<Roster>,
    room: usize,
) -> (impl Future<Output = ()> + use<>, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(room);
    let events: Arc<dyn ConnectionEvents> = Arc::new(());
    let token = TaskTracker::new().token();
    let open = Open::new(Arc::clone(&events), token);
    let door = door(service, rules, events);
    let served = run(door, Socket::Memory(ours), open, Watch::new(roster.join()));
    (served, theirs)
}

/// All that a client hears that says `pieces` and then waits for the end.
async fn talk_by(service: SharedService, rules: Rules, pieces: &[&[u8]]) -> String {
    let (served, mut client) = open(service, rules, &Rc::default(), 64 * 1024);
    let speak = async {
        for piece in pieces {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        String::from_utf8(heard).unwrap()
    };
    let both = async { tokio::join!(served, speak).1 };
    timeout(60 * SECOND, both)
        .await
        .expect("the connection ends")
}

async fn talk(service: SharedService, text: &str) -> String {
    talk_by(service, RULES, &[text.as_bytes()]).await
}

/// Statuses and bodies of what was heard, without the rest.
fn gist(heard: &str) -> String {
    let is_head = |line: &&str| line.contains(": ") || line.trim().is_empty();
    let lines = heard.split_inclusive('\n').filter(|line| !is_head(line));
    lines.map(|line| line.replace("\r\n", "\n")).collect()
}

const ROUND: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n\
    POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world\
    \r\nPUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nX-T: 1\r\n\r\n\
    GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn requests_are_the_same_however_they_are_cut() {
    let whole = gist(&talk(echo(), ROUND).await);
    assert_eq!(
        whole,
        "HTTP/1.1 200 OK\nGET /a [] 0\nHTTP/1.1 200 OK\nPOST /b [hello world] 0\n\
         HTTP/1.1 200 OK\nPUT /c [abcde] 1\nHTTP/1.1 200 OK\nGET /last [] 0\n"
    );
    for cut in 1..ROUND.len() {
        let (head, tail) = ROUND.as_bytes().split_at(cut);
        let heard = talk_by(echo(), RULES, &[head, tail]).await;
        assert_eq!(gist(&heard), whole, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = ROUND.as_bytes().chunks(1).collect();
    assert_eq!(gist(&talk_by(echo(), RULES, &bytes).await), whole);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_refused_and_ends_the_connection() {
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n{GET}", "x".repeat(9000));
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(30_000));
    let rows = [
        ("GARBAGE\r\n\r\n".to_owned(), "HTTP/1.1 400 Bad Request"),
        (
            "GET / HTTP/2.0\r\n\r\n".to_owned(),
            "HTTP/1.1 400 Bad Request",
        ),
        (long, "HTTP/1.1 431 Request Header Fields Too Large"),
        (endless, "HTTP/1.1 431 Request Header Fields Too Large"),
        (
            format!("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n{GET}"),
            "HTTP/1.1 400 Bad Request",
        ),
        (
            format!("GET / HTTP/1.1\r\n\r\n{GET}"),
            "HTTP/1.1 400 Bad Request",
        ),
        (
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{GET}"
            ),
            "HTTP/1.1 400 Bad Request",
        ),
    ];
    for (text, expected) in rows {
        for pieces in [vec![text.as_bytes()], text.as_bytes().chunks(7).collect()] {
            let heard = talk_by(echo(), RULES, &pieces).await;
            assert!(heard.starts_with(expected), "{text:.60}: {heard}");
            assert!(heard.contains("\r\nconnection: close\r\n"), "{heard}");
            assert_eq!(heard.matches("HTTP/1.1").count(), 1, "{text:.60}: {heard}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unread_body_is_passed_over_if_it_is_here() {
    let short = format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello{GET}");
    let heard = talk(curt(), &short).await;
    assert_eq!(
        gist(&heard),
        "HTTP/1.1 200 OK\ncurt\nHTTP/1.1 200 OK\ncurt\n"
    );
    let long = format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n{GET}");
    let heard = talk(curt(), &long).await;
    assert_eq!(gist(&heard), "HTTP/1.1 200 OK\ncurt\n");
}

#[tokio::test(start_paused = true)]
async fn a_malformed_body_is_an_error_and_the_end() {
    let rows = [
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX",
            "BadRequest",
        ),
        ("Transfer-Encoding: chunked\r\n\r\nxyz\r\n", "BadRequest"),
    ];
    for (rest, kind) in rows {
        let text = format!("POST /a HTTP/1.1\r\nHost: a\r\n{rest}{GET}");
        let heard = talk(echo(), &text).await;
        assert_eq!(gist(&heard), format!("HTTP/1.1 200 OK\nPOST /a {kind}\n"));
    }
}

async fn hear(client: &mut DuplexStream, expected: &str) {
    let mut heard = vec![0; expected.len()];
    let read = timeout(60 * SECOND, client.read_exact(&mut heard)).await;
    read.expect("an answer").unwrap();
    assert_eq!(String::from_utf8_lossy(&heard), expected);
}

#[tokio::test(start_paused = true)]
async fn continue_is_said_when_the_body_is_wanted() {
    const HEAD: &str = "POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let (served, mut client) = open(echo(), RULES, &Rc::default(), 4096);
    let speak = async {
        client.write_all(HEAD.as_bytes()).await.unwrap();
        hear(&mut client, "HTTP/1.1 100 Continue\r\n\r\n").await;
        client.write_all(b"hello").await.unwrap();
        hear(&mut client, "HTTP/1.1 200 OK\r\n").await;
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert!(rest.ends_with("POST /a [hello] 0\n"), "{rest}");
    };
    tokio::join!(served, speak);
    let heard = talk(curt(), HEAD).await;
    assert_eq!(gist(&heard), "HTTP/1.1 200 OK\ncurt\n");
    // Who does not wait needs not be told.
    let heard = talk(echo(), &format!("{HEAD}hello")).await;
    assert_eq!(gist(&heard), "HTTP/1.1 200 OK\nPOST /a [hello] 0\n");
}

/// Frames that are there at once, counted when they are taken.
struct Frames {
    left: VecDeque<Result<Bytes, &'static str>>,
    taken: Arc<AtomicUsize>,
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let next = self.left.pop_front();
        self.taken.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(next.map(|frame| frame.map(Frame::data).map_err(BodyError::from)))
    }
}

fn frames(
    frames: Vec<Result<Bytes, &'static str>>,
    length: Option<u64>,
) -> (SharedService, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let service = told(move |_| {
        let body = Frames {
            left: frames.clone().into(),
            taken: Arc::clone(&count),
        };
        let mut response = HttpResponse::new(Body::new(body));
        if let Some(length) = length {
            let headers = response.headers_mut();
            headers.insert(::http::header::CONTENT_LENGTH, length.into());
        }
        async { response }
    });
    (service, taken)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_costs_one_frame() {
    let rows = [(256 * 1024, 1), (8 * 1024, 1), (1024, 17)];
    for (size, most) in rows {
        let all = vec![Ok(Bytes::from(vec![b'x'; size])); 200];
        let (service, taken) = frames(all, None);
        let (served, mut client) = open(service, RULES, &Rc::default(), 1024);
        let speak = async {
            client.write_all(GET.as_bytes()).await.unwrap();
            tokio::time::sleep(SECOND).await;
            let now = taken.load(Ordering::Relaxed);
            assert!((1..=most).contains(&now), "{now} frames of {size}");
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            assert!(heard.ends_with(b"\r\n0\r\n\r\n"));
            assert_eq!(
                heard.iter().filter(|byte| **byte == b'x').count(),
                size * 200
            );
        };
        tokio::join!(served, speak);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_never_looks_whole() {
    let hello = || Ok(Bytes::from_static(b"hello"));
    let rows = [
        (vec![hello(), Err("broken")], None),
        (vec![hello(), Err("broken")], Some(10)),
        (vec![hello()], Some(10)),
        (vec![hello()], Some(4)),
    ];
    for (all, length) in rows {
        let (service, _) = frames(all, length);
        let two = format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{GET}");
        let heard = talk(service, &two).await;
        assert!(!heard.contains("0\r\n\r\n"), "{heard}");
        assert!(heard.matches("HTTP/1.1").count() <= 1, "{heard}");
    }
}

#[tokio::test]
async fn frames_become_chunks_or_the_length_that_was_promised() {
    let all = || {
        vec![
            Ok(Bytes::from_static(b"hello")),
            Ok(Bytes::new()),
            Ok(Bytes::from_static(b", world\n")),
        ]
    };
    let (service, _) = frames(all(), None);
    let heard = talk(Arc::clone(&service), GET).await;
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\ntransfer-encoding: chunked"), "{head}");
    assert_eq!(body, "5\r\nhello\r\n8\r\n, world\n\r\n0\r\n\r\n");
    let old = talk(service, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    let (head, body) = old.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    assert!(
        !head.contains("chunked") && !head.contains("keep-alive"),
        "{head}"
    );
    assert_eq!(body, "hello, world\n");
    let (service, _) = frames(all(), Some(13));
    let heard = talk(service, GET).await;
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\ncontent-length: 13\r\n"), "{head}");
    assert_eq!(body, "hello, world\n");
}

#[tokio::test]
async fn a_client_that_goes_takes_its_request_with_it() {
    let alive = Arc::new(());
    let guard = Arc::clone(&alive);
    let service = told(move |_| {
        let guard = Arc::clone(&guard);
        async move {
            std::future::pending::<()>().await;
            drop(guard);
            unreachable!()
        }
    });
    let (served, mut client) = open(service, RULES, &Rc::default(), 4096);
    let speak = async {
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        while Arc::strong_count(&alive) < 3 {
            tokio::task::yield_now().await;
        }
        drop(client);
    };
    tokio::join!(served, speak);
    assert_eq!(Arc::strong_count(&alive), 1, "service and request are gone");
}

#[tokio::test]
async fn a_switch_hands_the_connection_over() {
    let service = told(|mut request: Request| async move {
        let upgrade = request
            .head
            .extensions
            .remove::<upgrade::OnUpgrade>()
            .unwrap();
        tokio::task::spawn_local(async move {
            let mut client = upgrade.await.unwrap();
            let mut said = [0; 9];
            client.read_exact(&mut said).await.unwrap();
            client.write_all(&said).await.unwrap();
        });
        let mut response = HttpResponse::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let value = HeaderValue::from_static("Upgrade");
        response.headers_mut().insert(CONNECTION, value);
        response
    });
    let local = tokio::task::LocalSet::new();
    let test = async {
        let (served, mut client) = open(service, RULES, &Rc::default(), 4096);
        let speak = async {
            let ask = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly";
            client.write_all(ask.as_bytes()).await.unwrap();
            hear(
                &mut client,
                "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\ndate: ",
            )
            .await;
            client.write_all(b"late").await.unwrap();
            let mut rest = String::new();
            client.read_to_string(&mut rest).await.unwrap();
            assert!(rest.ends_with("\r\n\r\nearlylate"), "{rest}");
        };
        tokio::join!(served, speak);
    };
    local.run_until(test).await;
    // Nobody switches who did not ask.
    let service = told(|_| async {
        let mut response = HttpResponse::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response
    });
    assert!(talk(service, GET).await.starts_with("HTTP/1.1 50"));
}

#[tokio::test]
async fn an_idle_connection_is_small() {
    let (served, _client) = open(echo(), RULES, &Rc::default(), 4096);
    let size = size_of_val(&served);
    assert!(size <= 1024, "{size}");
    let (ours, mut client) = tokio::io::duplex(4096);
    let mut wire = Wire::new(Socket::Memory(ours));
    for text in [
        GET,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        client.write_all(text.as_bytes()).await.unwrap();
        let mut head = None;
        let read = poll_fn(|cx| wire.poll_head(cx, 1000, &mut head)).await;
        read.unwrap();
        wire.begin_body(head.unwrap().terms.framing, false);
        while !wire.is_body_over() {
            poll_fn(|cx| wire.poll_frame(cx)).await.unwrap().unwrap();
        }
        wire.tidy();
        assert_eq!(wire.take_input().capacity(), 0);
    }
}
