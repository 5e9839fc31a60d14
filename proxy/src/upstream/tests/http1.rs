//! One request at a time: what goes out, what comes back, what is refused.

use http_body::Body as _;
use tidegate_shared::settings::Interval;

use super::*;
use crate::http::ErrorKind;

#[tokio::test]
async fn a_connection_is_used_again() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let client = async {
            for _ in 0..3 {
                let answer = upstream.send_owned(get(), Reuse::Allowed).await.unwrap();
                assert_eq!(answer.response.status(), 200);
                assert_eq!(text(answer).await.unwrap(), "ok");
            }
        };
        let serve = async {
            let mut peer = server.accept().await;
            for _ in 0..3 {
                let head = peer.answer(OK).await;
                assert_eq!(head, "GET / HTTP/1.1\r\nhost: example.org\r\n\r\n");
            }
            peer
        };
        let _peer = tokio::join!(client, serve).1;
        let counts = upstream.connections();
        assert_eq!((counts.opened, counts.reused, counts.idle), (1, 2, 1));
    })
    .await;
}

#[tokio::test]
async fn bodies_are_counted_and_framed_once() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let mut request = post("hello");
        let exchange = Rc::clone(&request.exchange);
        request
            .head
            .headers
            .insert("content-length", HeaderValue::from_static("99"));
        request
            .head
            .headers
            .insert("transfer-encoding", HeaderValue::from_static("chunked"));
        let (answer, head) = send(&upstream, request, async {
            let mut peer = server.accept().await;
            let head = peer.read_to("hello").await;
            peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
                .await;
            peer.write("2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n").await;
            (head, peer)
        })
        .await;
        assert_eq!(
            head.0,
            "POST / HTTP/1.1\r\nhost: example.org\r\ncontent-length: 5\r\n\r\nhello"
        );
        let collected = answer
            .unwrap()
            .response
            .into_body()
            .collect()
            .await
            .unwrap();
        assert_eq!(collected.trailers().unwrap()["x-sum"], "5");
        assert_eq!(collected.to_bytes(), "abcde");
        assert_eq!(exchange.origin_bytes.get(), 5);
        assert_eq!(upstream.connections().idle, 1);
    })
    .await;
}

#[tokio::test]
async fn requests_are_framed_by_their_bodies() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        trust(&upstream);
        let (feed, unsized_body) = piecemeal();
        feed.try_send("x").unwrap();
        drop(feed);
        let absolute = request("GET", "http://elsewhere/a?b", Body::empty());
        let table = [
            (
                request("POST", "/", Body::empty()),
                "\r\ncontent-length: 0\r\n\r\n",
            ),
            (request("DELETE", "/", Body::empty()), "org\r\n\r\n"),
            (
                request("OPTIONS", "*", Body::empty()),
                "OPTIONS * HTTP/1.1\r\nhost: example.org\r\n\r\n",
            ),
            (absolute, "GET /a?b HTTP/1.1\r\nhost: example.org\r\n\r\n"),
            (
                request("GET", "/", unsized_body),
                "\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            ),
        ];
        let mut requests = table.into_iter();
        let (first, end) = requests.next().unwrap();
        let (answer, mut peer) = send(&upstream, first, async {
            let mut peer = server.accept().await;
            peer.read_to(end).await;
            peer.write(OK).await;
            peer
        })
        .await;
        text(answer.unwrap()).await.unwrap();
        for (request, end) in requests {
            let (answer, ()) = send(&upstream, request, async {
                peer.read_to(end).await;
                peer.write(OK).await;
            })
            .await;
            text(answer.unwrap()).await.unwrap();
        }
        assert_eq!(upstream.connections().opened, 1);
    })
    .await;
}

#[tokio::test]
async fn cookie_crumbs_become_one_cookie() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let mut request = get();
        request.head.version = ::http::Version::HTTP_2;
        for crumb in ["a=1", "b=2"] {
            let crumb = HeaderValue::from_static(crumb);
            request.head.headers.append("cookie", crumb);
        }
        let (answer, head) = send(&upstream, request, async {
            server.accept().await.answer(OK).await
        })
        .await;
        assert!(answer.is_ok());
        assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("cookie: a=1; b=2\r\n"), "{head}");
    })
    .await;
}

#[tokio::test]
async fn responses_without_a_body_free_the_connection_at_once() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let cases = [
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"),
            ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n"),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
            ("GET", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ];
        let client = async {
            for (method, _) in cases {
                let request = request(method, "/", Body::empty());
                let answer = upstream.send_owned(request, Reuse::Allowed).await.unwrap();
                assert_eq!(upstream.connections().idle, 1);
                assert_eq!(text(answer).await.unwrap(), "");
            }
        };
        let serve = async {
            let mut peer = server.accept().await;
            for (_, response) in cases {
                peer.answer(response).await;
            }
            peer
        };
        tokio::join!(client, serve);
        assert_eq!(upstream.connections().opened, 1);
    })
    .await;
}

