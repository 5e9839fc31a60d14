use tidegate_shared::settings::Problem;

use super::*;
use crate::config::dynamic::Configuration;

fn rules() -> Rules {
    Rules {
        exposed_by_default: true,
        network: String::new(),
        constraint: Constraint::default(),
        default_rule: Template::parse("Host(`{{ normalize .Name }}`)").expect("a template"),
        use_bind_port_ip: false,
        allow_empty_services: false,
    }
}

fn labels(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = |&(key, text): &(&str, &str)| (key.to_owned(), text.to_owned());
    list.iter().map(own).collect()
}

fn instance(address: [u8; 4], ports: &[u16]) -> Instance {
    let binding = |&port| PortBinding {
        port,
        protocol: Default::default(),
        host_address: None,
        host_port: None,
    };
    Instance {
        address: Ok(address.into()),
        ports: ports.iter().map(binding).collect(),
    }
}

fn workload<'a>(name: &'a str, labels: &'a BTreeMap<String, String>) -> Workload<'a> {
    Workload {
        owner: format!("container {name}"),
        name,
        container_name: name.to_owned(),
        labels,
        instances: vec![instance([10, 0, 0, 1], &[8080, 80])],
        exposes_ports: true,
        problems: Vec::new(),
    }
}

fn built(list: &[(&str, &str)]) -> Configuration {
    build(&workload("site_web", &labels(list)), &rules())
}

/// A configuration in few words: `router: rule -> service`, `service = urls`,
/// `!` after what is broken.
fn show(configuration: &Configuration) -> Vec<String> {
    let mark = |is_broken| if is_broken { "!" } else { "" };
    let http = &configuration.http;
    let mut lines = Vec::new();
    for (name, router) in &http.routers {
        let (rule, service) = (&router.value.rule, &router.value.service);
        lines.push(format!(
            "{name}{}: {rule} -> {service}",
            mark(router.is_broken())
        ));
    }
    for (name, service) in &http.services {
        let balancer = service.value.load_balancer.as_ref();
        let urls =
            balancer.map(|balancer| balancer.servers.iter().map(|server| server.url.as_str()));
        let urls: Vec<_> = urls.into_iter().flatten().collect();
        lines.push(format!(
            "{name}{} = {}",
            mark(service.is_broken()),
            urls.join(" ")
        ));
    }
    for (name, middleware) in &http.middlewares {
        lines.push(format!("{name}{} middleware", mark(middleware.is_broken())));
    }
    lines
}

#[test]
fn fills_in_what_labels_leave_out() {
    let rule = ("traefik.http.routers.r.rule", "Path(`/`)");
    let port = ("traefik.http.services.s.loadbalancer.server.port", "9000");
    for (list, expected) in [
        (
            &[][..],
            &[
                "site-web: Host(`site-web`) -> site-web",
                "site-web = http://10.0.0.1:80",
            ][..],
        ),
        (
            &[rule],
            &["r: Path(`/`) -> site-web", "site-web = http://10.0.0.1:80"],
        ),
        (
            &[port],
            &[
                "site-web: Host(`site-web`) -> s",
                "s = http://10.0.0.1:9000",
            ],
        ),
        (
            &[rule, port],
            &["r: Path(`/`) -> s", "s = http://10.0.0.1:9000"],
        ),
        (
            &[
                rule,
                port,
                ("traefik.http.services.s.loadbalancer.server.scheme", "h2c"),
            ],
            &["r: Path(`/`) -> s", "s = h2c://10.0.0.1:9000"],
        ),
        (
            &[(
                "traefik.http.services.s.loadbalancer.server.url",
                "http://x/y",
            )],
            &["site-web: Host(`site-web`) -> s", "s = http://x/y"],
        ),
        (
            &[
                port,
                (
                    "traefik.http.services.s.loadbalancer.server.url",
                    "http://x",
                ),
            ],
            &["site-web: Host(`site-web`) -> s", "s! = "],
        ),
    ] {
        assert_eq!(show(&built(list)), expected, "{list:?}");
    }
}

