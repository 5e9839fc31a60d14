//! Idle connections: which are used, which are not, and what a lost race costs.

use tidegate_shared::settings::Interval;

use super::*;
use crate::http::ErrorKind;

/// Sends one request and lets the server keep the connection.
async fn warm(server: &Server, upstream: &Upstream, response: &str) -> Peer {
    let (answer, peer) = send(upstream, get(), async {
        let mut peer = server.accept().await;
        peer.answer(response).await;
        peer
    })
    .await;
    text(answer.unwrap()).await.unwrap();
    assert_eq!(upstream.connections().idle, 1);
    peer
}

/// Lets the event loop hear what the kernel has, which on the loopback is all
/// that was done.
async fn listen() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

/// Sends a request that has to come on a new connection.
async fn expect_fresh(server: &Server, upstream: &Upstream, request: Request) {
    let (answer, _peer) = send(upstream, request, async {
        let mut peer = server.accept().await;
        peer.answer(OK).await;
        peer
    })
    .await;
    assert_eq!(text(answer.unwrap()).await.unwrap(), "ok");
}

#[tokio::test]
async fn a_closed_connection_is_not_used_again() {
    local(async {
        for how in ["fin", "rst", "stray"] {
            let (server, upstream) = Server::start_with_upstream().await;
            let peer = warm(&server, &upstream, OK).await;
            trust(&upstream);
            // After so short a time an event loop that has heard nothing is not
            // believed, for this request can't be repeated.
            let_pass(Duration::from_millis(2)).await;
            match how {
                "fin" => drop(peer),
                "rst" => peer.reset(),
                _ => SockRef::from(&peer.0)
                    .send(OK.as_bytes())
                    .map(drop)
                    .unwrap(),
            }
            expect_fresh(&server, &upstream, post("x")).await;
            let counts = upstream.connections();
            assert_eq!((counts.opened, counts.reused), (2, 0), "{how}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_the_event_loop_has_heard_needs_no_asking() {
    local(async {
        for how in ["fin", "rst", "stray"] {
            let (server, upstream) = Server::start_with_upstream().await;
            let peer = warm(&server, &upstream, OK).await;
            match how {
                "fin" => drop(peer),
                "rst" => peer.reset(),
                _ => SockRef::from(&peer.0)
                    .send(OK.as_bytes())
                    .map(drop)
                    .unwrap(),
            }
            listen().await;
            expect_fresh(&server, &upstream, get()).await;
            let counts = upstream.connections();
            assert_eq!((counts.opened, counts.reused), (2, 0), "{how}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_lost_race_may_be_run_again_if_that_cannot_hurt() {
    local(async {
        for (sent, is_given_back) in [(get(), true), (post("x"), false)] {
            let (server, upstream) = Server::start_with_upstream().await;
            let mut peer = warm(&server, &upstream, OK).await;
            trust(&upstream);
            let (answer, ()) = send(&upstream, sent, async {
                peer.head().await;
                peer.reset();
            })
            .await;
            let failure = answer.unwrap_err();
            assert_eq!(failure.error.kind, ErrorKind::ConnectionLost);
            assert_eq!(failure.error.retry, Retry::Idempotent);
            assert_eq!(failure.request.is_some(), is_given_back);
            let Some(request) = failure.request else {
                continue;
            };
            let (answer, head) =
                tokio::join!(upstream.send_owned(request, Reuse::Forbidden), async {
                    let mut peer = server.accept().await;
                    peer.answer(OK).await
                });
            assert_eq!(head, "GET / HTTP/1.1\r\nhost: example.org\r\n\r\n");
            assert_eq!(text(answer.unwrap()).await.unwrap(), "ok");
        }
    })
    .await;
}

#[tokio::test]
async fn a_broken_answer_is_not_retried_and_a_new_connection_only_if_that_cannot_hurt() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let (answer, ()) = send(&upstream, get(), async {
            let mut peer = server.accept().await;
            peer.head().await;
        })
        .await;
        let error = answer.unwrap_err().error;
        assert_eq!(
            (error.kind, error.retry),
            (ErrorKind::ConnectionLost, Retry::Idempotent)
        );

        let mut peer = warm(&server, &upstream, OK).await;
        let (answer, ()) = send(&upstream, get(), async {
            peer.answer("HTTP/1.1 20").await;
            drop(peer);
        })
        .await;
        let error = answer.unwrap_err().error;
        assert_eq!(
            (error.kind, error.retry),
            (ErrorKind::ConnectionLost, Retry::Never)
        );
    })
    .await;
}

#[tokio::test]
async fn the_servers_own_limit_is_kept() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let response = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n";
        let _peer = warm(&server, &upstream, response).await;
        let_pass(Duration::from_secs(4)).await;
        expect_fresh(&server, &upstream, get()).await;
        assert_eq!(upstream.connections().reused, 0);
    })
    .await;
}

#[tokio::test]
async fn a_servers_impatience_is_learned() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let peer = warm(&server, &upstream, OK).await;
        trust(&upstream);
        let_pass(Duration::from_millis(300)).await;
        drop(peer);
        listen().await;
        // Finds the closed connection, and takes a new one.
        let _peer = warm(&server, &upstream, OK).await;
        let_pass(Duration::from_millis(200)).await;
        expect_fresh(&server, &upstream, post("x")).await;
        let counts = upstream.connections();
        assert_eq!((counts.opened, counts.reused), (3, 0));
    })
    .await;
}

