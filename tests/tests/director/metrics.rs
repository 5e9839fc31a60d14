//! The metrics page: its form, and everything that must be on it.

use std::collections::{BTreeMap, BTreeSet};

use scenarios::eventually_blocking;

use super::{SOON, ask, asked, curl_unix, run};

/// Every family, with its type: what the documentation promises.
const NAMES: &[(&str, &str)] = &[
    ("tidegate_director_build_info", "gauge"),
    ("tidegate_director_uptime_seconds", "gauge"),
    ("tidegate_director_reconcile_passes_total", "counter"),
    ("tidegate_director_reconcile_changes_total", "counter"),
    ("tidegate_director_reconcile_repairs_total", "counter"),
    ("tidegate_director_reconcile_refusals_total", "counter"),
    ("tidegate_director_netlink_errors_total", "counter"),
    ("tidegate_director_reconcile_duration_seconds", "gauge"),
    ("tidegate_director_pending_changes", "gauge"),
    ("tidegate_director_settled_age_seconds", "gauge"),
    ("tidegate_director_serving", "gauge"),
    ("tidegate_director_trouble", "gauge"),
    ("tidegate_director_alarm", "gauge"),
    ("tidegate_director_check_servers", "gauge"),
    ("tidegate_director_node_drained", "gauge"),
    ("tidegate_director_scheduler_replaced", "gauge"),
    ("tidegate_director_sync_daemon", "gauge"),
    ("tidegate_director_real_servers", "gauge"),
    (
        "tidegate_director_virtual_server_connections_total",
        "counter",
    ),
    ("tidegate_director_real_server_connections_total", "counter"),
    (
        "tidegate_director_virtual_server_incoming_packets_total",
        "counter",
    ),
    (
        "tidegate_director_real_server_incoming_packets_total",
        "counter",
    ),
    (
        "tidegate_director_virtual_server_outgoing_packets_total",
        "counter",
    ),
    (
        "tidegate_director_real_server_outgoing_packets_total",
        "counter",
    ),
    (
        "tidegate_director_virtual_server_incoming_bytes_total",
        "counter",
    ),
    (
        "tidegate_director_real_server_incoming_bytes_total",
        "counter",
    ),
    (
        "tidegate_director_virtual_server_outgoing_bytes_total",
        "counter",
    ),
    (
        "tidegate_director_real_server_outgoing_bytes_total",
        "counter",
    ),
    (
        "tidegate_director_virtual_server_connections_per_second",
        "gauge",
    ),
    (
        "tidegate_director_real_server_connections_per_second",
        "gauge",
    ),
    (
        "tidegate_director_virtual_server_incoming_packets_per_second",
        "gauge",
    ),
    (
        "tidegate_director_real_server_incoming_packets_per_second",
        "gauge",
    ),
    (
        "tidegate_director_virtual_server_outgoing_packets_per_second",
        "gauge",
    ),
    (
        "tidegate_director_real_server_outgoing_packets_per_second",
        "gauge",
    ),
    (
        "tidegate_director_virtual_server_incoming_bytes_per_second",
        "gauge",
    ),
    (
        "tidegate_director_real_server_incoming_bytes_per_second",
        "gauge",
    ),
    (
        "tidegate_director_virtual_server_outgoing_bytes_per_second",
        "gauge",
    ),
    (
        "tidegate_director_real_server_outgoing_bytes_per_second",
        "gauge",
    ),
    ("tidegate_director_real_server_weight", "gauge"),
    ("tidegate_director_real_server_active_connections", "gauge"),
    (
        "tidegate_director_real_server_inactive_connections",
        "gauge",
    ),
    ("tidegate_director_real_server_persistent_clients", "gauge"),
    ("tidegate_director_real_server_desired_weight", "gauge"),
    ("tidegate_director_quorum_lost", "gauge"),
    ("tidegate_director_node_verdict", "gauge"),
    ("tidegate_director_node_info", "gauge"),
    ("tidegate_director_node_layer_up", "gauge"),
    ("tidegate_director_node_check_seconds", "gauge"),
    ("tidegate_director_discovery_stale_seconds", "gauge"),
    ("tidegate_director_discovery_failing", "gauge"),
    ("tidegate_director_discovery_nodes", "gauge"),
    ("tidegate_director_vrrp_state", "gauge"),
    ("tidegate_director_vrrp_priority", "gauge"),
    ("tidegate_director_vrrp_holding", "gauge"),
    ("tidegate_director_vrrp_transitions_total", "counter"),
    ("tidegate_director_vrrp_announcements_total", "counter"),
    ("tidegate_director_vrrp_sent_total", "counter"),
    ("tidegate_director_vrrp_received_total", "counter"),
    ("tidegate_director_vrrp_takeover_seconds", "gauge"),
    ("tidegate_director_vrrp_discarded_total", "counter"),
    ("tidegate_director_receiver_repairs_total", "counter"),
    ("tidegate_director_receiver_in_place", "gauge"),
    ("tidegate_director_receiver_hushed", "gauge"),
    ("process_cpu_seconds_total", "counter"),
    ("process_open_fds", "gauge"),
    ("process_max_fds", "gauge"),
    ("process_virtual_memory_bytes", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_start_time_seconds", "gauge"),
    ("process_threads", "gauge"),
    ("gorb_service_health", "gauge"),
    ("gorb_service_backends", "gauge"),
    ("gorb_service_backend_uptime_seconds", "gauge"),
    ("gorb_service_backend_health", "gauge"),
    ("gorb_service_backend_status", "gauge"),
    ("gorb_service_backend_weight", "gauge"),
];

/// A page taken apart: the type of each family, and its samples.
#[derive(Debug, Default)]
struct Page {
    types: BTreeMap<String, String>,
    helps: BTreeSet<String>,
    samples: BTreeMap<String, f64>,
}

/// Takes a page apart by the rules of Prometheus' text form: a head before its
/// samples, each family in one piece, no sample twice.
fn parse(text: &str) -> Page {
    let mut page = Page::default();
    let mut current = String::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "HELP", name, help] => {
                assert!(
                    !help.is_empty() && page.helps.insert((*name).to_owned()),
                    "{line}"
                );
            }
            ["#", "TYPE", name, kind] => {
                assert!(["counter", "gauge"].contains(kind), "{line}");
                assert!(page.helps.contains(*name), "no help before {line}");
                let known = page.types.insert((*name).to_owned(), (*kind).to_owned());
                assert!(known.is_none(), "twice: {line}");
                (*name).clone_into(&mut current);
            }
            _ => {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let name = sample.split('{').next().unwrap();
                assert_eq!(name, current, "outside of its family: {line}");
                labels(sample);
                let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
                let is_counter = page.types[name] == "counter";
                assert!(!is_counter || value >= 0.0, "{line}");
                assert!(
                    page.samples.insert(sample.to_owned(), value).is_none(),
                    "{line}"
                );
            }
        }
    }
    page
}