#[test]
fn fills_in_nothing_where_that_would_be_a_guess() {
    let rule = ("traefik.http.routers.r.rule", "Path(`/`)");
    for (list, expected) in [
        (
            &[
                ("com.docker.compose.project", "shop"),
                ("com.docker.compose.service", "db_1"),
            ][..],
            &[
                "db-1-shop: Host(`db-1-shop`) -> db-1-shop",
                "db-1-shop = http://10.0.0.1:80",
            ][..],
        ),
        (&[("traefik.tcp.routers.t.rule", "HostSNI(`*`)")], &[]),
        (
            &[("traefik.tcp.routers.t.rule", "HostSNI(`*`)"), rule],
            &["r: Path(`/`) -> site-web", "site-web = http://10.0.0.1:80"],
        ),
        (
            &[("traefik.http.services.s.loadbalancer.server.port", "http")],
            &["site-web: Host(`site-web`) -> s", "s! = "],
        ),
        (
            &[(
                "traefik.http.services.s.loadbalancer.servers[0].url",
                "http://x",
            )],
            &["site-web: Host(`site-web`) -> s", "s! = "],
        ),
        (
            &[("traefik.http.services.s.weighted.services[0].name", "x")],
            &["site-web: Host(`site-web`) -> s", "s! = "],
        ),
        (
            &[
                rule,
                ("traefik.http.services.a.loadbalancer.server.port", "1"),
                ("traefik.http.services.b.loadbalancer.server.port", "2"),
            ],
            &[
                "r!: Path(`/`) -> ",
                "a = http://10.0.0.1:1",
                "b = http://10.0.0.1:2",
            ],
        ),
        (
            &[
                ("traefik.http.services.a.loadbalancer.server.port", "1"),
                ("traefik.http.services.b.loadbalancer.server.port", "2"),
            ],
            &["a = http://10.0.0.1:1", "b = http://10.0.0.1:2"],
        ),
    ] {
        assert_eq!(show(&built(list)), expected, "{list:?}");
    }
}

#[test]
fn one_wrong_key_costs_one_object() {
    let configuration = built(&[
        ("traefik.http.routers.good.rule", "Path(`/`)"),
        ("traefik.http.routers.bad.rule", "Path(`/`)"),
        ("traefik.http.routers.bad.ruel", "Path(`/`)"),
        ("traefik.http.routers.worse.priority", "high"),
        ("traefik.http.middlewares.mw.addprefix.prefix", "/x"),
        ("traefik.http.middlewares.mw..prefix", "/x"),
        ("traefik.http.services.s.loadbalancer.server.port", "80"),
        ("traefik.http.nonsense.x", "1"),
        ("traefik.tls.options.x.minversion", "1"),
    ]);
    assert_eq!(
        show(&configuration),
        [
            "bad!: Path(`/`) -> s",
            "good: Path(`/`) -> s",
            "worse!: Host(`site-web`) -> s",
            "s = http://10.0.0.1:80",
            "mw! middleware",
        ]
    );
    let problem = &configuration.http.routers["bad"].problems[0];
    assert_eq!(problem.problem, Problem::Unknown);
    assert_eq!(
        problem.to_string(),
        "container site_web, label traefik.http.routers.bad.ruel: \
         http.routers.bad.ruel: unknown key; did you mean \"rule\"?"
    );
    let keys: Vec<_> = configuration
        .problems
        .iter()
        .map(|problem| problem.key.as_str())
        .collect();
    assert_eq!(keys, ["http.nonsense", "tls.options"]);
}

#[test]
fn what_is_not_supported_yet_is_named_and_costs_nothing_else() {
    let configuration = built(&[
        ("traefik.http.services.s.loadbalancer.server.port", "80"),
        ("traefik.http.services.s.mirroring.service", "t"),
        ("traefik.udp.services.u.loadbalancer.server.port", "53"),
    ]);
    assert_eq!(
        show(&configuration),
        ["site-web: Host(`site-web`) -> s", "s = http://10.0.0.1:80"]
    );
    let problem = &configuration.http.services["s"].problems[0];
    assert_eq!(
        (problem.problem, problem.severity),
        (Problem::Unsupported, Severity::Warning)
    );
    assert_eq!(
        configuration.problems[0].key,
        "udp.services.u.loadbalancer.server.port"
    );
    assert_eq!(configuration.problems[0].problem, Problem::Unsupported);
}

