//! Connections that live: each sends two bytes every 800 ms and wants them back.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::{Namespace, within};

/// Live connections; they end when dropped.
#[derive(Debug)]
pub struct Flows {
    begun: Instant,
    /// When each last got its bytes back, in microseconds since `begun`.
    last: Vec<Arc<AtomicU64>>,
    _running: oneshot::Sender<()>,
}

impl Flows {
    /// Opens so many to the echo of this address, and waits until all live.
    ///
    /// # Errors
    ///
    /// If not all do within 5 s.
    pub fn start(client: &Namespace, to: Ipv4Addr, count: usize) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let last: Vec<_> = (0..count).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let (running, ended) = oneshot::channel();
        let kept = last.clone();
        client.spawn(move || async move {
            let mut flows = tokio::task::JoinSet::new();
            for last in kept {
                flows.spawn_local(async move { flow(to, begun, &last).await });
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let _ = ended.await;
        });
        let flows = Self {
            begun,
            last,
            _running: running,
        };
        let all = || (flows.alive_since(begun) == count).then_some(());
        let started = within(Duration::from_secs(10), "all flows", all);
        started.with_context(|| format!("{} of {count}", flows.alive_since(begun)))?;
        Ok(flows)
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.last.len()
    }

    /// How many had bytes back after this instant.
    #[must_use]
    pub fn alive_since(&self, instant: Instant) -> usize {
        let bound = micros(instant.saturating_duration_since(self.begun)).max(1);
        let is_alive = |last: &&Arc<AtomicU64>| last.load(Ordering::Relaxed) > bound;
        self.last.iter().filter(is_alive).count()
    }

    /// Waits until all had bytes back after this instant, at most so long; how
    /// many had.
    #[must_use]
    pub fn survivors(&self, instant: Instant, limit: Duration) -> usize {
        let all = || (self.alive_since(instant) == self.count()).then_some(());
        let _ = within(limit, "all flows", all);
        self.alive_since(instant)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

async fn flow(to: Ipv4Addr, begun: Instant, last: &AtomicU64) -> Option<()> {
    let mut stream = loop {
        // Whoever lives is told apart later; at the start all do.
        match TcpStream::connect((to, 443)).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    stream.set_nodelay(true).ok()?;
    let mut back = [0_u8; 2];
    loop {
        stream.write_all(b"ok").await.ok()?;
        stream.read_exact(&mut back).await.ok()?;
        last.store(micros(begun.elapsed()), Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(800)).await;
    }
}
