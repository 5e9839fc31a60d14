//! Health checks against the built proxy: who gets requests, before and after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use scenarios::eventually;
use scenarios::raw::{Message, OK, Scripted, exchange};
use scenarios::site::{Routes, Site};
use tokio::sync::Semaphore;

const SOON: Duration = Duration::from_secs(30);
const BAD: &[u8] = b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n";

/// A server that is well until the test says otherwise.
struct Patient {
    server: Scripted,
    is_well: Arc<AtomicBool>,
    /// What requests to `/held` need a permit of.
    gate: Arc<Semaphore>,
}

impl Patient {
    /// `fails` says which requests go wrong while it is not well.
    async fn start(fails: fn(&Message) -> bool) -> anyhow::Result<Self> {
        let is_well = Arc::new(AtomicBool::new(true));
        let gate = Arc::new(Semaphore::new(0));
        let shared = (Arc::clone(&is_well), Arc::clone(&gate));
        let server = Scripted::start(move |mut peer| {
            let (is_well, gate) = shared.clone();
            async move {
                while let Some(request) = peer.request().await {
                    if request.target() == "/held" {
                        gate.acquire().await.expect("the gate is open").forget();
                    }
                    let is_fine = is_well.load(Ordering::SeqCst) || !fails(&request);
                    if !peer.say(if is_fine { OK } else { BAD }).await {
                        return;
                    }
                }
            }
        });
        Ok(Self {
            server: server.await?,
            is_well,
            gate,
        })
    }

    fn set_well(&self, is_well: bool) {
        self.is_well.store(is_well, Ordering::SeqCst);
    }

    /// Requests since the last call, those of checks aside.
    fn served(&self) -> usize {
        let seen = self.server.take().into_iter();
        let requests = seen.filter_map(|seen| seen.request.ok());
        requests.filter(|request| !is_check(request)).count()
    }

    fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }
}

fn is_check(request: &Message) -> bool {
    request.target() == "/health"
}

fn routes(patients: &[&Patient], each: &str, options: &str) -> Routes {
    let servers: Vec<_> = patients
        .iter()
        .map(|patient| format!("{{url: \"{}\"{each}}}", patient.url()))
        .collect();
    Routes::default().route("site", "PathPrefix(`/`)", &servers.join(", "), options)
}

async fn ask(site: &Site, path: &str) -> anyhow::Result<u16> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    Ok(exchange(site.web, request).await?.status())
}

/// Waits until the proxy calls the server up or down.
async fn becomes(site: &Site, patient: &Patient, up: bool) -> anyhow::Result<()> {
    let expected = if up { 1.0 } else { 0.0 };
    let is_so = || async {
        let up = site
            .metric("traefik_service_server_up", &patient.url())
            .await;
        up.is_ok_and(|up: f64| (up - expected).abs() < 0.1)
    };
    let waited = eventually(SOON, is_so).await;
    waited.with_context(|| format!("up: {up}; the proxy said:\n{}", site.proxy.log()))?;
    Ok(())
}

