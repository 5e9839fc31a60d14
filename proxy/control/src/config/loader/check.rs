//! What types alone can't say about the static configuration.
//!
//! Each check names the setting and where it was written. Values are brought
//! into one form where there are several ways to write them.

mod resolvers;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use ipnet::IpNet;
use tidegate_shared::settings::{Diagnostic, Interval, Node, Origin, Problem, Severity};

use crate::config::startup::{EntryPoint, FileProvider, Prometheus, StaticConfig, SwarmProvider};

/// More worker threads than this are surely a mistake.
const MOST_WORKERS: usize = 1024;

/// Levels that Traefik has, v2's `WARNING` among them.
const LEVELS: &[&str] = &[
    "TRACE", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "PANIC",
];

/// Adds what is wrong with `config`, read from `root`, to `problems`.
pub(super) fn check(config: &mut StaticConfig, root: &Node, problems: &mut Vec<Diagnostic>) {
    let mut checks = Checks { root, problems };
    checks.global(config);
    checks.entry_points(config);
    checks.internal(config);
    checks.providers(config);
    checks.logs(config);
    checks.resolvers(config);
    if let Some(cluster) = &config.cluster {
        checks.cluster(cluster, config.providers.swarm.is_some());
    }
    if config.workers > MOST_WORKERS {
        checks.invalid("workers", format!("expected a number up to {MOST_WORKERS}"));
    }
}

struct Checks<'c> {
    root: &'c Node,
    problems: &'c mut Vec<Diagnostic>,
}

impl Checks<'_> {
    /// Where `key`, or the nearest group around it, was written.
    fn origin(&self, key: &[&str]) -> Origin {
        let mut node = self.root;
        for name in key {
            match node.get(name) {
                Some(below) => node = below,
                None => break,
            }
        }
        node.origin.clone()
    }

    fn invalid(&mut self, key: &str, message: impl Into<String>) {
        let path: Vec<_> = key.split('.').collect();
        self.invalid_at(&path, message);
    }

    fn invalid_at(&mut self, path: &[&str], message: impl Into<String>) {
        let problem = Diagnostic::invalid(self.origin(path), path.join("."), message);
        self.problems.push(problem);
    }

    /// Traefik's calls home don't exist here: to switch them on has no effect.
    fn global(&mut self, config: &StaticConfig) {
        let global = &config.global;
        for (name, is_on) in [
            ("checkNewVersion", global.check_new_version),
            ("sendAnonymousUsage", global.send_anonymous_usage),
        ] {
            if is_on == Some(true) {
                let path = ["global", name];
                self.problems.push(Diagnostic {
                    severity: Severity::Warning,
                    problem: Problem::Unsupported,
                    ..Diagnostic::invalid(
                        self.origin(&path),
                        path.join("."),
                        "not supported: nothing is ever looked up or sent",
                    )
                });
            }
        }
    }

    fn entry_points(&mut self, config: &mut StaticConfig) {
        let mut seen: BTreeMap<(IpAddr, u16), String> = BTreeMap::new();
        let names: Vec<_> = config.entry_points.keys().cloned().collect();
        config.entry_points.retain(|name, entry_point| {
            let path = ["entryPoints", name, "address"];
            match address(&entry_point.address) {
                Ok(Address::Tcp(ip, port)) => {
                    let other = ip.map(|ip| (ip, port)).and_then(|place| {
                        (port != 0)
                            .then(|| seen.insert(place, name.clone()))
                            .flatten()
                    });
                    if let Some(other) = other {
                        let message = format!("entry point {other:?} has the same address");
                        self.invalid_at(&path, message);
                    }
                }
                Ok(Address::Udp) => {
                    self.problems.push(Diagnostic {
                        severity: Severity::Warning,
                        problem: Problem::Unsupported,
                        ..Diagnostic::invalid(
                            self.origin(&path),
                            path.join("."),
                            "UDP is not supported yet; the entry point is left out",
                        )
                    });
                    return false;
                }
                Err(message) => self.invalid_at(&path, message),
            }
            self.entry_point(name, entry_point, &names);
            true
        });
    }

    fn entry_point(&mut self, name: &str, entry_point: &EntryPoint, names: &[String]) {
        let forwarded = &entry_point.forwarded_headers.trusted_ips;
        self.networks(
            &["entryPoints", name, "forwardedHeaders", "trustedIPs"],
            forwarded,
        );
        if let Some(proxy) = &entry_point.proxy_protocol {
            let path = ["entryPoints", name, "proxyProtocol", "trustedIPs"];
            self.networks(&path, &proxy.trusted_ips);
            if !proxy.insecure && proxy.trusted_ips.is_empty() {
                let message = "no trusted IPs; name them or set proxyProtocol.insecure";
                self.invalid_at(&path, message);
            }
        }
        let target = entry_point.http.redirections.as_ref();
        if let Some(target) = target.and_then(|redirections| redirections.entry_point.as_ref()) {
            let path = [
                "entryPoints",
                name,
                "http",
                "redirections",
                "entryPoint",
                "to",
            ];
            let is_port = target.to.strip_prefix(':').map(str::parse::<u16>);
            if !matches!(is_port, Some(Ok(_))) && !names.contains(&target.to) {
                self.invalid_at(&path, missing(&target.to, names));
            }
        }
    }

    fn networks(&mut self, path: &[&str], networks: &[String]) {
        for network in networks {
            if network.parse::<IpAddr>().is_err() && network.parse::<IpNet>().is_err() {
                let message = format!("{network:?} is neither an address nor a network");
                self.invalid_at(path, message);
            }
        }
    }

    fn internal(&mut self, config: &StaticConfig) {
        let names: Vec<_> = config.entry_points.keys().cloned().collect();
        let on = |checks: &mut Self, key: &str, name: &String| {
            if !names.contains(name) {
                checks.invalid(key, missing(name, &names));
            }
        };
        if let Some(ping) = &config.ping {
            if !ping.manual_routing {
                on(self, "ping.entryPoint", &ping.entry_point);
            }
            if !(200..=599).contains(&ping.terminating_status_code) {
                self.invalid(
                    "ping.terminatingStatusCode",
                    "expected a status from 200 to 599",
                );
            }
        }
        let metrics = config.metrics.as_ref();
        if let Some(prometheus) = metrics.and_then(|metrics| metrics.prometheus.as_ref()) {
            if !prometheus.manual_routing {
                on(
                    self,
                    "metrics.prometheus.entryPoint",
                    &prometheus.entry_point,
                );
            }
            self.buckets(prometheus);
        }
        let path = config.api.as_ref().map_or("/", |api| &api.base_path);
        let allowed = |c: char| c.is_ascii_alphanumeric() || "/_.:~-".contains(c);
        if !path.starts_with('/') || !path.chars().all(allowed) {
            self.invalid("api.basePath", "expected a path such as /tidegate");
        }
    }

    fn buckets(&mut self, prometheus: &Prometheus) {
        let increasing = prometheus
            .buckets
            .windows(2)
            .all(|pair| matches!(pair, [low, high] if low < high));
        if !increasing {
            self.invalid(
                "metrics.prometheus.buckets",
                "each must be larger than the one before",
            );
        }
    }

    fn providers(&mut self, config: &mut StaticConfig) {
        let providers = &mut config.providers;
        if let Some(docker) = &providers.docker {
            self.endpoint("providers.docker.endpoint", &docker.endpoint);
        }
        if let Some(swarm) = &mut providers.swarm {
            let key = match swarm.is_docker_swarm_mode {
                true => "providers.docker.endpoint",
                false => "providers.swarm.endpoint",
            };
            self.endpoint(key, &swarm.endpoint);
            if swarm.refresh_seconds == Interval::default() {
                swarm.refresh_seconds = SwarmProvider::default().refresh_seconds;
            }
        }
        if let Some(file) = &providers.file {
            self.files(file);
        }
    }

    fn endpoint(&mut self, key: &str, endpoint: &str) {
        match endpoint.split_once("://").map(|(scheme, _)| scheme) {
            Some("unix" | "tcp" | "http" | "https") => {}
            Some("ssh") => self.invalid(
                key,
                "ssh:// is not supported yet; use unix://, or tcp:// with TLS",
            ),
            _ => self.invalid(key, "expected unix://, tcp://, http:// or https://"),
        }
    }

    fn files(&mut self, file: &FileProvider) {
        let extension = Path::new(&file.filename).extension().unwrap_or_default();
        let known = ["yml", "yaml", "toml"]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known));
        match (file.filename.is_empty(), file.directory.is_empty()) {
            (true, true) => self.invalid("providers.file", "needs filename or directory"),
            (false, false) => self.invalid(
                "providers.file.directory",
                "there is a filename too; only one of them can be",
            ),
            (false, true) if !known => self.invalid(
                "providers.file.filename",
                "only .yml, .yaml and .toml files can be read",
            ),
            _ => {}
        }
    }

    fn logs(&mut self, config: &mut StaticConfig) {
        let level = config.log.level.trim().to_ascii_uppercase();
        if !LEVELS.contains(&level.as_str()) {
            let message = format!("expected one of {}", LEVELS.join(", "));
            self.invalid("log.level", message);
        }
        config.log.level = match level.as_str() {
            "WARNING" => "WARN".to_owned(),
            _ => level,
        };
        let filters = config
            .access_log
            .as_ref()
            .and_then(|log| log.filters.as_ref());
        for range in filters.iter().flat_map(|filters| &filters.status_codes) {
            if !is_status_range(range) {
                let message = format!("{range:?} is neither a status nor a range such as 400-499");
                self.invalid("accessLog.filters.statusCodes", message);
            }
        }
    }
}

