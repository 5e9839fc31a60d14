//! Servers whose answers the test lets through, and a proxy in front of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use scenarios::raw::{Message, OK, Scripted, exchange};
use scenarios::site::{Routes, Site};
use scenarios::{demo, eventually};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub(super) const SOON: Duration = Duration::from_secs(30);
pub(super) const HOST: &str = "a.test";

/// A demo server that signs as `name` and spends `delay` on each request.
pub(super) async fn demo(name: &str, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let options = demo::Options {
        name: name.to_owned(),
        delay,
        ..demo::Options::default()
    };
    tokio::spawn(demo::run(listener, options, std::future::pending()));
    address
}

/// One demo server's own count.
pub(super) async fn peak(address: SocketAddr) -> demo::Peak {
    let answer = scenarios::client::get(address, HOST, "/peak")
        .await
        .unwrap();
    serde_json::from_slice(answer.body()).unwrap()
}

/// A server that answers each request once the test permits it.
pub(super) async fn gated() -> (Scripted, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let shared = Arc::clone(&gate);
    let server = Scripted::start(move |mut peer| {
        let gate = Arc::clone(&shared);
        async move {
            while peer.request().await.is_some() {
                gate.acquire().await.unwrap().forget();
                if !peer.say(OK).await {
                    return;
                }
            }
        }
    });
    (server.await.unwrap(), gate)
}

/// A proxy whose only service has these servers, each with `each` added.
pub(super) async fn site(servers: &[SocketAddr], each: &str, options: &str) -> Site {
    let each = if each.is_empty() {
        String::new()
    } else {
        format!(", {each}")
    };
    let servers: Vec<_> = servers
        .iter()
        .map(|address| format!("{{url: \"http://{address}\"{each}}}"))
        .collect();
    let routes = Routes::default().route("site", "PathPrefix(`/`)", &servers.join(", "), options);
    Site::start(&routes, &[]).await.unwrap()
}

/// A request on a connection of its own, in the background.
pub(super) fn ask(site: &Site, path: &str) -> tokio::task::JoinHandle<anyhow::Result<Message>> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let web = site.web;
    tokio::spawn(async move { exchange(web, request).await })
}

/// Waits until the server has been sent `count` requests that nobody took yet.
pub(super) async fn arrived(server: &Scripted, count: usize) {
    let there = eventually(SOON, || async { server.seen() >= count }).await;
    there.unwrap_or_else(|_| panic!("{} of {count} requests arrived", server.seen()));
}

/// Waits until so many requests wait in the service's queue.
pub(super) async fn queued(site: &Site, count: usize) {
    let name = "tidegate_service_queue_length";
    let is_there = || async {
        let waiting = site.metric(name, "site@file").await.unwrap();
        (waiting - count as f64).abs() < 0.5
    };
    let there = eventually(SOON, is_there).await;
    if there.is_err() {
        panic!(
            "{count} expected in the queue, {:?}",
            site.metric(name, "site@file").await
        );
    }
}

/// The paths that the server was sent, in their order.
pub(super) fn paths(server: &Scripted) -> Vec<String> {
    let seen = server.take().into_iter();
    seen.map(|seen| seen.request.unwrap().target().to_owned())
        .collect()
}