#[tokio::test]
async fn what_speaks_http_1_0_is_not_used_again() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let response = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
        let (answer, mut peer) = send(&upstream, get(), async {
            let mut peer = server.accept().await;
            peer.answer(response).await;
            peer
        })
        .await;
        assert_eq!(text(answer.unwrap()).await.unwrap(), "ok");
        assert!(peer.is_closed().await);
    })
    .await;
}

#[tokio::test]
async fn what_must_not_be_sent_twice_takes_no_old_connection() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let mut old = warm(&server, &upstream, OK).await;
        trust(&upstream);
        let_pass(Duration::from_millis(900)).await;
        let (answer, ()) = send(&upstream, post("x"), async {
            old.read_to("\r\n\r\nx").await;
            old.write(OK).await;
        })
        .await;
        text(answer.unwrap()).await.unwrap();

        let_pass(Duration::from_secs(1)).await;
        let mut new = None;
        let (answer, ()) = send(&upstream, post("x"), async {
            let mut peer = server.accept().await;
            peer.read_to("\r\n\r\nx").await;
            peer.write(OK).await;
            new = Some(peer);
        })
        .await;
        text(answer.unwrap()).await.unwrap();
        // It came in the old one's place.
        assert_eq!(upstream.connections().idle, 1);
        assert!(old.is_closed().await);
        let (answer, _) = send(&upstream, get(), new.unwrap().answer(OK)).await;
        text(answer.unwrap()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn idle_connections_are_closed_in_time() {
    local(async {
        let server = Server::start().await;
        let settings =
            with_timeouts(|timeouts| timeouts.idle_conn_timeout = Interval::from_secs(5));
        let url = ServerUrl::parse(&server.url("http")).unwrap();
        let upstream = Upstream::new(url, transport(&settings));
        let mut peer = warm(&server, &upstream, OK).await;
        let_pass(Duration::from_secs(5)).await;
        assert!(peer.is_closed().await);
        assert_eq!(upstream.connections().idle, 0);

        let mut peer = warm(&server, &upstream, OK).await;
        upstream.retire();
        let_pass(Duration::from_secs(1)).await;
        assert!(peer.is_closed().await);

        let mut peer = warm(&server, &upstream, OK).await;
        drop(upstream);
        let_pass(Duration::from_secs(1)).await;
        assert!(peer.is_closed().await);
    })
    .await;
}

/// Opens `count` connections at once, and leaves them idle.
async fn open_many(server: &Server, upstream: &Upstream, count: usize) -> Vec<Peer> {
    let requests = (0..count).map(|_| upstream.send_owned(get(), Reuse::Allowed));
    let serve = async {
        let mut peers = Vec::new();
        for _ in 0..count {
            peers.push(server.accept().await);
        }
        for peer in &mut peers {
            peer.answer(OK).await;
        }
        peers
    };
    let (answers, peers) = tokio::join!(futures_util::future::join_all(requests), serve);
    for answer in answers {
        text(answer.unwrap()).await.unwrap();
    }
    peers
}

/// What another worker does with the same server.
fn on_another_worker(upstream: &Arc<Upstream>, requests: usize) -> std::thread::JoinHandle<()> {
    let upstream = Arc::clone(upstream);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(local(async {
            for _ in 0..requests {
                let answer = upstream.send_owned(get(), Reuse::Allowed).await.unwrap();
                assert_eq!(text(answer).await.unwrap(), "ok");
            }
        }));
    })
}

#[tokio::test]
async fn what_one_worker_does_not_need_another_takes() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let upstream = Arc::new(upstream);
        let mut peers = open_many(&server, &upstream, 6).await;
        assert_eq!(upstream.connections().idle, 6);
        let_pass(Duration::from_secs(2)).await;
        // Two become spare, and are still counted; one of them closes.
        until(|| !upstream.shared.spares.is_empty()).await;
        assert_eq!(upstream.connections().idle, 6);
        peers.remove(1);
        let other = on_another_worker(&upstream, 3);
        for _ in 0..3 {
            peers[0].answer(OK).await;
        }
        until(|| other.is_finished()).await;
        other.join().unwrap();
        let counts = upstream.connections();
        // The other worker has ended, and what it had with it.
        assert_eq!((counts.opened, counts.reused, counts.idle), (6, 3, 4));
        assert!(peers[0].is_closed().await);
    })
    .await;
}

