//! What was seen of Traefik 3.7.9 on labels of public stacks, and where Tidegate
//! is milder: a mistake costs the object that it is in, and nothing beside it.

use scenarios::process::Proxy;

use crate::stage::{Scene, Stage};

const PORT: &str = "traefik.http.services.NAME.loadbalancer.server.port=80";

/// A service with its port, a middleware, and routers that use both; `more` on top.
fn stack(stage: &mut Stage, name: &str, more: &[&str]) {
    let own = |text: &str| text.replace("NAME", name);
    let mut labels = vec!["traefik.enable=true".to_owned(), own(PORT)];
    labels.extend(more.iter().map(|label| own(label)));
    let labels: Vec<_> = labels.iter().map(String::as_str).collect();
    stage.stack(name, &labels);
}

/// Everything but the API's own switch: one proxy, all facts that show in its API.
fn with_api(stage: &Stage) -> Scene {
    stage.play(&["--api.insecure=true"]).unwrap()
}

/// Checks statuses by kind and full name.
fn expect(scene: &Scene, rows: &[(&str, &str, &str)]) {
    for (kind, name, status) in rows {
        let found = scene.status_of(kind, name);
        assert_eq!(found, *status, "{kind} {name}; the log:\n{}", scene.log);
    }
}

#[test]
fn a_service_without_a_port_is_said_to_lack_it() {
    let mut stage = Stage::default();
    let labels = [
        "traefik.enable=true",
        "traefik.http.routers.shop.rule=Host(`shop.test`)",
        "traefik.http.routers.board.rule=Host(`board.test`)",
        "traefik.http.routers.board.service=api@internal",
        "traefik.http.middlewares.guard.addprefix.prefix=/x",
    ];
    stage.stack("lab_web", &labels);
    let scene = with_api(&stage);
    assert!(
        scene.says(&["service lab_web", "port is missing"]),
        "{}",
        scene.log
    );
    let rows = [
        ("routers", "shop@swarm", "disabled"),
        ("services", "lab-web@swarm", "disabled"),
        // Traefik drops these as well; there is nothing wrong with them.
        ("routers", "board@swarm", "enabled"),
        ("middlewares", "guard@swarm", "enabled"),
    ];
    expect(&scene, &rows);
}

#[test]
fn names_come_from_the_service_or_from_compose() {
    let mut stage = Stage::default();
    stage.stack(
        "a_b_web",
        &[
            "traefik.enable=true",
            "traefik.http.services.s.loadbalancer.server.port=80",
        ],
    );
    let compose = [
        "traefik.enable=true",
        "com.docker.compose.project=shop",
        "com.docker.compose.service=web",
    ];
    stage.container("shop_web_1", &compose);
    stage.container("plain_one", &["traefik.enable=true"]);
    stage.container(
        "hidden",
        &["traefik.http.routers.hidden.rule=Host(`hidden.test`)"],
    );
    let scene = with_api(&stage);
    for (router, rule, service) in [
        ("a-b-web@swarm", "Host(`a-b-web`)", "s"),
        ("web-shop@docker", "Host(`web-shop`)", "web-shop"),
        ("plain-one@docker", "Host(`plain-one`)", "plain-one"),
    ] {
        let found = &scene.data["routers"][router];
        assert_eq!(
            (&found["rule"], &found["service"]),
            (&rule.into(), &service.into()),
            "{found}"
        );
    }
    expect(&scene, &[("routers", "hidden@docker", "absent")]);
}

