//! A worker's proxy that has no Docker at all: it follows the Swarm through the
//! manager's, goes on when it is cut off, and catches up.
//!
//! Needs root and Docker's programs; run by `./test` with `--ignored`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests: what fails, fails them; figures are for whoever runs them"
)]

#[path = "../engine_swarm/load.rs"]
mod load;

use std::env;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use scenarios::demo::{self, Options};
use scenarios::lab::{Image, Lab, Place};
use scenarios::{Scratch, client, eventually};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(90);

/// How much later than the manager's proxy a worker's may know.
const CLOSE: Duration = Duration::from_secs(1);

/// How long the worker is cut off, in seconds, unless this variable says otherwise.
const CUT: (&str, u64) = ("TIDEGATE_CUT_SECONDS", 15);

/// How many changes are made.
const ROUNDS: usize = 5;

/// From one look to the next.
const PACE: Duration = Duration::from_millis(10);

const MANAGER: u8 = 1;
const WORKER: u8 = 2;

fn at(node: u8, port: u16) -> SocketAddr {
    (Place::Node(node).address(), port).into()
}

#[test]
#[ignore = "needs Docker engines"]
fn a_worker_without_docker_follows_and_goes_on_alone() {
    let lab = Lab::swarm(2).unwrap();
    set_up(&lab).unwrap();
    relays(&lab);
    follows_closely(&lab);
    goes_on_alone(&lab);
}

fn set_up(lab: &Lab) -> anyhow::Result<()> {
    lab.load_ours(&[Image::Proxy, Image::Demo])?;
    // A node that the Swarm takes for dead gets all its tasks stopped when it is back.
    lab.docker_ok(
        MANAGER,
        &["swarm", "update", "--dispatcher-heartbeat", "60s"],
    )?;
    let files = Scratch::new()?;
    let secret = files.write("secret", &"s3cret-".repeat(8))?;
    let secret = secret.to_string_lossy();
    lab.docker_ok(MANAGER, &["secret", "create", "tidegate-cluster", &secret])?;
    let stack = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine_worker/stack.yml");
    lab.deploy("proxy", &stack, &[])
}

/// Creates a service with a router for HTTP and one for TLS.
fn create(lab: &Lab, name: &str, more: &[&str]) {
    let labels = [
        "traefik.enable=true".to_owned(),
        format!("traefik.http.routers.{name}.rule=Host(`{name}.test`)"),
        format!("traefik.http.routers.{name}.entrypoints=http"),
        format!("traefik.http.routers.{name}-tls.rule=Host(`{name}.test`)"),
        format!("traefik.http.routers.{name}-tls.entrypoints=https"),
        format!("traefik.http.routers.{name}-tls.tls=true"),
    ];
    let mut command = vec![
        "service",
        "create",
        "-d",
        "--no-resolve-image",
        "--name",
        name,
    ];
    command.extend(["--network", "front", "--endpoint-mode", "dnsrr"]);
    for label in &labels {
        command.extend(["--label", label.as_str()]);
    }
    command.extend(more);
    command.push("tidegate/demo:latest");
    lab.docker_ok(MANAGER, &command).unwrap();
}

/// What a node's proxy says of its provider, asked on the node itself.
async fn provider(node: u8) -> anyhow::Result<Value> {
    let overview = api(node, "/api/overview").await?;
    Ok(overview["tidegate"]["providers"][0].clone())
}

async fn api(node: u8, path: &str) -> anyhow::Result<Value> {
    let answer = client::get(at(node, 8080), "any.test", path).await?;
    anyhow::ensure!(answer.status() == 200, "{path}: {}", answer.status());
    Ok(serde_json::from_slice(answer.body())?)
}

async fn serves(node: u8, host: &str) -> bool {
    let asking = timeout(CLOSE, client::get(at(node, 80), host, "/"));
    let Ok(Ok(answer)) = asking.await else {
        return false;
    };
    load::signature(&answer).is_ok()
}

/// The worker's proxy has nothing to ask but the manager's.
fn relays(lab: &Lab) {
    let is_relayed = async || {
        let provider = provider(WORKER).await.unwrap_or_default();
        provider["status"] == "current" && provider["source"].is_string()
    };
    let joined = lab.inside(Place::Client, || eventually(SOON, is_relayed));
    joined.unwrap_or_else(|error| panic!("{error}\n{}", logs(lab)));
    let find = ["ps", "-q", "--filter", "name=proxy_worker"];
    let id = lab.docker_ok(WORKER, &find).unwrap();
    let mounts = ["inspect", "-f", "{{json .Mounts}}", id.trim()];
    let mounts = lab.docker_ok(WORKER, &mounts).unwrap();
    assert!(!mounts.contains("docker.sock"), "{mounts}");
    let provider = lab.inside(Place::Client, || provider(WORKER)).unwrap();
    let cluster = lab.inside(Place::Client, || api(WORKER, "/api/cluster"));
    let cluster = cluster.unwrap();
    assert_eq!(provider["source"], cluster["members"][0]["name"]);
    assert_eq!(cluster["members"][0]["status"], "live", "{cluster}");
}