const CHECK: &str = "healthCheck: {path: /health, interval: 50ms, timeout: 5s}";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_gets_no_request_until_it_passes() -> anyhow::Result<()> {
    let a = Patient::start(is_check).await?;
    let b = Patient::start(is_check).await?;
    let site = Site::start(&routes(&[&a, &b], "", CHECK), &[]).await?;
    a.set_well(false);
    becomes(&site, &a, false).await?;
    a.served();
    for _ in 0..20 {
        assert_eq!(ask(&site, "/").await?, 200);
    }
    assert_eq!((a.served(), b.served()), (0, 20));
    a.set_well(true);
    becomes(&site, &a, true).await?;
    for _ in 0..20 {
        assert_eq!(ask(&site, "/").await?, 200);
    }
    assert_eq!((a.served(), b.served()), (10, 10));
    let log = site.proxy.log();
    assert_eq!(log.matches("Server is down").count(), 1, "{log}");
    assert_eq!(log.matches("Server is up").count(), 1, "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn states_outlive_configurations_and_not_their_checks() -> anyhow::Result<()> {
    let a = Patient::start(is_check).await?;
    let b = Patient::start(is_check).await?;
    let site = Site::start(&routes(&[&a, &b], "", CHECK), &[]).await?;
    a.set_well(false);
    becomes(&site, &a, false).await?;
    a.served();
    // Another check, and another route whose answer tells that it is in force.
    let slow = "healthCheck: {path: /health, interval: 1h, timeout: 5s, fall: 100}";
    let more = routes(&[&a, &b], "", slow).route("more", "Host(`more.test`)", "", "");
    site.write(&more.text())?;
    let is_there = || async {
        assert_eq!(ask(&site, "/").await.unwrap(), 200);
        let answer = scenarios::client::get(site.web, "more.test", "/").await;
        answer.is_ok_and(|answer| answer.status() == 503)
    };
    eventually(SOON, is_there).await?;
    for _ in 0..10 {
        assert_eq!(ask(&site, "/").await?, 200);
    }
    assert_eq!(a.served(), 0);
    // Nobody asks any more: it is up.
    site.write(&routes(&[&a, &b], "", "").text())?;
    becomes(&site, &a, true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_server_that_goes_down_learns_it_at_once() -> anyhow::Result<()> {
    let a = Patient::start(is_check).await?;
    let options = format!("{CHECK}, queue: {{timeout: 1h}}");
    let site = Site::start(&routes(&[&a], ", maxconn: 1", &options), &[]).await?;
    let site = Arc::new(site);
    let behind = |path: &'static str| {
        let site = Arc::clone(&site);
        tokio::spawn(async move { ask(&site, path).await })
    };
    let held = behind("/held");
    let busy = || async {
        let open = site.metric("tidegate_server_in_flight", "site@file").await;
        open.is_ok_and(|open| open > 0.5)
    };
    eventually(SOON, busy).await?;
    let waiting = behind("/waiting");
    let queued = || async {
        let length = site.metric("tidegate_service_queue_length", "site@file");
        length.await.is_ok_and(|length| length > 0.5)
    };
    eventually(SOON, queued).await?;
    a.set_well(false);
    assert_eq!(waiting.await??, 503);
    a.gate.add_permits(1);
    assert_eq!(held.await??, 200, "what is in flight may finish");
    a.set_well(true);
    becomes(&site, &a, true).await?;
    assert_eq!(ask(&site, "/").await?, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_have_to_pass_first() -> anyhow::Result<()> {
    let a = Patient::start(is_check).await?;
    a.set_well(false);
    let options = "healthCheck: {path: /health, interval: 50ms, initState: down, rise: 3}";
    let site = Site::start(&routes(&[&a], "", options), &[]).await?;
    assert_eq!(ask(&site, "/").await?, 503);
    assert_eq!(a.served(), 0);
    a.set_well(true);
    becomes(&site, &a, true).await?;
    assert_eq!(ask(&site, "/").await?, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_requests_take_a_server_out_for_a_while() -> anyhow::Result<()> {
    let a = Patient::start(|_| true).await?;
    let b = Patient::start(|_| true).await?;
    let options = "passiveHealthCheck: {maxFailedAttempts: 2, failureWindow: 3s}";
    let site = Site::start(&routes(&[&a, &b], "", options), &[]).await?;
    a.set_well(false);
    let mut failed = 0;
    let begun = std::time::Instant::now();
    for _ in 0..20 {
        failed += usize::from(ask(&site, "/").await? == 500);
    }
    if begun.elapsed() < Duration::from_secs(3) {
        assert_eq!((failed, a.served()), (2, 2));
        becomes(&site, &a, false).await?;
    }
    a.set_well(true);
    becomes(&site, &a, true).await?;
    let again = || async {
        let status = ask(&site, "/").await;
        status.is_ok_and(|status| status == 200) && a.served() > 0
    };
    eventually(SOON, again).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_reached_is_taken_out() -> anyhow::Result<()> {
    let a = Patient::start(is_check).await?;
    let gone = Patient::start(is_check).await?;
    let options = "passiveHealthCheck: {maxFailedAttempts: 1, failureWindow: 1h}";
    let routes = routes(&[&a, &gone], "", options);
    let url = gone.url();
    drop(gone);
    let site = Site::start(&routes, &[]).await?;
    for _ in 0..10 {
        assert_eq!(ask(&site, "/").await?, 200);
    }
    let up = site.metric("traefik_service_server_up", &url).await?;
    assert!(up < 0.5, "{up}");
    let failed = site.proxy.log().matches("Server is down").count();
    assert_eq!(failed, 1);
    Ok(())
}

/// As uWSGI with one worker: who comes while a connection is open waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_workers_we_hold_is_not_down() -> anyhow::Result<()> {
    let worker = Arc::new(Semaphore::new(1));
    let gate = Arc::new(Semaphore::new(0));
    let shared = (Arc::clone(&worker), Arc::clone(&gate));
    let server = Scripted::start(move |mut peer| {
        let (worker, gate) = shared.clone();
        async move {
            let _worker = worker.acquire().await.expect("the worker is there");
            while let Some(request) = peer.request().await {
                if request.target() == "/held" {
                    gate.acquire().await.expect("the gate is open").forget();
                }
                if !peer.say(OK).await {
                    return;
                }
            }
        }
    });
    let server = server.await?;
    let one = format!("{{url: \"http://{}\", maxconn: 1}}", server.address());
    let options = "healthCheck: {path: /health, interval: 50ms, timeout: 100ms}";
    let routes = Routes::default().route("site", "PathPrefix(`/`)", &one, options);
    let site = Arc::new(Site::start(&routes, &[]).await?);
    let held = tokio::spawn({
        let site = Arc::clone(&site);
        async move { ask(&site, "/held").await }
    });
    let checks = |more: usize| {
        let before = server.connections();
        let server = &server;
        eventually(SOON, move || async move {
            server.connections() >= before + more
        })
    };
    let busy = || async {
        let open = site.metric("tidegate_server_in_flight", "site@file").await;
        open.is_ok_and(|open| open > 0.5)
    };
    eventually(SOON, busy).await?;
    checks(4).await?;
    gate.add_permits(1);
    assert_eq!(held.await??, 200);
    // The connection is kept now, and holds the worker still.
    checks(4).await?;
    assert_eq!(ask(&site, "/").await?, 200);
    let log = site.proxy.log();
    assert!(!log.contains("Server is down"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_obeyed_is_said() -> anyhow::Result<()> {
    let a = Patient::start(is_check).await?;
    let wrong = "healthCheck: {initState: maybe}";
    let remarkable = "healthCheck: {interval: 0s}";
    let servers = format!("{{url: \"{}\"}}", a.url());
    let routes = Routes::default()
        .route("wrong", "Host(`wrong.test`)", &servers, wrong)
        .route("remark", "Host(`remark.test`)", &servers, remarkable);
    let site = Site::start(&routes, &[]).await?;
    let log = site.proxy.log();
    let key = "wrong@file.loadBalancer.healthCheck.initState";
    assert!(log.contains(key), "{log}");
    let key = "remark@file.loadBalancer.healthCheck.interval";
    assert!(log.contains(key), "{log}");
    let answer = scenarios::client::get(site.web, "remark.test", "/").await?;
    assert_eq!(answer.status(), 200);
    Ok(())
}
