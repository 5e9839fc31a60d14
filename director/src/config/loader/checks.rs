//! How real servers are checked.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::written::Written;
use crate::config::{CheckKind, CheckSettings, Port};
use crate::model::Protocol;

/// No faster than this: probes are connections too.
const FASTEST: Duration = Duration::from_millis(100);

/// Three intervals at most: a check must not overtake itself for long.
const LONGEST_TIMEOUT: u32 = 3;

pub(super) fn check(written: &mut Written, ports: &[Port]) -> CheckSettings {
    let kind = kind(written);
    let interval = written
        .time("check-interval", FASTEST)
        .unwrap_or(Duration::from_secs(1));
    let path = written
        .text("check-path")
        .unwrap_or_else(|| "/ping".to_owned());
    if !path.starts_with('/') || path.contains(|c: char| c.is_control() || c == ' ') {
        written.complain(
            "check-path",
            format!("{path:?} is not a path such as /ping"),
        );
    }
    let settings = CheckSettings {
        port: port(written, kind.as_ref(), ports),
        path,
        host: host(written),
        expect: expect(written),
        timeout: timeout(written, interval),
        interval,
        rise: written.number("check-rise", 1, 100).unwrap_or(2),
        fall: written.number("check-fall", 1, 100).unwrap_or(3),
        through_vip: written.switch("check-through-vip", true),
        quorum: written.number("quorum", 0, 10_000).unwrap_or(1),
        kind,
    };
    useless(written, &settings);
    settings
}

/// Names what the kind of check does not use.
fn useless(written: &mut Written, settings: &CheckSettings) {
    let asks_http = matches!(settings.kind, Some(CheckKind::Http | CheckKind::Https));
    for name in ["check-path", "check-expect"] {
        if !asks_http && written.has(name) {
            written.warn(name, "has an effect with --check http and https only");
        }
    }
    if settings.kind == Some(CheckKind::Tcp) && written.has("check-host") {
        written.warn("check-host", "has no effect with --check tcp");
    }
}

fn kind(written: &mut Written) -> Option<CheckKind> {
    match written.text("check").as_deref() {
        None | Some("tcp") => Some(CheckKind::Tcp),
        Some("tls") => Some(CheckKind::Tls),
        Some("http") => Some(CheckKind::Http),
        Some("https") => Some(CheckKind::Https),
        Some("none") => None,
        Some(other) => {
            let message = format!("{other:?} is not tcp, tls, http, https or none");
            written.complain("check", message);
            None
        }
    }
}

/// The port to ask: 443 for TLS and 80 for HTTP where that is balanced.
fn port(written: &mut Written, kind: Option<&CheckKind>, ports: &[Port]) -> u16 {
    if let Some(port) = written.number("check-port", 1, 65_535) {
        return u16::try_from(port).unwrap_or_default();
    }
    let usual = match kind {
        Some(CheckKind::Tls | CheckKind::Https) => 443,
        Some(CheckKind::Http) => 80,
        Some(CheckKind::Tcp) | None => 0,
    };
    let mut tcp = ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    let first = tcp.clone().next().map(|port| port.number);
    let found = tcp.any(|port| port.number == usual).then_some(usual);
    if let Some(port) = found.or(first) {
        return port;
    }
    if kind.is_some() {
        written.complain(
            "check",
            "no TCP port is balanced: give --check-port, or --check none",
        );
    }
    0
}

/// A name that can stand in a request and in SNI.
fn host(written: &mut Written) -> Option<String> {
    let host = written.text("check-host")?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if !host.chars().all(allowed) {
        written.complain("check-host", format!("{host:?} is not the name of a host"));
    }
    Some(host)
}

fn timeout(written: &mut Written, interval: Duration) -> Duration {
    let Some(timeout) = written.time("check-timeout", Duration::from_millis(10)) else {
        return interval;
    };
    if timeout > interval * LONGEST_TIMEOUT {
        let message = format!("longer than {LONGEST_TIMEOUT} intervals");
        written.complain("check-timeout", message);
    }
    timeout
}

fn expect(written: &mut Written) -> Vec<RangeInclusive<u16>> {
    let texts = written.list("check-expect");
    let mut ranges = Vec::new();
    for text in &texts {
        match range(text) {
            Some(range) => ranges.push(range),
            None => written.complain(
                "check-expect",
                format!("{text:?} is no status such as 200 or 200-399"),
            ),
        }
    }
    if ranges.is_empty() {
        ranges.push(200..=399);
    }
    ranges
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (100 <= first && first <= last && last <= 599).then_some(first..=last)
}
