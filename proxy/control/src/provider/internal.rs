//! Routers and middlewares that the static configuration implies: ping, metrics,
//! the API without a router of the user's, redirections of entry points, and what
//! authorities ask for by HTTP-01.
//!
//! Pure: one static configuration in, one dynamic configuration out. Names,
//! rules and priorities are Traefik's, because they show in its API.

use std::collections::BTreeSet;

use tidegate_shared::settings::{Diagnostic, Origin};

use super::Update;
use crate::config::dynamic::{
    Configuration, Middleware, Object, RedirectRegex, RedirectScheme, Router, StripPrefix,
};
use crate::config::startup::{Redirections, StaticConfig};

/// The provider's name.
pub const NAME: &str = "internal";

/// The entry point of the API and, by default, of ping and metrics.
pub const ENTRY_POINT: &str = "traefik";

/// What the paths of challenges begin with (RFC 8555 §8.3).
pub const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// Everything that `config` implies.
pub fn update(config: &StaticConfig) -> Update {
    let mut implied = Implied(Configuration::default());
    implied.ping(config);
    implied.metrics(config);
    implied.api(config);
    implied.challenges(config);
    for (name, entry_point) in &config.entry_points {
        if let Some(redirections) = &entry_point.http.redirections {
            implied.redirection(name, redirections, config);
        }
    }
    Update {
        provider: NAME.into(),
        configuration: implied.0,
    }
}

struct Implied(Configuration);

impl Implied {
    fn router(&mut self, name: &str, entry_point: &str, rule: &str, priority: i64) -> &mut Router {
        let router = Router {
            entry_points: vec![entry_point.to_owned()],
            service: format!("{name}@{NAME}"),
            rule: rule.to_owned(),
            rule_syntax: "v3".to_owned(),
            priority,
            ..Router::default()
        };
        let object = Object::new(router, Origin::Internal);
        &mut self
            .0
            .http
            .routers
            .entry(name.to_owned())
            .or_insert(object)
            .value
    }

    fn middleware(&mut self, name: &str, middleware: Middleware) {
        let object = Object::new(middleware, Origin::Internal);
        self.0.http.middlewares.insert(name.to_owned(), object);
    }

    fn ping(&mut self, config: &StaticConfig) {
        if let Some(ping) = config.ping.as_ref().filter(|ping| !ping.manual_routing) {
            self.router("ping", &ping.entry_point, "PathPrefix(`/ping`)", i64::MAX);
        }
    }

    fn metrics(&mut self, config: &StaticConfig) {
        let prometheus = config
            .metrics
            .as_ref()
            .and_then(|metrics| metrics.prometheus.as_ref());
        if let Some(prometheus) = prometheus.filter(|prometheus| !prometheus.manual_routing) {
            let rule = "PathPrefix(`/metrics`)";
            self.router("prometheus", &prometheus.entry_point, rule, i64::MAX);
        }
    }

    fn api(&mut self, config: &StaticConfig) {
        let Some(api) = config.api.as_ref().filter(|api| api.insecure) else {
            return;
        };
        let base = api.base_path.trim_end_matches('/');
        let rule = format!("PathPrefix(`{base}/api`)");
        self.router("api", ENTRY_POINT, &rule, i64::MAX - 1);
        if !api.dashboard {
            return;
        }
        let rule = format!("PathPrefix(`{base}/`)");
        let dashboard = self.router("dashboard", ENTRY_POINT, &rule, i64::MAX - 2);
        dashboard.middlewares = ["redirect", "stripprefix"]
            .map(|kind| format!("dashboard_{kind}@{NAME}"))
            .into();
        let redirect = RedirectRegex {
            regex: format!(r"^(https?://[^/]+){base}/?$"),
            replacement: format!("${{1}}{base}/dashboard/"),
            permanent: true,
        };
        self.middleware(
            "dashboard_redirect",
            Middleware {
                redirect_regex: Some(redirect),
                ..Middleware::default()
            },
        );
        let strip = StripPrefix {
            prefixes: ["/dashboard/", "/dashboard"]
                .map(|path| format!("{base}{path}"))
                .into(),
            force_slash: None,
        };
        self.middleware(
            "dashboard_stripprefix",
            Middleware {
                strip_prefix: Some(strip),
                ..Middleware::default()
            },
        );
    }

    /// Routers for what authorities ask for, on the entry points where they do: in
    /// front of everything, or like any router where users' own may be in front.
    fn challenges(&mut self, config: &StaticConfig) {
        let resolvers = config.certificates_resolvers.values();
        let wanted: BTreeSet<&str> = resolvers
            .filter_map(|resolver| resolver.acme.as_ref()?.http_challenge.as_ref())
            .map(|challenge| challenge.entry_point.as_str())
            .collect();
        for name in wanted {
            let Some(entry_point) = config.entry_points.get(name) else {
                continue;
            };
            let (router, priority) = match entry_point.allow_acme_by_pass {
                true => ("acme-http-bypass", 0),
                false => ("acme-http", i64::MAX),
            };
            let rule = format!("PathPrefix(`{CHALLENGES}`)");
            let router = self.router(router, name, &rule, priority);
            router.service = format!("acme-http@{NAME}");
            if !router.entry_points.iter().any(|known| known == name) {
                router.entry_points.push(name.to_owned());
            }
        }
    }