#[tokio::test]
async fn an_early_response_ends_the_connection() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let (feed, body) = piecemeal();
        feed.try_send("first").unwrap();
        let (answer, mut peer) = send(&upstream, request("POST", "/", body), async {
            let mut peer = server.accept().await;
            peer.read_to("first\r\n").await;
            peer.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
                .await;
            peer
        })
        .await;
        let answer = answer.unwrap();
        assert_eq!(answer.response.status(), 413);
        // The rest still flows while the response is read.
        feed.try_send("second").unwrap();
        peer.read_to("second\r\n").await;
        assert_eq!(text(answer).await.unwrap(), "no");
        assert!(peer.is_closed().await);
        assert_eq!(upstream.connections().idle, 0);
    })
    .await;
}

#[tokio::test]
async fn a_dropped_body_closes_its_connection() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let (answer, mut peer) = send(&upstream, get(), async {
            let mut peer = server.accept().await;
            peer.answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
                .await;
            peer
        })
        .await;
        drop(answer);
        assert!(peer.is_closed().await);
        assert_eq!(upstream.connections().idle, 0);
    })
    .await;
}

#[tokio::test]
async fn a_truncated_body_never_looks_whole() {
    local(async {
        let table = [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
                false,
                None,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
                false,
                None,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
                true,
                None,
            ),
            ("HTTP/1.0 200 OK\r\n\r\nwhole", false, Some("whole")),
            (
                "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nwhole",
                false,
                Some("whole"),
            ),
            ("HTTP/1.0 200 OK\r\n\r\nhalf", true, None),
        ];
        for (response, is_reset, expected) in table {
            let (server, upstream) = Server::start_with_upstream().await;
            let (answer, peer) = send(&upstream, get(), async {
                let mut peer = server.accept().await;
                peer.answer(response).await;
                peer
            })
            .await;
            let mut body = answer.unwrap().response.into_body();
            let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
            if is_reset {
                peer.reset();
            } else {
                drop(peer);
            }
            let rest = body.collect().await;
            let seen = rest.map(|_| String::from_utf8(first.to_vec()).unwrap());
            assert_eq!(seen.ok().as_deref(), expected, "{response}");
            assert_eq!(upstream.connections().idle, 0);
        }
    })
    .await;
}

#[tokio::test]
async fn nonsense_is_refused() {
    local(async {
        let table = [
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        ];
        for response in table {
            let (server, upstream) = Server::start_with_upstream().await;
            let (answer, mut peer) = send(&upstream, get(), async {
                let mut peer = server.accept().await;
                peer.answer(response).await;
                peer
            })
            .await;
            let error = answer.unwrap_err().error;
            assert_eq!(error.kind, ErrorKind::BadResponse, "{response}");
            assert_eq!(error.retry, Retry::Never, "{response}");
            assert!(peer.is_closed().await);
        }
    })
    .await;
}

#[tokio::test]
async fn an_endless_head_is_refused() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let (answer, ()) = send(&upstream, get(), async {
            let mut peer = server.accept().await;
            peer.answer("HTTP/1.1 200 OK\r\n").await;
            let line = format!("X-Line: {}\r\n", "x".repeat(1000));
            while peer.0.write_all(line.as_bytes()).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(answer.unwrap_err().error.kind, ErrorKind::BadResponse);
    })
    .await;
}

#[tokio::test]
async fn big_bodies_pass_whole_and_counted() {
    local(async {
        const SIZE: usize = 3 << 20;
        let (server, upstream) = Server::start_with_upstream().await;
        let sent: Vec<u8> = (0..=250).cycle().take(SIZE).collect();
        let mut request = request("PUT", "/", Body::full(sent.clone()));
        request.exchange = exchange();
        let exchange = Rc::clone(&request.exchange);
        let (got, ()) = tokio::join!(
            async {
                let answer = upstream.send_owned(request, Reuse::Allowed).await.unwrap();
                let body = answer.response.into_body();
                assert_eq!(body.size_hint().exact(), Some(SIZE as u64));
                body.collect().await.unwrap().to_bytes()
            },
            async {
                let mut peer = server.accept().await;
                peer.head().await;
                let mut body = vec![0; SIZE];
                peer.0.read_exact(&mut body).await.unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
                peer.write(&head).await;
                peer.0.write_all(&body).await.unwrap();
            }
        );
        assert!(got == sent);
        assert_eq!(exchange.origin_bytes.get(), SIZE as u64);
    })
    .await;
}

#[tokio::test]
async fn two_framings_become_one() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let (answer, mut peer) = send(&upstream, get(), async {
            let mut peer = server.accept().await;
            peer.answer(
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n\
                 2\r\nok\r\n0\r\n\r\n",
            )
            .await;
            peer
        })
        .await;
        let answer = answer.unwrap();
        assert!(!answer.response.headers().contains_key("content-length"));
        assert_eq!(text(answer).await.unwrap(), "ok");
        assert!(peer.is_closed().await);
    })
    .await;
}

