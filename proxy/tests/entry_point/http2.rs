//! HTTP/2 with prior knowledge.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{Request, StatusCode};
use tidegate_shared::settings::Interval;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::client::{DEADLINE, Edge, edge, eventually};

type Driver = JoinHandle<Result<(), h2::Error>>;

async fn connect(edge: &Edge) -> (SendRequest<Bytes>, Driver) {
    let socket = TcpStream::connect(edge.address).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    (client, tokio::spawn(connection))
}

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

async fn ask(client: &mut SendRequest<Bytes>, request: Request<()>) -> (StatusCode, RecvStream) {
    *client = client.clone().ready().await.unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let (head, body) = timeout(DEADLINE, response)
        .await
        .unwrap()
        .unwrap()
        .into_parts();
    (head.status, body)
}

async fn text(mut body: RecvStream) -> Result<String, h2::Error> {
    let mut text = String::new();
    while let Some(data) = timeout(DEADLINE, body.data()).await.unwrap() {
        let data = data?;
        body.flow_control().release_capacity(data.len()).unwrap();
        text.push_str(std::str::from_utf8(&data).unwrap());
    }
    Ok(text)
}

#[tokio::test]
async fn streams_share_a_connection() {
    let edge = edge(|_| {});
    let (mut client, _driver) = connect(&edge).await;
    for _ in 0..3 {
        let (status, body) = ask(&mut client, get("http://a:81/x?y")).await;
        assert_eq!(status, 200);
        let text = text(body).await.unwrap();
        assert!(text.starts_with("GET /x?y host=a:81 "), "{text}");
    }
    let (_, body) = ask(&mut client, get("http://a/big?1000000")).await;
    assert_eq!(text(body).await.unwrap().len(), 1_000_000);
    assert_eq!(edge.toy.opened.load(SeqCst), 1);
}

#[tokio::test]
async fn what_is_refused_in_http1_is_refused_here() {
    let edge = edge(|_| {});
    let (mut client, _driver) = connect(&edge).await;
    let mut differing = get("http://a/x");
    differing.headers_mut().insert("host", "b".parse().unwrap());
    assert_eq!(ask(&mut client, differing).await.0, 400);
    assert_eq!(ask(&mut client, get("http://u@a/x")).await.0, 400);
    let mut expecting = get("http://a/x");
    expecting
        .headers_mut()
        .insert("expect", "x".parse().unwrap());
    assert_eq!(ask(&mut client, expecting).await.0, 417);
    assert_eq!(edge.toy.calls.load(SeqCst), 0);
}

#[tokio::test]
async fn a_failed_response_resets_its_stream_only() {
    let edge = edge(|_| {});
    let (mut client, _driver) = connect(&edge).await;
    client = client.ready().await.unwrap();
    let (response, _) = client.send_request(get("http://a/broken"), true).unwrap();
    let error = match timeout(DEADLINE, response).await.unwrap() {
        Ok(response) => text(response.into_body()).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(error.is_reset(), "{error}");
    assert_eq!(ask(&mut client, get("http://a/panic")).await.0, 500);
    assert_eq!(ask(&mut client, get("http://a/x")).await.0, 200);
}

#[tokio::test]
async fn a_reset_gives_the_call_up() {
    let edge = edge(|_| {});
    let (client, _driver) = connect(&edge).await;
    let mut client = client.ready().await.unwrap();
    let (response, mut stream) = client.send_request(get("http://a/hang"), true).unwrap();
    let response = tokio::spawn(response);
    while edge.toy.calls.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    stream.send_reset(Reason::CANCEL);
    assert!(response.await.unwrap().is_err());
    while edge.toy.dropped.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go() {
    let edge = edge(|config| {
        config.transport.responding_timeouts.idle_timeout = Interval::from_millis(200);
    });
    let (mut client, driver) = connect(&edge).await;
    assert_eq!(ask(&mut client, get("http://a/x")).await.0, 200);
    timeout(DEADLINE, driver).await.unwrap().unwrap().unwrap();
    eventually("it is closed", || edge.toy.closed.load(SeqCst) == 1);
}

#[tokio::test]
async fn the_last_request_of_a_connection_is_announced() {
    let edge = edge(|config| config.transport.keep_alive_max_requests = 2);
    let (mut client, driver) = connect(&edge).await;
    for _ in 0..2 {
        let (status, body) = ask(&mut client, get("http://a/x")).await;
        assert_eq!(status, 200);
        text(body).await.unwrap();
    }
    timeout(DEADLINE, driver).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn time_limits_hold_for_each_stream() {
    let edge = edge(|config| {
        let limits = &mut config.transport.responding_timeouts;
        limits.read_timeout = Interval::from_millis(200);
        limits.write_timeout = Interval::from_millis(1500);
    });
    let (client, _driver) = connect(&edge).await;
    let mut client = client.ready().await.unwrap();
    let post = Request::post("http://a/collect").body(()).unwrap();
    let (response, mut body) = client.send_request(post, false).unwrap();
    body.send_data(Bytes::from_static(b"hello"), false).unwrap();
    let response = timeout(DEADLINE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 408);
    let (response, _) = client.send_request(get("http://a/hang"), true).unwrap();
    let error = timeout(DEADLINE, response).await.unwrap().unwrap_err();
    assert!(error.is_reset(), "{error}");
    eventually("the call is given up", || {
        edge.toy.dropped.load(SeqCst) == 1
    });
}

#[tokio::test]
async fn a_header_list_over_the_limit_is_refused() {
    let edge = edge(|config| config.http.max_header_bytes = 20_000);
    let (mut client, _driver) = connect(&edge).await;
    let mut request = get("http://a/x");
    request
        .headers_mut()
        .insert("x", "y".repeat(30_000).parse().unwrap());
    client = client.ready().await.unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    match timeout(Duration::from_secs(5), response).await.unwrap() {
        Ok(response) => assert_eq!(response.status(), 431),
        Err(error) => assert!(error.is_reset() || error.is_go_away(), "{error}"),
    }
    assert_eq!(edge.toy.calls.load(SeqCst), 0);
}

/// The worker ends in good order although a body is dropped while it goes down.
#[tokio::test]
async fn a_stop_cuts_streams_with_open_bodies() {
    let mut edge = edge(|config| {
        config.transport.life_cycle.grace_time_out = Interval::from_millis(100);
    });
    let (client, _driver) = connect(&edge).await;
    let mut client = client.ready().await.unwrap();
    let post = Request::post("http://a/hang").body(()).unwrap();
    let (response, _body) = client.send_request(post, false).unwrap();
    while edge.toy.calls.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let workers = edge.workers.take().unwrap();
    timeout(DEADLINE, workers.drain(std::future::pending()))
        .await
        .unwrap();
    assert!(response.await.is_err());
    assert_eq!(edge.toy.dropped.load(SeqCst), 1);
    assert_eq!(edge.toy.opened.load(SeqCst), edge.toy.closed.load(SeqCst));
}
