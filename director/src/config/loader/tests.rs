use std::net::SocketAddr;
use std::path::Path;

use super::*;
use crate::config::{CheckKind, Port};
use crate::model::{Forwarding, Protocol, SchedulingFlags};
use crate::vrrp::Preempt;

/// What any director needs, so that a test says only what it is about.
const LEAST: &str = "--vip 192.0.2.10/24 --node 192.0.2.11";

fn read(line: &str) -> Result<Loaded, LoadError> {
    load(line.split_whitespace().map(str::to_owned), [], &[])
}

fn settings(more: &str) -> Settings {
    let loaded = read(&format!("{LEAST} {more}")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.warnings, [], "{more}");
    loaded.settings
}

#[test]
fn an_address_and_a_proxy_are_enough() {
    let settings = settings("");
    assert_eq!(
        settings.roles,
        Roles {
            director: true,
            receiver: true
        }
    );
    assert_eq!(settings.vips, ["192.0.2.10/24".parse().unwrap()]);
    let port = |protocol, number| Port { protocol, number };
    let ports = [
        port(Protocol::Tcp, 80),
        port(Protocol::Tcp, 443),
        port(Protocol::Udp, 443),
    ];
    assert_eq!(settings.ports, ports);
    assert_eq!(settings.scheduling.scheduler.as_str(), "wlc");
    assert_eq!(settings.forwarding, Forwarding::DirectRouting);
    assert_eq!(settings.weight, 100);
    assert_eq!(settings.vrrp.interval, Duration::from_millis(250));
    assert_eq!(settings.vrrp.preempt, Preempt::Never);
    assert_eq!(settings.check.kind, Some(CheckKind::Tcp));
    assert_eq!(
        (settings.check.port, settings.check.timeout),
        (80, Duration::from_secs(1))
    );
    assert_eq!(settings.kernel.sync_id, settings.vrrp.vrid);
    assert!(settings.api.listen.is_none() && !settings.dry_run);
    assert!(!settings.sources.heartbeat.enabled);
}

