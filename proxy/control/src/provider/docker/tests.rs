use std::collections::BTreeMap;

use tidegate_shared::docker::{
    ContainerAction, Event, NetworkAttachment, PortBinding, Protocol, ScriptedEngine,
};

use super::*;

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 17, 0, 1));

fn container(name: &str, last: u8, labels: &[(&str, &str)]) -> Container {
    let mut network = NetworkAttachment::default();
    network.address.add([10, 0, 0, last].into());
    Container {
        id: format!("id-{name}"),
        name: name.to_owned(),
        labels: labels
            .iter()
            .map(|&(key, text)| (key.to_owned(), text.to_owned()))
            .collect(),
        state: ContainerState::Running,
        networks: BTreeMap::from([("front".to_owned(), network)]),
        ports: vec![PortBinding {
            port: 80,
            protocol: Protocol::Tcp,
            host_address: None,
            host_port: None,
        }],
        ..Container::default()
    }
}

fn urls(configuration: &Configuration, service: &str) -> Option<Vec<String>> {
    let service = configuration.http.services.get(service)?;
    let balancer = service.value.load_balancer.as_ref()?;
    Some(
        balancer
            .servers
            .iter()
            .map(|server| server.url.clone())
            .collect(),
    )
}

/// The servers of `web` under these settings; `None` if it is not there.
fn web(containers: &[Container], config: &Config) -> Option<Vec<String>> {
    let rules = rules(config).expect("good rules");
    urls(&convert(containers, &rules, HOST), "web")
}

fn one() -> Option<Vec<String>> {
    Some(vec!["http://10.0.0.1:80".to_owned()])
}

#[test]
fn only_what_runs_well_is_served() {
    let none = Some(Vec::new());
    let allow = ("traefik.docker.allownonrunning", "true");
    for (state, health, label, allow_empty, expected) in [
        (ContainerState::Running, None, false, false, one()),
        (
            ContainerState::Running,
            Some(Health::Healthy),
            false,
            false,
            one(),
        ),
        (
            ContainerState::Running,
            Some(Health::Starting),
            false,
            false,
            None,
        ),
        (
            ContainerState::Running,
            Some(Health::Unhealthy),
            false,
            false,
            None,
        ),
        (
            ContainerState::Running,
            Some(Health::Unhealthy),
            false,
            true,
            none.clone(),
        ),
        (
            ContainerState::Running,
            Some(Health::Unhealthy),
            true,
            false,
            none.clone(),
        ),
        (ContainerState::Restarting, None, false, false, None),
        (ContainerState::Restarting, None, false, true, none.clone()),
        (ContainerState::Paused, None, false, true, none.clone()),
        (ContainerState::Ended, None, false, true, None),
        (ContainerState::Ended, None, true, false, none.clone()),
        (ContainerState::Created, None, false, false, None),
    ] {
        let labels = [allow];
        let mut container = container("web", 1, if label { &labels } else { &[] });
        container.state = state;
        container.health = health;
        let config = Config {
            allow_empty_services: allow_empty,
            ..Config::default()
        };
        let what = format!("{state:?} {health:?} {label} {allow_empty}");
        assert_eq!(web(&[container], &config), expected, "{what}");
    }
}

#[test]
fn a_leaving_container_keeps_its_routers_and_loses_its_server() {
    let mut container = container("web", 1, &[]);
    container.leaving = true;
    assert_eq!(web(&[container], &Config::default()), Some(Vec::new()));
}

#[test]
fn filters_by_label_and_constraint() {
    for (label, exposed, constraint, expected) in [
        ("", true, "", true),
        ("", false, "", false),
        ("true", false, "", true),
        ("false", true, "", false),
        ("true", false, "Label(`traefik.enable`, `true`)", true),
        ("true", false, "!Label(`traefik.enable`, `true`)", false),
        ("maybe", true, "", false),
    ] {
        let labels = [("traefik.enable", label)];
        let labels = if label.is_empty() {
            &labels[..0]
        } else {
            &labels[..]
        };
        let config = Config {
            exposed_by_default: exposed,
            constraints: constraint.to_owned(),
            ..Config::default()
        };
        let served = web(&[container("web", 1, labels)], &config).is_some();
        assert_eq!(served, expected, "{label} {exposed} {constraint}");
    }
}

#[test]
fn finds_the_address_in_every_network_mode() {
    let mut shared = container("vpn", 7, &[("traefik.enable", "false")]);
    shared.id = "abc".to_owned();
    for (mode, expected) in [
        ("front", Some("http://10.0.0.1:80")),
        ("host", Some("http://172.17.0.1:80")),
        ("container:abc", Some("http://10.0.0.7:80")),
        ("container:missing", None),
        ("container:id-web", None),
    ] {
        let mut container = container("web", 1, &[]);
        container.network_mode = mode.to_owned();
        let found = web(&[container, shared.clone()], &Config::default());
        let expected: Vec<_> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(found, Some(expected), "{mode}");
    }
}

#[test]
fn bad_static_settings_are_named() {
    for (config, expected) in [
        (
            Config {
                constraints: "tag==x".to_owned(),
                ..Config::default()
            },
            "constraints: unknown function",
        ),
        (
            Config {
                default_rule: "{{ frob }}".to_owned(),
                ..Config::default()
            },
            "defaultRule: unknown function \"frob\"",
        ),
        (
            Config {
                endpoint: "ssh://x".to_owned(),
                ..Config::default()
            },
            "endpoint \"ssh://x\": the scheme",
        ),
    ] {
        let error = Provider::new(&config).expect_err(expected);
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn sends_an_update_at_each_change_and_none_while_the_engine_is_away() {
    let engine = ScriptedEngine::default();
    engine.set_containers(vec![container("web", 1, &[])]);
    let provider = Provider::with_engine(&Config::default(), Arc::new(engine.clone()));
    let provider = provider.expect("good settings");
    let health = provider.health();
    let (sender, mut updates) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let running = tokio::spawn(provider.run(sender, stop.clone()));

    let first = updates.recv().await.expect("an update");
    assert_eq!(&*first.provider, "docker");
    assert_eq!(urls(&first.configuration, "web"), one());
    assert!(health.last().is_some());

    tokio::time::sleep(Duration::from_secs(3)).await;
    engine.set_containers(vec![container("web", 2, &[])]);
    engine.tell(Event::Container {
        id: "id-web".to_owned(),
        action: ContainerAction::Started,
    });
    let second = updates.recv().await.expect("an update");
    let moved = vec!["http://10.0.0.2:80".to_owned()];
    assert_eq!(urls(&second.configuration, "web"), Some(moved));

    engine.set_gone(true);
    let wait = tokio::time::timeout(Duration::from_secs(120), updates.recv()).await;
    assert!(wait.is_err(), "the last state stays: {wait:?}");
    stop.cancel();
    running.await.expect("it ends");
}