#[tokio::test]
async fn a_refused_connection_may_always_be_retried() {
    local(async {
        let server = Server::start().await;
        let upstream = upstream(&server.url("http"));
        drop(server);
        let failure = upstream
            .send_owned(post("kept"), Reuse::Allowed)
            .await
            .unwrap_err();
        assert_eq!(failure.error.kind, ErrorKind::Connect);
        assert_eq!(failure.error.retry, Retry::Always);
        let kept = failure.request.unwrap().body.collect().await.unwrap();
        assert_eq!(kept.to_bytes(), "kept");
        assert_eq!(upstream.connections().failed, 1);
    })
    .await;
}

#[tokio::test]
async fn names_are_looked_up() {
    local(async {
        let server = Server::start().await;
        let url = format!("http://localhost:{}", server.address.port());
        let upstream = upstream(&url);
        let (answer, _peer) = send(&upstream, get(), async {
            let mut peer = server.accept().await;
            peer.answer(OK).await;
            peer
        })
        .await;
        assert_eq!(text(answer.unwrap()).await.unwrap(), "ok");
    })
    .await;
}

#[tokio::test]
async fn a_slow_head_times_out() {
    local(async {
        let server = Server::start().await;
        let settings = with_timeouts(|timeouts| {
            timeouts.response_header_timeout = Interval::from_millis(50);
        });
        let url = ServerUrl::parse(&server.url("http")).unwrap();
        let upstream = Upstream::new(url, transport(&settings));
        let (answer, mut peer) = send(&upstream, get(), async {
            let mut peer = server.accept().await;
            peer.answer("HTTP/1.1 200 OK\r\n").await;
            peer
        })
        .await;
        let error = answer.unwrap_err().error;
        assert_eq!(error.kind, ErrorKind::ResponseTimeout);
        assert_eq!(error.retry, Retry::Never);
        assert!(peer.is_closed().await);
    })
    .await;
}

#[tokio::test]
async fn a_clients_broken_body_is_the_clients_fault() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let gone: BodyError = ProxyError::new(ErrorKind::ClientTimeout).into();
        let broken = http_body_util::StreamBody::new(futures_util::stream::iter([
            Ok(Frame::data(Bytes::from_static(b"half"))),
            Err(gone),
        ]));
        let (answer, seen) = send(&upstream, request("PUT", "/", Body::new(broken)), async {
            let mut peer = server.accept().await;
            let mut seen = String::new();
            let _ = peer.0.read_to_string(&mut seen).await;
            seen
        })
        .await;
        let failure = answer.unwrap_err();
        assert_eq!(failure.error.kind, ErrorKind::ClientTimeout);
        assert!(failure.request.is_none());
        assert!(!seen.contains("0\r\n\r\n"), "{seen:?}");
    })
    .await;
}

#[tokio::test]
async fn connect_is_not_spoken() {
    local(async {
        let upstream = upstream("http://127.0.0.1:1");
        let request = request("CONNECT", "/", Body::empty());
        let failure = upstream
            .send_owned(request, Reuse::Allowed)
            .await
            .unwrap_err();
        assert_eq!(failure.error.kind, ErrorKind::NotImplemented);
    })
    .await;
}

fn expecting() -> (mpsc::Sender<&'static str>, Request) {
    let (feed, body) = piecemeal();
    feed.try_send("body").unwrap();
    let mut request = request("POST", "/", body);
    request
        .head
        .headers
        .insert("expect", HeaderValue::from_static("100-continue"));
    (feed, request)
}

#[tokio::test]
async fn an_expecting_body_waits_for_the_servers_word() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let (feed, request) = expecting();
        let (answer, _peer) = send(&upstream, request, async {
            let mut peer = server.accept().await;
            let head = peer.head().await;
            assert!(head.contains("expect: 100-continue\r\n"));
            drop(feed);
            peer.write("HTTP/1.1 100 Continue\r\n\r\n").await;
            peer.read_to("4\r\nbody\r\n0\r\n\r\n").await;
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
async fn an_expecting_body_waits_no_longer_than_a_second() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let (feed, request) = expecting();
        drop(feed);
        let (answer, _peer) = send(&upstream, request, async {
            let mut peer = server.accept().await;
            peer.head().await;
            peer.read_to("4\r\nbody\r\n0\r\n\r\n").await;
            peer.write(OK).await;
            peer
        })
        .await;
        assert_eq!(text(answer.unwrap()).await.unwrap(), "ok");
    })
    .await;
}

#[tokio::test]
async fn an_expecting_body_that_is_refused_stays_unread() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let (_feed, request) = expecting();
        let (answer, mut peer) = send(&upstream, request, async {
            let mut peer = server.accept().await;
            peer.answer("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")
                .await;
            peer
        })
        .await;
        assert_eq!(text(answer.unwrap()).await.unwrap(), "no");
        assert!(peer.is_closed().await);
    })
    .await;
}
