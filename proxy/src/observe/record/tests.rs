use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use ::http::{Request as HttpRequest, Response as HttpResponse};
use http_body_util::BodyExt;

use super::*;
use crate::config::startup::{self, AccessLogFormat, Prometheus};
use crate::http::{Body, ConnectionInfo, RetryCause};

struct Harness {
    metrics: Metrics,
    route: Arc<RouteScopes>,
    recorder: Arc<Recorder>,
    exchange: Rc<Exchange>,
}

impl Harness {
    fn new(switches: ObservabilitySwitches) -> Self {
        let prometheus = Prometheus {
            add_routers_labels: true,
            ..Prometheus::default()
        };
        let metrics = Metrics::new(&prometheus, false).unwrap();
        let route = Arc::new(RouteScopes {
            name: "r".into(),
            router: metrics.router("r", "s"),
            service: Some(metrics.service("s")),
            switches,
            is_internal: false,
        });
        let recorder = Recorder::new(
            "web",
            ObservabilitySwitches::default(),
            Some(&metrics),
            None,
        );
        Self {
            metrics,
            route,
            recorder: Arc::new(recorder),
            exchange: exchange(),
        }
    }

    fn start(&self) -> Finish {
        self.recorder.start(&self.exchange, &HeaderMap::new())
    }

    /// Takes the exchange through the router to its service.
    fn route(&self) {
        self.route.enter(&self.exchange);
        self.exchange.is_served.set(true);
        *self.exchange.service.borrow_mut() = Some("s".into());
    }

    fn value(&self, series: &str) -> f64 {
        let text = self.metrics.render().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    fn requests(&self, level: &str, code: u16, labels: &str) -> f64 {
        let labels = labels.replace("OUTCOME", "method=\"GET\",protocol=\"http\"");
        self.value(&format!(
            "traefik_{level}_requests_total{{code=\"{code}\",{labels}}}"
        ))
    }

    fn at_entry_point(&self, code: u16) -> f64 {
        self.requests("entrypoint", code, "entrypoint=\"web\",OUTCOME")
    }

    fn at_service(&self, code: u16) -> f64 {
        self.requests("service", code, "OUTCOME,service=\"s\"")
    }
}

fn exchange() -> Rc<Exchange> {
    let client: SocketAddr = "192.0.2.1:5000".parse().unwrap();
    let connection = Rc::new(ConnectionInfo {
        entry_point: "web".into(),
        client,
        client_ip: HeaderValue::from_static("192.0.2.1"),
        local: client,
        is_trusted: false,
        appends_forwarded_for: true,
        tls: None,
        lines: std::cell::RefCell::default(),
    });
    let (head, ()) = HttpRequest::get("/path").body(()).unwrap().into_parts();
    Rc::new(Exchange::new(
        connection,
        &head,
        HeaderValue::from_static("example.com"),
    ))
}

fn response(status: u16, body: Body) -> Response {
    HttpResponse::builder().status(status).body(body).unwrap()
}

#[tokio::test]
async fn a_request_is_recorded_once_when_its_body_has_ended() {
    let harness = Harness::new(ObservabilitySwitches::default());
    let finish = harness.start();
    harness.route();
    harness.exchange.retries.set(2);
    let mut response = finish.track(response(200, Body::full("12345")));
    assert_eq!(harness.at_entry_point(200), 0.0);
    let frame = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "12345");
    assert!(response.body_mut().frame().await.is_none());
    drop(response);
    assert_eq!(harness.at_entry_point(200), 1.0);
    assert_eq!(harness.at_service(200), 1.0);
    let router = "OUTCOME,router=\"r\",service=\"s\"";
    assert_eq!(harness.requests("router", 200, router), 1.0);
    let bytes = "traefik_service_responses_bytes_total{code=\"200\",method=\"GET\",protocol=\"http\",service=\"s\"}";
    assert_eq!(harness.value(bytes), 5.0);
    assert_eq!(
        harness.value("traefik_service_retries_total{service=\"s\"}"),
        2.0
    );
}

#[test]
fn a_dropped_body_keeps_its_status() {
    let harness = Harness::new(ObservabilitySwitches::default());
    drop(harness.start().track(response(200, Body::full("12345"))));
    assert_eq!(harness.at_entry_point(200), 1.0);
}

