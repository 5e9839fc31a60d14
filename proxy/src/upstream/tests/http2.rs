//! HTTP/2: shared connections, their limits, their ends.

use h2::server::{Connection as H2Connection, SendResponse};
use h2::{Reason, RecvStream};
use http_body_util::StreamBody;

use super::*;
use crate::http::ErrorKind;

type Incoming = (::http::Request<RecvStream>, SendResponse<Bytes>);

/// A server's end of one HTTP/2 connection.
struct H2Peer(H2Connection<TcpStream, Bytes>);

impl H2Peer {
    async fn accept(server: &Server, max_streams: u32) -> Self {
        let stream = server.listener.accept().await.unwrap().0;
        let handshake = h2::server::Builder::new()
            .max_concurrent_streams(max_streams)
            .handshake(stream);
        Self(handshake.await.unwrap())
    }

    async fn request(&mut self) -> Incoming {
        self.0.accept().await.unwrap().unwrap()
    }

    /// Moves frames until the other side closes.
    async fn run_out(mut self) {
        while let Some(Ok(_)) = self.0.accept().await {}
    }
}

fn answer(mut respond: SendResponse<Bytes>, body: &'static str) {
    let mut stream = respond
        .send_response(::http::Response::new(()), false)
        .unwrap();
    stream
        .send_data(Bytes::from_static(body.as_bytes()), true)
        .unwrap();
}

async fn start() -> (Server, Upstream) {
    let server = Server::start().await;
    let upstream = upstream(&server.url("h2c"));
    (server, upstream)
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways() {
    local(async {
        let (server, upstream) = start().await;
        let mut trailers = ::http::HeaderMap::new();
        trailers.insert("x-sent", HeaderValue::from_static("1"));
        let frames = [
            Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"ping"))),
            Ok(Frame::trailers(trailers)),
        ];
        let body = Body::new(StreamBody::new(futures_util::stream::iter(frames)));
        let mut request = request("POST", "/Service/Method", body);
        request
            .head
            .headers
            .insert("te", HeaderValue::from_static("trailers"));
        let exchange = Rc::clone(&request.exchange);
        let serve = async {
            let mut peer = H2Peer::accept(&server, 10).await;
            let (request, mut respond) = peer.request().await;
            assert_eq!(request.uri(), "http://example.org/Service/Method");
            assert_eq!(request.headers()["te"], "trailers");
            assert!(!request.headers().contains_key("host"));
            let mut body = request.into_body();
            let echo = async {
                let data = body.data().await.unwrap().unwrap();
                let mut trailers = body.trailers().await.unwrap().unwrap();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                let mut stream = respond
                    .send_response(::http::Response::new(()), false)
                    .unwrap();
                stream.send_data(data, false).unwrap();
                stream.send_trailers(trailers).unwrap();
            };
            tokio::join!(echo, peer.run_out());
        };
        let client = async {
            let answer = upstream.send_owned(request, Reuse::Allowed).await.unwrap();
            let collected = answer.response.into_body().collect().await.unwrap();
            assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
            assert_eq!(collected.trailers().unwrap()["x-sent"], "1");
            assert_eq!(collected.to_bytes(), "ping");
        };
        tokio::select! {
            () = serve => panic!("the server has ended"),
            () = client => {}
        }
        assert_eq!(exchange.origin_bytes.get(), 4);
    })
    .await;
}

#[tokio::test]
async fn requests_share_a_connection_up_to_its_limit() {
    local(async {
        let (server, upstream) = start().await;
        let serve = async {
            // The first request brings the server's settings.
            let mut first = H2Peer::accept(&server, 2).await;
            answer(first.request().await.1, "warm");
            let mut held = Vec::new();
            for _ in 0..2 {
                held.push(first.request().await.1);
            }
            let mut second = tokio::select! {
                second = H2Peer::accept(&server, 2) => second,
                _ = first.0.accept() => panic!("a third stream on the first connection"),
            };
            held.push(second.request().await.1);
            for respond in held {
                answer(respond, "ok");
            }
            tokio::join!(first.run_out(), second.run_out());
        };
        let client = async {
            let warm = upstream.send_owned(get(), Reuse::Allowed).await.unwrap();
            assert_eq!(text(warm).await.unwrap(), "warm");
            let one = || async {
                let answer = upstream.send_owned(get(), Reuse::Allowed).await.unwrap();
                text(answer).await.unwrap()
            };
            let answers = tokio::join!(one(), one(), one());
            assert_eq!(answers, ("ok".into(), "ok".into(), "ok".into()));
        };
        tokio::select! {
            () = serve => panic!("the server has ended"),
            () = client => {}
        }
        let counts = upstream.connections();
        assert_eq!((counts.opened, counts.reused), (2, 2));
    })
    .await;
}

#[tokio::test]
async fn a_burst_waits_for_one_dial() {
    local(async {
        let (server, upstream) = start().await;
        let serve = async {
            let mut peer = H2Peer::accept(&server, 100).await;
            while let Some(Ok((_, respond))) = peer.0.accept().await {
                answer(respond, "ok");
            }
        };
        let client = async {
            let requests = (0..20).map(|_| upstream.send_owned(get(), Reuse::Allowed));
            for answer in futures_util::future::join_all(requests).await {
                assert_eq!(text(answer.unwrap()).await.unwrap(), "ok");
            }
        };
        tokio::select! {
            () = serve => panic!("the server has ended"),
            () = client => {}
        }
        assert_eq!(upstream.connections().opened, 1);

        drop(server);
        let upstream = start().await.1;
        let requests = (0..5).map(|_| upstream.send_owned(post("x"), Reuse::Allowed));
        for answer in futures_util::future::join_all(requests).await {
            let failure = answer.unwrap_err();
            assert_eq!(failure.error.kind, ErrorKind::Connect);
            assert_eq!(failure.error.retry, Retry::Always);
            assert!(failure.request.is_some());
        }
        assert_eq!(upstream.connections().failed, 1);
    })
    .await;
}