#[tokio::test]
async fn spare_connections_are_closed_in_time() {
    local(async {
        for how in ["retired", "old", "fin"] {
            let server = Server::start().await;
            let settings =
                with_timeouts(|timeouts| timeouts.idle_conn_timeout = Interval::from_secs(5));
            let url = ServerUrl::parse(&server.url("http")).unwrap();
            let upstream = Upstream::new(url, transport(&settings));
            let mut peers = open_many(&server, &upstream, 5).await;
            let_pass(Duration::from_secs(2)).await;
            until(|| !upstream.shared.spares.is_empty()).await;
            let mut spare = peers.remove(0);
            match how {
                "retired" => upstream.retire(),
                "fin" => spare.0.shutdown().await.unwrap(),
                _ => let_pass(Duration::from_secs(3)).await,
            }
            let_pass(Duration::from_secs(1)).await;
            assert!(spare.is_closed().await, "{how}");
            let idle = upstream.connections().idle;
            assert_eq!(idle, if how == "fin" { 4 } else { 0 }, "{how}");
            assert!(upstream.shared.spares.is_empty(), "{how}");
        }
    })
    .await;
}

async fn until(mut is_true: impl FnMut() -> bool) {
    while !is_true() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn idle_connections_are_limited() {
    local(async {
        for (limit, idle) in [(1, 1), (-1, 0)] {
            let server = Server::start().await;
            let settings = ServersTransport {
                max_idle_conns_per_host: limit,
                ..ServersTransport::default()
            };
            let url = ServerUrl::parse(&server.url("http")).unwrap();
            let upstream = Upstream::new(url, transport(&settings));
            let serve = async {
                let mut peers = [server.accept().await, server.accept().await];
                for peer in &mut peers {
                    peer.answer(OK).await;
                }
                peers
            };
            let (one, two, _peers) = tokio::join!(
                upstream.send_owned(get(), Reuse::Allowed),
                upstream.send_owned(get(), Reuse::Allowed),
                serve
            );
            text(one.unwrap()).await.unwrap();
            text(two.unwrap()).await.unwrap();
            assert_eq!(upstream.connections().idle, idle);
        }
    })
    .await;
}

#[tokio::test]
async fn no_race_is_lost_against_a_server_that_closes_after_each_answer() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let rounds = 300;
        let serve = async {
            for round in 0..rounds {
                let mut peer = server.accept().await;
                peer.answer(OK).await;
                if round % 3 == 0 {
                    peer.reset();
                }
            }
        };
        let client = async {
            for round in 0..rounds {
                let request = if round % 2 == 0 {
                    get()
                } else {
                    request("PATCH", "/", Body::empty())
                };
                let answer = upstream.send_owned(request, Reuse::Allowed).await.unwrap();
                let _ = text(answer).await;
                // The server's turn to close.
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(client, serve);
    })
    .await;
}

