//! Clients that belong to a server, among others that do not.

use std::net::SocketAddr;

use scenarios::eventually;
use scenarios::raw::{Message, OK, Scripted, exchange};
use scenarios::site::{Routes, Site};
use tokio::task::JoinHandle;

use super::stage::{HOST, SOON, arrived, ask, gated, paths, queued, site};

/// The name that Traefik makes for the service `site@file`.
const NAME: &str = "_635cc";

const STICKY: &str = "sticky: {cookie: {}}";

/// A request with a cookie, on a connection of its own, in the background.
fn ask_as(site: &Site, cookie: &str, path: &str) -> JoinHandle<anyhow::Result<Message>> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nCookie: a=b; {cookie}\r\nConnection: close\r\n\r\n"
    );
    let web = site.web;
    tokio::spawn(async move { exchange(web, request).await })
}

async fn answer(asked: JoinHandle<anyhow::Result<Message>>) -> Message {
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    answer
}

/// `name=value` of the only cookie that is set.
fn cookie(answer: &Message) -> String {
    let line = answer.only("set-cookie").unwrap();
    line.split(';').next().unwrap().to_owned()
}

/// Asks without a cookie until a server has answered whose path list grows, and
/// returns the cookie that leads there.
async fn cookie_to(site: &Site, server: &Scripted) -> String {
    server.take();
    for _ in 0..20 {
        let cookie = cookie(&answer(ask(site, "/")).await);
        if server.seen() > 0 {
            server.take();
            return cookie;
        }
    }
    panic!("the server was never asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_stays_where_it_began() {
    let servers = [
        Scripted::obliging().await.unwrap(),
        Scripted::obliging().await.unwrap(),
    ];
    let options = "sticky: {cookie: {secure: true, httpOnly: true, sameSite: lax, maxAge: 60}}";
    let site = site(&servers.each_ref().map(Scripted::address), "", options).await;
    let first = answer(ask(&site, "/")).await;
    let line = first.only("set-cookie").unwrap();
    let (pair, attributes) = line.split_once("; ").unwrap();
    assert!(pair.starts_with(&format!("{NAME}=")), "{pair}");
    assert_eq!(
        attributes,
        "Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Lax"
    );
    for server in &servers {
        let cookie = cookie_to(&site, server).await;
        for _ in 0..4 {
            let again = answer(ask_as(&site, &cookie, "/again")).await;
            assert_eq!(again.only("set-cookie"), None);
        }
        let seen = server.take();
        assert_eq!(seen.len(), 4);
        for seen in seen {
            let sent = format!("a=b; {cookie}");
            assert_eq!(seen.request.unwrap().only("cookie"), Some(&*sent));
        }
    }
    let useless = answer(ask_as(&site, &format!("{NAME}=0123456789abcdef"), "/")).await;
    assert!(cookie(&useless).starts_with(NAME));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_server_is_gone_gets_another() {
    const LAST: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let stays = Scripted::obliging().await.unwrap();
    let goes = Scripted::start(|mut peer| async move {
        if peer.request().await.is_some() {
            peer.say(LAST).await;
        }
    });
    let goes = goes.await.unwrap();
    let site = site(&[stays.address(), goes.address()], "", STICKY).await;
    let old = cookie_to(&site, &goes).await;
    let new = cookie_to(&site, &stays).await;
    let address = goes.address();
    drop(goes);
    // The address refuses connections as soon as the listener is closed.
    let moved = eventually(SOON, || async {
        let answer = ask_as(&site, &old, "/").await.unwrap().unwrap();
        answer.status() == 200 && answer.only("set-cookie").is_some()
    });
    moved.await.unwrap();
    let moved = answer(ask_as(&site, &old, "/")).await;
    assert_eq!(cookie(&moved), new);
    // It leaves the configuration.
    let other: SocketAddr = stays.address();
    let servers = format!("{{url: \"http://{other}\"}}");
    let routes = Routes::default().route("site", "PathPrefix(`/`)", &servers, STICKY);
    site.write(&routes.text()).unwrap();
    let changed = eventually(SOON, || async {
        let services = site.admin_text("/api/http/services/site@file").await;
        services.is_ok_and(|text| !text.contains(&address.to_string()))
    });
    changed.await.unwrap();
    let moved = answer(ask_as(&site, &old, "/")).await;
    assert_eq!(cookie(&moved), new);
    let kept = answer(ask_as(&site, &new, "/")).await;
    assert_eq!(kept.only("set-cookie"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn bound_and_free_requests_take_their_turns() {
    let (one, one_gate) = gated().await;
    let (two, two_gate) = gated().await;
    let options = format!("{STICKY}, queue: {{timeout: 60s}}");
    let site = site(&[one.address(), two.address()], "maxconn: 1", &options).await;
    one_gate.add_permits(20);
    two_gate.add_permits(20);
    let to_one = cookie_to(&site, &one).await;
    let to_two = cookie_to(&site, &two).await;
    one.take();
    two.take();
    one_gate.forget_permits(20);
    two_gate.forget_permits(20);

    let mut asked = vec![ask_as(&site, &to_one, "/1"), ask_as(&site, &to_two, "/2")];
    arrived(&one, 1).await;
    arrived(&two, 1).await;
    let waiting = [
        (Some(&to_one), "/one-a"),
        (None, "/free-b"),
        (Some(&to_two), "/two-c"),
        (Some(&to_one), "/one-d"),
        (None, "/free-e"),
    ];
    for (place, (cookie, path)) in waiting.into_iter().enumerate() {
        asked.push(match cookie {
            Some(cookie) => ask_as(&site, cookie, path),
            None => ask(&site, path),
        });
        queued(&site, place + 1).await;
    }
    let labels = format!("url=\"http://{}\"", one.address());
    let bound = site.metric("tidegate_server_queue_length", &labels).await;
    assert_eq!(bound.unwrap().round(), 2.0);

    // Each server takes the oldest of its own and of those that may go anywhere.
    two_gate.add_permits(3);
    arrived(&two, 4).await;
    assert_eq!(paths(&two), ["/2", "/free-b", "/two-c", "/free-e"]);
    assert_eq!(paths(&one), ["/1"]);
    one_gate.add_permits(3);
    two_gate.add_permits(1);
    for asked in asked {
        answer(asked).await;
    }
    assert_eq!(paths(&one), ["/one-a", "/one-d"]);
    let handed = site
        .metric("tidegate_service_queue_handed_total", "site@file")
        .await;
    assert_eq!(handed.unwrap().round(), 5.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_weight_keeps_its_clients_and_gets_no_new_ones() {
    let stays = Scripted::obliging().await.unwrap();
    let drains = Scripted::obliging().await.unwrap();
    let site = site(&[stays.address(), drains.address()], "", STICKY).await;
    let own = cookie_to(&site, &drains).await;
    let servers = format!(
        "{{url: \"http://{}\"}}, {{url: \"http://{}\", weight: 0}}",
        stays.address(),
        drains.address()
    );
    let routes = Routes::default().route("site", "PathPrefix(`/`)", &servers, STICKY);
    site.write(&routes.text()).unwrap();
    let draining = eventually(SOON, || async {
        let labels = format!("url=\"http://{}\"", drains.address());
        let draining = site.metric("tidegate_server_draining", &labels).await;
        draining.is_ok_and(|draining| draining > 0.5)
    });
    draining.await.unwrap();
    stays.take();
    for _ in 0..4 {
        answer(ask(&site, "/new")).await;
        let kept = answer(ask_as(&site, &own, "/old")).await;
        assert_eq!(kept.only("set-cookie"), None);
    }
    assert_eq!(paths(&stays), ["/new"; 4]);
    assert_eq!(paths(&drains), ["/old"; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_cookies_are_no_cookies() {
    let server = Scripted::obliging().await.unwrap();
    let site = site(&[server.address()], "maxconn: 1", STICKY).await;
    let good = cookie_to(&site, &server).await;
    let long = "x".repeat(60_000);
    let many = format!("{NAME}=1;").repeat(5_000);
    for (cookies, is_known) in [
        (format!("{NAME}={long}"), false),
        (format!("{NAME}={long}; {good}"), true),
        (many.clone(), false),
        (format!("{many} {good}"), true),
        (NAME.to_owned(), false),
        (format!("{NAME}=\"; {NAME}=;;;=;"), false),
        (format!("{NAME}=\u{fffd}; {good}"), true),
    ] {
        let answer = answer(ask_as(&site, &cookies, "/")).await;
        assert_eq!(answer.only("set-cookie").is_none(), is_known);
    }
    let response = answer(ask(&site, "/")).await;
    assert_eq!(response.body, OK[OK.len() - 2..]);
}
