//! How long a request holds its slot: until its answer's last byte, its client's
//! end, or the end of the tunnel that it became.

use std::sync::Arc;

use scenarios::raw::{OK, Peer, Scripted, Talk};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;

use super::stage::{HOST, arrived, ask, paths, queued, site};

/// A server that sends half of an answer and the rest once the test permits it.
async fn halting() -> (Scripted, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let shared = Arc::clone(&gate);
    let server = Scripted::start(move |mut peer: Peer| {
        let gate = Arc::clone(&shared);
        async move {
            while let Some(request) = peer.request().await {
                let is_plain = request.target() != "/half";
                let answer = if is_plain {
                    OK
                } else {
                    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha"
                };
                if !peer.say(answer).await {
                    return;
                }
                if !is_plain {
                    gate.acquire().await.unwrap().forget();
                    let _ = peer.say("lf").await;
                }
            }
        }
    });
    (server.await.unwrap(), gate)
}

async fn half(web: std::net::SocketAddr) -> Talk {
    let mut talk = Talk::open(web).await.unwrap();
    talk.say(format!("GET /half HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
        .await
        .unwrap();
    talk.reader().head().await.unwrap();
    let mut begin = [0; 1];
    // The head and the first bytes may come together: then they are buffered.
    let _ = tokio::time::timeout(
        std::time::Duration::from_millis(1),
        talk.reader().stream().peek(&mut begin),
    )
    .await;
    talk
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_free_when_the_answer_has_ended() {
    let (server, gate) = halting().await;
    let site = site(&[server.address()], "maxconn: 1", "queue: {timeout: 60s}").await;
    let _talk = half(site.web).await;
    let next = ask(&site, "/next");
    queued(&site, 1).await;
    assert_eq!(paths(&server), ["/half"]);
    gate.add_permits(1);
    assert_eq!(next.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_free_when_the_client_has_gone() {
    let (server, _gate) = halting().await;
    let site = site(&[server.address()], "maxconn: 1", "queue: {timeout: 60s}").await;
    let talk = half(site.web).await;
    let next = ask(&site, "/next");
    queued(&site, 1).await;
    drop(talk);
    assert_eq!(next.await.unwrap().unwrap().status(), 200);
    // The half-read connection was not used again.
    assert_eq!(server.connections(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_free_when_the_client_left_before_the_answer() {
    let (server, _gate) = super::stage::gated().await;
    let site = site(&[server.address()], "maxconn: 1", "queue: {timeout: 60s}").await;
    for n in 1..5 {
        let mut talk = Talk::open(site.web).await.unwrap();
        talk.say(format!("GET /{n} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
            .await
            .unwrap();
        arrived(&server, n).await;
        drop(talk);
    }
    assert_eq!(paths(&server), ["/1", "/2", "/3", "/4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_holds_its_slot_until_it_ends() {
    let server = Scripted::start(|mut peer: Peer| async move {
        while let Some(request) = peer.request().await {
            if request.target() == "/chat" {
                let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                let _ = peer.say(agreed).await;
                return peer.linger().await;
            }
            let _ = peer.say(OK).await;
        }
    });
    let server = server.await.unwrap();
    let site = site(&[server.address()], "maxconn: 1", "queue: {timeout: 60s}").await;
    let mut chat = Talk::open(site.web).await.unwrap();
    let upgrade = format!(
        "GET /chat HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    chat.say(upgrade).await.unwrap();
    assert_eq!(chat.final_response().await.unwrap().status(), 101);
    let next = ask(&site, "/next");
    queued(&site, 1).await;
    chat.say("still here").await.unwrap();
    queued(&site, 1).await;
    assert_eq!(paths(&server), ["/chat"]);
    drop(chat);
    assert_eq!(next.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_an_answer_arrives_whole() {
    let (server, gate) = halting().await;
    let site = site(&[server.address()], "maxconn: 1", "").await;
    let asked = ask(&site, "/half");
    arrived(&server, 1).await;
    gate.add_permits(1);
    assert_eq!(asked.await.unwrap().unwrap().body, b"half");
    let mut rest = Vec::new();
    let mut idle = Talk::open(site.web).await.unwrap();
    let quiet = idle.reader().stream().read_to_end(&mut rest);
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(10), quiet)
            .await
            .is_err()
    );
}