#[tokio::test]
async fn a_goaway_is_heeded() {
    local(async {
        let (server, upstream) = start().await;
        let serve = async {
            let mut first = H2Peer::accept(&server, 10).await;
            answer(first.request().await.1, "first");
            first.0.graceful_shutdown();
            tokio::task::spawn_local(first.run_out());
            let mut second = H2Peer::accept(&server, 10).await;
            answer(second.request().await.1, "second");
            second.run_out().await;
        };
        let client = async {
            for expected in ["first", "second"] {
                let answer = upstream
                    .send_owned(post("x"), Reuse::Allowed)
                    .await
                    .unwrap();
                assert_eq!(text(answer).await.unwrap(), expected);
                // Let the notice arrive.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = serve => panic!("the server has ended"),
            () = client => {}
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_reset_means_for_retries() {
    local(async {
        let table = [
            (Reason::REFUSED_STREAM, Retry::Always),
            (Reason::INTERNAL_ERROR, Retry::Never),
        ];
        for (reason, retry) in table {
            let (server, upstream) = start().await;
            let serve = async {
                let mut peer = H2Peer::accept(&server, 10).await;
                peer.request().await.1.send_reset(reason);
                peer.run_out().await;
            };
            let client = async {
                let failure = upstream
                    .send_owned(get(), Reuse::Allowed)
                    .await
                    .unwrap_err();
                assert_eq!(failure.error.kind, ErrorKind::ConnectionLost);
                assert_eq!(failure.error.retry, retry, "{reason}");
                assert!(failure.request.is_some());
            };
            tokio::select! {
                () = serve => panic!("the server has ended"),
                () = client => {}
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_cut_connection_may_be_tried_again() {
    local(async {
        let (server, upstream) = start().await;
        let serve = async {
            let mut peer = H2Peer::accept(&server, 10).await;
            answer(peer.request().await.1, "first");
            let (_, _respond) = peer.request().await;
        };
        let client = async {
            let first = upstream.send_owned(get(), Reuse::Allowed).await.unwrap();
            assert_eq!(text(first).await.unwrap(), "first");
            let failure = upstream
                .send_owned(get(), Reuse::Allowed)
                .await
                .unwrap_err();
            assert_eq!(failure.error.kind, ErrorKind::ConnectionLost);
            assert_eq!(failure.error.retry, Retry::Idempotent);
            let request = failure.request.unwrap();
            assert_eq!(request.head.headers["host"], "example.org");
        };
        tokio::join!(serve, client);
    })
    .await;
}

#[tokio::test]
async fn a_bad_host_never_leaves() {
    local(async {
        let (server, upstream) = start().await;
        let mut request = get();
        request
            .head
            .headers
            .insert("host", HeaderValue::from_static("a b"));
        let serve = async {
            H2Peer::accept(&server, 10).await.run_out().await;
        };
        let client = upstream.send_owned(request, Reuse::Allowed);
        let failure = tokio::select! {
            () = serve => panic!("the server has ended"),
            answer = client => answer.unwrap_err(),
        };
        assert_eq!(failure.error.kind, ErrorKind::BadRequest);
        assert!(failure.request.is_some());
    })
    .await;
}

/// Reads a request's body to its end.
async fn drain(request: ::http::Request<RecvStream>) -> Vec<u8> {
    let mut body = request.into_body();
    let mut whole = Vec::new();
    while let Some(data) = body.data().await {
        whole.extend_from_slice(&data.unwrap());
    }
    whole
}

#[tokio::test]
async fn a_body_that_was_kept_is_whole_again_after_a_cut_and_after_an_answer() {
    local(async {
        let (server, upstream) = start().await;
        let serve = async {
            let mut peer = H2Peer::accept(&server, 10).await;
            let (request, _respond) = peer.request().await;
            let read = tokio::select! {
                read = drain(request) => read,
                _ = peer.0.accept() => panic!("nothing else was sent"),
            };
            assert_eq!(read, b"hello");
            drop(peer);
            let mut peer = H2Peer::accept(&server, 10).await;
            let (request, respond) = peer.request().await;
            let read = async {
                assert_eq!(drain(request).await, b"hello");
                answer(respond, "ok");
            };
            tokio::join!(read, peer.run_out());
        };
        let client = async {
            let mut sent = request("PUT", "/", Body::full("hello"));
            sent.body.keep(100);
            let failure = upstream.send(&mut sent, Reuse::Allowed).await.unwrap_err();
            assert_eq!(failure.error.retry, Retry::Idempotent);
            assert!(failure.is_whole);
            let answer = upstream.send(&mut sent, Reuse::Forbidden).await.unwrap();
            assert_eq!(text(answer).await.unwrap(), "ok");
            assert!(sent.body.rewind());
            assert_eq!(sent.body.collect().await.unwrap().to_bytes(), "hello");
        };
        tokio::select! {
            () = serve => panic!("the server has ended"),
            () = client => {}
        }
    })
    .await;
}
