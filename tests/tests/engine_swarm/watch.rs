//! Two views of the same changes, on one clock: what Docker shows and what the
//! proxies route by.
//!
//! Both sides are polled side by side and boiled down to facts, such as one
//! server or one router's rule. A change's lag is taken as long as it can have
//! been: from the last reading that does not show it at Docker to the first one
//! that shows it at a proxy. The time between readings, some 40 ms, is in it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::join_all;
use scenarios::client::Connection;
use serde_json::Value;
use tidegate_shared::docker::{ClientSettings, DockerEngine, Engine as _, TaskState};

/// From one reading to the next.
const PACE: Duration = Duration::from_millis(30);

/// Servers and rules, each as one line.
pub(crate) type Facts = BTreeSet<String>;

/// What one side said at one time, when it differs from what it said before.
#[derive(Clone, Debug)]
struct Reading {
    /// When the reading before it began: not earlier did this become true.
    earliest: Instant,
    /// When it was there to be read.
    seen: Instant,
    facts: Facts,
}

/// What one side said over time.
#[derive(Debug, Default)]
struct Timeline(Mutex<Vec<Reading>>);

impl Timeline {
    /// Takes a reading down that follows one that began at `earliest`.
    fn note(&self, earliest: Instant, facts: Facts) {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if readings.last().is_none_or(|last| last.facts != facts) {
            readings.push(Reading {
                earliest,
                seen: Instant::now(),
                facts,
            });
        }
    }

    /// All that was said from the state at `since` on.
    fn from(&self, since: Instant) -> Vec<Reading> {
        let readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = readings.partition_point(|reading| reading.seen <= since);
        let skipped = first.saturating_sub(1);
        readings.iter().skip(skipped).cloned().collect()
    }

    fn now(&self) -> Facts {
        let readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = readings.last();
        last.map(|last| last.facts.clone()).unwrap_or_default()
    }
}

/// Changes of facts in a timeline: when at the earliest, which, and whether it
/// came or went.
fn changes(timeline: &[Reading]) -> Vec<(Instant, String, bool)> {
    let steps = timeline.iter().zip(timeline.iter().skip(1));
    let all = steps.flat_map(|(before, after)| {
        let came = after.facts.difference(&before.facts);
        let went = before.facts.difference(&after.facts);
        let came = came.map(|fact| (after.earliest, fact.clone(), true));
        let went = went.map(|fact| (after.earliest, fact.clone(), false));
        came.chain(went).collect::<Vec<_>>()
    });
    all.collect()
}

/// How far the proxies lagged behind Docker.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lag {
    /// How many changes Docker showed.
    pub(crate) changes: usize,
    /// The mean over all changes and proxies.
    pub(crate) mean: Duration,
    /// The longest one.
    pub(crate) longest: Duration,
}

/// What both sides said since the watch began.
#[derive(Debug)]
pub(crate) struct Watch {
    docker: Timeline,
    proxies: Vec<(SocketAddr, Timeline)>,
    stop: AtomicBool,
}

/// What is watched: a service of the Swarm and what became of it in a proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// The service's name in the Swarm.
    pub(crate) service: &'a str,
    /// The network on which its tasks are reached.
    pub(crate) network: &'a str,
    /// Its name in the proxies, with provider.
    pub(crate) balancer: &'a str,
    /// A router's name in the proxies, with provider.
    pub(crate) router: &'a str,
    /// The label with that router's rule.
    pub(crate) label: &'a str,
}

impl Watch {
    /// Will watch the proxies whose APIs are at these addresses.
    pub(crate) fn new(proxies: &[SocketAddr]) -> Self {
        Self {
            docker: Timeline::default(),
            proxies: proxies
                .iter()
                .map(|&address| (address, Timeline::default()))
                .collect(),
            stop: AtomicBool::new(false),
        }
    }