#[tokio::test]
async fn nobody_waits_for_a_connection_to_a_server_that_leaves() {
    for disable_http2 in [false, true] {
        local(async {
            // It takes connections, and then never says a word of TLS.
            let server = Server::start().await;
            let settings = ServersTransport {
                disable_http2,
                ..ServersTransport::default()
            };
            let url = ServerUrl::parse(&server.url("https")).unwrap();
            let upstream = Upstream::new(url, transport(&settings));
            let leave = async {
                let peer = server.accept().await;
                upstream.leave();
                peer
            };
            let (answer, _peer) =
                tokio::join!(upstream.send_owned(post("x"), Reuse::Allowed), leave);
            for answer in [answer, upstream.send_owned(get(), Reuse::Allowed).await] {
                let failure = answer.unwrap_err();
                assert_eq!(failure.error.kind, ErrorKind::Connect);
                assert_eq!(failure.error.retry, Retry::Always);
                assert!(failure.request.is_some());
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_body_that_was_kept_is_whole_again() {
    local(async {
        for (limit, is_whole) in [(5, true), (4, false)] {
            let (server, upstream) = Server::start_with_upstream().await;
            let mut peer = warm(&server, &upstream, OK).await;
            let mut sent = request("PUT", "/", Body::full("hello"));
            sent.body.keep(limit);
            // One that can't be had back is not put at risk.
            let_pass(Duration::from_millis(1500)).await;
            let is_reused = is_whole;
            let (answer, ()) = send(&upstream, sent, async {
                if !is_reused {
                    peer = server.accept().await;
                }
                assert!(peer.read_to("hello").await.contains("content-length: 5"));
                peer.reset();
            })
            .await;
            let failure = answer.unwrap_err();
            assert_eq!(failure.error.retry, Retry::Idempotent);
            assert_eq!(failure.request.is_some(), is_whole);
            let Some(request) = failure.request else {
                continue;
            };
            let (answer, ()) =
                tokio::join!(upstream.send_owned(request, Reuse::Forbidden), async {
                    let mut peer = server.accept().await;
                    assert!(peer.read_to("hello").await.contains("content-length: 5"));
                    peer.write(OK).await;
                });
            assert_eq!(text(answer.unwrap()).await.unwrap(), "ok");
        }
    })
    .await;
}

/// Lets idle connections be looked at, second by second.
async fn let_sweep(seconds: u64) {
    for _ in 0..seconds {
        let_pass(Duration::from_secs(1)).await;
        listen().await;
    }
}

fn sure(upstream: &Upstream) -> Duration {
    upstream.shared.patience.sure(tokio::time::Instant::now())
}

#[tokio::test]
async fn idle_connections_that_live_earn_trust() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let mut peers = open_many(&server, &upstream, 6).await;
        let mut youngest = warm_again(&upstream, &mut peers).await;
        assert_eq!(sure(&upstream), Duration::ZERO);
        // Six at a time, spares included.
        let mut seconds = 0;
        while sure(&upstream).is_zero() {
            let_sweep(1).await;
            seconds += 1;
        }
        assert!((2..=4).contains(&seconds), "{seconds}");
        // All are too old now, but for the one that has just been used.
        let (answer, _) = send(&upstream, get(), youngest.answer(OK)).await;
        text(answer.unwrap()).await.unwrap();
        let (answer, ()) = send(&upstream, post("x"), async {
            youngest.read_to("\r\n\r\nx").await;
            youngest.write(OK).await;
        })
        .await;
        text(answer.unwrap()).await.unwrap();
        assert_eq!(upstream.connections().opened, 6);
    })
    .await;
}

/// Sends a request on an idle connection, and tells which it was.
async fn warm_again(upstream: &Upstream, peers: &mut Vec<Peer>) -> Peer {
    let serve = async {
        let heads = peers.iter_mut().map(|peer| Box::pin(peer.answer(OK)));
        futures_util::future::select_all(heads).await.1
    };
    let (answer, at) = send(upstream, get(), serve).await;
    text(answer.unwrap()).await.unwrap();
    peers.remove(at)
}

#[tokio::test]
async fn a_server_that_closes_soon_gets_no_second_request_that_can_be_lost() {
    local(async {
        for millis in [5, 50] {
            let (server, upstream) = Server::start_with_upstream().await;
            trust(&upstream);
            let mut peer = warm(&server, &upstream, OK).await;
            for _ in 0..3 {
                let_pass(Duration::from_millis(millis)).await;
                drop(peer);
                listen().await;
                // Found closed by a request that could be sent again.
                peer = warm(&server, &upstream, OK).await;
                expect_fresh(&server, &upstream, post("x")).await;
            }
            assert_eq!(upstream.connections().reused, 0);
            assert_eq!(sure(&upstream), Duration::ZERO);
        }
    })
    .await;
}

#[tokio::test]
async fn a_sweep_finds_young_closes_and_later_ones() {
    local(async {
        for (seconds, is_trusted) in [(1, false), (4, true)] {
            let (server, upstream) = Server::start_with_upstream().await;
            let peer = warm(&server, &upstream, OK).await;
            trust(&upstream);
            let_sweep(seconds - 1).await;
            drop(peer);
            listen().await;
            let_pass(Duration::from_secs(1)).await;
            until(|| upstream.connections().idle == 0).await;
            assert_eq!(!sure(&upstream).is_zero(), is_trusted, "{seconds}");
            let now = tokio::time::Instant::now();
            let retire_after = upstream.shared.patience.retire_after(now);
            assert_eq!(retire_after.is_some(), is_trusted, "{seconds}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_lost_race_ends_trust_and_an_announcement_gives_it() {
    local(async {
        let (server, upstream) = Server::start_with_upstream().await;
        let response = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=2\r\nContent-Length: 0\r\n\r\n";
        let mut peer = warm(&server, &upstream, response).await;
        assert_eq!(sure(&upstream), Duration::from_secs(1));
        let (answer, ()) = send(&upstream, get(), async {
            peer.head().await;
            peer.reset();
        })
        .await;
        assert!(answer.is_err());
        assert_eq!(sure(&upstream), Duration::ZERO);
        let _peer = warm(&server, &upstream, response).await;
        assert_eq!(sure(&upstream), Duration::ZERO);
    })
    .await;
}