#[test]
fn flags_say_everything() {
    let settings = settings(
        "--role=director --interface eth1 --port 443,53/udp --node 192.0.2.12,192.0.2.13 \
         --scheduler sh --scheduler-flags sh-port,sh-fallback --persistence 5m --vrid 7 --priority 200 \
         --advert-interval 200ms --preempt --preempt-delay 1s --peer 192.0.2.2 --check https \
         --check-path /ready --check-host example.org --check-expect 200,301-302 --check-interval 100ms \
         --check-timeout 300ms --check-fall 2 --timeouts 600s,10s,60s --sync-id 9 --keep \
         --api 127.0.0.1:4672 --api-write --socket /tmp/x --dry-run --log-format json --log-level debug",
    );
    assert_eq!(
        settings.roles,
        Roles {
            director: true,
            receiver: false
        }
    );
    assert_eq!(settings.sources.nodes.len(), 3);
    let flags = SchedulingFlags::SH_PORT.with(SchedulingFlags::SH_FALLBACK);
    assert_eq!((settings.scheduling.flags, settings.weight), (flags, 1));
    assert_eq!(settings.scheduling.persistence.unwrap().seconds, 300);
    assert_eq!(
        settings.vrrp.preempt,
        Preempt::After(Duration::from_secs(1))
    );
    assert_eq!(settings.check.kind, Some(CheckKind::Https));
    assert_eq!(settings.check.expect, [200..=200, 301..=302]);
    assert_eq!(settings.kernel.timeouts.tcp_fin, Duration::from_secs(10));
    assert_eq!(settings.kernel.sync_id, 9);
    assert_eq!(
        settings.api.listen,
        Some(SocketAddr::from(([127, 0, 0, 1], 4672)))
    );
    assert!(settings.dry_run && settings.receiver.keep && settings.log.json);
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let directory = std::env::temp_dir().join(format!("tidegate-loader-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    for (name, text) in [
        (
            "director.toml",
            "vip = \"192.0.2.10/24\"\nnode = [\"192.0.2.11\"]\nvrid = 1\npriority = 10\nport = [80, \"81/udp\"]\ncheck-interval = \"2s\"\n",
        ),
        (
            "director.yaml",
            "vip: 192.0.2.10/24\nnode: [192.0.2.11]\nvrid: 1\npriority: 10\nport: [80, 81/udp]\ncheck-interval: 2s\n",
        ),
    ] {
        let file = directory.join(name);
        std::fs::write(&file, text).unwrap();
        let env = [
            ("TIDEGATE_DIRECTOR_VRID", "2"),
            ("TIDEGATE_DIRECTOR_PRIORITY", "20"),
            ("HOME", "/"),
        ];
        let env = env.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let args = ["--vrid".to_owned(), "3".to_owned()];
        let loaded =
            load(args, env, std::slice::from_ref(&file)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(loaded.file.as_deref(), Some(Path::new(&file)));
        let settings = loaded.settings;
        assert_eq!((settings.vrrp.vrid, settings.vrrp.priority), (3, 20));
        assert_eq!(settings.ports.len(), 2);
        assert_eq!(settings.check.interval, Duration::from_secs(2));
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

/// What is there already, what is added, and what is said of it.
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "",
        "--node 192.0.2.11",
        "vip: at least one virtual address is needed",
    ),
    (
        "",
        "--vip 192.0.2.10/24",
        "node: a director must know where the proxies are",
    ),
    (
        LEAST,
        "--vip 192.0.2.300",
        "flag --vip: vip: \"192.0.2.300\" is not an address",
    ),
    (LEAST, "--vip 192.0.2.9/33", "is not an address such as"),
    (
        LEAST,
        "--vip 224.0.0.1",
        "224.0.0.1 can't be a virtual address",
    ),
    (LEAST, "--vip 192.0.2.10/32", "192.0.2.10 is given twice"),
    (
        LEAST,
        "--node 192.0.2.10",
        "192.0.2.10 is a virtual address",
    ),
    (LEAST, "--node 192.0.2.11", "192.0.2.11 is given twice"),
    (LEAST, "--node web", "\"web\" is not an IP address"),
    (LEAST, "--port 0", "\"0\" is not a port"),
    (LEAST, "--port 80/quic", "\"80/quic\" is not a port"),
    (
        LEAST,
        "--interface abcdefghijklmnop",
        "16 bytes, and the kernel takes 15",
    ),
    (LEAST, "--vrid 0", "0 is not a number from 1 to 255"),
    (LEAST, "--priority 256", "256 is not a number from 1 to 255"),
    (
        LEAST,
        "--advert-interval 200",
        "\"200\" is not a time with a unit",
    ),
    (
        LEAST,
        "--advert-interval 15ms",
        "must be 10ms to 40950ms in steps of 10ms",
    ),
    (
        LEAST,
        "--vrrp-version 2 --advert-interval 200ms",
        "200ms is too short: 1s at least",
    ),
    (
        LEAST,
        "--vrrp-version 2 --vip fd00::10/64",
        "version 2 has no IPv6",
    ),
    (
        LEAST,
        "--vrrp-password x",
        "only --vrrp-version 2 has passwords",
    ),
    (
        LEAST,
        "--scheduler rr --scheduler-flags sh-port",
        "sh-port belongs to the scheduler sh",
    ),
    (
        LEAST,
        "--forwarding dsr",
        "\"dsr\" is not dr, nat or tunnel",
    ),
    (
        LEAST,
        "--check icmp",
        "\"icmp\" is not tcp, tls, http, https or none",
    ),
    (
        LEAST,
        "--check-interval 50ms",
        "50ms is too short: 100ms at least",
    ),
    (LEAST, "--check-timeout 4s", "longer than 3 intervals"),
    (
        LEAST,
        "--check http --check-expect 99",
        "\"99\" is no status",
    ),
    (
        LEAST,
        "--check http --check-path ping",
        "\"ping\" is not a path",
    ),
    (LEAST, "--port 53/udp", "no TCP port is balanced"),
    (LEAST, "--timeouts 900s,15s", "expected three times"),
    (
        LEAST,
        "--role standby",
        "\"standby\" is neither director nor receiver",
    ),
    (
        LEAST,
        "--api 4672",
        "\"4672\" is not an address with a port",
    ),
    (
        LEAST,
        "--api 0.0.0.0:4672 --api-write",
        "give --api-token-file",
    ),
    (LEAST, "--api-cert x", "needs --api-key too"),
    (
        LEAST,
        "--api-token-file /nonexistent",
        "/nonexistent can't be read",
    ),
    (
        LEAST,
        "--dry-run=maybe",
        "\"maybe\" is neither true nor false",
    ),
    (LEAST, "--log-level loud", "\"loud\" is not error, warn"),
    (
        LEAST,
        "--vips x",
        "flag --vips: vips: no such setting; did you mean \"vip\"?",
    ),
    (
        LEAST,
        "--consul x",
        "registration in Consul is not supported",
    ),
    (LEAST, "-f x", "f: no such setting"),
    (LEAST, "stray", "belong to no flag: stray"),
];

#[test]
fn each_mistake_is_named_with_its_place() {
    for (least, more, expected) in MISTAKES {
        let said = read(&format!("{more} {least}")).map(|_| ());
        let said = said.expect_err(more).to_string();
        assert!(said.contains(expected), "{more}: {said}");
    }
}
#[test]
fn all_mistakes_are_named_at_once() {
    let said = read("--vip x --node y --vrid 0 --check z")
        .unwrap_err()
        .to_string();
    assert_eq!(said.lines().count(), 4, "{said}");
}

#[test]
fn what_has_no_effect_is_named() {
    let rows = [
        (
            "--check-path /x",
            "check-path: has an effect with --check http and https only",
        ),
        (
            "--preempt-delay 1s",
            "preempt-delay: has no effect without --preempt",
        ),
        (
            "--sync=false --sync-id 3",
            "sync-id: has no effect with --sync=false",
        ),
        (
            "--docker unix:///x",
            "docker: has no effect without --swarm or --docker-link",
        ),
        ("--api-write", "api-write: has no effect without --api"),
        (
            "--vrrp=false --vrid 3",
            "vrid: has no effect with --vrrp=false",
        ),
        (
            "--scheduler mine",
            "scheduler: mine is none of the kernel's",
        ),
    ];
    for (more, expected) in rows {
        let loaded = read(&format!("{LEAST} {more}")).unwrap_or_else(|error| panic!("{error}"));
        let said: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert!(
            said.len() == 1 && said[0].contains(expected),
            "{more}: {said:?}"
        );
    }
}

/// Failure mode 16, a file that is written in part.
#[test]
fn a_file_cut_anywhere_is_read_or_refused_with_its_place() {
    let whole = "vip: 192.0.2.10/24\nnode:\n  - 192.0.2.11\ncheck: http\nvrid: 7\n";
    let file = std::env::temp_dir().join(format!("tidegate-cut-{}.yaml", std::process::id()));
    let read = |text: &str| {
        std::fs::write(&file, text).unwrap();
        load([], [], std::slice::from_ref(&file)).map_err(|error| error.to_string())
    };
    for end in 0..whole.len() {
        if let Err(said) = read(&whole[..end]) {
            let place = said.contains(&file.display().to_string());
            let is_missing = said.contains("vip: ") || said.contains("node: ");
            assert!(place || is_missing, "{end}: {said}");
        }
    }
    assert_eq!(read(whole).unwrap().settings.vrrp.vrid, 7);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn every_setting_in_the_table_is_read() {
    // A value that nothing takes: whoever reads the setting complains.
    let free = [
        "config-file",
        "interface",
        "dns",
        "swarm",
        "docker",
        "scheduler",
        "receiver-device",
        "proc-sys",
        "socket",
        "api-cert",
        "api-key",
        "state-file",
        "sync-interface",
        "vrrp-password",
        "heartbeat-key-file",
        "api-token-file",
    ];
    for (name, ..) in crate::config::options::OPTIONS {
        if free.contains(name) {
            continue;
        }
        let said = read(&format!(
            "{LEAST} --preempt --api 127.0.0.1:1 --check http --{name} \u{1}"
        ));
        let said = said.expect_err(name).to_string();
        assert!(said.contains(&format!("{name}: ")), "{name}: {said}");
    }
}
