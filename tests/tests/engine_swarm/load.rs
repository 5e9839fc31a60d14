//! A constant load in which every answer is checked.
//!
//! Requests come at a fixed pace however long their answers take, over TLS: most
//! on kept connections, some on fresh ones, some that may not be sent to a server
//! twice, some that keep their server busy for a while, so that there is always
//! something in flight. A failure is anything but the whole, right answer of one
//! server; nothing is tried twice.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Empty;
use scenarios::client::Connection;
use tokio::time::{interval, timeout};

/// From one request to a proxy to the next, whether the last one is answered or not.
const PACE: Duration = Duration::from_micros(7_500);

/// Every so many requests take a connection of their own.
const FRESH: u64 = 5;

/// Every so many requests take their server a while.
const SLOW: u64 = 12;

/// Every so many requests are such that nobody may send them twice.
const POST: u64 = 7;

/// An answer that comes later than this is none that a client would wait for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the clients have met so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    samples: Mutex<Vec<Sample>>,
    stop: AtomicBool,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// When it was sent.
    pub(crate) start: Instant,
    /// How long its answer took.
    pub(crate) took: Duration,
    /// What was wrong with the answer.
    pub(crate) failure: Option<String>,
}

impl Tally {
    /// How many requests have been answered, or failed, up to now.
    pub(crate) fn requests(&self) -> usize {
        self.samples().len()
    }

    /// All requests that were sent in a span of time and have come to their end.
    pub(crate) fn sent_in(&self, span: Range<Instant>) -> Vec<Sample> {
        let samples = self.samples();
        let sent = samples.iter().filter(|sample| span.contains(&sample.start));
        sent.cloned().collect()
    }

    /// Ends the load.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn samples(&self) -> MutexGuard<'_, Vec<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, outcome: anyhow::Result<String>, kind: &str, start: Instant) {
        let took = start.elapsed();
        let failure = outcome.err();
        self.samples().push(Sample {
            start,
            took,
            failure: failure.map(|error| format!("{kind}, {took:.0?}: {error:#}")),
        });
    }
}

/// Sends requests for `host` to all `proxies` until the tally is told to stop.
pub(crate) async fn run(tally: &Tally, proxies: &[SocketAddr], host: &str) -> anyhow::Result<()> {
    join_all(proxies.iter().map(|&proxy| clients(tally, proxy, host))).await;
    Ok(())
}

/// The clients of one proxy: as many connections as it takes to keep the pace.
async fn clients(tally: &Tally, proxy: SocketAddr, host: &str) {
    let idle = RefCell::new(Vec::new());
    let mut ticks = interval(PACE);
    let mut running = FuturesUnordered::new();
    for number in 1.. {
        let tick = ticks.tick();
        tokio::pin!(tick);
        loop {
            tokio::select! {
                _ = &mut tick => break,
                Some(()) = running.next() => {}
            }
        }
        if tally.stop.load(Ordering::Relaxed) {
            break;
        }
        running.push(one(tally, &idle, proxy, host, number));
    }
    while running.next().await.is_some() {}
}

/// One request, on a kept connection if there is one and it may have one.
async fn one(
    tally: &Tally,
    idle: &RefCell<Vec<Connection>>,
    proxy: SocketAddr,
    host: &str,
    number: u64,
) {
    let path = match number % SLOW {
        0 => "/delay?ms=50",
        _ => "/",
    };
    let method = match number % POST {
        0 => Method::POST,
        _ => Method::GET,
    };
    let kept = match number % FRESH {
        0 => None,
        _ => idle.borrow_mut().pop(),
    };
    let kind = if kept.is_some() { "kept" } else { "fresh" };
    let start = Instant::now();
    let exchange = async {
        let mut connection = match kept {
            Some(connection) => connection,
            None => Connection::open_tls(proxy, host).await?,
        };
        let request = Request::builder().method(&method).uri(path);
        let request = request.header(header::HOST, host).body(Empty::new())?;
        let answer = connection.send(request).await?;
        let closes = answer.headers().get(header::CONNECTION);
        if !number.is_multiple_of(FRESH) && closes.is_none_or(|value| value != "close") {
            idle.borrow_mut().push(connection);
        }
        signature(&answer)
    };
    let outcome = timeout(PATIENCE, exchange).await;
    let outcome = outcome.unwrap_or_else(|late| Err(late.into()));
    tally.note(
        outcome,
        &format!("{method} {path}, {kind}, at {proxy}"),
        start,
    );
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