#[test]
fn own_labels_lie_over_traefiks() {
    let configuration = built(&[
        ("traefik.http.services.s.loadbalancer.server.port", "80"),
        ("tidegate.http.services.s.loadbalancer.server.maxconn", "7"),
        ("tidegate.http.services.s.loadbalancer.queue.timeout", "2s"),
        ("tidegate.http.services.s.loadbalancer.server.port", "81"),
    ]);
    let service = &configuration.http.services["s"];
    assert_eq!(service.problems, []);
    let balancer = service
        .value
        .load_balancer
        .as_ref()
        .expect("a load balancer");
    assert_eq!(balancer.servers[0].maxconn, 7);
    assert_eq!(balancer.servers[0].url, "http://10.0.0.1:81");
    assert_eq!(
        balancer
            .queue
            .as_ref()
            .expect("a queue")
            .timeout
            .to_string(),
        "2s"
    );
    assert_eq!(balancer.server, None);
}

#[test]
fn labels_of_version_1_are_named_once() {
    let configuration = built(&[
        ("traefik.port", "80"),
        ("traefik.frontend.rule", "Host:x"),
        ("traefik.admin.frontend.rule", "Host:y"),
        ("traefik.constraint-label", "public"),
        ("traefik.http.routers.port.rule", "Path(`/`)"),
        ("com.example.port", "80"),
    ]);
    let messages: Vec<_> = configuration
        .problems
        .iter()
        .map(|problem| &problem.message)
        .collect();
    assert_eq!(
        messages,
        [
            "labels of Traefik 1 have no effect: traefik.admin.frontend.rule, \
          traefik.frontend.rule, traefik.port"
        ]
    );
}

#[test]
fn in_a_swarm_the_port_must_be_written() {
    let silent = labels(&[]);
    let mut swarm = workload("site_web", &silent);
    swarm.exposes_ports = false;
    let configuration = build(&swarm, &rules());
    assert_eq!(show(&configuration), [""; 0]);
    assert_eq!(configuration.problems[0].message, "port is missing");

    let api = labels(&[
        ("traefik.http.routers.api.rule", "Path(`/`)"),
        ("traefik.http.routers.api.service", "api@internal"),
        ("traefik.http.middlewares.mw.addprefix.prefix", "/x"),
    ]);
    swarm.labels = &api;
    let configuration = build(&swarm, &rules());
    assert_eq!(
        show(&configuration),
        [
            "api: Path(`/`) -> api@internal",
            "site-web! = ",
            "mw middleware"
        ],
        "the rest lives"
    );
}

#[test]
fn published_ports_are_used_when_wanted_and_bound_to_one_address() {
    let none = labels(&[]);
    let mut workload = workload("web", &none);
    let bind = |address: &str| PortBinding {
        port: 80,
        protocol: Default::default(),
        host_address: address.parse().ok(),
        host_port: Some(8080),
    };
    let mut rules = rules();
    for (wanted, address, expected) in [
        (true, "192.0.2.1", "http://192.0.2.1:8080"),
        (true, "fd00::1", "http://[fd00::1]:8080"),
        (true, "0.0.0.0", "http://10.0.0.1:80"),
        (false, "192.0.2.1", "http://10.0.0.1:80"),
    ] {
        rules.use_bind_port_ip = wanted;
        workload.instances[0].ports = vec![bind(address)];
        let shown = show(&build(&workload, &rules));
        assert_eq!(shown[1], format!("web = {expected}"), "{wanted} {address}");
    }
}

#[test]
fn a_server_without_address_is_left_out_and_named() {
    let none = labels(&[]);
    let mut workload = workload("web", &none);
    workload.instances.push(Instance {
        address: Err("nowhere".to_owned()),
        ports: instance([0; 4], &[80]).ports,
    });
    let configuration = build(&workload, &rules());
    assert_eq!(show(&configuration)[1], "web = http://10.0.0.1:80");
    assert_eq!(
        configuration.http.services["web"].problems[0].message,
        "nowhere"
    );
    workload.instances.clear();
    assert_eq!(
        show(&build(&workload, &rules())),
        ["web: Host(`web`) -> web", "web = "]
    );
}