#[test]
fn an_empty_body_is_recorded_without_being_read() {
    let harness = Harness::new(ObservabilitySwitches::default());
    let _response = harness.start().track(response(404, Body::empty()));
    assert_eq!(harness.at_entry_point(404), 1.0);
}

#[test]
fn a_request_that_was_given_up_counts_as_499() {
    let harness = Harness::new(ObservabilitySwitches::default());
    drop(harness.start());
    assert_eq!(harness.at_entry_point(499), 1.0);
}

#[test]
fn a_panic_counts_as_500() {
    let harness = Harness::new(ObservabilitySwitches::default());
    let finish = harness.start();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _finish = finish;
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(result.is_err());
    assert_eq!(harness.at_entry_point(500), 1.0);
}

#[test]
fn a_tunnel_is_recorded_when_its_last_user_lets_go() {
    let mut harness = Harness::new(ObservabilitySwitches::default());
    let response = harness.start().track(response(101, Body::empty()));
    let tunnel = std::mem::replace(&mut harness.exchange, exchange());
    drop(response);
    assert_eq!(harness.at_entry_point(101), 0.0);
    drop(tunnel);
    assert_eq!(harness.at_entry_point(101), 1.0);
}

#[test]
fn a_service_counts_only_what_reaches_it() {
    let harness = Harness::new(ObservabilitySwitches::default());
    harness.route.enter(&harness.exchange);
    drop(harness.start().track(response(302, Body::empty())));
    assert_eq!(harness.at_entry_point(302), 1.0);
    assert_eq!(harness.at_service(302), 0.0);
}

#[test]
fn refusals_of_the_queue_are_counted() {
    for (kind, reason) in [
        (ErrorKind::QueueFull, "full"),
        (ErrorKind::QueueTimeout, "timeout"),
        (ErrorKind::NoServer, "no_server"),
    ] {
        let harness = Harness::new(ObservabilitySwitches::default());
        harness.route();
        harness.exchange.queue_wait.set(Duration::from_millis(5));
        let response = crate::http::respond::error(&kind.into());
        drop(harness.start().track(response));
        let series =
            format!("tidegate_service_queue_rejected_total{{reason=\"{reason}\",service=\"s\"}}");
        assert_eq!(harness.value(&series), 1.0);
        let waits = "tidegate_service_queue_wait_seconds_count{service=\"s\"}";
        assert_eq!(harness.value(waits), 1.0);
    }
}

#[test]
fn who_leaves_the_queue_has_waited() {
    let harness = Harness::new(ObservabilitySwitches::default());
    harness.route();
    let finish = harness.start();
    harness.exchange.enter_queue();
    drop(finish);
    assert_eq!(harness.at_service(499), 1.0);
    let waits = "tidegate_service_queue_wait_seconds_count{service=\"s\"}";
    assert_eq!(harness.value(waits), 1.0);
}

#[test]
fn retries_are_counted_by_cause() {
    let harness = Harness::new(ObservabilitySwitches::default());
    harness.route();
    harness.exchange.note_retry(RetryCause::Connect);
    harness.exchange.note_retry(RetryCause::Status);
    harness.exchange.note_retry(RetryCause::Status);
    drop(harness.start().track(response(200, Body::empty())));
    let retries = |cause: &str| {
        let labels = format!("{{cause=\"{cause}\",service=\"s\"}}");
        harness.value(&format!("tidegate_service_retries_total{labels}"))
    };
    assert_eq!(["connect", "lost", "status"].map(retries), [1.0, 0.0, 2.0]);
    let all = "traefik_service_retries_total{service=\"s\"}";
    assert_eq!(harness.value(all), 3.0);
}

#[test]
fn switches_and_internal_services_are_left_out() {
    let harness = Harness::new(ObservabilitySwitches {
        metrics: Some(false),
        access_logs: None,
    });
    harness.route();
    drop(harness.start().track(response(200, Body::empty())));
    assert_eq!(harness.at_entry_point(200), 0.0);

    let harness = Harness::new(ObservabilitySwitches::default());
    internal().enter(&harness.exchange);
    drop(harness.start().track(response(200, Body::empty())));
    assert_eq!(harness.at_entry_point(200), 0.0);
}

