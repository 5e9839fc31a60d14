//! A request that is forgotten in a queue waits until its time is up, beside a
//! server that has nothing to do.
//!
//! Bursts of requests at a few fast servers with a low limit: the queue fills and
//! empties all the time, so that a lost wake-up would show as a wait as long as
//! the queue's time-out. Seen from the client, and from the proxy's access log.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::block_on;
use crate::client::{Client, get};
use crate::options::Options;
use crate::races::{Idle, Manner, Servers};
use crate::subject::{Product, Setup};
use crate::verdict::Verdict;

/// Runs of each proxy.
const RUNS: u64 = 20;
/// Requests of a run.
const REQUESTS: usize = 4000;
/// Servers, fast and mostly idle.
const SERVERS: usize = 4;
/// Clients that send at the same time.
const CLIENTS: usize = 40;
/// How long a request may wait.
const QUEUE: Duration = Duration::from_secs(10);
/// The share of that which no request may wait.
const SHARE: f64 = 0.05;
/// No answer is waited for any longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of one run.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    longest: Duration,
    /// In the queue, by the proxy's own account.
    queued: Option<Duration>,
    errors: u64,
}

/// Runs what the options ask for and prints the longest wait of each run;
/// returns what was kept.
///
/// # Errors
/// A proxy does not start.
#[expect(clippy::print_stdout, reason = "this is a command line")]
pub fn run(options: &Options) -> anyhow::Result<Vec<Verdict>> {
    let requests = options.requests.unwrap_or(REQUESTS);
    let allowed = QUEUE.mul_f64(SHARE);
    let mut verdicts = Vec::new();
    println!(
        "| proxy | run | longest answer ms | longest in the queue ms | errors |\n|---|---|---|---|---|"
    );
    for product in Product::ALL.into_iter().filter(|p| options.takes(*p)) {
        // Traefik has neither a limit nor a queue.
        if product == Product::Traefik {
            continue;
        }
        let (mut longest, mut errors) = (Duration::ZERO, 0);
        for number in 1..=RUNS {
            let outcome = one(product, number, requests, options.seed)?;
            let queued = outcome.queued.map_or_else(|| "-".to_owned(), milliseconds);
            let (took, title) = (milliseconds(outcome.longest), product.name());
            println!(
                "| {title} | {number} | {took} | {queued} | {} |",
                outcome.errors
            );
            longest = longest
                .max(outcome.longest)
                .max(outcome.queued.unwrap_or_default());
            errors += outcome.errors;
        }
        if product == Product::Tidegate {
            let (took, most) = (milliseconds(longest), milliseconds(allowed));
            verdicts.push(Verdict::new(
                longest < allowed,
                format!("longest wait {took} ms, below {most}"),
            ));
            verdicts.push(Verdict::new(errors == 0, format!("{errors} errors, none")));
        }
    }
    Ok(verdicts)
}

/// One run: odd ones with a limit of one, even ones of two.
fn one(product: Product, number: u64, requests: usize, seed: u64) -> anyhow::Result<Outcome> {
    let manner = Manner {
        idle: Idle::After(Duration::from_secs(60)),
        work: Duration::ZERO,
    };
    let servers = Servers::start(SERVERS, manner, 0)?;
    let logs = product == Product::Tidegate;
    let setup = Setup {
        maxconn: if number % 2 == 1 { 1 } else { 2 },
        queue_timeout: Some(QUEUE),
        logs,
        ..Setup::new(product)
    };
    let subject = setup.start(&servers.addresses)?;
    let seed = seed.wrapping_mul(RUNS) + number;
    let mut outcome = block_on(bursts(subject.address, requests, seed))?;
    if logs {
        outcome.queued = longest_queued(&subject.finish()?);
    }
    Ok(outcome)
}

/// Bursts of one to three requests of each client, with pauses between them in
/// which all servers become idle.
async fn bursts(address: SocketAddr, requests: usize, seed: u64) -> anyhow::Result<Outcome> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| Client::new(address, PATIENCE))
        .collect();
    let mut outcome = Outcome::default();
    let mut left = requests;
    while left > 0 {
        let each = rng.usize(1..=3);
        let mut burst = JoinSet::new();
        for mut client in clients.split_off(0) {
            let count = each.min(left);
            left -= count;
            let thought = Duration::from_micros(rng.u64(..500));
            burst.spawn(async move {
                sleep(thought).await;
                let (longest, errors) = some(&mut client, count).await;
                (client, longest, errors)
            });
        }
        while let Some(done) = burst.join_next().await {
            let (client, longest, errors) = done?;
            outcome.longest = outcome.longest.max(longest);
            outcome.errors += errors;
            clients.push(client);
        }
        sleep(Duration::from_micros(rng.u64(..5000))).await;
    }
    Ok(outcome)
}

async fn some(client: &mut Client, count: usize) -> (Duration, u64) {
    let (mut longest, mut errors) = (Duration::ZERO, 0);
    for _ in 0..count {
        let start = Instant::now();
        match client.send(&get("/0")).await {
            Ok(answer) if answer.status == 200 => {}
            _ => errors += 1,
        }
        longest = longest.max(start.elapsed());
    }
    (longest, errors)
}

/// The longest time in the queue of a log in JSON; none if it doesn't tell.
fn longest_queued(log: &str) -> Option<Duration> {
    let entries = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let times = entries.filter_map(|entry: Value| entry.get("QueueDuration")?.as_u64());
    times.max().map(Duration::from_nanos)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_the_longest_wait() {
        let log = "{\"QueueDuration\": 5}\nnoise\n{\"QueueDuration\": 2000000}\n{}\n";
        assert_eq!(longest_queued(log), Some(Duration::from_millis(2)));
        assert_eq!(longest_queued("{}"), None);
    }
}