fn missing(name: &str, names: &[String]) -> String {
    match name {
        "" => format!("an entry point is needed, one of {}", names.join(", ")),
        _ => format!(
            "there is no entry point {name:?}, only {}",
            names.join(", ")
        ),
    }
}

/// `200` or `400-499`.
fn is_status_range(text: &str) -> bool {
    let status = |text: &str| {
        let status = text.trim().parse::<u16>().ok();
        status.filter(|status| (100..=999).contains(status))
    };
    match text.split_once('-') {
        Some((low, high)) => status(low)
            .zip(status(high))
            .is_some_and(|(low, high)| low <= high),
        None => status(text).is_some(),
    }
}

/// What an entry point's address says.
#[derive(Debug, PartialEq, Eq)]
enum Address {
    /// Address, unless it is a host's name, and port.
    Tcp(Option<IpAddr>, u16),
    Udp,
}

/// Reads `[host]:port[/tcp|/udp]`.
fn address(text: &str) -> Result<Address, String> {
    let expected = || format!("{text:?} is no address such as :443 or 10.0.0.1:80");
    let (place, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if text.is_empty() {
        return Err("an address such as :443 is needed".to_owned());
    }
    if protocol.eq_ignore_ascii_case("udp") {
        return Ok(Address::Udp);
    }
    if !protocol.eq_ignore_ascii_case("tcp") {
        return Err(expected());
    }
    let (host, port) = place.rsplit_once(':').ok_or_else(expected)?;
    let port = port.parse().map_err(|_| expected())?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let ip = match bare.unwrap_or(host) {
        "" | "0.0.0.0" => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        bare => bare.parse().ok(),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    if ip.is_none() && (bare.is_some() || !host.chars().all(is_name)) {
        return Err(expected());
    }
    Ok(Address::Tcp(ip, port))
}