    fn redirection(&mut self, from: &str, redirections: &Redirections, config: &StaticConfig) {
        let Some(target) = &redirections.entry_point else {
            return;
        };
        let port = match target_port(&target.to, config) {
            Ok(port) => port,
            Err(message) => {
                let key = format!("entryPoints.{from}.http.redirections.entryPoint.to");
                let problem = Diagnostic::invalid(Origin::Internal, key, message);
                self.0.problems.push(problem);
                return;
            }
        };
        let name = normalize(&format!("{from}-to-{}", target.to));
        let middleware = format!("redirect-{name}");
        let mut rule = "HostRegexp(`^.+$`)".to_owned();
        let entry_point = config.entry_points.get(from);
        if entry_point.is_some_and(|from| from.allow_acme_by_pass) {
            rule += &format!(" && !PathPrefix(`{CHALLENGES}`)");
        }
        let router = self.router(&name, from, &rule, target.priority);
        router.service = format!("noop@{NAME}");
        router.middlewares = vec![middleware.clone()];
        let redirect = RedirectScheme {
            scheme: target.scheme.clone(),
            port,
            permanent: target.permanent,
        };
        self.middleware(
            &middleware,
            Middleware {
                redirect_scheme: Some(redirect),
                ..Middleware::default()
            },
        );
    }
}

/// The port behind `:port` or of the entry point of that name.
fn target_port(to: &str, config: &StaticConfig) -> Result<String, String> {
    if let Some(port) = to.strip_prefix(':') {
        return match port.parse::<u16>() {
            Ok(_) => Ok(port.to_owned()),
            Err(_) => Err(format!("{to:?} is neither an entry point nor a port")),
        };
    }
    let entry_point = config
        .entry_points
        .get(to)
        .ok_or_else(|| format!("there is no entry point {to:?} to redirect to"))?;
    let address = entry_point.address.split('/').next().unwrap_or_default();
    match address.rsplit_once(':') {
        Some((_, port)) => Ok(port.to_owned()),
        None => Err(format!("entry point {to:?} has no port to redirect to")),
    }
}

/// Traefik's form of a name: every run of other characters than letters and digits is a dash.
fn normalize(name: &str) -> String {
    name.split(|c: char| !c.is_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::startup::{
        Acme, Api, CertificatesResolver, EntryPoint, HttpChallenge, Metrics, Ping, Prometheus,
        RedirectEntryPoint,
    };

    fn redirecting(to: &str) -> StaticConfig {
        let mut config = StaticConfig::default();
        let mut web = EntryPoint {
            address: ":80".to_owned(),
            ..EntryPoint::default()
        };
        web.http.redirections = Some(Redirections {
            entry_point: Some(RedirectEntryPoint {
                to: to.to_owned(),
                ..RedirectEntryPoint::default()
            }),
        });
        config.entry_points.insert("web".to_owned(), web);
        let websecure = EntryPoint {
            address: "[::]:8443/tcp".to_owned(),
            ..EntryPoint::default()
        };
        config
            .entry_points
            .insert("websecure".to_owned(), websecure);
        config
    }

    #[test]
    fn redirections_know_the_other_entry_points_port() {
        for (to, router, port) in [
            ("websecure", "web-to-websecure", "8443"),
            (":444", "web-to-444", "444"),
        ] {
            let http = update(&redirecting(to)).configuration.http;
            assert!(http.routers.contains_key(router), "{to}");
            let middleware = &http.middlewares[&format!("redirect-{router}")].value;
            assert_eq!(middleware.redirect_scheme.as_ref().unwrap().port, port);
        }
        for to in ["nowhere", ":x", ""] {
            let configuration = update(&redirecting(to)).configuration;
            assert!(configuration.http.routers.is_empty(), "{to}");
            assert_eq!(configuration.problems.len(), 1, "{to}");
        }
    }

    fn resolver(entry_point: &str) -> CertificatesResolver {
        CertificatesResolver {
            acme: Some(Acme {
                http_challenge: Some(HttpChallenge {
                    entry_point: entry_point.to_owned(),
                    ..HttpChallenge::default()
                }),
                ..Acme::default()
            }),
        }
    }

    #[test]
    fn challenges_go_before_everything_unless_users_want_otherwise() {
        let mut config = redirecting("websecure");
        for (name, entry_point) in [("a", "web"), ("b", "websecure"), ("c", "web"), ("d", "x")] {
            let name = name.to_owned();
            config
                .certificates_resolvers
                .insert(name, resolver(entry_point));
        }
        let http = update(&config).configuration.http;
        let first = &http.routers["acme-http"].value;
        assert_eq!(first.entry_points, ["web", "websecure"]);
        assert_eq!(first.rule, "PathPrefix(`/.well-known/acme-challenge/`)");
        assert_eq!(first.service, "acme-http@internal");
        let redirection = &http.routers["web-to-websecure"].value;
        assert!(first.priority > redirection.priority);
        assert_eq!(redirection.rule, "HostRegexp(`^.+$`)");

        config
            .entry_points
            .get_mut("web")
            .unwrap()
            .allow_acme_by_pass = true;
        let http = update(&config).configuration.http;
        assert_eq!(http.routers["acme-http"].value.entry_points, ["websecure"]);
        let bypass = &http.routers["acme-http-bypass"].value;
        assert_eq!(
            (bypass.entry_points[0].as_str(), bypass.priority),
            ("web", 0)
        );
        let rule = &http.routers["web-to-websecure"].value.rule;
        assert!(rule.ends_with("&& !PathPrefix(`/.well-known/acme-challenge/`)"));
    }

    #[test]
    fn what_is_off_has_no_router() {
        let mut config = StaticConfig::default();
        assert!(update(&config).configuration.http.routers.is_empty());
        config.ping = Some(Ping::default());
        config.api = Some(Api {
            insecure: true,
            ..Api::default()
        });
        config.metrics = Some(Metrics {
            prometheus: Some(Prometheus::default()),
            add_internals: false,
        });
        let http = update(&config).configuration.http;
        let names: Vec<_> = http.routers.keys().collect();
        assert_eq!(names, ["api", "dashboard", "ping", "prometheus"]);
    }
}
