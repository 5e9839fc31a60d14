use super::super::Routes;
use super::Gorb;
use super::{Place, place};
use crate::journal::Journal;
use crate::model::{Protocol, VirtualAddress};
use crate::registry::Policy;
use crate::registry::Registry;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

fn surface() -> Gorb {
    let own = VirtualAddress::socket(Protocol::Tcp, "192.0.2.10:80".parse().unwrap());
    let policy = Policy {
        reserved: BTreeSet::from([own]),
        host: Some([192, 0, 2, 10].into()),
        ..Policy::default()
    };
    let table = watch::Sender::new(Arc::default());
    Gorb::new(Registry::open(policy, None, table, Journal::default()).unwrap())
}

/// The status and the body of the answer to `METHOD PATH BODY`.
async fn ask(gorb: &Gorb, request: &str) -> (u16, Vec<u8>) {
    let mut words = request.splitn(3, ' ');
    let method = words.next().unwrap().parse().unwrap();
    let path = words.next().unwrap();
    let body = Bytes::copy_from_slice(words.next().unwrap_or_default().as_bytes());
    let answer = gorb
        .handle(&method, path, body)
        .expect("the path is GORB's");
    let (head, body) = answer.await.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    if !body.is_empty() {
        assert_eq!(head.headers[CONTENT_TYPE], "application/json");
    }
    (head.status.as_u16(), body.to_vec())
}

async fn json_of(gorb: &Gorb, request: &str) -> Value {
    let (status, body) = ask(gorb, request).await;
    assert_eq!(status, 200, "{request}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

async fn done_by(gorb: &Gorb, request: &str) {
    let (status, body) = ask(gorb, request).await;
    let body = String::from_utf8_lossy(&body);
    assert_eq!((status, &*body), (200, ""), "{request}");
}

/// The status and GORB's `{"error": ...}`.
async fn refused(gorb: &Gorb, request: &str) -> (u16, String) {
    let (status, body) = ask(gorb, request).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    let words = body["error"].as_str().unwrap().to_owned();
    assert_eq!(body.as_object().unwrap().len(), 1);
    (status, words)
}

const SERVICE: &str = r#"{
    "host": "10.0.0.1", "port": 12345, "protocol": "tcp", "method": "wrr",
    "persistent": true, "flags": "sh-fallback|sh-port" }"#;

const BACKEND: &str = r#"{
    "host": "10.1.0.1", "port": 12346, "method": "nat",
    "pulse": { "type": "http", "interval": "5s",
        "args": { "method": "GET", "port": 54321, "path": "/health", "expect": 200 } },
    "weight": 100 }"#;

#[tokio::test]
async fn the_examples_of_the_readme() {
    let gorb = surface();
    assert_eq!(json_of(&gorb, "GET /service").await, json!([]));
    done_by(&gorb, &format!("PUT /service/0 {SERVICE}")).await;
    done_by(&gorb, &format!("PUT /service/0/0 {BACKEND}")).await;
    assert_eq!(json_of(&gorb, "GET /service").await, json!(["0"]));
    let options = json!({
        "host": "10.0.0.1", "port": 12345, "protocol": "tcp", "method": "wrr",
        "flags": "sh-fallback|sh-port", "persistent": true,
    });
    let expected = json!({ "options": options, "health": 1.0, "backends": ["0"] });
    assert_eq!(json_of(&gorb, "GET /service/0").await, expected);
    let pulse: Value = serde_json::from_str(BACKEND).unwrap();
    let options = json!({
        "host": "10.1.0.1", "port": 12346, "weight": 100, "method": "nat", "pulse": pulse["pulse"],
    });
    let metrics = json!({ "status": 0, "health": 1.0, "uptime": 0 });
    let expected = json!({ "options": options, "metrics": metrics });
    assert_eq!(json_of(&gorb, "GET /service/0/0").await, expected);
    done_by(&gorb, "PATCH /service/0/0 {\"weight\": 50}").await;
    assert_eq!(
        json_of(&gorb, "GET /service/0/0").await["options"]["weight"],
        50
    );
    done_by(&gorb, "PATCH /service/0 {\"method\": \"rr\"}").await;
    assert_eq!(
        json_of(&gorb, "GET /service/0").await["options"]["method"],
        "rr"
    );
    done_by(&gorb, "DELETE /service/0/0").await;
    assert_eq!(
        json_of(&gorb, "GET /service/0").await["backends"],
        json!([])
    );
    done_by(&gorb, &format!("PUT /service/0/0 {BACKEND}")).await;
    done_by(&gorb, "DELETE /service/0").await;
    assert_eq!(json_of(&gorb, "GET /service").await, json!([]));
}

