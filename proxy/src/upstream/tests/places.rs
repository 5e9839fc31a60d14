//! Limits of connections: over all workers, never exceeded, nobody forgotten.

use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread::JoinHandle;

use rustix::net::{RecvFlags, recv};
use tidegate_shared::settings::Interval;
use tokio::sync::oneshot;

use super::tls::TlsServer;
use super::*;

async fn limited(limit: u32) -> (Server, Arc<Upstream>) {
    let (server, upstream) = Server::start_with_upstream().await;
    upstream.set_max_connections(limit);
    (server, Arc::new(upstream))
}

/// Another worker, which does `work` and ends.
fn worker<W>(work: impl FnOnce() -> W + Send + 'static) -> JoinHandle<()>
where
    W: Future<Output = ()>,
{
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move { local(work()).await });
    })
}

async fn until(mut is_true: impl FnMut() -> bool) {
    while !is_true() {
        tokio::task::yield_now().await;
    }
}

async fn finish(worker: JoinHandle<()>) {
    until(|| worker.is_finished()).await;
    worker.join().unwrap();
}

async fn expect_ok(upstream: &Upstream, request: Request) {
    let answer = upstream.send_owned(request, Reuse::Allowed).await.unwrap();
    assert_eq!(text(answer).await.unwrap(), "ok");
}

fn open(upstream: &Upstream) -> (u64, u64) {
    let counts = upstream.connections();
    (counts.open, counts.opened)
}

/// Answers whatever comes on whatever connection, on a thread of its own.
struct Counting {
    address: SocketAddr,
    most: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl Counting {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            most: Arc::default(),
            is_over: Arc::default(),
        };
        let (most, is_over) = (Arc::clone(&server.most), Arc::clone(&server.is_over));
        std::thread::spawn(move || {
            let alive: Mutex<Vec<std::net::TcpStream>> = Mutex::default();
            for stream in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let stream = stream.unwrap();
                let mut alive = alive.lock().unwrap();
                alive.push(stream.try_clone().unwrap());
                // Some have been closed, though nobody has looked yet.
                alive.retain(|one| !is_ended(one));
                most.fetch_max(alive.len(), Ordering::Relaxed);
                std::thread::spawn(move || answer_all(stream));
            }
        });
        server
    }

    fn upstream(&self, limit: u32) -> Arc<Upstream> {
        let upstream = upstream(&format!("http://{}", self.address));
        upstream.set_max_connections(limit);
        Arc::new(upstream)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = std::net::TcpStream::connect(self.address);
    }
}

fn is_ended(socket: &impl AsFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match recv(socket, &mut [0], flags) {
        Ok(count) => count == 0,
        Err(error) => error != rustix::io::Errno::AGAIN,
    }
}

fn answer_all(mut stream: std::net::TcpStream) {
    use std::io::{Read, Write};
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..count]);
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            let _ = stream.write_all(OK.as_bytes());
        }
    }
}

#[tokio::test]
async fn several_workers_share_a_few_connections() {
    local(async {
        let server = Counting::start();
        let upstream = server.upstream(3);
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let upstream = Arc::clone(&upstream);
                worker(move || async move {
                    let clients = (0..4).map(|client| {
                        let upstream = Arc::clone(&upstream);
                        async move {
                            for round in 0..100 {
                                let method = ["GET", "POST"][(client + round) % 2];
                                let request = request(method, "/", Body::empty());
                                expect_ok(&upstream, request).await;
                                assert!(upstream.connections().open <= 3);
                            }
                        }
                    });
                    futures_util::future::join_all(clients).await;
                })
            })
            .collect();
        for worker in workers {
            finish(worker).await;
        }
        let most = server.most.load(Ordering::Relaxed);
        assert!((1..=3).contains(&most), "{most}");
        // All workers have ended, but some of theirs may be there for others.
        until(|| upstream.connections().open == upstream.connections().idle).await;
    })
    .await;
}