/// A new service, and each further change, is routed on the worker when it is on the manager.
fn follows_closely(lab: &Lab) {
    let port = "traefik.http.services.site.loadbalancer.server.port=80";
    let on_worker = ["--constraint", "node.role==worker", "--label", port];
    create(lab, "site", &on_worker);
    let mut lags = vec![lag(lab, "site.test")];
    for number in 0..ROUNDS {
        let host = format!("site{number}.test");
        let rule = format!("traefik.http.routers.more.rule=Host(`{host}`)");
        let update = ["service", "update", "-d", "--label-add", &rule, "site"];
        lab.docker_ok(MANAGER, &update).unwrap();
        lags.push(lag(lab, &host));
    }
    eprintln!("the worker routed new things {lags:.1?} ms after the manager");
    let is_close = |lag: &f64| *lag <= CLOSE.as_secs_f64() * 1e3;
    assert!(lags.iter().all(is_close), "{lags:?}\n{}", logs(lab));
    let both = async || serves(MANAGER, "site.test").await && serves(WORKER, "site.test").await;
    let both = lab.inside(Place::Client, || eventually(SOON, both));
    both.unwrap_or_else(|error| panic!("{error}\n{}", logs(lab)));
}

/// How much later than the manager's proxy the worker's one routes a host, in
/// milliseconds; below zero if it is the first.
fn lag(lab: &Lab, host: &str) -> f64 {
    let routed = async |node| {
        let deadline = Instant::now() + SOON;
        while matches!(status(node, host).await, None | Some(404)) {
            anyhow::ensure!(Instant::now() < deadline, "node {node} is late");
            tokio::time::sleep(PACE).await;
        }
        Ok(Instant::now())
    };
    let both = async || tokio::try_join!(routed(MANAGER), routed(WORKER));
    let both = lab.inside(Place::Client, both);
    let (manager, worker) = both.unwrap_or_else(|error| panic!("{error}\n{}", logs(lab)));
    let later = worker.saturating_duration_since(manager).as_secs_f64();
    let earlier = manager.saturating_duration_since(worker).as_secs_f64();
    (later - earlier) * 1e3
}

/// The cable is pulled under load; meanwhile the Swarm gets one more service.
fn goes_on_alone(lab: &Lab) {
    let tally = load::Tally::default();
    let begun = Instant::now();
    thread::scope(|scope| {
        let (stop, stopped) = oneshot::channel();
        let late = scope.spawn(|| lab.inside(Place::Node(WORKER), || late_server(stopped)));
        let running = scope.spawn(|| {
            let proxies = [at(WORKER, 443)];
            lab.inside(Place::Node(WORKER), || {
                load::run(&tally, &proxies, "site.test")
            })
        });
        let played = play(lab, &tally, begun);
        tally.stop();
        drop(stop);
        running.join().unwrap().unwrap();
        late.join().unwrap().unwrap();
        played.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
    });
    let all = tally.sent_in(begun..Instant::now());
    let failures: Vec<_> = all.iter().filter_map(|it| it.failure.as_ref()).collect();
    let longest = all.iter().max_by_key(|it| it.took);
    let longest = longest.map(|it| (it.took, it.start - begun));
    eprintln!(
        "{} requests, {} failed, the longest took, and began at: {longest:.0?}",
        all.len(),
        failures.len()
    );
    assert!(failures.is_empty(), "{failures:?}\n{}", logs(lab));
}

/// The server of the service that comes late: on the worker's own network, so that the
/// way to it is not what is waited for.
async fn late_server(stopped: oneshot::Receiver<()>) -> anyhow::Result<()> {
    let listener = TcpListener::bind(at(WORKER, 9000)).await?;
    let stop = async move {
        let _dropped = stopped.await;
    };
    let options = Options {
        name: "late".to_owned(),
        ..Options::default()
    };
    demo::run(listener, options, stop).await;
    Ok(())
}

