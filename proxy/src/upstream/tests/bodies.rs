//! Bodies under way: both directions at once, however they are cut, and what a
//! reader who does not read costs.

use std::cell::Cell;
use std::future::poll_fn;

use http_body::Body as _;
use http_body_util::StreamBody;
use tokio::io::AsyncWrite as _;

use super::*;
use crate::http::ErrorKind;

/// Answers one request with `response`, in two parts that are cut at `at`.
async fn answer_in_two(peer: &mut Peer, response: &str, at: usize) {
    peer.head().await;
    peer.write(&response[..at]).await;
    // The client's turn to find the first part.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    peer.write(&response[at..]).await;
}

#[tokio::test]
async fn answers_are_the_same_however_they_are_cut() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let answers = [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ];
        let mut peer = None;
        for answer in answers {
            for at in 0..answer.len() {
                let client = async {
                    let answer = upstream.send_owned(get(), Reuse::Allowed).await.unwrap();
                    assert_eq!(text(answer).await.unwrap(), "hello");
                };
                let serve = async {
                    if peer.is_none() {
                        let accepted = server.accept().await;
                        accepted.0.set_nodelay(true).unwrap();
                        peer = Some(accepted);
                    }
                    answer_in_two(peer.as_mut().unwrap(), answer, at).await;
                };
                tokio::join!(client, serve);
                assert_eq!(upstream.connections().idle, 1, "{answer} at {at}");
            }
        }
        assert_eq!(upstream.connections().opened, 1);
    })
    .await;
}

#[tokio::test]
async fn an_echo_flows_both_ways_at_once() {
    local(async {
        const PIECES: usize = 200;
        const PIECE: usize = 20_000;
        let (server, upstream) = Server::start_with_upstream().await;
        let piece = Bytes::from(vec![b'x'; PIECE]);
        let pieces = std::iter::repeat_n(piece, PIECES).map(|piece| Ok(Frame::data(piece)));
        let body = Body::new(StreamBody::new(futures_util::stream::iter(pieces)));
        let serve = async {
            let mut peer = server.accept().await;
            peer.head().await;
            peer.write("HTTP/1.1 200 OK\r\n\r\n").await;
            let (mut reader, mut writer) = peer.0.split();
            let mut seen = Vec::new();
            let mut buffer = vec![0; 8192];
            while !seen.ends_with(b"\r\n0\r\n\r\n") {
                let count = reader.read(&mut buffer).await.unwrap();
                assert_ne!(count, 0);
                writer.write_all(&buffer[..count]).await.unwrap();
                seen.extend_from_slice(&buffer[..count]);
                seen.drain(..seen.len().saturating_sub(16));
            }
        };
        let client = async {
            let request = request("POST", "/", body);
            let answer = upstream.send_owned(request, Reuse::Allowed).await.unwrap();
            text(answer).await.unwrap().len()
        };
        let (got, ()) = tokio::join!(client, serve);
        let framing = format!("{PIECE:x}\r\n\r\n").len();
        assert_eq!(got, PIECES * (PIECE + framing) + "0\r\n\r\n".len());
        assert_eq!(upstream.connections().idle, 0);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_breaks_off_ends_an_early_answer() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let (fail, failed) = tokio::sync::oneshot::channel::<()>();
        let late = futures_util::stream::once(async {
            let _ = failed.await;
            let gone: BodyError = ProxyError::new(ErrorKind::ClientGone).into();
            Err(gone)
        });
        let body = Body::new(StreamBody::new(Box::pin(late)));
        let (answer, mut peer) = send(&upstream, request("POST", "/", body), async {
            let mut peer = server.accept().await;
            peer.answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
                .await;
            peer
        })
        .await;
        fail.send(()).unwrap();
        assert!(text(answer.unwrap()).await.is_err());
        // Nothing that looks like the end of a body.
        let mut seen = String::new();
        let _ = peer.0.read_to_string(&mut seen).await;
        assert_eq!(seen, "");
    })
    .await;
}

#[tokio::test]
async fn an_answer_counts_although_the_server_takes_no_more() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let endless = std::iter::repeat(Bytes::from(vec![b'x'; 60_000]));
        let endless = endless.map(|piece| Ok(Frame::data(piece)));
        let body = Body::new(StreamBody::new(futures_util::stream::iter(endless)));
        let (answer, _peer) = send(&upstream, request("POST", "/", body), async {
            let mut peer = server.accept().await;
            peer.answer("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
                .await;
            peer
        })
        .await;
        let answer = answer.unwrap();
        assert_eq!(answer.response.status(), 413);
        assert_eq!(text(answer).await.unwrap(), "no");
        assert_eq!(upstream.connections().idle, 0);
    })
    .await;
}