/// An object's kind, name and status.
type Fate = (&'static str, &'static str, &'static str);

/// Services with one odd label each: their name, the label, what becomes of the
/// object that it is in, and whether it is complained about.
const ODD: &[(&str, &str, Fate, bool)] = &[
    (
        "colour",
        "traefik.http.middlewares.x-colour.addprefix.colour=red",
        ("middlewares", "x-colour", "disabled"),
        true,
    ),
    (
        "kind",
        "traefik.http.middlewares.x-kind.addprefixx.prefix=/x",
        ("middlewares", "x-kind", "disabled"),
        true,
    ),
    (
        "group",
        "traefik.http.routerz.x.rule=Host(`x`)",
        ("routers", "x", "absent"),
        true,
    ),
    // Labels outside of Traefik's sections are the user's own, for constraints.
    (
        "section",
        "traefik.htpt.routers.x.rule=Host(`x`)",
        ("routers", "x", "absent"),
        false,
    ),
    (
        "list",
        "traefik.http.services.x.loadbalancer.servers[0].url=http://a",
        ("services", "x", "disabled"),
        true,
    ),
    (
        "url",
        "traefik.http.services.x-url.loadbalancer.server.url=http://a",
        ("services", "x-url", "enabled"),
        false,
    ),
    (
        "own",
        "traefik.http.routers.wrong.rulez=Host(`x`)",
        ("routers", "wrong", "disabled"),
        true,
    ),
    // A port beside a URL is a mistake in Traefik, too.
    (
        "both",
        "traefik.http.services.own-both.loadbalancer.server.url=http://a",
        ("services", "own-both", "disabled"),
        true,
    ),
];

#[test]
fn an_unknown_key_costs_its_object_only() {
    let mut stage = Stage::default();
    for (name, label, ..) in ODD {
        let service = format!("traefik.http.routers.{name}.service={name}");
        let port = "traefik.http.services.own-both.loadbalancer.server.port=80";
        let port = if *name == "both" { port } else { "ours=1" };
        stack(&mut stage, name, &[&service, port, label]);
    }
    let scene = with_api(&stage);
    for (name, label, (kind, object, status), is_named) in ODD {
        expect(&scene, &[("routers", &format!("{name}@swarm"), "enabled")]);
        expect(&scene, &[(kind, &format!("{object}@swarm"), status)]);
        let (section, _) = label.split_once('=').unwrap();
        let section = section
            .rsplit_once(".server")
            .map_or(section, |(head, _)| head);
        let is_said = scene.says(&[&format!("service {name}"), section]);
        assert_eq!(is_said, *is_named, "{name}: {}", scene.log);
    }
}

#[test]
fn labels_of_traefik_1_have_no_effect() {
    let mut stage = Stage::default();
    let old = [
        "traefik.enable=true",
        "traefik.frontend.rule=Host:a.test",
        "traefik.port=80",
    ];
    stage.stack("old", &old);
    stack(
        &mut stage,
        "mixed",
        &["traefik.frontend.rule=Host:b.test", "traefik.backend=b"],
    );
    let scene = with_api(&stage);
    assert!(
        scene.says(&["service mixed", "traefik.frontend.rule", "traefik 1"]),
        "{}",
        scene.log
    );
    expect(
        &scene,
        &[
            ("routers", "old@swarm", "absent"),
            ("routers", "mixed@swarm", "enabled"),
        ],
    );
    assert!(!scene.log.contains("error"), "{}", scene.log);
}

#[test]
fn a_router_without_a_service_takes_the_only_one() {
    let mut stage = Stage::default();
    let rule = "traefik.http.routers.NAME.rule=Host(`NAME.test`)";
    stack(&mut stage, "one", &[rule]);
    stack(
        &mut stage,
        "two",
        &[
            rule,
            "traefik.http.services.other.loadbalancer.server.port=81",
        ],
    );
    let scene = with_api(&stage);
    expect(
        &scene,
        &[
            ("routers", "one@swarm", "enabled"),
            ("routers", "two@swarm", "disabled"),
        ],
    );
    assert_eq!(scene.data["routers"]["one@swarm"]["service"], "one");
    assert!(
        scene.says(&["http.routers.two", "service"]),
        "{}",
        scene.log
    );
}

#[test]
fn rules_of_traefik_2_are_named_or_obeyed_where_v2_is_in_use() {
    let rows = [
        ("template", "HostRegexp(`{host:.+}`)", "warning", "enabled"),
        ("several", "Host(`a.test`,`b.test`)", "disabled", "enabled"),
        ("headers", "Headers(`a`,`b`)", "disabled", "enabled"),
        ("host-header", "HostHeader(`a.test`)", "disabled", "enabled"),
        // Quotes inside a list-form label stay in the value.
        ("quoted", "'Host(`a.test`)'", "disabled", "disabled"),
        (
            "plain",
            "Host(`a.test`) && PathPrefix(`/x`)",
            "enabled",
            "enabled",
        ),
    ];
    let mut stage = Stage::default();
    for (name, rule, _, _) in rows {
        stack(
            &mut stage,
            name,
            &[&format!("traefik.http.routers.NAME.rule={rule}")],
        );
    }
    let v3 = with_api(&stage);
    let v2 = stage
        .play(&["--api.insecure=true", "--core.defaultRuleSyntax=v2"])
        .unwrap();
    for (name, _, in_v3, in_v2) in rows {
        let router = format!("{name}@swarm");
        assert_eq!(
            v3.status_of("routers", &router),
            in_v3,
            "{name} in v3; {}",
            v3.log
        );
        assert_eq!(
            v2.status_of("routers", &router),
            in_v2,
            "{name} in v2; {}",
            v2.log
        );
        let is_named = v3.says(&[&format!("http.routers.{router}.rule")]);
        assert_eq!(is_named, in_v3 != "enabled", "{name}: {}", v3.log);
    }
}

#[test]
fn middlewares_that_cannot_work_take_their_routers_with_them() {
    let uses = "traefik.http.routers.NAME.middlewares=x-NAME";
    let mut stage = Stage::default();
    let rows = [
        (
            "plugin",
            "traefik.http.middlewares.x-NAME.plugin.nobody.a=b",
        ),
        (
            "file",
            "traefik.http.middlewares.x-NAME.basicauth.usersfile=/nowhere/users",
        ),
        (
            "compress",
            "traefik.http.middlewares.x-NAME.ratelimit.average=1",
        ),
        (
            "missing",
            "traefik.http.middlewares.other.addprefix.prefix=/a",
        ),
    ];
    for (name, label) in rows {
        stack(&mut stage, name, &[uses, label]);
    }
    // A name may look like another provider's.
    let odd = "traefik.http.middlewares.auth@file.addprefix.prefix=/a";
    stack(&mut stage, "odd", &[odd]);
    let scene = with_api(&stage);
    for (name, _) in rows {
        let middleware = match name {
            "missing" => "absent",
            _ => "disabled",
        };
        let rows = [
            ("routers", &*format!("{name}@swarm"), "disabled"),
            ("middlewares", &*format!("x-{name}@swarm"), middleware),
            ("services", &*format!("{name}@swarm"), "enabled"),
        ];
        expect(&scene, &rows);
    }
    expect(&scene, &[("middlewares", "auth@file@swarm", "enabled")]);
}

#[test]
fn built_in_services_want_their_switch() {
    let mut stage = Stage::default();
    stack(
        &mut stage,
        "board",
        &["traefik.http.routers.NAME.service=api@internal"],
    );
    stack(
        &mut stage,
        "pong",
        &["traefik.http.routers.NAME.service=ping@internal"],
    );
    let scene = with_api(&stage);
    expect(
        &scene,
        &[
            ("routers", "board@swarm", "enabled"),
            ("routers", "pong@swarm", "disabled"),
        ],
    );
    let scene = stage.play(&["--ping=true"]).unwrap();
    assert!(
        scene.says(&["http.routers.board@swarm.service", "api@internal"]),
        "{}",
        scene.log
    );
    assert!(!scene.says(&["http.routers.pong@swarm"]), "{}", scene.log);
}

#[test]
fn unknown_tls_options_and_transports_disable_what_names_them() {
    let mut stage = Stage::default();
    let options = [
        "traefik.http.routers.NAME.tls=true",
        "traefik.http.routers.NAME.tls.options=strict",
    ];
    stack(&mut stage, "options", &options);
    let transport = "traefik.http.services.NAME.loadbalancer.serverstransport=mine";
    stack(&mut stage, "transport", &[transport]);
    let scene = with_api(&stage);
    expect(
        &scene,
        &[
            ("routers", "options@swarm", "disabled"),
            ("services", "options@swarm", "enabled"),
            ("routers", "transport@swarm", "disabled"),
            ("services", "transport@swarm", "disabled"),
        ],
    );
}

#[test]
fn own_labels_of_the_provider_are_obeyed() {
    let mut stage = Stage::default();
    stack(
        &mut stage,
        "front",
        &["tier=front", "traefik.docker.network=front"],
    );
    stack(
        &mut stage,
        "new",
        &["tier=front", "traefik.swarm.network=front"],
    );
    stack(
        &mut stage,
        "elsewhere",
        &["tier=front", "traefik.swarm.network=nowhere"],
    );
    let both = [
        "tier=front",
        "traefik.swarm.network=front",
        "traefik.docker.network=front",
    ];
    stack(&mut stage, "both", &both);
    stack(&mut stage, "back", &["tier=back"]);
    let limit = "tidegate.http.services.NAME.loadbalancer.server.maxconn=7";
    stack(&mut stage, "limited", &["tier=front", limit]);
    let constraint = "--providers.swarm.constraints=Label(`tier`,`front`)";
    let scene = stage.play(&["--api.insecure=true", constraint]).unwrap();
    expect(
        &scene,
        &[
            ("routers", "front@swarm", "enabled"),
            ("routers", "new@swarm", "enabled"),
            ("routers", "limited@swarm", "enabled"),
            ("routers", "both@swarm", "absent"),
            ("routers", "back@swarm", "absent"),
        ],
    );
    assert!(
        scene.says(&["service both", "docker", "swarm"]),
        "{}",
        scene.log
    );
    assert!(
        scene.says(&["service elsewhere", "nowhere"]),
        "{}",
        scene.log
    );
    let server = &scene.data["services"]["limited@swarm"]["loadBalancer"]["servers"][0];
    assert_eq!(server["maxconn"], 7, "{server}");
}

#[test]
fn static_settings_that_cannot_be_meant_are_refused() {
    let rows: &[(&[&str], &str)] = &[
        (
            &[
                "--entrypoints.web.address=:0",
                "--entrypoints.web.proxyprotocol.insecure=false",
            ],
            "trusted",
        ),
        (
            &[
                "--entrypoints.web.address=:0",
                "--entrypoints.web.proxyprotocol.trustedips=10.0.0.0/99",
            ],
            "10.0.0.0/99",
        ),
        (
            &[
                "--entrypoints.web.address=:0",
                "--entrypoints.web.forwardedheaders.trustedips=nobody",
            ],
            "nobody",
        ),
        (&["--docker", "--docker.domain=a.test"], "v1"),
        (&["--entryPoints=Name:http Address::80"], "v1"),
        (&["--web", "--logLevel=INFO"], "v1"),
        (&["--providers.docker.colour=red"], "colour"),
    ];
    for (flags, word) in rows {
        let mut command = Proxy::command().unwrap();
        for flag in *flags {
            command = command.arg(*flag);
        }
        let (status, output) = command.run().unwrap();
        assert_eq!(status.code(), Some(2), "{flags:?}: {output}");
        assert!(output.contains(word), "{flags:?}: {output}");
    }
}
