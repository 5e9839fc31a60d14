use tidegate_shared::settings::labels;

use super::*;
use crate::config::dynamic::Strategy;

fn read(pairs: &[(&str, &str)]) -> Configuration {
    let (root, refused) = labels::tree("service web", "traefik", pairs.iter().copied());
    assert_eq!(refused, []);
    configuration(&root, Spelling::Labels)
}

fn complaints(configuration: &Configuration) -> Vec<String> {
    problems(configuration)
        .map(|problem| format!("{}: {}", problem.key, problem.message))
        .collect()
}

#[test]
fn labels_as_real_stacks_have_them() {
    let found = read(&[
        ("traefik.enable", "true"),
        ("traefik.docker.network", "web"),
        ("traefik.swarm.lbswarm", "true"),
        ("traefik.frontend.rule", "Host:a"),
        ("traefik.http.routers.web.rule", "Host(`a`)"),
        ("traefik.http.routers.web.entryPoints", "web,websecure"),
        ("traefik.http.routers.web.tls", "true"),
        ("traefik.http.routers.web.tls.certresolver", "le"),
        ("traefik.http.routers.web.tls.domains[0].main", "a"),
        ("traefik.http.routers.plain.tls", "true"),
        (
            "traefik.http.middlewares.toHttps.redirectscheme.scheme",
            "https",
        ),
        (
            "traefik.http.middlewares.toHttps.redirectscheme.permanent",
            "true",
        ),
        ("traefik.http.services.web.loadbalancer.server.port", "80"),
        ("traefik.http.services.web.loadbalancer.server.maxconn", "2"),
        ("traefik.http.services.web.loadbalancer.queue.timeout", "5s"),
    ]);
    assert_eq!(complaints(&found), [""; 0]);
    let router = &found.http.routers["web"].value;
    assert_eq!(router.entry_points, ["web", "websecure"]);
    assert_eq!(router.tls.as_ref().unwrap().cert_resolver, "le");
    assert!(found.http.routers["plain"].value.tls.is_some());
    let balancer = found.http.services["web"].value.load_balancer.as_ref();
    assert_eq!(balancer.unwrap().server.as_ref().unwrap().maxconn, 2);
    assert!(
        found.http.middlewares["toHttps"]
            .value
            .redirect_scheme
            .is_some()
    );
}

/// A label, its text, and what is said of it.
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "http.routers.a.ruel",
        "x",
        "http.routers.a.ruel: unknown key; did you mean \"rule\"?",
    ),
    (
        "http.routers.a.priority",
        "x",
        "http.routers.a.priority: expected a number, got \"x\"",
    ),
    (
        "http.middlewares.a.addprefix",
        "true",
        "http.middlewares.a.addPrefix: needs options",
    ),
    (
        "http.middlewares.a.forwardauth.addres",
        "x",
        "http.middlewares.a.forwardauth.addres: unknown key; did you mean \"address\"?",
    ),
    (
        "http.services.a.loadbalancer.servers[0].url",
        "http://a",
        "http.services.a.loadBalancer.servers: only files have it; labels have loadbalancer.server.port or .url",
    ),
    (
        "http.serverstransports.a.servername",
        "x",
        "http.serverstransports: can't be written in labels, only in files",
    ),
    (
        "tls.options.default.sniStrict",
        "true",
        "tls.options: can't be written in labels, only in files",
    ),
    (
        "http.router.a.rule",
        "x",
        "http.router: unknown key; did you mean \"routers\"?",
    ),
    ("http", "x", "http: expected named settings"),
    ("http.routers", "x", "http.routers: expected named settings"),
    (
        "tcp.routers.a.rul",
        "x",
        "tcp.routers.a.rul: unknown key; did you mean \"rule\"?",
    ),
];

#[test]
fn a_mistake_breaks_its_object_only() {
    for &(key, text, complaint) in MISTAKES {
        let key = format!("traefik.{key}");
        let mut labels = vec![(key.as_str(), text)];
        if key.contains("routers.a.") || key.contains(".a.") {
            labels.push(("traefik.http.routers.good.rule", "Host(`b`)"));
        }
        let found = read(&labels);
        assert!(
            complaints(&found).iter().any(|text| text == complaint),
            "{:?}",
            complaints(&found)
        );
        let errors = problems(&found).filter(|problem| problem.severity == Severity::Error);
        assert!(errors.count() > 0, "{key}");
        if let Some(good) = found.http.routers.get("good") {
            assert_eq!(good.problems, [], "{key}");
        }
    }
}

#[test]
fn what_is_not_supported_is_named_and_the_rest_lives() {
    let found = read(&[
        ("traefik.http.services.a.loadbalancer.server.port", "80"),
        ("traefik.http.services.a.loadbalancer.strategy", "hrw"),
        ("traefik.http.services.b.loadbalancer.strategy", "p2c"),
        ("traefik.http.middlewares.zip.compress", "true"),
        ("traefik.udp.routers.r.entrypoints", "dns"),
    ]);
    assert_eq!(
        complaints(&found),
        [
            "udp.routers.r.entrypoints: not supported yet",
            "http.middlewares.zip.compress: not supported yet",
        ]
    );
    let strategy = |name: &str| {
        let service = &found.http.services[name];
        assert!(!service.is_broken());
        service.value.load_balancer.as_ref().unwrap().strategy
    };
    assert_eq!(strategy("a"), Strategy::HighestRandomWeight);
    assert_eq!(strategy("b"), Strategy::PowerOfTwoChoices);
}
