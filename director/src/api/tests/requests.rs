//! What is answered, to whom.

use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;

use super::*;
use crate::api::answer::{Access, Context, answer};
use crate::api::server::answer_all;
use crate::config::Secret;

#[tokio::test]
async fn everything_can_be_read() {
    let served = serve(Directory::new("read"), "").await;
    let rows = [
        ("/healthz", "{\"status\":\"ok\"}"),
        ("/v1/status", "\"roles\":[\"director\",\"receiver\"]"),
        ("/v1/status", "\"vips\":[\"192.0.2.10/24\"]"),
        ("/v1/status", "\"dry_run\":false"),
        ("/v1/desired", "\"name\":\"tcp 192.0.2.10:443\""),
        ("/v1/desired", "\"mark\":2099118081,\"for_checks\":true"),
        ("/v1/desired", "\"forwarding\":\"direct routing\""),
        ("/v1/actual", "\"active\":40"),
        ("/v1/actual", "\"counters\":{\"connections\":1000"),
        ("/v1/plan", "\"settled\":false"),
        ("/v1/plan", "\"kind\":\"set-real\""),
        ("/v1/nodes", "\"name\":\"pi-1\""),
        (
            "/v1/nodes",
            "\"standing\":{\"weight\":100,\"why\":\"it is up\",\"left\":null}",
        ),
        ("/v1/health", "\"verdict\":\"impaired\""),
        (
            "/v1/health",
            "\"layer\":\"through\",\"vip\":\"192.0.2.10\",\"up\":false",
        ),
        ("/v1/vrrp", "\"state\":\"master\""),
        ("/v1/vrrp", "\"takeover\":0.003"),
        (
            "/v1/receiver",
            "\"in_place\":[\"192.0.2.10\"],\"missing\":[]",
        ),
        ("/v1/sources", "\"error\":\"connection refused\""),
        (
            "/v1/events?follow=false&after=1",
            "{\"events\":[{\"number\":2,\"at\":\"20",
        ),
        ("/metrics", "tidegate_director_serving 1\n"),
        ("/metrics", "\ngorb_own 1\n"),
        ("/service/x", "\"GET /service/x \""),
    ];
    for (path, expected) in rows {
        let said = served
            .unix(request(&format!("GET {path}"), "").as_bytes())
            .await;
        assert!(matches!(status(&said), 200 | 201), "{said}");
        assert!(body(&said).contains(expected), "{path}: {said}");
    }
    let head = served.unix(request("HEAD /v1/status", "").as_bytes()).await;
    assert_eq!((status(&head), body(&head)), (200, ""));
    served.end().await;
}

#[tokio::test]
async fn a_receiver_alone_and_trouble_are_said() {
    let served = serve(Directory::new("trouble"), "").await;
    let state = crate::receiver::ReceiverState {
        trouble: Some("tidegate0 is gone".to_owned()),
        ..Default::default()
    };
    served.scene.receiver.send_replace(Arc::new(state));
    served.scene.roster.send_replace(Arc::default());
    let said = served.unix(request("GET /v1/status", "").as_bytes()).await;
    assert!(said.contains("receiver: tidegate0 is gone"), "{said}");
    assert!(said.contains("\"missing\":[\"192.0.2.10\"]"), "{said}");
    // What is still checked is still shown.
    assert!(
        said.contains("\"address\":\"192.0.2.11\",\"name\":null"),
        "{said}"
    );
    served.end().await;
}

#[tokio::test]
async fn what_is_hostile_or_wrong_is_refused() {
    let served = serve(Directory::new("hostile"), "").await;
    for (sent, expected, contains) in hostile().into_iter().chain(wrong()) {
        let said = served.unix(sent.as_bytes()).await;
        let start: String = sent.chars().take(60).collect();
        assert_eq!(status(&said), expected, "{start:?}: {said}");
        assert!(said.contains(contains), "{start:?}: {said}");
        if body(&said).starts_with('{') && expected >= 400 {
            assert!(body(&said).starts_with("{\"error\":\""), "{said}");
        }
    }
    // It is still there for everybody else.
    let said = served.unix(request("GET /healthz", "").as_bytes()).await;
    assert_eq!(status(&said), 200);
    served.end().await;
}

