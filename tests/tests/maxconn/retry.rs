//! What is sent again, what never is, and for whom servers are kept busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use scenarios::raw::{Message, OK, Peer, Scripted, Talk, exchange};
use scenarios::site::{Routes, Site};

use super::stage::{HOST, arrived, ask, gated, paths, queued, site};

/// A server that loses every connection once it has served `each` requests and
/// read one more.
async fn forgetful(each: usize) -> Scripted {
    let server = Scripted::start(move |mut peer: Peer| async move {
        for _ in 0..each {
            if peer.request().await.is_none() || !peer.say(OK).await {
                return;
            }
        }
        let _ = peer.request().await;
        peer.reset();
    });
    server.await.unwrap()
}

/// A server that answers all but each `nth` request with `status`.
async fn moody(status: u16, nth: usize) -> Scripted {
    let count = Arc::new(AtomicUsize::new(1));
    let server = Scripted::start(move |mut peer: Peer| {
        let count = Arc::clone(&count);
        async move {
            while peer.request().await.is_some() {
                let is_good = count.fetch_add(1, Ordering::Relaxed).is_multiple_of(nth);
                let bad =
                    format!("HTTP/1.1 {status} Bad\r\nX-Mood: bad\r\nContent-Length: 3\r\n\r\nbad");
                let answer = if is_good { OK } else { bad.as_bytes() };
                if !peer.say(answer).await {
                    return;
                }
            }
        }
    });
    server.await.unwrap()
}

fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

async fn send(site: &Site, method: &str, path: &str, body: &str) -> Message {
    exchange(site.web, request(method, path, body))
        .await
        .unwrap()
}

