use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use ::http::{HeaderValue, Request as HttpRequest};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use crate::config::dynamic::{
    AddPrefix, LoadBalancer, Middleware, Router, RouterTls, Server, Service,
};
use crate::config::startup::{
    AccessLog, Api, EntryPoint, Metrics, Ping, Prometheus, StaticConfig, SwarmProvider,
};
use crate::http::{Body, ConnectionInfo, Exchange, HttpService, Request};

/// What a client sees of an answer.
struct Seen {
    status: u16,
    headers: ::http::HeaderMap,
    body: String,
}

impl Seen {
    fn json(&self) -> Value {
        assert!(self.body.ends_with('\n'));
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |it| it.to_str().unwrap())
    }

    /// The names of a list, in its order.
    fn names(&self) -> Vec<String> {
        let name = |it: &Value| it["name"].as_str().unwrap().to_owned();
        self.json().as_array().unwrap().iter().map(name).collect()
    }
}

async fn send(service: &dyn HttpService, method: &str, target: &str, prefix: &str) -> Seen {
    let address: SocketAddr = "192.0.2.1:5000".parse().unwrap();
    let mut request = HttpRequest::builder().method(method).uri(target);
    if !prefix.is_empty() {
        request = request.header("x-forwarded-prefix", prefix);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    let connection = Rc::new(ConnectionInfo {
        entry_point: "traefik".into(),
        client: address,
        client_ip: HeaderValue::from_static("192.0.2.1"),
        local: address,
        is_trusted: false,
        appends_forwarded_for: true,
        tls: None,
        lines: std::cell::RefCell::default(),
    });
    let exchange = Rc::new(Exchange::new(
        connection,
        &head,
        HeaderValue::from_static("example.com"),
    ));
    let body = Body::empty();
    let request = Request {
        head,
        body,
        exchange,
    };
    let (head, body) = service.call(request).await.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Seen {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8(body.into()).unwrap(),
    }
}

async fn get(service: &dyn HttpService, target: &str) -> Seen {
    send(service, "GET", target, "").await
}

#[derive(Debug)]
struct Fixed(Arc<ApiView>);

impl ApiSource for Fixed {
    fn view(&self) -> Arc<ApiView> {
        Arc::clone(&self.0)
    }
}

fn router(rule: &str, priority: i64, status: Status) -> RouterView {
    RouterView {
        config: Router {
            entry_points: vec!["web".to_owned()],
            service: "shop".to_owned(),
            rule: rule.to_owned(),
            priority,
            ..Router::default()
        },
        status,
        using: vec!["web".to_owned()],
        errors: Vec::new(),
    }
}

fn view() -> ApiView {
    let mut view = ApiView::default();
    let mut shop = router("Host(`shop`)", 9, Status::Enabled);
    shop.config.middlewares = vec!["prefix@docker".to_owned()];
    shop.config.tls = Some(RouterTls::default());
    let mut broken = router("Host(`", 3, Status::Disabled);
    broken.errors = vec!["label x of container y: it is broken".to_owned()];
    let admin = router("PathPrefix(`/a`)", i64::MAX, Status::Warning);
    view.routers = [
        ("shop@docker".to_owned(), shop),
        ("broken@docker".to_owned(), broken),
        ("a/b@file".to_owned(), admin),
    ]
    .into();
    view.services = [
        ("shop@docker".to_owned(), shop_service()),
        ("noop@internal".to_owned(), ServiceView::default()),
    ]
    .into();
    let prefix = MiddlewareView {
        config: Middleware {
            add_prefix: Some(AddPrefix {
                prefix: "/p".to_owned(),
            }),
            ..Middleware::default()
        },
        used_by: vec!["shop@docker".to_owned()],
        ..MiddlewareView::default()
    };
    view.middlewares = [("prefix@docker".to_owned(), prefix)].into();
    view.certificates = vec![CertificateView {
        name: "abc".to_owned(),
        common_name: "example.com".to_owned(),
        status: "expired".to_owned(),
        ..CertificateView::default()
    }];
    view.problems = vec!["a stray setting".to_owned()];
    view
}

fn shop_service() -> ServiceView {
    let url = "http://10.0.0.2:80";
    let server = Server {
        url: url.to_owned(),
        ..Server::default()
    };
    let load_balancer = LoadBalancer {
        servers: vec![server],
        ..LoadBalancer::default()
    };
    ServiceView {
        config: Some(Service {
            load_balancer: Some(load_balancer),
        }),
        used_by: vec!["shop@docker".to_owned()],
        servers: vec![ServerView {
            url: url.into(),
            up: false,
            draining: true,
            in_flight: 2,
            limit: 3,
            maxconn: 4,
            minconn: 2,
            queue: 1,
            requests: 90,
            ejections: Some(9),
            connections: ConnectionsView {
                opened: 6,
                reused: 84,
                failed: 7,
                idle: 8,
                open: 10,
            },
        }],
        queue: QueueView {
            length: 5,
            handed: 20,
            withdrawn: 21,
            full: 22,
        },
        ..ServiceView::default()
    }
}

fn config(api: Api) -> StaticConfig {
    let mut config = StaticConfig {
        api: Some(api),
        access_log: Some(AccessLog::default()),
        metrics: Some(Metrics {
            prometheus: Some(Prometheus::default()),
            add_internals: false,
        }),
        ..StaticConfig::default()
    };
    let entry_point = EntryPoint {
        address: ":80".to_owned(),
        ..EntryPoint::default()
    };
    config.entry_points.insert("web".to_owned(), entry_point);
    config.providers.swarm = Some(SwarmProvider::default());
    config
}

fn api_with(settings: Api) -> ApiService {
    let facts = ProcessFacts {
        version: "1.2.3",
        started: UNIX_EPOCH,
    };
    let source = Arc::new(Fixed(Arc::new(view())));
    ApiService::new(source, &config(settings), facts)
}

fn api() -> ApiService {
    api_with(Api::default())
}

#[tokio::test]
async fn version_and_overview() {
    let api = api();
    let version = get(&api, "/api/version").await;
    assert_eq!(version.header("content-type"), "application/json");
    assert_eq!(
        version.json(),
        json!({ "Version": "1.2.3", "Codename": "tidegate", "startDate": "1970-01-01T00:00:00Z" })
    );
    let overview = get(&api, "/api/overview").await.json();
    assert_eq!(
        overview["http"],
        json!({
            "routers": { "total": 3, "warnings": 1, "errors": 1 },
            "services": { "total": 2, "warnings": 0, "errors": 0 },
            "middlewares": { "total": 1, "warnings": 0, "errors": 0 },
        })
    );
    assert_eq!(overview["tcp"]["routers"]["total"], 0);
    assert_eq!(overview["certificates"]["errors"], 1);
    assert_eq!(
        overview["features"],
        json!({ "tracing": "", "metrics": "Prometheus", "accessLog": true })
    );
    assert_eq!(overview["providers"], json!(["Swarm"]));
    assert_eq!(overview["tidegate"]["problems"], json!(["a stray setting"]));
}

#[tokio::test]
async fn what_is_around_is_shown() {
    let config = StaticConfig::default();
    let facts = ProcessFacts {
        version: "1.2.3",
        started: UNIX_EPOCH,
    };
    let of = |view: ApiView| ApiService::new(Arc::new(Fixed(Arc::new(view))), &config, facts);
    let alone = of(ApiView::default());
    assert_eq!(get(&alone, "/api/cluster").await.status, 404);
    let provider = ProviderView {
        name: "swarm".to_owned(),
        status: "stale",
        age: Some(61.5),
        source: Some("manager".to_owned()),
        error: None,
    };
    let member = MemberView {
        name: "manager".to_owned(),
        address: None,
        status: "away",
        age: Some(60.5),
    };
    let cluster = ClusterView {
        name: "worker".to_owned(),
        members: vec![member],
        facts: 3,
        bytes: 1000,
        refused: [("stranger", 2)].into(),
    };
    let api = of(ApiView {
        providers: vec![provider],
        cluster: Some(cluster),
        ..ApiView::default()
    });
    let overview = get(&api, "/api/overview").await.json();
    assert_eq!(
        overview["tidegate"]["providers"],
        json!([{ "name": "swarm", "status": "stale", "age": 61.5, "source": "manager" }])
    );
    assert_eq!(
        get(&api, "/api/cluster").await.json(),
        json!({
            "name": "worker",
            "members": [{ "name": "manager", "status": "away", "age": 60.5 }],
            "facts": 3,
            "bytes": 1000,
            "refused": { "stranger": 2 },
        })
    );
}

#[tokio::test]
async fn raw_data_is_keyed_by_full_name() {
    let raw = get(&api(), "/api/rawdata").await.json();
    let router = &raw["routers"]["broken@docker"];
    assert_eq!(router["status"], "disabled");
    assert_eq!(router["using"], json!(["web"]));
    assert_eq!(
        router["error"],
        json!(["label x of container y: it is broken"])
    );
    assert!(router.get("name").is_none());
    let service = &raw["services"]["shop@docker"];
    assert_eq!(
        service["serverStatus"],
        json!({ "http://10.0.0.2:80": "DOWN" })
    );
    assert_eq!(service["usedBy"], json!(["shop@docker"]));
    assert_eq!(service["loadBalancer"]["passHostHeader"], true);
    assert_eq!(
        service["tidegate"],
        json!({
            "queue": { "length": 5, "handed": 20, "withdrawn": 21, "full": 22 },
            "servers": [{
                "url": "http://10.0.0.2:80", "up": false, "draining": true, "inFlight": 2,
                "limit": 3, "maxconn": 4, "minconn": 2, "queue": 1, "requests": 90, "ejections": 9,
                "connections": { "opened": 6, "reused": 84, "failed": 7, "idle": 8, "open": 10 }
            }],
        })
    );
    assert_eq!(
        raw["services"]["noop@internal"],
        json!({ "status": "enabled" })
    );
    assert!(raw.get("tcpRouters").is_none());
}

#[tokio::test]
async fn objects_of_lists_have_names_and_types() {
    let api = api();
    let router = get(&api, "/api/http/routers/shop@docker").await.json();
    let expected = json!({
        "name": "shop@docker", "provider": "docker", "priority": 9, "priorityStr": "9",
        "rule": "Host(`shop`)", "service": "shop", "status": "enabled", "using": ["web"],
        "entryPoints": ["web"], "middlewares": ["prefix@docker"], "tls": { "options": "default" },
    });
    assert_eq!(router, expected);
    let slashed = get(&api, "/api/http/routers/a%2Fb@file").await.json();
    assert_eq!(slashed["priorityStr"], "9223372036854775807");
    let service = get(&api, "/api/http/services/shop@docker").await.json();
    assert_eq!(service["type"], "loadbalancer");
    let middleware = get(&api, "/api/http/middlewares/prefix@docker")
        .await
        .json();
    assert_eq!(
        middleware,
        json!({
            "name": "prefix@docker", "provider": "docker", "type": "addprefix",
            "addPrefix": { "prefix": "/p" }, "status": "enabled", "usedBy": ["shop@docker"],
        })
    );
    let entry_point = get(&api, "/api/entrypoints/web").await.json();
    assert_eq!(entry_point["name"], "web");
    assert_eq!(entry_point["address"], ":80");
    let certificate = get(&api, "/api/certificates/abc").await.json();
    assert_eq!(certificate["commonName"], "example.com");
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_cut() {
    let api = api();
    let rows = [
        ("", "a/b@file broken@docker shop@docker"),
        ("?direction=desc", "shop@docker broken@docker a/b@file"),
        ("?sortBy=priority", "broken@docker shop@docker a/b@file"),
        ("?sortBy=provider", "broken@docker shop@docker a/b@file"),
        ("?sortBy=status", "broken@docker shop@docker a/b@file"),
        ("?sortBy=rule", "broken@docker shop@docker a/b@file"),
        ("?search=PREFIX", "a/b@file"),
        ("?status=Disabled", "broken@docker"),
        ("?serviceName=shop@docker&search=broken", "broken@docker"),
        ("?middlewareName=prefix@docker", "shop@docker"),
        ("?per_page=2", "a/b@file broken@docker"),
        ("?per_page=2&page=2", "shop@docker"),
    ];
    for (query, expected) in rows {
        let list = get(&api, &format!("/api/http/routers{query}")).await;
        assert_eq!(list.names().join(" "), expected, "{query}");
        let next = if query == "?per_page=2" { "2" } else { "1" };
        assert_eq!(list.header("x-next-page"), next, "{query}");
    }
    let services = get(&api, "/api/http/services?sortBy=servers&direction=desc").await;
    assert_eq!(services.names(), ["shop@docker", "noop@internal"]);
    assert_eq!(
        get(&api, "/api/http/middlewares").await.names(),
        ["prefix@docker"]
    );
    assert_eq!(get(&api, "/api/entrypoints").await.names(), ["web"]);
    assert_eq!(
        get(&api, "/api/certificates?sortBy=validUntil")
            .await
            .names(),
        ["abc"]
    );
    for kind in [
        "tcp/routers",
        "tcp/services",
        "tcp/middlewares",
        "udp/routers",
        "udp/services",
    ] {
        let list = get(&api, &format!("/api/{kind}")).await;
        assert_eq!((list.json(), list.header("x-next-page")), (json!([]), "1"));
    }
}

#[tokio::test]
async fn complaints_are_traefiks() {
    let api = api();
    let rows = [
        ("/api/http/routers/x%20y@z", 404, "router not found: x y@z"),
        ("/api/http/services/x", 404, "service not found: x"),
        ("/api/http/middlewares/x", 404, "middleware not found: x"),
        ("/api/entrypoints/x", 404, "entry point not found: x"),
        ("/api/certificates/x", 404, "certificate not found: x"),
        ("/api/tcp/routers/x", 404, "router not found: x"),
        (
            "/api/http/routers?page=9",
            400,
            "invalid request: page: 9, per_page: 100",
        ),
    ];
    for (target, status, message) in rows {
        let answer = get(&api, target).await;
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.json(), json!({ "message": message }));
    }
    for target in [
        "/api",
        "/api/",
        "/api/http",
        "/api/http/routers/a/b",
        "/other",
        "/dashboard/x",
    ] {
        let answer = get(&api, target).await;
        assert_eq!(
            (answer.status, &*answer.body),
            (404, "404 page not found\n"),
            "{target}"
        );
    }
}

#[tokio::test]
async fn only_reading_is_allowed() {
    let api = api();
    let answer = send(&api, "POST", "/api/version", "").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"));
    let whole = get(&api, "/api/version").await;
    let head = send(&api, "HEAD", "/api/version", "").await;
    assert_eq!((head.status, &*head.body), (200, ""));
    assert_eq!(head.header("content-length"), whole.body.len().to_string());
}

#[tokio::test]
async fn paths_begin_with_the_base_path() {
    let api = api_with(Api {
        base_path: "/admin/".to_owned(),
        ..Api::default()
    });
    assert_eq!(get(&api, "/admin/api/version").await.status, 200);
    assert_eq!(get(&api, "/api/version").await.status, 404);
    assert_eq!(get(&api, "/administrator/api/version").await.status, 404);
    let answer = get(&api, "/admin").await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (302, "/admin/dashboard/")
    );
}

