//! Servers that close idle connections, a third of them by a reset, and that
//! remember which request they have executed how often.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::timeout;

use crate::wire::{Broken, Wire};

/// How long a connection may be new without a request.
const FIRST: Duration = Duration::from_secs(60);

/// When an idle connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// After so long.
    After(Duration),
    /// After something between nothing and so long, anew after each answer.
    Within(Duration),
}

impl Idle {
    fn draw(self) -> Duration {
        match self {
            Self::After(time) => time,
            Self::Within(most) => most.mul_f64(fastrand::f64()),
        }
    }
}

/// How servers behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// When they close.
    pub idle: Idle,
    /// How long they take for every other request, so that many connections are
    /// in use at once.
    pub work: Duration,
}

/// What servers remember.
#[derive(Debug)]
pub struct Ledger {
    executed: Vec<AtomicU8>,
    /// Connections taken.
    pub opened: AtomicU64,
    /// Idle connections closed in order.
    pub closed: AtomicU64,
    /// Idle connections reset.
    pub reset: AtomicU64,
    stopped: AtomicBool,
}

impl Ledger {
    fn new(requests: usize) -> Self {
        Self {
            executed: (0..requests).map(|_| AtomicU8::new(0)).collect(),
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            reset: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// How often a request was executed.
    #[must_use]
    pub fn executions(&self, id: usize) -> u8 {
        let count = self.executed.get(id);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn execute(&self, id: usize) {
        if let Some(count) = self.executed.get(id) {
            // Only this thread writes.
            let next = count.load(Ordering::Relaxed).saturating_add(1);
            count.store(next, Ordering::Relaxed);
        }
    }
}

/// Servers on a thread of their own; dropping them ends it.
#[derive(Debug)]
pub struct Servers {
    /// Where they listen.
    pub addresses: Vec<SocketAddr>,
    /// What they saw.
    pub ledger: Arc<Ledger>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Servers {
    /// Starts so many servers for so many requests.
    ///
    /// # Errors
    /// A socket or the runtime cannot be made.
    pub fn start(count: usize, manner: Manner, requests: usize) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let bound = runtime.block_on(async {
            let mut listeners = Vec::new();
            for _ in 0..count {
                listeners.push(TcpListener::bind("127.0.0.1:0").await?);
            }
            std::io::Result::Ok(listeners)
        });
        let listeners = bound?;
        let addresses = listeners.iter().map(TcpListener::local_addr);
        let addresses = addresses.collect::<Result<_, _>>()?;
        let ledger = Arc::new(Ledger::new(requests));
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&ledger);
        let thread = thread::spawn(move || {
            let local = LocalSet::new();
            for listener in listeners {
                local.spawn_local(accept(listener, manner, Arc::clone(&shared)));
            }
            let _ = runtime.block_on(local.run_until(stopped));
        });
        Ok(Self {
            addresses,
            ledger,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.ledger.stopped.store(true, Ordering::Relaxed);
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, manner: Manner, ledger: Arc<Ledger>) {
    while !ledger.stopped.load(Ordering::Relaxed) {
        match listener.accept().await {
            Ok((stream, _)) => {
                ledger.opened.fetch_add(1, Ordering::Relaxed);
                tokio::task::spawn_local(serve(stream, manner, Arc::clone(&ledger)));
            }
            // Out of descriptors: wait until some connection ends.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve(stream: TcpStream, manner: Manner, ledger: Arc<Ledger>) {
    let _ = stream.set_nodelay(true);
    let mut wire = Wire::new(stream);
    let mut patience = FIRST;
    // The end of the stream counts too: then there is no request to be read.
    while timeout(patience, wire.stream().peek(&mut [0]))
        .await
        .is_ok()
    {
        if answer(&mut wire, manner.work, &ledger).await.is_err() {
            return;
        }
        patience = manner.idle.draw();
    }
    if fastrand::u8(..3) == 0 {
        let _ = wire.stream().set_zero_linger();
        ledger.reset.fetch_add(1, Ordering::Relaxed);
    } else {
        ledger.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads a whole request, executes it, and answers with its number.
async fn answer(wire: &mut Wire, work: Duration, ledger: &Ledger) -> Result<(), Broken> {
    let request = wire.request().await?;
    wire.body(request.length, 0).await?;
    let id = request.path.trim_start_matches('/');
    if let Ok(id) = id.parse() {
        ledger.execute(id);
    }
    if !work.is_zero() && fastrand::bool() {
        tokio::time::sleep(work).await;
    }
    let length = id.len();
    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{id}");
    wire.send(text.as_bytes()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;
    use crate::client::{Client, Failure, post};

    #[test]
    fn requests_are_counted_and_idle_connections_closed() {
        let manner = Manner {
            idle: Idle::After(Duration::from_millis(20)),
            work: Duration::from_millis(1),
        };
        let servers = Servers::start(1, manner, 8).unwrap();
        let address = servers.addresses[0];
        block_on(async {
            let mut client = Client::new(address, Duration::from_secs(10));
            for _ in 0..2 {
                let answer = client.send(&post("/7", b"x")).await?;
                assert!(answer.status == 200 && answer.body == b"7");
            }
            let gone = || async {
                let ledger = &servers.ledger;
                ledger.closed.load(Ordering::Relaxed) + ledger.reset.load(Ordering::Relaxed) == 1
            };
            scenarios::eventually(Duration::from_secs(10), gone).await?;
            let failure = client.send(&post("/6", b"x")).await;
            assert!(matches!(failure, Err(Failure::Broken(_))), "{failure:?}");
            Ok(())
        })
        .unwrap();
        assert_eq!(servers.ledger.executions(7), 2);
        assert_eq!(servers.ledger.executions(6), 0);
        assert_eq!(servers.ledger.opened.load(Ordering::Relaxed), 1);
    }
}
