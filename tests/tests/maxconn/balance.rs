//! Which server is chosen, and what happens when it is not there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use scenarios::raw::exchange;
use scenarios::site::{Routes, Site};
use scenarios::{client, ports};

use super::stage::{HOST, arrived, ask, demo, gated, site};

/// Who answered how many of `count` requests, one after the other.
async fn shares(site: &Site, count: usize) -> BTreeMap<String, usize> {
    let mut connection = client::Connection::open(site.web).await.unwrap();
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        let answer = connection.get(HOST, "/").await.unwrap();
        assert_eq!(answer.status(), 200);
        let name = answer.headers()["x-demo-name"].to_str().unwrap().to_owned();
        *shares.entry(name).or_default() += 1;
    }
    shares
}

async fn weighted(strategy: &str, weights: &[(&str, u32)]) -> Site {
    let mut servers = Vec::new();
    for (name, weight) in weights {
        let address = demo(name, Duration::ZERO).await;
        servers.push(format!("{{url: \"http://{address}\", weight: {weight}}}"));
    }
    let options = format!("strategy: {strategy}");
    let routes = Routes::default().route("site", "PathPrefix(`/`)", &servers.join(", "), &options);
    Site::start(&routes, &[]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn round_robin_goes_by_weight() {
    let site = weighted("wrr", &[("a", 3), ("b", 1), ("c", 0)]).await;
    let shares = shares(&site, 80).await;
    assert_eq!(shares.get("c"), None);
    let (a, b) = (shares["a"], shares["b"]);
    assert!(
        (59..=61).contains(&a) && (19..=21).contains(&b),
        "{shares:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_choices_use_every_server() {
    let site = weighted("p2c", &[("a", 1), ("b", 1), ("c", 1), ("d", 1)]).await;
    let shares = shares(&site, 400).await;
    assert_eq!(shares.len(), 4, "{shares:?}");
    assert!(shares.values().all(|share| *share > 40), "{shares:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn least_connections_avoid_a_server_that_is_at_work() {
    let (busy, gate) = gated().await;
    let idle = demo("idle", Duration::ZERO).await;
    let site = site(&[busy.address(), idle], "", "strategy: leastconn").await;
    // Until one hangs: whoever gets it now has one more than the other.
    let mut hanging = Vec::new();
    while busy.seen() == 0 {
        hanging.push(ask(&site, "/"));
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    arrived(&busy, 1).await;
    let shares = shares(&site, 50).await;
    assert_eq!(shares["idle"], 50);
    gate.add_permits(hanging.len());
    for hanging in hanging {
        assert_eq!(hanging.await.unwrap().unwrap().status(), 200);
    }
}

async fn dead() -> SocketAddr {
    // Nothing listens there.
    ports::free_address().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_connections_costs_no_request() {
    let alive = demo("alive", Duration::ZERO).await;
    for strategy in ["wrr", "leastconn", "p2c"] {
        let servers = [dead().await, alive, dead().await];
        let site = site(&servers, "maxconn: 1", &format!("strategy: {strategy}")).await;
        for n in 0..60 {
            let request = if n % 2 == 0 {
                format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n")
            } else {
                format!(
                    "POST /echo HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
                )
            };
            let answer = exchange(site.web, request).await.unwrap();
            assert_eq!(answer.status(), 200, "{strategy}, request {n}");
        }
        assert!(site.metric("tidegate_server_in_flight", "").await.unwrap() < 0.5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_servers_are_all_away_says_so() {
    let site = site(&[dead().await, dead().await], "maxconn: 1", "").await;
    for _ in 0..5 {
        let answer = ask(&site, "/").await.unwrap().unwrap();
        assert_eq!(answer.status(), 502, "{answer:?}");
    }
    let empty = super::stage::site(&[], "", "").await;
    let answer = ask(&empty, "/").await.unwrap().unwrap();
    assert_eq!(answer.status(), 503, "{answer:?}");
}