    /// Reads both sides until told to stop.
    ///
    /// # Errors
    /// The engine fails, or a proxy's API says what it never should.
    pub(crate) async fn run(&self, engine: &Path, subject: Subject<'_>) -> anyhow::Result<()> {
        let settings = ClientSettings {
            endpoint: format!("unix://{}", engine.display()),
            ..ClientSettings::default()
        };
        let engine = DockerEngine::new(&settings)?;
        let docker = async {
            let mut earliest = Instant::now();
            while !self.stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                self.docker
                    .note(earliest, at_docker(&engine, subject).await?);
                earliest = began;
                tokio::time::sleep(PACE).await;
            }
            anyhow::Ok(())
        };
        let proxies = self.proxies.iter().map(async |(address, timeline)| {
            let mut connection = Connection::open(*address).await?;
            let mut earliest = Instant::now();
            while !self.stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                timeline.note(earliest, at_proxy(&mut connection, subject).await?);
                earliest = began;
                tokio::time::sleep(PACE).await;
            }
            anyhow::Ok(())
        });
        let (docker, proxies) = tokio::join!(docker, join_all(proxies));
        docker.context("the engine")?;
        proxies
            .into_iter()
            .collect::<Result<(), _>>()
            .context("a proxy's API")
    }

    /// Ends the watch.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// What Docker shows now.
    pub(crate) fn docker(&self) -> Facts {
        self.docker.now()
    }

    /// Whether every proxy says what Docker shows.
    pub(crate) fn agrees(&self) -> bool {
        let docker = self.docker.now();
        self.proxies.iter().all(|(_, proxy)| proxy.now() == docker)
    }

    /// Both sides as they are, for a failed test.
    pub(crate) fn describe(&self) -> String {
        let proxies = self
            .proxies
            .iter()
            .map(|(at, seen)| format!("{at}: {:#?}", seen.now()));
        let docker = [format!("Docker: {:#?}", self.docker.now())];
        docker
            .into_iter()
            .chain(proxies)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The lags of all changes that Docker showed after `since`.
    ///
    /// # Errors
    /// A proxy never took one over.
    pub(crate) fn lag(&self, since: Instant) -> anyhow::Result<Lag> {
        let docker = changes(&self.docker.from(since));
        let mut lags = Vec::new();
        for (address, proxy) in &self.proxies {
            let proxy = proxy.from(since);
            for (at, fact, came) in &docker {
                let mut readings = proxy.iter();
                let taken = readings.find(|reading| reading.facts.contains(fact) == *came);
                let taken = taken.with_context(|| format!("{address} never saw {fact}"))?;
                lags.push(taken.seen.saturating_duration_since(*at));
            }
        }
        let count = u32::try_from(lags.len().max(1))?;
        Ok(Lag {
            changes: docker.len(),
            mean: lags.iter().sum::<Duration>() / count,
            longest: lags.into_iter().max().unwrap_or_default(),
        })
    }
}

/// The servers and the rule that Docker shows.
async fn at_docker(engine: &DockerEngine, subject: Subject<'_>) -> anyhow::Result<Facts> {
    let (services, tasks) = tokio::try_join!(engine.services(), engine.tasks())?;
    let mut facts = Facts::new();
    let services = services
        .iter()
        .filter(|service| service.name == subject.service);
    for service in services {
        if let Some(rule) = service.labels.get(subject.label) {
            facts.insert(format!("rule {rule}"));
        }
        let running = tasks.iter().filter(|task| {
            task.service_id == service.id
                && task.state == TaskState::Running
                && task.desired == TaskState::Running
        });
        let attached = running.filter_map(|task| task.networks.get(subject.network));
        let addresses = attached.filter_map(|attached| attached.address.preferred());
        facts.extend(addresses.map(|address| format!("server http://{address}:80")));
    }
    Ok(facts)
}

/// The servers and the rule that a proxy goes by.
async fn at_proxy(connection: &mut Connection, subject: Subject<'_>) -> anyhow::Result<Facts> {
    let answer = connection.get("api.test", "/api/rawdata").await?;
    anyhow::ensure!(answer.status() == 200, "rawdata: {}", answer.status());
    let data: Value = serde_json::from_slice(answer.body())?;
    let service = data
        .get("services")
        .and_then(|all| all.get(subject.balancer));
    let servers = service.and_then(|service| service.get("serverStatus"));
    let servers = servers.and_then(Value::as_object).into_iter().flatten();
    let mut facts: Facts = servers.map(|(url, _)| format!("server {url}")).collect();
    let router = data.get("routers").and_then(|all| all.get(subject.router));
    let rule = router.and_then(|router| router.get("rule"));
    facts.extend(
        rule.and_then(Value::as_str)
            .map(|rule| format!("rule {rule}")),
    );
    Ok(facts)
}