/// Checks the names and the quotes of a sample's labels.
fn labels(sample: &str) {
    let is_name = |text: &str| {
        !text.is_empty()
            && !text.starts_with(|it: char| it.is_ascii_digit())
            && text
                .chars()
                .all(|it| it.is_ascii_alphanumeric() || it == '_')
    };
    let Some((name, mut rest)) = sample.split_once('{') else {
        return assert!(is_name(sample), "{sample}");
    };
    assert!(is_name(name), "{sample}");
    let mut seen = BTreeSet::new();
    while rest != "}" {
        let (label, after) = rest.split_once("=\"").unwrap();
        assert!(is_name(label) && seen.insert(label), "{sample}");
        let mut escaped = false;
        let end = after.find(|it: char| {
            let ends = it == '"' && !escaped;
            escaped = it == '\\' && !escaped;
            ends
        });
        rest = &after[end.unwrap() + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

#[test]
fn the_page_is_well_formed_and_complete() {
    let director = run(&[]);
    let body = r#"{"host": "10.0.0.1", "port": 80}"#;
    let put = ["-X", "PUT", "-d", body, "http://d/service/a%22%5Cb"];
    assert_eq!(curl_unix(&director, &put).0, 200);
    let body = r#"{"host": "10.1.0.1", "port": 80}"#;
    let put = ["-X", "PUT", "-d", body, "http://d/service/a%22%5Cb/one%7D"];
    assert_eq!(curl_unix(&director, &put).0, 200);
    let settled = || asked(&director, &["status"])["nodes"][0]["standing"]["weight"] == 100;
    eventually_blocking(SOON, settled).unwrap();
    let (status, text) = curl_unix(&director, &["http://d/metrics"]);
    assert_eq!(status, 200);
    let page = parse(&text);
    for (name, kind) in NAMES {
        let kinds = page.types.get(*name).map(String::as_str);
        assert_eq!(kinds, Some(*kind), "{name}");
    }
    let strays: Vec<_> = page
        .types
        .keys()
        .filter(|it| !NAMES.iter().any(|(name, _)| name == it))
        .collect();
    assert!(strays.is_empty(), "not in the table: {strays:?}");

    let sample = |name: &str| page.samples.get(name).copied();
    for port in [80, 443] {
        let name = "tidegate_director_real_server_weight";
        let server =
            format!("virtual_server=\"tcp 192.0.2.10:{port}\",real_server=\"192.0.2.11:{port}\"");
        assert_eq!(
            sample(&format!("{name}{{{server}}}")),
            Some(100.0),
            "{text}"
        );
    }
    assert_eq!(sample("tidegate_director_serving"), Some(1.0), "{text}");
    assert_eq!(ask(&director, &["drain", "192.0.2.11"]).0, 0);
    let page = parse(&curl_unix(&director, &["http://d/metrics"]).1);
    let drained = page
        .samples
        .iter()
        .find(|(it, _)| it.contains("node_drained{") && it.contains("192.0.2.11"));
    assert_eq!(drained.unwrap().1, &1.0);
}