#[tokio::test]
async fn announced_trailers_reach_the_server() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let mut trailers = ::http::HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("2"));
        trailers.insert("x-not", HeaderValue::from_static("1"));
        let frames = [
            Ok(Frame::data(Bytes::from_static(b"ab"))),
            Ok(Frame::trailers(trailers)),
        ];
        let body = Body::new(StreamBody::new(futures_util::stream::iter(frames)));
        let mut request = request("POST", "/", body);
        let trailer = HeaderValue::from_static("X-Sum");
        request.head.headers.insert("trailer", trailer);
        let (answer, _peer) = send(&upstream, request, async {
            let mut peer = server.accept().await;
            peer.head().await;
            peer.read_to("2\r\nab\r\n0\r\nx-sum: 2\r\n\r\n").await;
            peer.write(OK).await;
            peer
        })
        .await;
        assert_eq!(text(answer.unwrap()).await.unwrap(), "ok");
        assert_eq!(upstream.connections().idle, 1);
    })
    .await;
}

#[tokio::test]
async fn interim_answers_are_limited() {
    local(async {
        for (count, is_taken) in [(16, true), (17, false)] {
            let (server, upstream) = Server::start_with_upstream().await;
            let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(count);
            let (answer, _peer) = send(&upstream, get(), async {
                let mut peer = server.accept().await;
                peer.answer(&format!("{hints}{OK}")).await;
                peer
            })
            .await;
            match answer {
                Ok(answer) => assert_eq!(text(answer).await.unwrap(), "ok"),
                Err(failure) => assert_eq!(failure.error.kind, ErrorKind::BadResponse),
            }
            assert_eq!(upstream.connections().idle == 1, is_taken, "{count}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_comes_behind_an_answer_ends_its_connection() {
    local(async {
        for (method, response) in [
            ("GET", format!("{OK}{OK}")),
            ("HEAD", OK.to_owned()),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\nx".to_owned()),
            (
                "GET",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx".to_owned(),
            ),
        ] {
            let (server, upstream) = Server::start_with_upstream().await;
            let (answer, mut peer) = send(&upstream, request(method, "/", Body::empty()), async {
                let mut peer = server.accept().await;
                peer.answer(&response).await;
                peer
            })
            .await;
            text(answer.unwrap()).await.unwrap();
            assert_eq!(upstream.connections().idle, 0, "{response}");
            assert!(peer.is_closed().await);
        }
    })
    .await;
}

const BIG: usize = 4 << 20;

/// Answers each connection with a big body, as fast as it is taken, until
/// `count` have come and `is_done`.
async fn pour(server: &Server, count: u64, upstream: &Upstream, is_done: &Cell<bool>) {
    let chunk = vec![b'x'; BIG];
    let mut peers = Vec::new();
    for accepted in 1..=count {
        let mut peer = server.accept().await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n");
        peer.answer(&head).await;
        peers.push((peer, 0));
        poll_fn(|cx| {
            for (peer, sent) in &mut peers {
                while let Poll::Ready(Ok(count @ 1..)) =
                    Pin::new(&mut peer.0).poll_write(cx, &chunk[*sent..])
                {
                    *sent += count;
                }
            }
            if is_done.get() || upstream.connections().opened > accepted {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// Reads until a piece is larger than one that needs no permit, or often
/// enough to be sure that none comes. The last piece.
async fn large_piece(body: &mut Body) -> Bytes {
    let mut piece = Bytes::new();
    for _ in 0..40 {
        piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        if piece.len() > 16 * 1024 {
            break;
        }
    }
    piece
}

/// The sizes of the pieces of ten readers who take one and keep it.
async fn kept_pieces() -> Vec<usize> {
    let (server, upstream) = Server::start_with_upstream().await;
    let is_done = Cell::new(false);
    let read = async {
        let mut kept = Vec::new();
        for _ in 0..10 {
            let answer = upstream.send_owned(get(), Reuse::Allowed).await.unwrap();
            let mut body = answer.response.into_body();
            assert_eq!(body.size_hint().exact(), Some(BIG as u64));
            kept.push((large_piece(&mut body).await, body));
        }
        is_done.set(true);
        kept.iter().map(|(piece, _)| piece.len()).collect()
    };
    let pour = pour(&server, 10, &upstream, &is_done);
    tokio::join!(read, pour).0
}

#[tokio::test]
async fn pieces_of_a_big_body_grow_while_there_is_budget() {
    local(async {
        // Other tests may have all of the budget meanwhile.
        for _ in 0..50 {
            let sizes = kept_pieces().await;
            let large = sizes.iter().filter(|size| **size > 16 * 1024).count();
            assert!(large <= 8, "{sizes:?}");
            assert!(sizes.iter().all(|size| *size <= 256 * 1024), "{sizes:?}");
            if large > 0 {
                return;
            }
        }
        panic!("no piece was large");
    })
    .await;
}
