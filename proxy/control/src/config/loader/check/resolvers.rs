//! Certificate resolvers and the cluster: what types alone can't say about them.

use std::ops::RangeInclusive;
use std::time::Duration;

use tidegate_shared::settings::{Diagnostic, Severity};

use super::{Address, Checks, address, missing};
use crate::config::startup::{
    Acme, Cluster, DnsChallenge, ExternalAccount, HttpChallenge, StaticConfig,
};

/// Kinds of keys that certificates can have.
const KEY_TYPES: &[&str] = &["EC256", "EC384", "RSA2048", "RSA4096"];

/// Directories of an ACME older than RFC 8555, and what took their place.
const OLD_AUTHORITIES: &[(&str, &str)] = &[
    (
        "https://acme-v01.api.letsencrypt.org",
        "https://acme-v02.api.letsencrypt.org",
    ),
    (
        "https://acme-staging.api.letsencrypt.org",
        "https://acme-staging-v02.api.letsencrypt.org",
    ),
];

/// How often the keys of session tickets may change: members hear of a key before it
/// seals, and clients keep no ticket for longer than a week (RFC 8446 §4.6.1).
const TICKET_ROTATION: RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(7 * 24 * 3600);

/// The checks of one resolver's settings.
struct Resolver<'a, 'c> {
    checks: &'a mut Checks<'c>,
    name: &'a str,
}

impl Checks<'_> {
    pub(super) fn resolvers(&mut self, config: &mut StaticConfig) {
        let entry_points: Vec<_> = config.entry_points.keys().cloned().collect();
        for (name, resolver) in &mut config.certificates_resolvers {
            if let Some(acme) = &mut resolver.acme {
                let checks = &mut *self;
                Resolver { checks, name }.acme(acme, &entry_points);
            }
        }
    }

    pub(super) fn cluster(&mut self, cluster: &Cluster, has_swarm: bool) {
        if cluster.secret_file.is_empty() {
            let message = "a file with the cluster's secret is needed";
            self.invalid("cluster.secretFile", message);
        }
        match address(&cluster.address) {
            Ok(Address::Tcp(..)) => {}
            Ok(Address::Udp) => self.invalid("cluster.address", "members talk over TCP"),
            Err(message) => self.invalid("cluster.address", message),
        }
        for peer in &cluster.peers {
            if !is_peer(peer) {
                let message = format!("{peer:?} is neither a host nor HOST:PORT");
                self.invalid("cluster.peers", message);
            }
        }
        if !TICKET_ROTATION.contains(&cluster.ticket_rotation.0) {
            self.invalid("cluster.ticketRotation", "expected 10s to 168h");
        }
        if !cluster.service.is_empty() && !has_swarm {
            let message = "the Swarm provider is needed to find the tasks of a service";
            self.invalid("cluster.service", message);
        }
    }
}

impl Resolver<'_, '_> {
    fn problem(&self, keys: &[&str], message: impl Into<String>) -> Diagnostic {
        let mut path = vec!["certificatesResolvers", self.name, "acme"];
        path.extend(keys);
        Diagnostic::invalid(self.checks.origin(&path), path.join("."), message)
    }

    fn refuse(&mut self, keys: &[&str], message: impl Into<String>) {
        let problem = self.problem(keys, message);
        self.checks.problems.push(problem);
    }

    fn warn(&mut self, keys: &[&str], message: impl Into<String>) {
        let problem = Diagnostic {
            severity: Severity::Warning,
            ..self.problem(keys, message)
        };
        self.checks.problems.push(problem);
    }

    fn acme(&mut self, acme: &mut Acme, entry_points: &[String]) {
        if acme.storage.is_empty() {
            self.refuse(&["storage"], "a place to keep certificates in is needed");
        }
        if acme.certificates_duration == 0 {
            self.refuse(&["certificatesDuration"], "expected at least 1, in hours");
        }
        if acme.client_timeout < acme.client_response_header_timeout {
            let message = "it can't be shorter than clientResponseHeaderTimeout";
            self.refuse(&["clientTimeout"], message);
        }
        self.key_type(&mut acme.key_type);
        self.authority(&mut acme.ca_server);
        if let Some(eab) = &acme.eab {
            self.external_account(eab);
        }
        self.challenges(acme, entry_points);
    }

