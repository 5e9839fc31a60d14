//! The same bytes to this server and to hyper's: both must see the same requests
//! and answer them alike.

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::super::super::body::explain;
use super::*;

/// What a client hears that says `text` and waits until nothing more comes.
async fn hear_all(served: impl Future, mut client: DuplexStream, text: &[u8]) -> String {
    let speak = async {
        client.write_all(text).await.unwrap();
        let (mut heard, mut piece) = (Vec::new(), [0; 1024]);
        while let Ok(Ok(count @ 1..)) = timeout(SECOND, client.read(&mut piece)).await {
            heard.extend_from_slice(&piece[..count]);
        }
        String::from_utf8_lossy(&heard).into_owned()
    };
    let mut served = std::pin::pin!(served);
    let mut speak = std::pin::pin!(speak);
    tokio::select! {
        heard = &mut speak => return heard,
        _ = &mut served => {}
    }
    speak.await
}

async fn ours(text: &[u8]) -> String {
    let (served, client) = open(echo(), RULES, &Rc::default(), 64 * 1024);
    hear_all(served, client, text).await
}

async fn hypers(text: &[u8]) -> String {
    let (io, client) = tokio::io::duplex(64 * 1024);
    let peer = Rc::new(connection("192.0.2.7:1234"));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (mut head, body) = request.into_parts();
        let admitted = admit(&peer, &mut head);
        async {
            let exchange = match admitted {
                Ok(exchange) => exchange,
                Err(refusal) => {
                    let mut response = refusal.response();
                    if refusal.is_fatal {
                        let close = HeaderValue::from_static("close");
                        response.headers_mut().insert(CONNECTION, close);
                    }
                    return Ok::<_, BodyError>(response);
                }
            };
            let body = Body::new(body.map_err(|error| explain(error).into()));
            let request = Request {
                head,
                body,
                exchange,
            };
            Ok(echo().call(request).await)
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .half_close(false)
        .max_header_size(RULES.max_head)
        .serve_connection(TokioIo::new(io), service);
    hear_all(served, client, text).await
}

const STARTS: [&str; 10] = [
    "GET / HTTP/1.1",
    "HEAD /x HTTP/1.1",
    "POST /x?y HTTP/1.1",
    "OPTIONS /x HTTP/1.1",
    "GET http://a/b HTTP/1.1",
    "BREW /x HTTP/1.1",
    "GET / HTTP/1.0",
    "PUT /x HTTP/1.1",
    "\r\nGET / HTTP/1.1",
    "CONNECT a:1 HTTP/1.1",
];
const LINES: [&str; 11] = [
    "Host: b",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: x, y",
    "X: \u{b}",
    "X:",
    "Accept: */*",
    "X : y",
    "Expect: 100-continue",
    "Upgrade: h2c",
    "TE: trailers",
];
const FRAMES: [(&str, &str); 10] = [
    ("", ""),
    ("", ""),
    ("Content-Length: 5\r\n", "hello"),
    ("Content-Length: 0\r\n", ""),
    ("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
    ("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
    ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
    (
        "Transfer-Encoding: chunked\r\n",
        "2;a\r\nhe\r\n003\r\nllo\r\n0\r\nX: y\r\n\r\n",
    ),
    ("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", "5\r\nhelloX"),
];

fn conversation(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut text = String::new();
    for _ in 0..random.usize(1..4) {
        text.push_str(STARTS[random.usize(..STARTS.len())]);
        text.push_str("\r\nHost: a\r\n");
        for _ in 0..random.usize(..3) {
            if random.u8(..4) == 0 {
                text.push_str(LINES[random.usize(..LINES.len())]);
                text.push_str("\r\n");
            }
        }
        let (head, body) = FRAMES[random.usize(..FRAMES.len())];
        text.push_str(&format!("{head}\r\n{body}"));
    }
    let mut bytes = text.into_bytes();
    // Chunks are read more strictly here.
    if random.bool() && !bytes.windows(7).any(|seven| seven == b"chunked") {
        let at = random.usize(..bytes.len());
        // A fragment is refused here and dropped there, on purpose.
        bytes[at] = *b" \t\r\n:0a;\0~\xff".get(random.usize(..11)).unwrap();
    }
    bytes
}

#[tokio::test(start_paused = true)]
async fn it_sees_what_hyper_sees() {
    let mut random = fastrand::Rng::with_seed(4711);
    for _ in 0..3000 {
        let text = conversation(&mut random);
        let (ours, hypers) = (ours(&text).await, hypers(&text).await);
        // Who has sent the body already is not told to go on here.
        let gist = |heard: &str| gist(heard).replace("HTTP/1.1 100 Continue\n", "");
        let closes = |heard: &str| heard.matches("connection: close").count();
        assert_eq!(
            (gist(&ours), closes(&ours)),
            (gist(&hypers), closes(&hypers)),
            "{}",
            String::from_utf8_lossy(&text)
        );
    }
}