/// A file for the access log, and the settings that lead there.
fn log_file() -> (std::path::PathBuf, startup::AccessLog) {
    let path = std::env::temp_dir().join(format!("tidegate-record-{}.log", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let config = startup::AccessLog {
        file_path: path.to_str().unwrap().to_owned(),
        format: AccessLogFormat::Json,
        fields: Some(startup::AccessLogFields {
            headers: Some(startup::HeaderFields {
                default_mode: startup::FieldMode::Keep,
                ..startup::HeaderFields::default()
            }),
            ..startup::AccessLogFields::default()
        }),
        ..startup::AccessLog::default()
    };
    (path, config)
}

#[test]
fn the_access_log_gets_the_whole_story() {
    let (path, config) = log_file();
    let log = Arc::new(AccessLog::start(&config).unwrap());
    let recorder = Arc::new(Recorder::new(
        "web",
        ObservabilitySwitches::default(),
        None,
        Some(Arc::clone(&log)),
    ));
    let exchange = exchange();
    let mut headers = HeaderMap::new();
    headers.insert("x-forwarded-for", HeaderValue::from_static("198.51.100.7"));
    let finish = recorder.start(&exchange, &headers);
    *exchange.user.borrow_mut() = Some("ann".into());
    let mut origin = response(201, Body::empty());
    let name = HeaderValue::from_static("origin");
    origin.headers_mut().insert("server", name);
    exchange.note_origin(&origin, exchange.origin_clock());
    exchange.origin_duration.set(Duration::from_millis(3));
    let mut answer = response(201, Body::empty());
    let seen = HeaderValue::from_static("seen");
    answer.headers_mut().insert("x-down", seen);
    drop(finish.track(answer));
    let leaver = self::exchange();
    leaver.is_served.set(true);
    *leaver.service.borrow_mut() = Some("s".into());
    let finish = recorder.start(&leaver, &HeaderMap::new());
    leaver.enter_queue();
    drop(finish);
    let silent = exchange_of(&recorder);
    internal().enter(&silent);
    drop(silent);
    assert!(log.close(Duration::from_secs(10)));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<serde_json::Value> = lines.collect();
    let [value, left] = &lines[..] else {
        panic!("{text}");
    };
    assert_eq!(left["Termination"], "CQ");
    assert!(left["QueueDuration"].as_u64().unwrap() > 0);
    assert_eq!(value["Termination"], "LR");
    assert_eq!(value["ClientHost"], "198.51.100.7");
    assert_eq!(value["ClientUsername"], "ann");
    assert_eq!(value["OriginStatus"], 201);
    assert_eq!(value["OriginDuration"], 3_000_000);
    assert_eq!(value["origin_Server"], "origin");
    assert_eq!(value["downstream_X-Down"], "seen");
    assert_eq!(value["request_X-Forwarded-For"], "198.51.100.7");
    assert_eq!(log.dropped().load(Ordering::Relaxed), 0);
}

/// A router to one of our own services.
fn internal() -> Arc<RouteScopes> {
    Arc::new(RouteScopes {
        is_internal: true,
        ..RouteScopes::default()
    })
}

/// An exchange whose record is written when it is dropped.
fn exchange_of(recorder: &Arc<Recorder>) -> Rc<Exchange> {
    let exchange = exchange();
    let finish = recorder.start(&exchange, &HeaderMap::new());
    drop(finish.track(response(101, Body::empty())));
    exchange
}

#[test]
fn protocols_are_told_from_headers() {
    let rows = [
        (
            vec![
                ("connection", "keep-alive, Upgrade"),
                ("upgrade", "WebSocket"),
            ],
            Protocol::WebSocket,
        ),
        (vec![("upgrade", "websocket")], Protocol::Http),
        (
            vec![("connection", "upgrade"), ("upgrade", "h2c")],
            Protocol::Http,
        ),
        (
            vec![("accept", "text/html, text/event-stream")],
            Protocol::ServerSentEvents,
        ),
        (vec![("accept", "text/event-stream-x")], Protocol::Http),
        (vec![], Protocol::Http),
    ];
    for (headers, expected) in rows {
        let pair = |(name, value): &(&'static str, &'static str)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        let map: HeaderMap = headers.iter().map(pair).collect();
        assert_eq!(protocol(&map), expected, "{headers:?}");
    }
}