/// A request, its status, and a part of its answer.
type Row = (String, u16, &'static str);

fn hostile() -> Vec<Row> {
    let long = format!("x-long: {}\r\n", "a".repeat(17 << 10));
    let many: String = (0..80).map(|at| format!("x-{at}: 1\r\n")).collect();
    let large = format!("content-length: {}\r\n", 70_000);
    let large = request("POST /service", &large) + &"a".repeat(70_000);
    let broken = request("POST /service", "transfer-encoding: chunked\r\n") + "zz\r\n";
    let short = request("POST /service", "content-length: 3\r\n") + "abc";
    vec![
        (request("GET /v1/status", &long), 431, ""),
        (request("GET /v1/status", &many), 431, ""),
        (
            request("POST /v1/drain/pi-1", "origin: http://evil\r\n"),
            403,
            "browser",
        ),
        (short, 201, "POST /service abc"),
        (large, 413, "64 KiB"),
        (broken, 400, "broken"),
        ("\u{16}\u{3}\u{1}\u{2}\r\n\r\n".to_owned(), 400, ""),
        ("GET /v1/status HTTP/9.9\r\n\r\n".to_owned(), 400, ""),
    ]
}

fn wrong() -> Vec<Row> {
    vec![
        (request("GET /", ""), 404, ""),
        (request("GET //v1/status", ""), 404, ""),
        (request("GET /v1/status/", ""), 404, ""),
        (request("GET http://x/v1/plan", ""), 200, ""),
        (request("POST /v1/status", ""), 405, "allow: GET, HEAD"),
        (request("OPTIONS /metrics", ""), 405, "allow: GET, HEAD"),
        (request("DELETE /healthz", ""), 405, "allow: GET, HEAD"),
        (request("GET /v1/failover", ""), 405, "allow: POST"),
        (request("GET /v1/drain/pi-1", ""), 405, "allow: POST"),
        (request("POST /v1/drain/", ""), 404, ""),
        (
            request("POST /v1/drain/%00%ff%", ""),
            404,
            "there is no node",
        ),
        (request("POST /v1/drain/192.0.2.99", ""), 404, "192.0.2.99"),
        (request("POST /v1/drain/192.0.2.11/x", ""), 404, ""),
        (
            request("POST /v1/drain/pi-1", ""),
            200,
            "192.0.2.11 is drained",
        ),
        (
            request("POST /v1/drain/%5B192.0.2.12%5D", ""),
            200,
            "drained",
        ),
        (
            request("POST /v1/undrain/pi-1", ""),
            409,
            "not now: Undrain",
        ),
        (
            request("GET /v1/events?after=-1", ""),
            400,
            "event's number",
        ),
        (request("GET /v1/events?x", ""), 400, "follow"),
    ]
}

#[tokio::test]
async fn a_name_of_two_nodes_is_nobody() {
    let served = serve(Directory::new("twice"), "").await;
    served.scene.roster.send_modify(|roster| {
        let roster = Arc::make_mut(roster);
        let first = roster.nodes[&scene::node(11)].clone();
        roster.nodes.insert(scene::node(12), first);
    });
    let said = served
        .unix(request("POST /v1/drain/pi-1", "").as_bytes())
        .await;
    assert_eq!(status(&said), 409);
    assert!(said.contains("192.0.2.11 and 192.0.2.12"), "{said}");
    served.end().await;
}

fn context(asks: mpsc::Sender<Ask>) -> (Context, shutdown::Trigger) {
    let (trigger, shutdown) = shutdown::channel();
    let observed = scene::scene().observed;
    let settings = Arc::new(scene::settings(""));
    (
        Context::new(settings, observed, asks, Vec::new(), shutdown),
        trigger,
    )
}

fn post(path: &str) -> Request<Empty<Bytes>> {
    let request = Request::post(path);
    request.body(Empty::new()).unwrap()
}

async fn text(response: Response) -> String {
    let body = response.into_body().collect().await.unwrap();
    String::from_utf8_lossy(&body.to_bytes()).into_owned()
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_answer_is_not_waited_for() {
    let (asks, mut asked) = mpsc::channel(1);
    let (context, _trigger) = context(asks);
    let access = Access::full();
    let failover = || answer(&context, &access, post("/v1/failover"));
    let response = failover().await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(text(response).await.contains("no answer came in 15 s"));
    // The first one is still in the queue.
    assert!(text(failover().await).await.contains("try again"));
    assert!(matches!(asked.try_recv().unwrap().0, Command::Failover));
    let (response, ()) = tokio::join!(failover(), async {
        drop(asked.recv().await);
    });
    assert!(text(response).await.contains("ended before it answered"));
    drop(asked);
    assert!(text(failover().await).await.contains("about to end"));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let (context, _trigger) = context(mpsc::channel(1).0);
    let frames = futures_util::stream::pending::<Result<Frame<Bytes>, io::Error>>();
    let request = Request::post("/service").body(StreamBody::new(frames));
    let response = answer(&context, &Access::full(), request.unwrap()).await;
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(response.headers()["connection"], "close");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_ends_the_connection() {
    let (context, _trigger) = context(mpsc::channel(1).0);
    let context = Arc::new(context);
    let whole = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    for (sent, answers) in [("", 0), ("GET /healthz HT", 0), (whole, 1)] {
        let (mut near, far) = tokio::io::duplex(64 << 10);
        let access = Arc::new(Access::full());
        let serving = tokio::spawn(answer_all(
            far,
            Arc::clone(&context),
            access,
            Arc::default(),
        ));
        near.write_all(sent.as_bytes()).await.unwrap();
        let begun = tokio::time::Instant::now();
        let mut said = String::new();
        near.read_to_string(&mut said).await.unwrap();
        assert_eq!(
            said.matches("{\"status\":\"ok\"}").count(),
            answers,
            "{said}"
        );
        assert!(begun.elapsed() < Duration::from_secs(11), "{sent:?}");
        serving.await.unwrap();
    }
}

#[tokio::test]
async fn a_door_lets_in_who_may() {
    let (context, _trigger) = context(mpsc::channel(1).0);
    let token = Secret(b"s3cret".to_vec());
    let (reads, open) = (Access::new(false, None), Access::full());
    let guarded = Access::new(true, Some(&token));
    let rows = [
        (&open, "GET", "/v1/plan", "", 200),
        (&reads, "GET", "/v1/plan", "", 200),
        (&reads, "POST", "/v1/failover", "", 403),
        (&reads, "PUT", "/service/x", "", 403),
        (&reads, "POST", "/v1/plan", "", 405),
        (&guarded, "GET", "/v1/plan", "", 401),
        (&guarded, "GET", "/metrics", "", 401),
        (&guarded, "GET", "/nothing", "", 401),
        (&guarded, "POST", "/v1/failover", "Bearer s3cre", 401),
        (&guarded, "GET", "/v1/plan", "Bearer s3cret", 200),
        (&guarded, "POST", "/v1/failover", "Bearer s3cret", 503),
        (&guarded, "GET", "/healthz", "", 200),
    ];
    for (access, method, path, token, expected) in rows {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", token);
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let response = answer(&context, access, request).await;
        assert_eq!(
            response.status().as_u16(),
            expected,
            "{method} {path} {token}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_with_what_was_and_beats_when_nothing_happens() {
    let (context, trigger) = context(mpsc::channel(1).0);
    let request = Request::get("/v1/events").header("last-event-id", "1");
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let mut response = answer(&context, &Access::full(), request).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let first = response
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    assert!(
        first.starts_with(b"id: 2\ndata: {\"number\":2,"),
        "{first:?}"
    );
    let beat = response
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    assert_eq!(beat, ":\n\n");
    // More than anybody is waited for: what is kept comes, in order.
    for number in 0..2_000 {
        context
            .observed
            .journal
            .record("table", &number, "added", "it was missing");
    }
    let next = response
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    assert!(next.starts_with(b"id: 1491\n"), "{next:?}");
    let next = response
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    assert!(next.starts_with(b"id: 1492\n"), "{next:?}");
    trigger.advance(Stage::Draining);
    let rest = tokio::time::timeout(Duration::from_secs(5), response.collect()).await;
    assert!(rest.is_ok(), "the stream ends with the director");
}

#[tokio::test]
async fn followers_are_counted() {
    let (context, _trigger) = context(mpsc::channel(1).0);
    let follow = || async {
        let request = Request::get("/v1/events").body(Full::<Bytes>::default());
        answer(&context, &Access::full(), request.unwrap()).await
    };
    let mut followers = Vec::new();
    for _ in 0..32 {
        followers.push(follow().await);
    }
    assert!(followers.iter().all(|it| it.status() == 200));
    assert_eq!(follow().await.status(), 503);
    followers.pop();
    assert_eq!(follow().await.status(), 200);
}