fn play(lab: &Lab, tally: &load::Tally, begun: Instant) -> anyhow::Result<()> {
    goes_on(tally)?;
    lab.cut(Place::Node(WORKER))?;
    let cut = Instant::now();
    eprintln!("cut after {:.1?}", cut - begun);
    let url = format!("http://{}", at(WORKER, 9000));
    let url = format!("traefik.http.services.late.loadbalancer.server.url={url}");
    create(
        lab,
        "late",
        &["--constraint", "node.role==manager", "--label", &url],
    );
    let is_known = async || !matches!(status(MANAGER, "late.test").await, None | Some(404));
    lab.inside(Place::Client, || eventually(SOON, is_known))?;
    let patience = env::var(CUT.0).ok().and_then(|it| it.parse().ok());
    let patience = Duration::from_secs(patience.unwrap_or(CUT.1));
    lab.inside(Place::Node(WORKER), || says_how_old_it_is(cut, patience))?;
    goes_on(tally)?;
    eprintln!("was cut off for {:.0?}", cut.elapsed());

    let watch = thread::scope(|scope| {
        let watching = scope.spawn(|| lab.inside(Place::Node(WORKER), catches_up));
        lab.heal(Place::Node(WORKER))?;
        watching.join().unwrap()
    });
    let took = watch?;
    eprintln!("the worker routed what it had missed {took:.0?} after packets went through");
    anyhow::ensure!(took <= CLOSE, "it took {took:?}");
    lab.inside(Place::Node(WORKER), || {
        eventually(SOON, async || {
            provider(WORKER).await.unwrap_or_default()["status"] == "current"
        })
    })?;
    goes_on(tally)
}

/// Waits for more requests of the load.
fn goes_on(tally: &load::Tally) -> anyhow::Result<()> {
    let before = tally.requests();
    scenarios::eventually_blocking(SOON, || tally.requests() >= before + 300).map(drop)
}

async fn status(node: u8, host: &str) -> Option<u16> {
    let asking = timeout(CLOSE, client::get(at(node, 80), host, "/"));
    let answer = asking.await.ok()?.ok()?;
    Some(answer.status().as_u16())
}

/// Until the end of its time alone, the worker's proxy serves what it knows, and its API
/// tells how old that is.
async fn says_how_old_it_is(cut: Instant, patience: Duration) -> anyhow::Result<()> {
    let is_stale = async || provider(WORKER).await.unwrap_or_default()["status"] == "stale";
    eventually(patience, is_stale).await?;
    while cut.elapsed() < patience {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (provider, cluster) = (provider(WORKER).await?, api(WORKER, "/api/cluster").await?);
    let age = provider["age"].as_f64().unwrap_or_default();
    let real = cut.elapsed().as_secs_f64();
    eprintln!("cut off for {real:.1} s: {provider} {cluster}");
    // The last sign of life was up to a second before the cut.
    anyhow::ensure!((real - 1.0..real + 3.0).contains(&age), "{age} s");
    anyhow::ensure!(cluster["members"][0]["status"] == "away", "{cluster}");
    anyhow::ensure!(
        cluster["members"][0]["age"].as_f64() > Some(1.0),
        "{cluster}"
    );
    anyhow::ensure!(serves(WORKER, "site.test").await, "it does not serve");
    anyhow::ensure!(status(WORKER, "late.test").await == Some(404), "it knows");
    Ok(())
}

/// Polls until the manager's node can be reached, then until the new service is served;
/// the time between the two.
async fn catches_up() -> anyhow::Result<Duration> {
    let deadline = Instant::now() + SOON;
    let mut flows = None;
    while !serves(WORKER, "late.test").await {
        anyhow::ensure!(Instant::now() < deadline, "it never caught up");
        if flows.is_none() {
            let reaching = timeout(PACE * 5, TcpStream::connect(at(MANAGER, 80)));
            flows = matches!(reaching.await, Ok(Ok(_))).then(Instant::now);
        }
        tokio::time::sleep(PACE).await;
    }
    Ok(flows.map_or(Duration::ZERO, |flows| flows.elapsed()))
}

/// What the proxies' containers have written.
fn logs(lab: &Lab) -> String {
    let mut all = String::new();
    for node in [MANAGER, WORKER] {
        let find = ["ps", "-aq", "--filter", "name=proxy_"];
        for id in lab.docker_ok(node, &find).unwrap().split_whitespace() {
            let output = lab.docker(node, &["logs", id]).unwrap();
            all.push_str(&format!("---- node {node}\n"));
            all.push_str(&String::from_utf8_lossy(&output.stdout));
            all.push_str(&String::from_utf8_lossy(&output.stderr));
        }
    }
    all
}
