//! Upgrades, from a real client connection through to the server.

use std::cell::Cell;

use ::http::header::{CONNECTION, UPGRADE};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::*;
use crate::http::{ErrorKind, respond};

const ASK: &str =
    "GET / HTTP/1.1\r\nHost: example.org\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const GRANT: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

/// Serves one client connection as an entry point does, and tells how often a
/// tunnel has ended.
async fn serve(client: TcpStream, upstream: Rc<Upstream>, ended: Rc<Cell<u32>>) {
    struct Guard(Rc<Cell<u32>>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let service = service_fn(move |mut request: ::http::Request<hyper::body::Incoming>| {
        let upstream = Rc::clone(&upstream);
        let guard = Guard(Rc::clone(&ended));
        async move {
            let switched = hyper::upgrade::on(&mut request);
            let (granting, upgrade) = crate::http::upgrade::pair();
            tokio::task::spawn_local(async move {
                if let Ok(client) = switched.await {
                    granting.give(Box::new(TokioIo::new(client)));
                }
            });
            request.extensions_mut().insert(upgrade);
            let (head, body) = request.into_parts();
            let request = Request {
                head,
                body: body.into(),
                exchange: exchange(),
            };
            let response = match upstream.send_owned(request, Reuse::Allowed).await {
                Ok(answer) => {
                    if let Some(tunnel) = answer.upgraded {
                        tunnel.run(guard);
                    }
                    answer.response
                }
                Err(failure) => respond::error(&failure.error),
            };
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(client), service)
        .with_upgrades();
    let _ = connection.await;
}

struct Scene {
    server: Server,
    client: Peer,
    ended: Rc<Cell<u32>>,
}

async fn scene() -> Scene {
    let server = Server::start().await;
    let upstream = Rc::new(upstream(&server.url("http")));
    let entry = Server::start().await;
    let client = Peer(TcpStream::connect(entry.address).await.unwrap());
    let accepted = entry.accept().await.0;
    let ended = Rc::new(Cell::new(0));
    tokio::task::spawn_local(serve(accepted, upstream, Rc::clone(&ended)));
    Scene {
        server,
        client,
        ended,
    }
}

async fn until(mut is_true: impl FnMut() -> bool) {
    while !is_true() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_granted_upgrade_carries_bytes_both_ways() {
    local(async {
        let Scene {
            server,
            mut client,
            ended,
        } = scene().await;
        client.write(ASK).await;
        let mut peer = server.accept().await;
        let head = peer.head().await;
        assert!(head.contains("upgrade: echo\r\n"), "{head}");
        // The first bytes may come on the heels of the grant.
        peer.write(&format!("{GRANT}hello")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client.read_to("hello").await;
        client.write("ping").await;
        peer.read_to("ping").await;

        // One side ends, the other goes on.
        client.0.shutdown().await.unwrap();
        assert!(peer.is_closed().await);
        assert_eq!(ended.get(), 0);
        peer.write("last words").await;
        client.read_to("last words").await;
        drop(peer);
        assert!(client.is_closed().await);
        until(|| ended.get() == 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_failing_side_ends_the_other() {
    local(async {
        let Scene {
            server,
            mut client,
            ended,
        } = scene().await;
        client.write(ASK).await;
        let mut peer = server.accept().await;
        peer.answer(GRANT).await;
        client.head().await;
        peer.reset();
        assert!(client.is_closed().await);
        until(|| ended.get() == 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_response() {
    local(async {
        let Scene {
            server, mut client, ..
        } = scene().await;
        client.write(ASK).await;
        let mut peer = server.accept().await;
        peer.answer(OK).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
        client.read_to("ok").await;
        // The connection is as good as before.
        client
            .write("GET /b HTTP/1.1\r\nHost: example.org\r\n\r\n")
            .await;
        peer.answer(OK).await;
        client.head().await;
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_to_something_else_is_refused() {
    local(async {
        let Scene {
            server, mut client, ..
        } = scene().await;
        client.write(ASK).await;
        let mut peer = server.accept().await;
        peer.answer(&GRANT.replace("echo", "other")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 500 "));
        assert!(peer.is_closed().await);
    })
    .await;
}

#[tokio::test]
async fn only_a_client_that_asks_can_be_switched() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        // The headers alone, without a connection behind them.
        let mut request = get();
        request
            .head
            .headers
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
        request
            .head
            .headers
            .insert(UPGRADE, HeaderValue::from_static("echo"));
        let (answer, _) = send(&upstream, request, async {
            server.accept().await.answer(GRANT).await
        })
        .await;
        assert_eq!(answer.unwrap_err().error.kind, ErrorKind::BadResponse);
    })
    .await;
}