#[tokio::test]
async fn what_needs_a_new_connection_closes_an_idle_one() {
    local(async {
        let (server, upstream) = limited(1).await;
        let (answer, mut old) = send(&upstream, get(), async {
            let mut peer = server.accept().await;
            peer.answer(OK).await;
            peer
        })
        .await;
        text(answer.unwrap()).await.unwrap();
        let (answer, _new) = send(&upstream, request("POST", "/", Body::empty()), async {
            assert!(old.is_closed().await);
            let mut peer = server.accept().await;
            peer.answer(OK).await;
            peer
        })
        .await;
        text(answer.unwrap()).await.unwrap();
        assert_eq!(open(&upstream), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn a_worker_gives_its_idle_connection_to_another() {
    local(async {
        let (server, upstream) = limited(1).await;
        let (answer, mut peer) = send(&upstream, get(), async {
            let mut peer = server.accept().await;
            peer.answer(OK).await;
            peer
        })
        .await;
        text(answer.unwrap()).await.unwrap();
        assert_eq!(upstream.connections().idle, 1);
        let theirs = Arc::clone(&upstream);
        let (done, all_done) = oneshot::channel::<()>();
        let other = worker(move || async move {
            expect_ok(&theirs, get()).await;
            let _ = all_done.await;
        });
        peer.answer(OK).await;
        // While they compete, what becomes free is there for both.
        until(|| !upstream.shared.spares.is_empty()).await;
        let ((), _) = tokio::join!(expect_ok(&upstream, get()), peer.answer(OK));
        assert_eq!(open(&upstream), (1, 1));
        done.send(()).unwrap();
        finish(other).await;
    })
    .await;
}

#[tokio::test]
async fn who_waits_gets_what_becomes_free_first() {
    local(async {
        let (server, upstream) = limited(1).await;
        let first = upstream.send_owned(get(), Reuse::Allowed);
        let (first, mut peer) = tokio::join!(first, async {
            let mut peer = server.accept().await;
            peer.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
                .await;
            peer
        });
        let order = RefCell::new(Vec::new());
        let waiting = |name| {
            let (order, upstream) = (&order, &upstream);
            async move {
                expect_ok(upstream, request("GET", &format!("/{name}"), Body::empty())).await;
                order.borrow_mut().push(name);
            }
        };
        let server_side = async {
            peer.write("ok").await;
            text(first.unwrap()).await.unwrap();
            for name in ["a", "b", "c"] {
                assert!(peer.answer(OK).await.starts_with(&format!("GET /{name} ")));
            }
        };
        tokio::join!(waiting("a"), waiting("b"), waiting("c"), server_side);
        assert_eq!(*order.borrow(), ["a", "b", "c"]);
        assert_eq!(open(&upstream), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn who_goes_away_does_not_take_a_connection_along() {
    local(async {
        let (server, upstream) = limited(1).await;
        let first = upstream.send_owned(get(), Reuse::Allowed);
        let (first, mut peer) = tokio::join!(first, async {
            let mut peer = server.accept().await;
            peer.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
                .await;
            peer
        });
        let mut gone = Box::pin(upstream.send_owned(get(), Reuse::Allowed));
        let mut late = Box::pin(upstream.send_owned(get(), Reuse::Allowed));
        let mut last = Box::pin(upstream.send_owned(get(), Reuse::Allowed));
        for waiting in [&mut gone, &mut late, &mut last] {
            assert!(futures_util::poll!(waiting).is_pending());
        }
        drop(gone);
        peer.write("ok").await;
        text(first.unwrap()).await.unwrap();
        // It has been given the connection, and goes.
        drop(late);
        let (answer, _) = tokio::join!(last, peer.answer(OK));
        text(answer.unwrap()).await.unwrap();
        assert_eq!(open(&upstream), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn the_wait_ends_with_the_time_for_connecting_or_the_server() {
    local(async {
        let server = Server::start().await;
        let settings = with_timeouts(|timeouts| timeouts.dial_timeout = Interval::from_secs(5));
        let url = ServerUrl::parse(&server.url("http")).unwrap();
        let upstream = Upstream::new(url, transport(&settings));
        upstream.set_max_connections(1);
        let held = upstream.send_owned(get(), Reuse::Allowed);
        let (held, _peer) = tokio::join!(held, async {
            let mut peer = server.accept().await;
            peer.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
                .await;
            peer
        });
        for kind in [ErrorKind::ConnectTimeout, ErrorKind::Connect] {
            let mut waiting = Box::pin(upstream.send_owned(post("x"), Reuse::Allowed));
            assert!(futures_util::poll!(&mut waiting).is_pending());
            match kind {
                ErrorKind::ConnectTimeout => let_pass(Duration::from_secs(5)).await,
                _ => upstream.leave(),
            }
            let failure = waiting.await.unwrap_err();
            assert_eq!(
                (failure.error.kind, failure.error.retry),
                (kind, Retry::Always)
            );
            assert!(failure.request.is_some());
        }
        drop(held);
        assert_eq!(upstream.connections().open, 0);
    })
    .await;
}

#[tokio::test]
async fn a_failed_dial_leaves_its_place() {
    local(async {
        let (server, upstream) = limited(1).await;
        drop(server);
        for _ in 0..3 {
            let failure = upstream
                .send_owned(get(), Reuse::Allowed)
                .await
                .unwrap_err();
            assert_eq!(failure.error.kind, ErrorKind::Connect);
        }
        assert_eq!(upstream.connections().open, 0);
    })
    .await;
}

/// Opens connections on this worker, and leaves them idle.
async fn open_idle(server: &Server, upstream: &Upstream, count: usize) -> Vec<Peer> {
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

#[tokio::test]
async fn a_lower_limit_closes_idle_connections_at_once() {
    local(async {
        let (server, upstream) = limited(0).await;
        let _peers = open_idle(&server, &upstream, 5).await;
        assert_eq!(open(&upstream), (5, 5));
        upstream.set_max_connections(2);
        until(|| upstream.connections().open == 2).await;
        upstream.set_max_connections(0);
        assert_eq!(upstream.connections().idle, 2);
    })
    .await;
}

#[tokio::test]
async fn all_workers_let_go_of_a_server_that_leaves_at_once() {
    local(async {
        let (server, upstream) = limited(0).await;
        let _own = open_idle(&server, &upstream, 2).await;
        let theirs = Arc::clone(&upstream);
        let (done, all_done) = oneshot::channel::<()>();
        let other = worker(move || async move {
            let first = theirs.send_owned(get(), Reuse::Forbidden).await.unwrap();
            assert_eq!(text(first).await.unwrap(), "ok");
            let _ = all_done.await;
        });
        let mut peer = server.accept().await;
        peer.answer(OK).await;
        until(|| upstream.connections().idle == 3).await;
        tokio::time::pause();
        upstream.leave();
        // No time passes: the sweep of this worker would not come.
        until(|| upstream.connections().open == 0).await;
        tokio::time::resume();
        assert!(peer.is_closed().await);
        done.send(()).unwrap();
        finish(other).await;
    })
    .await;
}

#[tokio::test]
async fn tls_connections_stay_with_their_worker_but_their_places_move() {
    local(async {
        let server = TlsServer::start("localhost", &[b"http/1.1"]).await;
        let upstream = Arc::new(server.upstream(&server.trusting()));
        upstream.set_max_connections(1);
        let name = async |upstream: &Upstream| {
            let answer = upstream.send_owned(get(), Reuse::Allowed).await.unwrap();
            assert_eq!(text(answer).await.unwrap(), "localhost");
        };
        let serve = async {
            // Each ends with its connection.
            server.serve_http1().await;
            server.serve_http1().await;
        };
        let work = async {
            name(&upstream).await;
            name(&upstream).await;
            assert_eq!(open(&upstream), (1, 1));
            let theirs = Arc::clone(&upstream);
            finish(worker(move || async move { name(&theirs).await })).await;
            assert_eq!(open(&upstream), (0, 2));
        };
        tokio::join!(serve, work);
    })
    .await;
}
