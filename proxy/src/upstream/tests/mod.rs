//! Real sockets on the loopback, and servers that say exactly what they are told.

#![allow(
    clippy::large_futures,
    reason = "a test plays both sides in one future, once"
)]

mod bodies;
mod http1;
mod http2;
mod places;
mod race;
mod tls;
mod upgrade;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::HeaderValue;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::*;
use crate::config::dynamic::{ForwardingTimeouts, ServersTransport};
use crate::http::{Body, BodyError, ConnectionInfo, Exchange, Retry};

/// Longest time that anything may take, on however slow a machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// Runs a test on a `LocalSet`, and not for ever.
async fn local(test: impl Future<Output = ()>) {
    let limited = timeout(DEADLINE, test);
    LocalSet::new()
        .run_until(limited)
        .await
        .expect("test hangs");
}

/// Makes everybody believe that some time has passed.
async fn let_pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn exchange() -> Rc<Exchange> {
    let address = SocketAddr::from(([127, 0, 0, 1], 4000));
    let connection = ConnectionInfo {
        entry_point: "web".into(),
        client: address,
        client_ip: HeaderValue::from_static("127.0.0.1"),
        local: address,
        is_trusted: false,
        appends_forwarded_for: true,
        tls: None,
        lines: RefCell::default(),
    };
    let (head, ()) = ::http::Request::new(()).into_parts();
    let host = HeaderValue::from_static("example.org");
    Rc::new(Exchange::new(Rc::new(connection), &head, host))
}

fn request(method: &str, target: &str, body: Body) -> Request {
    let (mut head, ()) = ::http::Request::new(()).into_parts();
    head.method = method.parse().unwrap();
    head.uri = target.parse().unwrap();
    head.headers
        .insert("host", HeaderValue::from_static("example.org"));
    Request {
        head,
        body,
        exchange: exchange(),
    }
}

fn get() -> Request {
    request("GET", "/", Body::empty())
}

fn post(body: &'static str) -> Request {
    request("POST", "/", Body::full(body))
}

/// A body that the test writes piece by piece.
struct Piecemeal(mpsc::Receiver<&'static str>);

impl http_body::Body for Piecemeal {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let piece = self.0.poll_recv(cx);
        piece.map(|piece| piece.map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
    }
}

fn piecemeal() -> (mpsc::Sender<&'static str>, Body) {
    let (sender, receiver) = mpsc::channel(4);
    (sender, Body::new(Piecemeal(receiver)))
}

fn with_timeouts(change: impl FnOnce(&mut ForwardingTimeouts)) -> ServersTransport {
    let mut timeouts = ForwardingTimeouts::default();
    change(&mut timeouts);
    ServersTransport {
        forwarding_timeouts: Some(timeouts),
        ..ServersTransport::default()
    }
}

fn transport(settings: &ServersTransport) -> Arc<Transport> {
    Arc::new(Transport::new("test", settings, true).unwrap())
}

fn upstream(url: &str) -> Upstream {
    let transport = transport(&ServersTransport::default());
    Upstream::new(ServerUrl::parse(url).unwrap(), transport)
}

#[test]
fn a_request_under_way_is_small() {
    let upstream = upstream("http://127.0.0.1:1");
    let mut request = get();
    let future = upstream.send(&mut request, Reuse::Allowed);
    let size = size_of_val(&future);
    assert!(size <= 768, "{size}");
}

/// Makes the server one that has never been seen to close a young connection.
fn trust(upstream: &Upstream) {
    let now = tokio::time::Instant::now();
    let found = patience::Survival::of(now, now, now + Duration::from_secs(10));
    upstream.shared.patience.note_alive(found);
}

/// A request that brought no response, if it is as it was.
#[derive(Debug)]
struct Unsent {
    error: ProxyError,
    request: Option<Request>,
}

impl Upstream {
    async fn send_owned(&self, mut request: Request, reuse: Reuse) -> Result<Answer, Unsent> {
        let answer = self.send(&mut request, reuse).await;
        answer.map_err(
            |Failure {
                 error, is_whole, ..
             }| Unsent {
                error,
                request: is_whole.then_some(request),
            },
        )
    }
}

/// The whole body of an answer, as text.
async fn text(answer: Answer) -> Result<String, BodyError> {
    let collected = answer.response.into_body().collect().await?;
    Ok(String::from_utf8(collected.to_bytes().to_vec()).unwrap())
}

/// A listening socket.
struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// The server's end of one connection.
struct Peer(TcpStream);

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    async fn start_with_upstream() -> (Self, Upstream) {
        let server = Self::start().await;
        let upstream = upstream(&server.url("http"));
        (server, upstream)
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }

    async fn accept(&self) -> Peer {
        Peer(self.listener.accept().await.unwrap().0)
    }
}

impl Peer {
    /// Reads until what came ends with `end`.
    async fn read_to(&mut self, end: &str) -> String {
        let mut seen = Vec::new();
        while !seen.ends_with(end.as_bytes()) {
            let byte = self.0.read_u8().await.unwrap_or_else(|error| {
                panic!("{error} after {:?}", String::from_utf8_lossy(&seen));
            });
            seen.push(byte);
        }
        String::from_utf8(seen).unwrap()
    }

    /// Reads the head of a request.
    async fn head(&mut self) -> String {
        self.read_to("\r\n\r\n").await
    }

    async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads a request without a body and answers it.
    async fn answer(&mut self, response: &str) -> String {
        let head = self.head().await;
        self.write(response).await;
        head
    }

    /// Waits for the other side to close; whether it had nothing more to say.
    async fn is_closed(&mut self) -> bool {
        let mut rest = [0];
        !matches!(self.0.read(&mut rest).await, Ok(1..))
    }

    fn reset(self) {
        SockRef::from(&self.0)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Sends `request` while the server does its part.
async fn send<T>(
    upstream: &Upstream,
    request: Request,
    server: impl Future<Output = T>,
) -> (Result<Answer, Unsent>, T) {
    tokio::join!(upstream.send_owned(request, Reuse::Allowed), server)
}
