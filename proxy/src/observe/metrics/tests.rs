use std::collections::BTreeMap;
use std::time::Duration;

use ::http::{HeaderValue, Method, StatusCode};

use super::*;
use crate::http::{Protocol, TlsConnection};

fn metrics(config: &Prometheus) -> Metrics {
    Metrics::new(config, false).unwrap()
}

fn everything() -> Prometheus {
    Prometheus {
        add_routers_labels: true,
        ..Prometheus::default()
    }
}

fn observation<'a>(method: &'a Method, header_values: &'a [HeaderValue]) -> Observation<'a> {
    Observation {
        status: StatusCode::OK,
        method,
        protocol: Protocol::Http,
        duration: Duration::from_millis(200),
        request_bytes: 3,
        response_bytes: 5,
        tls: None,
        header_values,
    }
}

/// The value of the line that begins with `series`.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(series)?.strip_prefix(' ')?;
        rest.parse().ok()
    })
}

#[test]
fn names_and_labels_are_traefiks() {
    let metrics = metrics(&everything());
    let entry_point = metrics.entry_point("web");
    let router = metrics.router("r@docker", "s@docker").unwrap();
    let service = metrics.service("s@docker");
    let tls = TlsConnection {
        version: "1.3",
        cipher: "TLS_AES_128_GCM_SHA256",
        server_name: None,
        options: "default".into(),
        client_subject: None,
    };
    let one = Observation {
        tls: Some(&tls),
        ..observation(&Method::GET, &[])
    };
    entry_point.record(&one);
    router.record(&one);
    service.record(&one);
    service.retried(2, &[0, 2, 0, 0, 0]);
    let text = metrics.render().unwrap();
    let outcome = r#"code="200""#;
    for (level, labels) in [
        (
            "entrypoint",
            r#"entrypoint="web",method="GET",protocol="http""#,
        ),
        (
            "router",
            r#"method="GET",protocol="http",router="r@docker",service="s@docker""#,
        ),
        (
            "service",
            r#"method="GET",protocol="http",service="s@docker""#,
        ),
    ] {
        let line =
            |what: &str, labels: &str| value(&text, &format!("traefik_{level}_{what}{{{labels}}}"));
        let all = format!("{outcome},{labels}");
        assert_eq!(line("requests_total", &all), Some(1.0), "{level}\n{text}");
        assert_eq!(line("requests_bytes_total", &all), Some(3.0));
        assert_eq!(line("responses_bytes_total", &all), Some(5.0));
        assert_eq!(line("request_duration_seconds_count", &all), Some(1.0));
        let first = format!(r#"{all},le="0.1""#);
        assert_eq!(line("request_duration_seconds_bucket", &first), Some(0.0));
        let second = format!(r#"{all},le="0.3""#);
        assert_eq!(line("request_duration_seconds_bucket", &second), Some(1.0));
    }
    let tls = r#"traefik_entrypoint_requests_tls_total{entrypoint="web",tls_cipher="TLS_AES_128_GCM_SHA256",tls_version="1.3"}"#;
    assert_eq!(value(&text, tls), Some(1.0), "{text}");
    let retries = r#"traefik_service_retries_total{service="s@docker"}"#;
    assert_eq!(value(&text, retries), Some(2.0));
    for (cause, expected) in [("connect", 0.0), ("lost", 2.0), ("status", 0.0)] {
        let series =
            format!(r#"tidegate_service_retries_total{{cause="{cause}",service="s@docker"}}"#);
        assert_eq!(value(&text, &series), Some(expected));
    }
    assert!(text.contains("process_open_fds"));
}

#[test]
fn levels_are_measured_as_configured() {
    let metrics = metrics(&Prometheus {
        add_entry_points_labels: false,
        add_services_labels: false,
        ..Prometheus::default()
    });
    assert!(metrics.router("r", "s").is_none());
    metrics
        .entry_point("web")
        .record(&observation(&Method::GET, &[]));
    let service = metrics.service("s");
    service.record(&observation(&Method::GET, &[]));
    service.retried(1, &[1, 0, 0, 0, 0]);
    service.rejected(QueueRejection::Full);
    service.waited(Duration::from_millis(7));
    service.waited(Duration::ZERO);
    let text = metrics.render().unwrap();
    assert!(!text.contains("traefik_service"), "{text}");
    assert!(!text.contains("traefik_entrypoint"));
    let full = r#"tidegate_service_queue_rejected_total{reason="full",service="s"}"#;
    assert_eq!(value(&text, full), Some(1.0));
    let waits = r#"tidegate_service_queue_wait_seconds_count{service="s"}"#;
    assert_eq!(value(&text, waits), Some(1.0));
}

#[test]
fn a_scope_outlives_a_configuration_and_goes_one_scrape_after_its_users() {
    let metrics = metrics(&everything());
    let series =
        r#"traefik_service_requests_total{code="200",method="GET",protocol="http",service="s"}"#;
    let old = metrics.service("s");
    old.record(&observation(&Method::GET, &[]));
    let new = metrics.service("s");
    drop(old);
    new.record(&observation(&Method::GET, &[]));
    assert_eq!(value(&metrics.render().unwrap(), series), Some(2.0));
    drop(new);
    assert_eq!(value(&metrics.render().unwrap(), series), Some(2.0));
    assert_eq!(value(&metrics.render().unwrap(), series), None);
    let again = metrics.service("s");
    again.record(&observation(&Method::GET, &[]));
    assert_eq!(value(&metrics.render().unwrap(), series), Some(1.0));
}

#[test]
fn unused_scopes_are_bounded_without_a_scrape() {
    let metrics = metrics(&everything());
    for number in 0..3 * SWEEP_AFTER {
        metrics.router(&number.to_string(), "s");
    }
    assert!(metrics.scopes().routers.len() <= SWEEP_AFTER + 1);
}

#[test]
fn methods_and_protocols_are_bounded() {
    let metrics = metrics(&everything());
    let entry_point = metrics.entry_point("web");
    for name in ["BREW", "get", "PROPFIND"] {
        let method = Method::from_bytes(name.as_bytes()).unwrap();
        entry_point.record(&Observation {
            protocol: Protocol::ServerSentEvents,
            ..observation(&method, &[])
        });
    }
    let series = r#"traefik_entrypoint_requests_total{code="200",entrypoint="web",method="EXTENSION_METHOD",protocol="sse"}"#;
    let text = metrics.render().unwrap();
    assert_eq!(value(&text, series), Some(3.0), "{text}");
}

#[test]
fn header_labels_are_counted_and_bounded() {
    let metrics = metrics(&Prometheus {
        header_labels: BTreeMap::from([("agent".to_owned(), "User-Agent".to_owned())]),
        ..Prometheus::default()
    });
    assert_eq!(metrics.header_labels(), ["user-agent"]);
    let entry_point = metrics.entry_point("web");
    let record = |value: &str| {
        let values = [HeaderValue::from_str(value).unwrap()];
        entry_point.record(&observation(&Method::GET, &values));
    };
    record("curl\t\"x\"");
    record("curl\t\"x\"");
    record("");
    record(&"x".repeat(1000));
    for number in 0..1000 {
        record(&number.to_string());
    }
    let text = metrics.render().unwrap();
    let series = |agent: &str| {
        let labels =
            format!(r#"agent="{agent}",code="200",entrypoint="web",method="GET",protocol="http""#);
        value(
            &text,
            &format!("traefik_entrypoint_requests_total{{{labels}}}"),
        )
    };
    assert_eq!(series("curl\t\\\"x\\\""), Some(2.0), "{text}");
    assert_eq!(series(""), Some(1.0));
    assert!(series("other").unwrap() > 700.0);
    let rows = text
        .lines()
        .filter(|line| line.contains("requests_total{agent"));
    assert!(rows.count() <= 300);
}

#[test]
fn unusable_labels_are_refused() {
    let with = |label: &str, header: &str| {
        Metrics::new(
            &Prometheus {
                header_labels: BTreeMap::from([(label.to_owned(), header.to_owned())]),
                ..Prometheus::default()
            },
            false,
        )
    };
    assert!(with("code", "X-A").is_err());
    assert!(with("not a label", "X-A").is_err());
    let error = with("a", "not a header").unwrap_err();
    assert!(error.to_string().contains("not a header"));
}

#[test]
fn open_connections_are_counted_while_they_live() {
    let metrics = metrics(&Prometheus::default());
    let series = r#"traefik_open_connections{entrypoint="web",protocol="TCP"}"#;
    metrics.entry_point("web").connection_opened();
    assert_eq!(value(&metrics.render().unwrap(), series), Some(1.0));
    metrics.entry_point("web").connection_closed();
    assert_eq!(value(&metrics.render().unwrap(), series), Some(0.0));
}

#[derive(Debug)]
struct Fixed;

impl LiveState for Fixed {
    fn servers(&self) -> Vec<ServerSample> {
        vec![ServerSample {
            service: "s".into(),
            url: "http://a:1".into(),
            up: true,
            draining: true,
            in_flight: 2,
            limit: 3,
            maxconn: 4,
            queued: 1,
            requests: 50,
            ejections: Some(9),
            connections: ConnectionSample {
                opened: 5,
                reused: 6,
                failed: 7,
                idle: 8,
                open: 10,
            },
        }]
    }

    fn services(&self) -> Vec<ServiceSample> {
        vec![ServiceSample {
            service: "s".into(),
            queued: 3,
            handed: 20,
            withdrawn: 21,
        }]
    }

    fn certificates(&self) -> Vec<CertificateSample> {
        vec![CertificateSample {
            cn: "example.com".to_owned(),
            serial: "17".to_owned(),
            sans: "a,b".to_owned(),
            not_after: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        }]
    }

    fn providers(&self) -> Vec<ProviderSample> {
        vec![ProviderSample {
            provider: "swarm".into(),
            last_success: Some(UNIX_EPOCH + Duration::from_secs(7)),
            is_stale: true,
            source: Some("node-1".into()),
        }]
    }

    fn resolvers(&self) -> Vec<ResolverSample> {
        vec![ResolverSample {
            resolver: "le".into(),
            certificates: 3,
            wanted: [("valid", 2), ("failed", 1)].into(),
            store_age: Some(Duration::from_millis(500)),
            next_renewal: Some(UNIX_EPOCH + Duration::from_secs(11)),
            orders: [("issued", 2)].into(),
        }]
    }

    fn mesh(&self) -> Option<MeshSample> {
        Some(MeshSample {
            members: vec![("node-1".into(), true), ("node-2".into(), false)],
            connected: 1,
            facts: 22,
            bytes: 23,
            refused: vec![("stranger", 24), ("slow", 0)],
            connections: 25,
            lost: 26,
            received_bytes: 27,
            sent_bytes: 28,
            heard: [("new", 29), ("old", 30), ("refused", 31)],
            questions: 32,
            questions_refused: 33,
            state_failed: 34,
        })
    }
}

#[test]
fn live_state_is_read_at_each_scrape() {
    let metrics = metrics(&Prometheus::default());
    metrics.attach(Arc::new(Fixed));
    metrics.config_applied(UNIX_EPOCH + Duration::from_secs(9));
    metrics.worker_panicked();
    let text = metrics.render().unwrap();
    let rows = [
        (r#"tidegate_service_queue_length{service="s"}"#, 3.0),
        (r#"tidegate_service_queue_handed_total{service="s"}"#, 20.0),
        (
            r#"tidegate_service_queue_withdrawn_total{service="s"}"#,
            21.0,
        ),
        (
            r#"traefik_tls_certs_not_after{cn="example.com",sans="a,b",serial="17"}"#,
            1.8e9,
        ),
        (
            r#"tidegate_provider_last_success_seconds{provider="swarm"}"#,
            7.0,
        ),
        (r#"tidegate_provider_stale{provider="swarm"}"#, 1.0),
        (
            r#"tidegate_provider_relayed{member="node-1",provider="swarm"}"#,
            1.0,
        ),
        (r#"tidegate_acme_certificates{resolver="le"}"#, 3.0),
        (
            r#"tidegate_acme_certificates_wanted{resolver="le",status="failed"}"#,
            1.0,
        ),
        (r#"tidegate_acme_store_age_seconds{resolver="le"}"#, 0.5),
        (r#"tidegate_acme_next_renewal_seconds{resolver="le"}"#, 11.0),
        (
            r#"tidegate_acme_orders_total{resolver="le",result="issued"}"#,
            2.0,
        ),
        (r#"tidegate_mesh_member_up{member="node-1"}"#, 1.0),
        (r#"tidegate_mesh_member_up{member="node-2"}"#, 0.0),
        ("tidegate_mesh_connected", 1.0),
        ("tidegate_mesh_known_facts", 22.0),
        ("tidegate_mesh_known_bytes", 23.0),
        (r#"tidegate_mesh_refused_total{reason="stranger"}"#, 24.0),
        (r#"tidegate_mesh_refused_total{reason="slow"}"#, 0.0),
        ("tidegate_mesh_connections_total", 25.0),
        ("tidegate_mesh_connections_lost_total", 26.0),
        ("tidegate_mesh_received_bytes_total", 27.0),
        ("tidegate_mesh_sent_bytes_total", 28.0),
        (r#"tidegate_mesh_facts_total{result="old"}"#, 30.0),
        ("tidegate_mesh_questions_total", 32.0),
        ("tidegate_mesh_questions_refused_total", 33.0),
        ("tidegate_mesh_state_failed_total", 34.0),
        ("traefik_config_reloads_total", 1.0),
        ("traefik_config_last_reload_success", 9.0),
        ("tidegate_worker_panics_total", 1.0),
    ];
    for (series, expected) in rows {
        assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
    }
}

#[test]
fn each_server_is_shown() {
    let metrics = metrics(&Prometheus::default());
    metrics.attach(Arc::new(Fixed));
    let text = metrics.render().unwrap();
    for (name, expected) in [
        ("traefik_service_server_up", 1.0),
        ("tidegate_server_draining", 1.0),
        ("tidegate_server_in_flight", 2.0),
        ("tidegate_server_limit", 3.0),
        ("tidegate_server_maxconn", 4.0),
        ("tidegate_server_queue_length", 1.0),
        ("tidegate_server_requests_total", 50.0),
        ("tidegate_server_connections_opened_total", 5.0),
        ("tidegate_server_connections_reused_total", 6.0),
        ("tidegate_server_connections_failed_total", 7.0),
        ("tidegate_server_connections_idle", 8.0),
        ("tidegate_server_connections_open", 10.0),
        ("tidegate_server_ejections_total", 9.0),
    ] {
        let series = format!(r#"{name}{{service="s",url="http://a:1"}}"#);
        assert_eq!(value(&text, &series), Some(expected), "{series}\n{text}");
    }
}
