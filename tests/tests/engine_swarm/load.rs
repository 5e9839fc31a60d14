//! A constant load in which every answer is checked.
//!
//! For each proxy: kept-alive TLS connections, one more with slower requests so
//! that there is always something in flight, and fresh connections. A failure is
//! anything but the whole, right answer of one server; nothing is tried twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Response, StatusCode, header};
use scenarios::client::{self, Connection};
use tokio::time::{MissedTickBehavior, interval};

/// From one request of a client to its next: six clients for two proxies make
/// some 320 requests a second.
const PACE: Duration = Duration::from_millis(20);

/// The pace of requests that take [`SLOW`].
const SLOW_PACE: Duration = Duration::from_millis(100);

/// A request that its server takes 50 ms for.
const SLOW: &str = "/delay?ms=50";

/// What the clients have met so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    count: Mutex<Count>,
    stop: AtomicBool,
}

/// A reading of a [`Tally`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Count {
    /// Answers, right or not.
    pub(crate) requests: u64,
    /// What went wrong, in order.
    pub(crate) failures: Vec<String>,
    /// Right answers by the name of the server.
    pub(crate) servers: BTreeMap<String, u64>,
}

impl Tally {
    /// What was met up to now.
    pub(crate) fn read(&self) -> Count {
        self.count().clone()
    }

    /// Ends the load.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, outcome: anyhow::Result<String>, kind: &str, start: Instant) {
        let mut count = self.count();
        count.requests += 1;
        match outcome {
            Ok(server) => *count.servers.entry(server).or_default() += 1,
            Err(error) => {
                let took = start.elapsed();
                count
                    .failures
                    .push(format!("{kind}, {took:.0?}: {error:#}"));
            }
        }
    }
}

/// Sends requests for `host` to all `proxies` until the tally is told to stop.
pub(crate) async fn run(tally: &Tally, proxies: &[SocketAddr], host: &str) -> anyhow::Result<()> {
    let kept = |path, pace| move |&proxy| kept_alive(tally, proxy, host, path, pace);
    let (first, second) = (kept("/", PACE), kept("/", PACE));
    tokio::join!(
        join_all(proxies.iter().map(first)),
        join_all(proxies.iter().map(second)),
        join_all(proxies.iter().map(kept(SLOW, SLOW_PACE))),
        join_all(proxies.iter().map(|&proxy| fresh(tally, proxy, host))),
    );
    Ok(())
}

async fn kept_alive(tally: &Tally, proxy: SocketAddr, host: &str, path: &str, pace: Duration) {
    let mut open = None;
    let exchange = async |open: &mut Option<Connection>| {
        let mut connection = match open.take() {
            Some(connection) => connection,
            None => Connection::open_tls(proxy, host).await?,
        };
        let answer = connection.get(host, path).await?;
        let closes = answer.headers().get(header::CONNECTION);
        if closes.is_none_or(|value| value != "close") {
            *open = Some(connection);
        }
        signature(&answer)
    };
    let mut ticks = ticks(pace);
    while !tally.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let start = Instant::now();
        let outcome = exchange(&mut open).await;
        tally.note(outcome, &format!("kept alive at {proxy}, {path}"), start);
    }
}

async fn fresh(tally: &Tally, proxy: SocketAddr, host: &str) {
    let mut ticks = ticks(2 * PACE);
    while !tally.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let start = Instant::now();
        let answer = client::get_tls(proxy, host, "/").await;
        let outcome = answer.and_then(|answer| signature(&answer));
        tally.note(outcome, &format!("fresh at {proxy}"), start);
    }
}

fn ticks(pace: Duration) -> tokio::time::Interval {
    let mut ticks = interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The name of the demo server whose whole and right answer this is.
pub(crate) fn signature(answer: &Response<Bytes>) -> anyhow::Result<String> {
    let body = String::from_utf8_lossy(answer.body());
    anyhow::ensure!(
        answer.status() == StatusCode::OK,
        "{}: {}",
        answer.status(),
        body.trim_end()
    );
    let name = answer.headers().get("x-demo-name");
    let name = name.and_then(|name| name.to_str().ok()).unwrap_or_default();
    anyhow::ensure!(
        !name.is_empty() && body == format!("Hello from {name}\n"),
        "not the demo server's answer: {body:?} from {name:?}"
    );
    Ok(name.to_owned())
}