/// Method, target and body of what the server was sent.
fn sent(server: &Scripted) -> Vec<String> {
    let seen = server.take().into_iter();
    let requests = seen.filter_map(|seen| seen.request.ok());
    requests
        .map(|request| {
            let body = String::from_utf8(request.body.clone()).unwrap();
            let method = request.start.split(' ').next().unwrap_or_default();
            format!("{method} {} {body}", request.target())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_repeated_survives_lost_connections_and_the_rest_comes_once() {
    let server = forgetful(1).await;
    let site = site(&[server.address()], "", "").await;
    let mut failed = 0;
    for n in 0..60 {
        let path = format!("/put/{n}");
        let answer = send(&site, "PUT", &path, "hello").await;
        assert_eq!(answer.status(), 200, "{path}");
        let path = format!("/post/{n}");
        failed += usize::from(send(&site, "POST", &path, "hello").await.status() != 200);
    }
    let sent = sent(&server);
    assert!(sent.iter().all(|request| request.ends_with(" hello")));
    for n in 0..60 {
        let posts = sent
            .iter()
            .filter(|sent| **sent == format!("POST /post/{n} hello"));
        assert_eq!(posts.count(), 1, "a POST was sent twice or never");
    }
    println!(
        "{failed} of 60 POSTs failed, {} requests were sent",
        sent.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_that_are_listed_are_tried_again() {
    let server = moody(503, 3).await;
    let options = "retries: 2, retryOn: [conn-failure, 503]";
    let site = site(&[server.address()], "", options).await;
    for method in ["GET", "PUT", "POST"] {
        let answer = send(&site, method, "/a", "hello").await;
        assert_eq!(answer.status(), 200, "{method}");
        assert_eq!(answer.only("x-mood"), None);
        assert_eq!(sent(&server), [format!("{method} /a hello").as_str(); 3]);
    }
    let long = "x".repeat(64 * 1024 + 1);
    let answer = send(&site, "PUT", "/long", &long).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(sent(&server).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_not_understood_takes_the_service_out() {
    let server = Scripted::obliging().await.unwrap();
    for (options, key) in [
        ("retryOn: [5xx]", "loadBalancer.retryOn"),
        ("queue: {fullStatus: 500}", "loadBalancer.queue.fullStatus"),
        (
            "queue: {timeoutStatus: 418}",
            "loadBalancer.queue.timeoutStatus",
        ),
    ] {
        let site = site(&[server.address()], "", options).await;
        assert_eq!(ask(&site, "/").await.unwrap().unwrap().status(), 404);
        let log = site.proxy.log();
        assert!(log.contains(key), "{key}:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retry_middleware_sends_again_what_came_through_it() {
    let server = moody(502, 3).await;
    let url = format!("{{url: \"http://{}\"}}", server.address());
    let routes = Routes::default()
        .route("site", "Host(`plain.test`)", &url, "")
        .with("    again: {retry: {attempts: 3, status: ['500-504']}}")
        .with("    prefix: {addPrefix: {prefix: /p}}");
    let routes = routes.text().replace(
        "  services:",
        &format!(
            "    again: {{rule: 'Host(`{HOST}`)', service: site, middlewares: [again, prefix]}}\n  services:"
        ),
    );
    let command = scenarios::process::Proxy::command().unwrap();
    let command = command.file("routes.yml", &routes).unwrap();
    let site = Site::start_command(command, &["--accesslog=true"])
        .await
        .unwrap();
    let answer = send(&site, "PUT", "/a", "hello").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.only("x-mood"), None);
    assert_eq!(sent(&server), ["PUT /p/a hello"; 3]);
    // Not a method that may be repeated.
    assert_eq!(send(&site, "POST", "/a", "hello").await.status(), 502);
    assert_eq!(sent(&server).len(), 1);
    let retries = site.metric("traefik_service_retries_total", "site@file");
    assert_eq!(retries.await.unwrap().round(), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_room_is_answered_as_configured() {
    let (server, gate) = gated().await;
    let options = "queue: {maxLength: 1, timeout: 300ms, fullStatus: 429, retryAfter: 1500ms}";
    let site = site(&[server.address()], "maxconn: 1", options).await;
    let first = ask(&site, "/first");
    arrived(&server, 1).await;
    let late = ask(&site, "/late");
    queued(&site, 1).await;
    let full = ask(&site, "/full").await.unwrap().unwrap();
    let late = late.await.unwrap().unwrap();
    for (answer, status) in [(full, 429), (late, 503)] {
        assert_eq!(answer.status(), status);
        assert_eq!(answer.only("retry-after"), Some("2"));
    }
    gate.add_permits(1);
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_stays_in_the_queue_without_its_client_if_told_so() {
    let (server, gate) = gated().await;
    let options = "abortonclose: false, queue: {timeout: 60s}";
    let site = site(&[server.address()], "maxconn: 1", options).await;
    let first = ask(&site, "/first");
    arrived(&server, 1).await;
    let mut leaver = Talk::open(site.web).await.unwrap();
    leaver
        .say(request("POST", "/leaver", "hello"))
        .await
        .unwrap();
    queued(&site, 1).await;
    drop(leaver);
    let last = ask(&site, "/last");
    queued(&site, 2).await;
    gate.add_permits(3);
    for asked in [first, last] {
        assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(paths(&server), ["/first", "/leaver", "/last"]);
}

/// More than the sockets between the proxy and a client hold.
const LONG: usize = 24 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_keeps_no_server_busy() {
    let server = Scripted::start(|mut peer: Peer| async move {
        let long = vec![b'x'; LONG];
        while let Some(request) = peer.request().await {
            let is_said = if request.target() == "/long" {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n");
                peer.say(head).await && peer.say(&long).await
            } else {
                peer.say(OK).await
            };
            if !is_said {
                return;
            }
        }
    });
    let server = server.await.unwrap();
    for (buffer, is_free) in [(2 * LONG, true), (0, false)] {
        let options = format!("responseBuffer: {buffer}, queue: {{timeout: 60s}}");
        let site = site(&[server.address()], "maxconn: 1", &options).await;
        let mut slow = Talk::open(site.web).await.unwrap();
        let request = format!("GET /long HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        slow.say(request).await.unwrap();
        arrived(&server, 1).await;
        let next = ask(&site, "/next");
        if is_free {
            assert_eq!(next.await.unwrap().unwrap().status(), 200);
            assert_eq!(slow.final_response().await.unwrap().body.len(), LONG);
        } else {
            queued(&site, 1).await;
            assert_eq!(slow.final_response().await.unwrap().body.len(), LONG);
            assert_eq!(next.await.unwrap().unwrap().status(), 200);
        }
        assert_eq!(paths(&server), ["/long", "/next"]);
    }
}
