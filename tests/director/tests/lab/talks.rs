//! Load of either family over TCP or UDP: new connections one after the other,
//! and flows that live. What answers says its name to whatever it gets.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use director_lab::Namespace;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// What is served.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    Tcp,
    Udp,
}

/// Something that says its name; it ends when dropped.
pub(crate) struct Named(#[expect(dead_code, reason = "its drop is the end")] oneshot::Sender<()>);

impl Named {
    /// Starts it. It answers from the moment this returns.
    pub(crate) fn start(at: &Namespace, by: By, address: IpAddr, port: u16) -> Self {
        let (running, ended) = oneshot::channel();
        let (is_ready, ready) = mpsc::channel();
        let name = at.name;
        at.spawn(move || async move {
            tokio::select! {
                _ = ended => anyhow::Ok(()),
                end = serve(name, by, SocketAddr::new(address, port), is_ready) => end,
            }
        });
        ready.recv().expect("the address can be bound");
        Self(running)
    }
}

async fn serve(
    name: &'static str,
    by: By,
    address: SocketAddr,
    is_ready: mpsc::Sender<()>,
) -> anyhow::Result<()> {
    let mut bytes = [0; 64];
    if matches!(by, By::Udp) {
        let socket = UdpSocket::bind(address).await?;
        is_ready.send(())?;
        loop {
            let (_, client) = socket.recv_from(&mut bytes).await?;
            socket.send_to(name.as_bytes(), client).await?;
        }
    }
    let listener = TcpListener::bind(address).await?;
    is_ready.send(())?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::task::spawn_local(async move {
            while let Ok(1..) = stream.read(&mut bytes).await {
                if stream.write_all(name.as_bytes()).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// One new connection: when it was begun, and who answered.
pub(crate) type Ask = (Instant, Option<String>);

/// New connections, one after the other, 20 ms apart.
pub(crate) struct Asks {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<anyhow::Result<Vec<Ask>>>,
}

impl Asks {
    pub(crate) fn start(client: &Namespace, to: SocketAddr) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = client.spawn(move || async move {
            let mut asks = Vec::new();
            while stopped.recv_timeout(Duration::from_millis(20)).is_err() {
                let begun = Instant::now();
                asks.push((begun, ask(to)));
            }
            asks
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) -> Vec<Ask> {
        self.stop.send(()).expect("the client runs");
        self.thread.join().expect("no panic").expect("a thread")
    }
}

fn ask(to: SocketAddr) -> Option<String> {
    let limit = Duration::from_millis(300);
    let mut stream = TcpStream::connect_timeout(&to, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.write_all(b"?").ok()?;
    let mut bytes = [0; 64];
    let count = stream.read(&mut bytes).ok()?;
    let name = bytes.get(..count)?;
    (count > 0).then(|| String::from_utf8_lossy(name).into_owned())
}

/// Who answered.
pub(crate) fn names(asks: &[Ask]) -> BTreeSet<String> {
    asks.iter().filter_map(|(_, name)| name.clone()).collect()
}

/// The longest time in which none was begun that was answered.
pub(crate) fn gap(asks: &[Ask]) -> Duration {
    let good = asks.iter().filter(|(_, name)| name.is_some());
    let good: Vec<_> = good.map(|(at, _)| *at).collect();
    let end = asks.last().map(|(at, _)| *at);
    let next = good.iter().skip(1).copied().chain(end);
    let between = good.iter().zip(next).map(|(one, next)| next - *one);
    between.max().unwrap_or(Duration::MAX)
}

/// What a flow has seen.
#[derive(Debug)]
struct Seen {
    last: Instant,
    names: BTreeSet<String>,
}

/// Flows that ask five times a second.
pub(crate) struct Talks {
    seen: Vec<Arc<Mutex<Seen>>>,
    _running: oneshot::Sender<()>,
}

impl Talks {
    pub(crate) fn start(client: &Namespace, by: By, to: SocketAddr, count: usize) -> Self {
        let seen = || Seen {
            last: Instant::now(),
            names: BTreeSet::new(),
        };
        let seen: Vec<_> = (0..count).map(|_| Arc::new(Mutex::new(seen()))).collect();
        let (running, ended) = oneshot::channel();
        let kept = seen.clone();
        client.spawn(move || async move {
            let mut flows = tokio::task::JoinSet::new();
            for seen in kept {
                flows.spawn_local(async move {
                    match by {
                        By::Tcp => over_tcp(to, &seen).await,
                        By::Udp => over_udp(to, &seen).await,
                    }
                });
                sleep(Duration::from_millis(5)).await;
            }
            let _ = ended.await;
        });
        Self {
            seen,
            _running: running,
        }
    }

    /// How many were answered after this instant, and by one and the same
    /// machine all the time.
    pub(crate) fn alive_since(&self, instant: Instant) -> usize {
        let is_alive = |seen: &&Arc<Mutex<Seen>>| {
            let seen = seen.lock().expect("no panic");
            seen.last > instant && seen.names.len() == 1
        };
        self.seen.iter().filter(is_alive).count()
    }

    /// All who answered.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let all = self.seen.iter();
        all.flat_map(|it| it.lock().expect("no panic").names.clone())
            .collect()
    }
}

fn note(seen: &Mutex<Seen>, name: &[u8]) {
    let mut seen = seen.lock().expect("no panic");
    seen.last = Instant::now();
    seen.names
        .insert(String::from_utf8_lossy(name).into_owned());
}

async fn over_tcp(to: SocketAddr, seen: &Mutex<Seen>) -> Option<()> {
    let mut stream = tokio::net::TcpStream::connect(to).await.ok()?;
    let mut bytes = [0; 64];
    loop {
        stream.write_all(b"?").await.ok()?;
        let count = stream.read(&mut bytes).await.ok().filter(|it| *it > 0)?;
        note(seen, bytes.get(..count)?);
        sleep(Duration::from_millis(200)).await;
    }
}

async fn over_udp(to: SocketAddr, seen: &Mutex<Seen>) -> Option<()> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(to).await.ok()?;
    let mut bytes = [0; 64];
    loop {
        // What is lost is asked again, as QUIC would.
        let _ = socket.send(b"?").await;
        let answer = timeout(Duration::from_millis(200), socket.recv(&mut bytes)).await;
        if let Ok(Ok(count)) = answer {
            note(seen, bytes.get(..count)?);
        }
        sleep(Duration::from_millis(200)).await;
    }
}
