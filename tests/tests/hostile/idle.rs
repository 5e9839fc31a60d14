//! Servers that close idle connections just as the next request comes.

use std::time::Duration;

use scenarios::raw::{OK, Peer, Scripted, Talk};
use scenarios::site::{Routes, Site};
use tokio::time::{Instant, sleep_until, timeout};

/// How long the server keeps an idle connection.
const KEEP: Duration = Duration::from_millis(50);

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

async fn impatient(mut peer: Peer) {
    while let Ok(Some(_)) = timeout(KEEP, peer.request()).await {
        if !peer.say(OK).await {
            return;
        }
    }
}

/// Sends `count` requests, each about when the server gives up its connection,
/// and returns the answers that were not 200.
async fn hunt(site: &Site, request: &'static str, count: usize) -> Vec<String> {
    let mut talk = Talk::open(site.web).await.unwrap();
    let mut failures = Vec::new();
    for trial in 0..count {
        talk.say(request).await.unwrap();
        let answer = talk.final_response().await;
        let answered = Instant::now();
        match answer {
            Ok(answer) if answer.status() == 200 && answer.body == b"ok" => {}
            Ok(answer) => failures.push(format!("trial {trial}: {}", answer.start)),
            Err(broken) => {
                failures.push(format!("trial {trial}: {broken}"));
                talk = Talk::open(site.web).await.unwrap();
            }
        }
        // From 2 ms before to 2 ms after, in steps of a fraction of one.
        let offset = Duration::from_micros((trial % 80) as u64 * 50);
        sleep_until(answered + KEEP - Duration::from_millis(2) + offset).await;
    }
    failures
}

async fn trial(request: &'static str) {
    let server = Scripted::start(impatient).await.unwrap();
    let site = Site::start(&Routes::all_to(&[server.address()]), &[])
        .await
        .unwrap();
    // How soon this server gives up a connection is learned from its closing some.
    let failures = hunt(&site, GET, 20).await;
    assert!(failures.is_empty(), "{failures:?}");
    let hunts = (0..6).map(|_| hunt(&site, request, 100));
    let failures = futures_util::future::join_all(hunts).await.concat();
    assert!(
        failures.is_empty(),
        "{} of 600 failed: {failures:?}",
        failures.len()
    );
    let connections = server.connections();
    // What can't be sent again takes new connections to such a server.
    assert!(
        connections < 600 || request != GET,
        "no connection was ever reused"
    );
    println!("{connections} connections for 600 requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_get_is_lost_to_a_connection_that_was_just_closed() {
    trial(GET).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_put_is_lost_to_a_connection_that_was_just_closed() {
    trial("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_post_is_lost_to_a_connection_that_was_just_closed() {
    trial("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello").await;
}

/// A server that dies with a request in hand may have acted on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_server_dropped_is_sent_again_only_if_that_cannot_hurt() {
    let server = Scripted::start(|mut peer| async move {
        // The first request of a connection is answered, the next one is dropped.
        if peer.request().await.is_some() && peer.say(OK).await {
            let _ = peer.request().await;
        }
    });
    let server = server.await.unwrap();
    // One worker has one pool, so that each request meets the connection before.
    let routes = Routes::all_to(&[server.address()]);
    let site = Site::start(&routes, &["--workers=1"]).await.unwrap();
    let mut talk = Talk::open(site.web).await.unwrap();
    for _ in 0..20 {
        for (request, times) in [
            (GET, 1..=2),
            (
                "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello",
                1..=1,
            ),
        ] {
            server.take();
            talk.say(request).await.unwrap();
            let status = talk.final_response().await.unwrap().status();
            let sent = server.take();
            assert!(times.contains(&sent.len()), "{sent:?}");
            let is_get = request.starts_with("GET");
            assert!(
                status == 200 || (!is_get && status == 502),
                "{status}: {request}"
            );
        }
    }
}