#[test]
fn equal_services_share_their_servers_and_different_ones_are_out() {
    let same = labels(&[
        ("traefik.http.routers.r.rule", "Path(`/`)"),
        ("traefik.http.services.s.loadbalancer.server.port", "80"),
    ]);
    let other_rule = labels(&[
        ("traefik.http.routers.r.rule", "Path(`/x`)"),
        ("traefik.http.services.s.loadbalancer.server.port", "80"),
    ]);
    let at = |name: &'static str, last, labels| {
        let mut workload = workload(name, labels);
        workload.instances = vec![instance([10, 0, 0, last], &[80])];
        build(&workload, &rules())
    };
    let merged = merge([at("a", 1, &same), at("b", 2, &same), at("c", 2, &same)]);
    assert_eq!(
        show(&merged),
        [
            "r: Path(`/`) -> s",
            "s = http://10.0.0.1:80 http://10.0.0.2:80"
        ]
    );
    let merged = merge([
        at("a", 1, &same),
        at("b", 2, &other_rule),
        at("c", 3, &same),
    ]);
    assert_eq!(
        show(&merged),
        [
            "r!: Path(`/`) -> s",
            "s = http://10.0.0.1:80 http://10.0.0.2:80 http://10.0.0.3:80"
        ]
    );
    let problem = merged.http.routers["r"].problems[0].to_string();
    for name in ["container a", "container b"] {
        assert!(problem.contains(name), "{problem}");
    }
    assert_eq!(merged.http.routers["r"].problems.len(), 1);
}

#[test]
fn a_broken_twin_does_not_take_the_other_with_it() {
    let good = labels(&[("traefik.http.services.s.loadbalancer.server.port", "80")]);
    let bad = labels(&[("traefik.http.services.s.loadbalancer.server.port", "x")]);
    for (one, two) in [(&good, &bad), (&bad, &good)] {
        let (one, two) = (workload("a", one), workload("b", two));
        let merged = merge([build(&one, &rules()), build(&two, &rules())]);
        assert!(show(&merged).contains(&"s = http://10.0.0.1:80".to_owned()));
        let problem = &merged.http.services["s"].problems[0];
        assert_eq!(problem.severity, Severity::Warning, "{problem}");
    }
}

#[test]
fn control_labels_follow_the_families_rules() {
    let network = |control: &Control| control.network.clone().unwrap_or_default();
    for (list, family, expected) in [
        (&[][..], Family::Docker, Some((None, "", false))),
        (
            &[("traefik.enable", "true")],
            Family::Docker,
            Some((Some(true), "", false)),
        ),
        (
            &[("tidegate.enable", "false"), ("traefik.enable", "true")],
            Family::Swarm,
            Some((Some(false), "", false)),
        ),
        (&[("traefik.enable", "yes")], Family::Docker, None),
        (
            &[("traefik.docker.network", "n")],
            Family::Docker,
            Some((None, "n", false)),
        ),
        (
            &[("traefik.swarm.network", "n")],
            Family::Docker,
            Some((None, "", false)),
        ),
        (
            &[
                ("traefik.docker.network", "n"),
                ("traefik.docker.lbswarm", "true"),
            ],
            Family::Swarm,
            Some((None, "n", true)),
        ),
        (
            &[
                ("traefik.swarm.network", "n"),
                ("traefik.swarm.lbswarm", "1"),
            ],
            Family::Swarm,
            Some((None, "n", true)),
        ),
        (
            &[
                ("traefik.swarm.network", "n"),
                ("traefik.docker.lbswarm", "1"),
            ],
            Family::Swarm,
            None,
        ),
        (
            &[("traefik.docker.unheard", "n")],
            Family::Docker,
            Some((None, "", false)),
        ),
    ] {
        let control = Control::read("x", &labels(list), family);
        let found = control.as_ref().ok();
        let found = found.map(|control| (control.enable, network(control), control.lbswarm));
        let expected = expected.map(|(enable, network, lb)| (enable, network.to_owned(), lb));
        assert_eq!(found, expected, "{list:?} {control:?}");
    }
}