#[tokio::test]
async fn the_bodies_of_gorbs_docker_link() {
    let gorb = surface();
    let service =
        r#"{"host":"","port":6379,"protocol":"tcp","method":"","flags":"","persistent":false}"#;
    done_by(&gorb, &format!("PUT /service/redis-6379-tcp {service}")).await;
    let backend = r#"{"host":"10.0.0.7","port":32768,"weight":0,"method":"","pulse":null}"#;
    done_by(
        &gorb,
        &format!("PUT /service/redis-6379-tcp/c-32768-tcp {backend}"),
    )
    .await;
    let backend = r#"{"host":"10.0.0.7","port":32769,"weight":0,"method":"",
        "pulse":{"type":"none","interval":"","args":null}}"#;
    done_by(
        &gorb,
        &format!("PUT /service/redis-6379-tcp/c-32769-udp {backend}"),
    )
    .await;
    let options = &json_of(&gorb, "GET /service/redis-6379-tcp").await["options"];
    assert_eq!(options["host"], "192.0.2.10");
}

#[tokio::test]
async fn refusals_have_gorbs_statuses_and_name_the_field() {
    let gorb = surface();
    done_by(&gorb, &format!("PUT /service/web {SERVICE}")).await;
    done_by(&gorb, &format!("PUT /service/web/a {BACKEND}")).await;
    let rows = [
        (format!("PUT /service/web {SERVICE}"), 409, "already exists"),
        (
            format!("PUT /service/web/a {BACKEND}"),
            409,
            "already exists",
        ),
        (format!("PUT /service/none/a {BACKEND}"), 404, "none"),
        ("GET /service/none".to_owned(), 404, "service"),
        ("GET /service/web/none".to_owned(), 404, "back end"),
        ("DELETE /service/none".to_owned(), 404, "none"),
        ("DELETE /service/web/none".to_owned(), 404, "none"),
        ("PATCH /service/web/none {}".to_owned(), 404, "none"),
        ("PUT /service/x {".to_owned(), 400, "JSON"),
        ("PUT /service/x".to_owned(), 400, "JSON"),
        ("PUT /service/x {}".to_owned(), 400, "port"),
        ("PUT /service/web/b {\"port\": 1}".to_owned(), 400, "host"),
        (
            "PUT /service/web/b {\"host\": \"::1\", \"port\": 1}".to_owned(),
            400,
            "families",
        ),
        (
            "PUT /service/x {\"port\": 80}".to_owned(),
            409,
            "balances itself",
        ),
        (
            "PUT /service/x {\"port\": 81, \"host\": \"0.0.0.0\"}".to_owned(),
            400,
            "host",
        ),
        (
            "PUT /service/x {\"port\": 81, \"host\": \"no name\"}".to_owned(),
            400,
            "host",
        ),
        ("PUT /service/a%2fb {\"port\": 81}".to_owned(), 400, "id"),
        ("POST /service/web {}".to_owned(), 405, "PUT"),
        ("PUT /service {}".to_owned(), 405, "GET"),
        (
            format!("PUT /service/x {}", "[".repeat(60_000)),
            400,
            "JSON",
        ),
        (
            format!("PUT /service/x {}", " ".repeat(70_000)),
            400,
            "bytes at most",
        ),
    ];
    for (request, status, word) in rows {
        let (is, words) = refused(&gorb, &request).await;
        let start: String = request.chars().take(80).collect();
        assert_eq!(is, status, "{start}: {words}");
        assert!(words.contains(word), "{start}: {words}");
    }
}

#[tokio::test]
async fn names_are_looked_up_and_ipv6_works() {
    let gorb = surface();
    let service = r#"{"host": "2001:db8::10", "port": 81}"#;
    done_by(&gorb, &format!("PUT /service/six {service}")).await;
    let backend = r#"{"host": "[::1]", "port": "81", "method": "dr"}"#;
    done_by(&gorb, &format!("PUT /service/six/a {backend}")).await;
    done_by(&gorb, "PUT /service/four {\"port\": 82}").await;
    let backend = r#"{"host": "localhost", "port": 82}"#;
    done_by(&gorb, &format!("PUT /service/four/a {backend}")).await;
    assert_eq!(
        json_of(&gorb, "GET /service/four/a").await["options"]["host"],
        "localhost"
    );
}

#[test]
fn other_paths_are_not_gorbs() {
    for path in [
        "/",
        "/services",
        "/service/",
        "/service/a/",
        "/service//b",
        "/service/a/b/c",
        "/metrics",
        "/service/%ff",
    ] {
        assert_eq!(place(path), None, "{path}");
    }
    let decoded = Some(Place::Service("nginx@1".to_owned()));
    assert_eq!(place("/service/nginx%401"), decoded);
}
