//! Many clients that each cost a little: those that never finish asking, and
//! those that never finish listening.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use scenarios::raw::{Scripted, exchange};
use scenarios::site::{Routes, Site};
use scenarios::{client, demo, eventually};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(30);
const MIB: u64 = 1024 * 1024;

/// Waits until the process holds no more descriptors than it did `before`.
pub(super) async fn settles(site: &Site, before: usize) {
    let settled = eventually(SOON, || async {
        site.descriptors().is_ok_and(|now| now <= before)
    });
    let settled = settled.await;
    let now = site.descriptors().unwrap();
    assert!(settled.is_ok(), "{before} descriptors before, {now} after");
}

/// One byte every so often, for as long as somebody takes it.
async fn dribble(address: SocketAddr, count: Arc<AtomicUsize>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Dribble: ")
        .await
        .unwrap();
    count.fetch_add(1, Ordering::Relaxed);
    let (mut read, mut write) = stream.into_split();
    let speak = async {
        while write.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = speak => {}
        _ = read.read_to_end(&mut answer) => {}
    }
    count.fetch_sub(1, Ordering::Relaxed);
}

#[tokio::test(flavor = "multi_thread")]
async fn four_hundred_dribbling_clients_delay_nobody_and_are_cut() {
    let server = Scripted::obliging().await.unwrap();
    let arguments = ["--entrypoints.web.transport.respondingtimeouts.readtimeout=4s"];
    let site = Site::start(&Routes::all_to(&[server.address()]), &arguments)
        .await
        .unwrap();
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    exchange(site.web, request).await.unwrap();
    let before = site.descriptors().unwrap();

    let count = Arc::new(AtomicUsize::new(0));
    let mut dribblers = JoinSet::new();
    for _ in 0..400 {
        dribblers.spawn(dribble(site.web, Arc::clone(&count)));
    }
    let all_there = || async { count.load(Ordering::Relaxed) == 400 };
    eventually(SOON, all_there).await.unwrap();
    let mut served = 0;
    while count.load(Ordering::Relaxed) == 400 {
        // Deadlines are generous; what matters is that each is answered at all.
        let answer = exchange(site.web, request).await.unwrap();
        assert_eq!(answer.status(), 200);
        served += 1;
    }
    assert!(
        served > 50,
        "only {served} requests while the others dribbled"
    );
    let all_cut = tokio::time::timeout(SOON, async {
        while dribblers.join_next().await.is_some() {}
    });
    all_cut
        .await
        .expect("dribbling clients are cut by the read timeout");
    assert!(site.serves().await);
    settles(&site, before).await;
}

/// How the slow readers ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    Clear,
    Tls,
    Http2,
}

async fn dial(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    // A small window: what is not read stays at the proxy or behind it.
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    socket.connect(address).await.unwrap()
}

const READER: &str = "GET /bytes?n=10485760 HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Asks for 10 MiB and reads a little at a time until the test ends.
async fn read_slowly(site_web: SocketAddr, way: Way, progress: Arc<AtomicU64>) {
    match way {
        Way::Clear => sip(dial(site_web).await, &progress).await,
        Way::Tls => {
            let stream = client::tls_over(dial(site_web).await, "a.test", b"http/1.1").await;
            sip(stream.unwrap(), &progress).await;
        }
        Way::Http2 => sip_http2(dial(site_web).await, &progress).await,
    }
}

async fn sip(mut stream: impl AsyncRead + AsyncWrite + Unpin, progress: &AtomicU64) {
    stream.write_all(READER.as_bytes()).await.unwrap();
    let mut piece = [0; 2048];
    while let Ok(count @ 1..) = stream.read(&mut piece).await {
        progress.fetch_add(count as u64, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn sip_http2(stream: TcpStream, progress: &AtomicU64) {
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(16 * 1024)
        .initial_connection_window_size(64 * 1024);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("http://a.test/bytes?n=10485760");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    while let Some(Ok(frame)) = body.frame().await {
        let count = frame.data_ref().map_or(0, Bytes::len);
        progress.fetch_add(count as u64, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Resident bytes that 100 slow readers cost, at their worst.
async fn cost(site: &Site, way: Way) -> u64 {
    // Warm, but one after the other: what a crowd costs is the question.
    for _ in 0..20 {
        client::get(site.web, "a.test", "/bytes?n=1048576")
            .await
            .unwrap();
        client::get_tls(site.web, "a.test", "/bytes?n=1048576")
            .await
            .unwrap();
    }
    let before = site.proxy.memory().unwrap();
    let progress = Arc::new(AtomicU64::new(0));
    let mut readers = JoinSet::new();
    for _ in 0..100 {
        readers.spawn(read_slowly(site.web, way, Arc::clone(&progress)));
    }
    let mut worst = 0;
    let under_way = eventually(Duration::from_secs(60), || {
        worst = site.proxy.memory().unwrap().max(worst);
        let read = progress.load(Ordering::Relaxed);
        async move { read > 20 * MIB }
    });
    under_way.await.unwrap();
    assert_eq!(readers.len(), 100);
    assert!(site.serves().await);
    readers.shutdown().await;
    worst.saturating_sub(before)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_slow_readers_cost_at_most_eight_mebibytes() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(demo::run(
        listener,
        demo::Options::default(),
        std::future::pending(),
    ));
    for way in [Way::Clear, Way::Tls, Way::Http2] {
        let site = Site::start(&Routes::all_to(&[address]), &[]).await.unwrap();
        let descriptors = site.descriptors().unwrap();
        let cost = cost(&site, way).await;
        println!("100 slow readers of 10 MiB, {way:?}: {} KiB", cost / 1024);
        if way == Way::Clear {
            assert!(cost <= 8 * MIB, "{} KiB", cost / 1024);
        }
        settles(&site, descriptors + 4).await;
    }
    server.abort();
}