#[tokio::test]
async fn the_dashboard_is_found_from_the_root() {
    let api = api();
    let rows = [
        ("", "/dashboard/"),
        ("/tools", "/tools/dashboard/"),
        ("/tools/", "/tools/dashboard/"),
        ("https://evil.example", "/dashboard/"),
        ("//evil.example", "/dashboard/"),
        ("/\\evil.example", "/dashboard/"),
    ];
    for (prefix, location) in rows {
        let answer = send(&api, "GET", "/", prefix).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (302, location),
            "{prefix}"
        );
    }
    let page = get(&api, "/dashboard/").await;
    assert!(page.header("content-type").starts_with("text/html"));
    let without = api_with(Api {
        dashboard: false,
        ..Api::default()
    });
    assert_eq!(get(&without, "/").await.status, 404);
    assert_eq!(get(&without, "/dashboard/").await.status, 404);
}

#[tokio::test]
async fn the_dashboards_page_allows_only_itself() {
    let page = get(&DashboardService, "/").await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'"));
    assert_eq!(policy.matches("'sha256-").count(), 2);
    assert_eq!(page.body.matches("<script>").count(), 1);
    assert_eq!(page.body.matches("<style>").count(), 1);
    for forbidden in [
        "innerHTML",
        "src=",
        "href=",
        "http:",
        "https:",
        "style=",
        " onclick",
    ] {
        assert!(!page.body.contains(forbidden), "{forbidden}");
    }
    assert_eq!(get(&DashboardService, "/x").await.status, 404);
    assert_eq!(send(&DashboardService, "POST", "/", "").await.status, 405);
}

#[tokio::test]
async fn ping_tells_when_the_process_stops() {
    let terminating = Terminating::default();
    let ping = PingService::new(&Ping::default(), terminating.clone());
    let answer = get(&ping, "/ping").await;
    assert_eq!((answer.status, &*answer.body), (200, "OK"));
    terminating.begin();
    let answer = get(&ping, "/ping").await;
    assert_eq!((answer.status, &*answer.body), (503, "Service Unavailable"));
}

#[tokio::test]
async fn metrics_and_noop_answer() {
    let metrics = crate::observe::Metrics::new(&Prometheus::default(), false).unwrap();
    metrics.config_applied(UNIX_EPOCH);
    let answer = get(&PrometheusService::new(Arc::new(metrics)), "/metrics").await;
    assert_eq!(
        answer.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert!(answer.body.contains("\ntraefik_config_reloads_total 1\n"));
    assert_eq!(get(&NoopService, "/").await.status, 418);
}
