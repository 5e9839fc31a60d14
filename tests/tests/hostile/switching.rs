//! Changes of protocol: only what a client asked for and a server agreed to.

use scenarios::raw::{Peer, Scripted, Talk};
use scenarios::site::{Routes, Site};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

async fn site_with(answer: &'static str) -> (Scripted, Site) {
    let script = move |mut peer: Peer| async move {
        if peer.request().await.is_none() || !peer.say(answer).await {
            return;
        }
        // Whatever comes is sent back, as an echo server over WebSocket would.
        let mut byte = [0; 1];
        loop {
            let stream = peer.reader().stream();
            match tokio::io::AsyncReadExt::read(stream, &mut byte).await {
                Ok(1) if peer.say(byte).await => {}
                _ => return,
            }
        }
    };
    let server = Scripted::start(script).await.unwrap();
    let site = Site::start(&Routes::all_to(&[server.address()]), &[])
        .await
        .unwrap();
    (server, site)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_agrees_gets_the_tunnel() {
    let (_server, site) = site_with(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n",
    )
    .await;
    let mut talk = Talk::open(site.web).await.unwrap();
    talk.say(ASK).await.unwrap();
    assert_eq!(talk.final_response().await.unwrap().status(), 101);
    talk.say("ping").await.unwrap();
    let mut echo = [0; 4];
    let stream = talk.reader().stream();
    let read = tokio::io::AsyncReadExt::read_exact(stream, &mut echo);
    tokio::time::timeout(scenarios::raw::PATIENCE, read)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&echo, b"ping");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_cannot_switch_to_something_else() {
    let answers = [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: TLS/1.3\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ];
    for answer in answers {
        let (_server, site) = site_with(answer).await;
        let mut talk = Talk::open(site.web).await.unwrap();
        talk.say(ASK).await.unwrap();
        let answered = talk.final_response().await.unwrap();
        assert!(
            matches!(answered.status(), 500 | 502),
            "{answer}: {answered:?}"
        );
        assert!(site.serves().await);
    }
}

/// Bytes that a client sends before the server agreed are part of nothing if
/// the server refuses (RFC 9931).
#[tokio::test(flavor = "multi_thread")]
async fn bytes_sent_ahead_of_a_refused_switch_are_a_request_or_nothing() {
    let server = Scripted::start(|mut peer| async move {
        while peer.request().await.is_some() {
            if !peer
                .say("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                .await
            {
                return;
            }
        }
    });
    let server = server.await.unwrap();
    let site = Site::start(&Routes::all_to(&[server.address()]), &[])
        .await
        .unwrap();
    let mut talk = Talk::open(site.web).await.unwrap();
    let ahead = "GET /ahead HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n";
    talk.say(format!("{ASK}{ahead}")).await.unwrap();
    assert_eq!(talk.final_response().await.unwrap().status(), 403);
    let _ = talk.reader().rest().await;
    for seen in server.take() {
        let request = seen.request.unwrap();
        assert_eq!(
            request.only("x-forwarded-for"),
            Some("127.0.0.1"),
            "{request:?}"
        );
    }
    assert!(site.serves().await);
}
