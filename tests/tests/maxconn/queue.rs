//! Waiting: in order, not too many, not too long, and only while the client does.

use scenarios::raw::Talk;

use super::stage::{HOST, arrived, ask, gated, paths, queued, site};

#[tokio::test(flavor = "multi_thread")]
async fn waiting_requests_go_in_the_order_of_their_arrival() {
    let (server, gate) = gated().await;
    let site = site(&[server.address()], "maxconn: 1", "queue: {timeout: 60s}").await;
    let mut asked = vec![ask(&site, "/0")];
    arrived(&server, 1).await;
    for n in 1..8 {
        asked.push(ask(&site, &format!("/{n}")));
        queued(&site, n).await;
    }
    gate.add_permits(8);
    for asked in asked {
        assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(
        paths(&server),
        ["/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_says_so() {
    let (server, gate) = gated().await;
    let options = "queue: {maxLength: 2, timeout: 60s}";
    let site = site(&[server.address()], "maxconn: 1", options).await;
    let first = ask(&site, "/first");
    arrived(&server, 1).await;
    let waiting = [ask(&site, "/a"), ask(&site, "/b")];
    queued(&site, 2).await;
    for _ in 0..3 {
        assert_eq!(ask(&site, "/beyond").await.unwrap().unwrap().status(), 503);
    }
    let rejected = site
        .metric("tidegate_service_queue_rejected_total", "reason=\"full\"")
        .await;
    assert_eq!(rejected.unwrap().round(), 3.0);
    gate.add_permits(3);
    for asked in waiting.into_iter().chain([first]) {
        assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(paths(&server).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_longer_than_the_timeout() {
    let (server, gate) = gated().await;
    let site = site(&[server.address()], "maxconn: 1", "queue: {timeout: 200ms}").await;
    let first = ask(&site, "/first");
    arrived(&server, 1).await;
    let late = [ask(&site, "/late"), ask(&site, "/late")];
    for late in late {
        assert_eq!(late.await.unwrap().unwrap().status(), 503);
    }
    let rejected = site
        .metric(
            "tidegate_service_queue_rejected_total",
            "reason=\"timeout\"",
        )
        .await;
    assert_eq!(rejected.unwrap().round(), 2.0);
    gate.add_permits(1);
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    assert_eq!(paths(&server), ["/first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_the_queue_sends_nothing() {
    let (server, gate) = gated().await;
    let site = site(&[server.address()], "maxconn: 1", "queue: {timeout: 60s}").await;
    let first = ask(&site, "/first");
    arrived(&server, 1).await;
    let mut leaver = Talk::open(site.web).await.unwrap();
    leaver
        .say(format!("GET /leaver HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
        .await
        .unwrap();
    queued(&site, 1).await;
    drop(leaver);
    queued(&site, 0).await;
    let last = ask(&site, "/last");
    queued(&site, 1).await;
    gate.add_permits(2);
    for asked in [first, last] {
        assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(paths(&server), ["/first", "/last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_routes_keeps_who_waits_and_who_is_served() {
    let (server, gate) = gated().await;
    let site = site(&[server.address()], "maxconn: 1", "queue: {timeout: 60s}").await;
    let first = ask(&site, "/first");
    arrived(&server, 1).await;
    let waiting = ask(&site, "/waiting");
    queued(&site, 1).await;
    let url = format!("{{url: \"http://{}\", maxconn: 1}}", server.address());
    let routes = scenarios::site::Routes::default()
        .route("site", "PathPrefix(`/`)", &url, "queue: {timeout: 60s}")
        .route("new", "Host(`new.test`)", &url, "");
    site.write(&routes.text()).unwrap();
    let changed = scenarios::eventually(super::stage::SOON, || async {
        site.admin_text("/api/http/routers")
            .await
            .is_ok_and(|text| text.contains("new@file"))
    });
    changed.await.unwrap();
    queued(&site, 1).await;
    assert_eq!(paths(&server), ["/first"], "the slot is still taken");
    gate.add_permits(2);
    for asked in [first, waiting] {
        assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(paths(&server), ["/waiting"]);
}
