//! Requests one after the other, with a pause before each and before each answer.
//!
//!   paced serve             a server on a free port, which it prints
//!   paced free              a port that nothing listens on
//!   paced KIND ADDR COUNT   that many requests on one connection; KIND is get, post, tls or h2
//!
//! The pauses let the proxy in between come to rest each time: it does the same
//! work for every request, however loaded the machine is. `tests/instructions`
//! counts that work.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use scenarios::{client, ports};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

const HOST: &str = "a.test";
const PAUSE: Duration = Duration::from_millis(2);
/// Time for a proxy under an instrument to open its port.
const START: Duration = Duration::from_secs(30);
/// Length of every body.
const LENGTH: usize = 1024;

/// What browsers and load generators send least.
const HEADERS: [(&str, &str); 3] = [
    ("user-agent", "paced/1.0"),
    ("accept", "*/*"),
    ("accept-encoding", "gzip"),
];

/// What a common web server answers with.
const ANSWER: &str = "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\n\
    Content-Type: text/html\r\nContent-Length: 1024\r\nLast-Modified: Sat, 01 Jan 2000 00:00:00 GMT\r\n\
    Connection: keep-alive\r\nETag: \"386d4380-400\"\r\nAccept-Ranges: bytes\r\n\r\n";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match *arguments {
        ["serve"] => serve().await,
        ["free"] => ports::free()
            .map_err(anyhow::Error::from)
            .and_then(|port| say(&port)),
        [kind, address, count] => ask(kind, address, count).await,
        _ => Err(anyhow::anyhow!(
            "usage: paced serve | free | get|post|tls|h2 ADDRESS COUNT"
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "paced: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn say(what: &impl std::fmt::Display) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{what}")?)
}

async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    say(&listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(answer(stream));
    }
}

async fn answer(mut stream: TcpStream) -> anyhow::Result<()> {
    let answer = [ANSWER.as_bytes(), &[b'x'; LENGTH]].concat();
    let mut early = Vec::new();
    while message(&mut stream, &mut early).await?.is_some() {
        sleep(PAUSE).await;
        stream.write_all(&answer).await?;
    }
    Ok(())
}

/// Reads one message with a `Content-Length` or without a body, and returns its
/// first line. `None` at the end. What follows it stays in `early`.
async fn message<S>(stream: &mut S, early: &mut Vec<u8>) -> anyhow::Result<Option<String>>
where
    S: AsyncRead + Unpin,
{
    loop {
        if let Some(end) = early.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(early.get(..end).unwrap_or_default()).into_owned();
            let whole = end + 4 + length(&head)?;
            if early.len() >= whole {
                early.drain(..whole);
                return Ok(head.lines().next().map(str::to_owned));
            }
        }
        if stream.read_buf(early).await? == 0 {
            ensure!(early.is_empty(), "cut in the middle of a message");
            return Ok(None);
        }
    }
}

fn length(head: &str) -> anyhow::Result<usize> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.map_or(Ok(0), |(_, value)| Ok(value.trim().parse()?))
}

async fn ask(kind: &str, address: &str, count: &str) -> anyhow::Result<()> {
    let address: SocketAddr = address.parse()?;
    let count = count.parse()?;
    until_open(address).await?;
    let plain = || async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        anyhow::Ok(stream)
    };
    match kind {
        "get" => ask_http1(plain().await?, "GET", count).await,
        "post" => {
            earn_trust(address).await?;
            ask_http1(plain().await?, "POST", count).await
        }
        "tls" => ask_http1(client::tls(address, HOST, b"http/1.1").await?, "GET", count).await,
        "h2" => ask_http2(address, count).await,
        _ => bail!("there is no kind {kind}"),
    }
}

/// Leaves some connections to the server idle for a while, the same in every
/// run: a proxy uses them for what must not be sent twice once it has seen that
/// the server does not close them.
async fn earn_trust(address: SocketAddr) -> anyhow::Result<()> {
    let visits = (0..12).map(|_| async move {
        let stream = TcpStream::connect(address).await?;
        ask_http1(stream, "GET", 1).await
    });
    for visit in futures_util::future::join_all(visits).await {
        visit?;
    }
    sleep(Duration::from_millis(3500)).await;
    Ok(())
}

async fn until_open(address: SocketAddr) -> anyhow::Result<()> {
    let since = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        ensure!(since.elapsed() < START, "nothing listens on {address}");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn ask_http1<S>(mut stream: S, method: &str, count: u32) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = format!("{method} /index.html HTTP/1.1\r\nHost: {HOST}\r\n");
    for (name, value) in HEADERS {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut request = request.into_bytes();
    if method == "POST" {
        request.extend_from_slice(format!("content-length: {LENGTH}\r\n\r\n").as_bytes());
        request.extend_from_slice(&[b'y'; LENGTH]);
    } else {
        request.extend_from_slice(b"\r\n");
    }
    let mut early = Vec::new();
    for _ in 0..count {
        sleep(PAUSE).await;
        stream.write_all(&request).await?;
        let start = message(&mut stream, &mut early).await?;
        let start = start.context("closed instead of an answer")?;
        ensure!(start == "HTTP/1.1 200 OK", "unexpected answer: {start}");
    }
    Ok(())
}

async fn ask_http2(address: SocketAddr, count: u32) -> anyhow::Result<()> {
    let stream = client::tls(address, HOST, b"h2").await?;
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    for _ in 0..count {
        sleep(PAUSE).await;
        let mut request = hyper::Request::get(format!("https://{HOST}/index.html"));
        for (name, value) in HEADERS {
            request = request.header(name, value);
        }
        let response = sender
            .send_request(request.body(Empty::<Bytes>::new())?)
            .await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(
            status == 200 && body.len() == LENGTH,
            "unexpected answer: {status}"
        );
    }
    Ok(())
}
