//! What can be seen of slots and queues: access log, metrics, API.

use std::time::Duration;

use scenarios::eventually;
use scenarios::raw::{OK, Scripted, Talk};
use scenarios::site::{Routes, Site};
use serde_json::Value;

use super::stage::{HOST, SOON, arrived, ask, gated, queued};

async fn logged(servers: &[&Scripted], options: &str) -> Site {
    let servers: Vec<_> = servers
        .iter()
        .map(|server| format!("{{url: \"http://{}\", maxconn: 1}}", server.address()))
        .collect();
    let routes = Routes::default().route("site", "PathPrefix(`/`)", &servers.join(", "), options);
    let arguments = [
        "--accesslog=true",
        "--accesslog.format=json",
        "--accesslog.filepath=access.log",
    ];
    Site::start(&routes, &arguments).await.unwrap()
}

/// The line about `path`, once it is written.
async fn line(site: &Site, path: &str) -> Value {
    let file = site.proxy.scratch().path().join("access.log");
    let find = || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .into_iter()
            .find(|line: &Value| line["RequestPath"] == path)
    };
    let there = eventually(SOON, || async { find().is_some() }).await;
    there.unwrap_or_else(|_| panic!("no line about {path}"));
    find().unwrap()
}

async fn state(site: &Site, path: &str) -> (String, Duration) {
    let line = line(site, path).await;
    let wait = line["QueueDuration"].as_u64().unwrap_or_default();
    let state = line["Termination"].as_str().unwrap().to_owned();
    (state, Duration::from_nanos(wait))
}

async fn leave(site: &Site, path: &str) -> Talk {
    let mut talk = Talk::open(site.web).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    talk.say(request).await.unwrap();
    talk
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_how_requests_that_waited_ended() {
    const WAIT: Duration = Duration::from_millis(1500);
    let (server, gate) = gated().await;
    let site = logged(&[&server], "queue: {timeout: 1500ms, maxLength: 1}").await;
    let first = ask(&site, "/first");
    arrived(&server, 1).await;
    let late = ask(&site, "/late");
    queued(&site, 1).await;
    assert_eq!(ask(&site, "/full").await.unwrap().unwrap().status(), 503);
    assert_eq!(late.await.unwrap().unwrap().status(), 503);
    let leaver = leave(&site, "/leaver").await;
    queued(&site, 1).await;
    drop(leaver);
    queued(&site, 0).await;
    let served = ask(&site, "/served");
    queued(&site, 1).await;
    gate.add_permits(2);
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    assert_eq!(served.await.unwrap().unwrap().status(), 200);

    assert_eq!(
        state(&site, "/first").await,
        ("--".to_owned(), Duration::ZERO)
    );
    assert_eq!(
        state(&site, "/full").await,
        ("SQ".to_owned(), Duration::ZERO)
    );
    let (late, wait) = state(&site, "/late").await;
    assert_eq!(late, "sQ");
    assert!(wait >= WAIT, "{wait:?}");
    let (leaver, wait) = state(&site, "/leaver").await;
    assert_eq!(leaver, "CQ");
    assert!(wait > Duration::ZERO && wait < WAIT, "{wait:?}");
    let (served, wait) = state(&site, "/served").await;
    assert_eq!(served, "--");
    assert!(wait > Duration::ZERO);
    let waits = "tidegate_service_queue_wait_seconds_count";
    assert_eq!(site.metric(waits, "site@file").await.unwrap().round(), 3.0);
    let withdrawn = "tidegate_service_queue_withdrawn_total";
    assert_eq!(
        site.metric(withdrawn, "site@file").await.unwrap().round(),
        2.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_which_side_broke_off() {
    let server = Scripted::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let answer = match request.target() {
                "/cut" => &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nha"[..],
                "/junk" => b"HELLO\r\n\r\n",
                "/empty" => b"",
                _ => OK,
            };
            if !peer.say(answer).await || answer != OK {
                return;
            }
        }
    });
    let server = server.await.unwrap();
    let site = logged(&[&server], "").await;
    for path in ["/cut", "/junk", "/empty", "/well"] {
        let _ = ask(&site, path).await.unwrap();
    }
    for (path, expected) in [
        ("/cut", "SD"),
        ("/junk", "PH"),
        ("/empty", "SH"),
        ("/well", "--"),
    ] {
        assert_eq!(state(&site, path).await.0, expected, "{path}");
    }
    let (slow, gate) = gated().await;
    let site = logged(&[&slow], "").await;
    let leaver = leave(&site, "/leaver").await;
    arrived(&slow, 1).await;
    drop(leaver);
    assert_eq!(state(&site, "/leaver").await.0, "CH");
    gate.add_permits(1);
    let port = slow.address();
    drop(slow);
    let refused = ask(&site, "/refused").await.unwrap().unwrap();
    assert_eq!(refused.status(), 502, "{port}");
    assert_eq!(state(&site, "/refused").await.0, "SC");
    let probe = leave(&site, "/-/probe").await.final_response().await;
    assert!(probe.is_ok());
    assert_eq!(line(&site, "/-/probe").await["Termination"], "LR");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_shows_slots_queue_and_connections() {
    let (server, gate) = gated().await;
    let site = logged(&[&server], "queue: {timeout: 60s, maxLength: 1}").await;
    let first = ask(&site, "/first");
    arrived(&server, 1).await;
    let waiting = ask(&site, "/waiting");
    queued(&site, 1).await;
    assert_eq!(ask(&site, "/full").await.unwrap().unwrap().status(), 503);
    let service = async || {
        let text = site.admin_text("/api/http/services/site@file").await;
        serde_json::from_str::<Value>(&text.unwrap()).unwrap()
    };
    let shown = service().await;
    let url = format!("http://{}", server.address());
    assert_eq!(shown["serverStatus"][&url], "UP");
    let own = &shown["tidegate"];
    let queue = serde_json::json!({ "length": 1, "handed": 0, "withdrawn": 0, "full": 1 });
    assert_eq!(own["queue"], queue);
    let one = &own["servers"][0];
    assert_eq!(one["url"], url);
    for (key, expected) in [("inFlight", 1), ("limit", 1), ("maxconn", 1), ("queue", 0)] {
        assert_eq!(one[key], expected, "{key}");
    }
    assert_eq!(one["connections"]["opened"], 1);
    assert_eq!(one["connections"]["open"], 1);
    gate.add_permits(2);
    for asked in [first, waiting] {
        assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    }
    let shown = service().await;
    assert_eq!(shown["tidegate"]["queue"]["handed"], 1);
    let one = &shown["tidegate"]["servers"][0];
    assert_eq!(one["requests"], 2);
    let connections = &one["connections"];
    let used = connections["opened"].as_u64().unwrap() + connections["reused"].as_u64().unwrap();
    assert_eq!(used, 2, "{connections}");
    let opened = site.metric("tidegate_server_connections_opened_total", &url);
    assert_eq!(
        Some(opened.await.unwrap().round()),
        connections["opened"].as_f64()
    );
}