    fn key_type(&mut self, key_type: &mut String) {
        match key_type.as_str() {
            "" => key_type.clone_from(&Acme::default().key_type),
            known if KEY_TYPES.contains(&known) => {}
            "RSA8192" => {
                let message = "keys of 8192 bits can't be served; RSA4096 is the longest";
                self.refuse(&["keyType"], message);
            }
            other => {
                let message = format!("expected one of {}, got {other:?}", KEY_TYPES.join(", "));
                self.refuse(&["keyType"], message);
            }
        }
    }

    fn authority(&mut self, server: &mut String) {
        if server.is_empty() {
            server.clone_from(&Acme::default().ca_server);
        }
        let mut old = OLD_AUTHORITIES.iter();
        let renamed = old.find_map(|(old, new)| {
            let rest = server.strip_prefix(old)?;
            Some(format!("{new}{rest}"))
        });
        if let Some(renamed) = renamed {
            let message = format!("that authority is gone; {renamed} is used");
            self.warn(&["caServer"], message);
            *server = renamed;
        }
        let is_url = server.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
        });
        if !is_url {
            let message = format!("{server:?} is no address such as https://HOST/directory");
            self.refuse(&["caServer"], message);
        }
    }

    fn external_account(&mut self, eab: &ExternalAccount) {
        for (key, value) in [("kid", &eab.kid), ("hmacEncoded", &eab.hmac_encoded)] {
            if value.is_empty() {
                self.refuse(&["eab", key], "both the key and its identifier are needed");
            }
        }
    }

    /// As in Traefik there may be several ways, or none: what the storage holds is
    /// served all the same.
    fn challenges(&mut self, acme: &mut Acme, entry_points: &[String]) {
        if let Some(http) = &acme.http_challenge
            && !self.http_challenge(http, entry_points)
        {
            acme.http_challenge = None;
        }
        if let Some(dns) = &mut acme.dns_challenge
            && !self.dns_challenge(dns)
        {
            acme.dns_challenge = None;
        }
        let has_challenge = acme.http_challenge.is_some()
            || acme.tls_challenge.is_some()
            || acme.dns_challenge.is_some();
        if !has_challenge {
            let message = "there is no challenge, so no certificate can be got: \
                           httpChallenge, tlsChallenge or dnsChallenge is needed";
            self.warn(&[], message);
        }
    }

    /// Whether it can be used.
    fn http_challenge(&mut self, challenge: &HttpChallenge, entry_points: &[String]) -> bool {
        let keys = ["httpChallenge", "entryPoint"];
        if challenge.entry_point.is_empty() {
            self.warn(&keys, "without an entry point the challenge is not used");
            return false;
        }
        if !entry_points.contains(&challenge.entry_point) {
            self.refuse(&keys, missing(&challenge.entry_point, entry_points));
        }
        true
    }

    /// Whether it can be used. v2's settings become v3's.
    fn dns_challenge(&mut self, challenge: &mut DnsChallenge) -> bool {
        if challenge.provider.is_empty() {
            let keys = ["dnsChallenge", "provider"];
            self.warn(&keys, "without a provider the challenge is not used");
            return false;
        }
        let instead = |key| format!("deprecated; its place is taken by propagation.{key}");
        if challenge.disable_propagation_check {
            let keys = ["dnsChallenge", "disablePropagationCheck"];
            self.warn(&keys, instead("disableChecks"));
            challenge.propagation.get_or_insert_default().disable_checks = true;
        }
        if let Some(delay) = challenge.delay_before_check.limit() {
            let keys = ["dnsChallenge", "delayBeforeCheck"];
            self.warn(&keys, instead("delayBeforeChecks"));
            let propagation = challenge.propagation.get_or_insert_default();
            propagation.delay_before_checks.0 = delay;
        }
        true
    }
}

/// `HOST` or `HOST:PORT`, a host being a name or an address.
fn is_peer(text: &str) -> bool {
    let is_name = |host: &str| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        !host.is_empty() && host.chars().all(is_part)
    };
    if text.parse::<std::net::IpAddr>().is_ok() || text.parse::<std::net::SocketAddr>().is_ok() {
        return true;
    }
    match text.rsplit_once(':') {
        Some((host, port)) => is_name(host) && port.parse::<u16>().is_ok(),
        None => is_name(text),
    }
}
