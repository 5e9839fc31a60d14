use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_shared::docker::{
    ContainerAction, Event, Health, Network, Node, NodeState, PortBinding, Protocol,
    ScriptedEngine, TaskState,
};

use super::*;

const PORT: (&str, &str) = ("traefik.http.services.web.loadbalancer.server.port", "80");

fn service(labels: &[(&str, &str)]) -> Service {
    Service {
        id: "s".to_owned(),
        name: "site_web".to_owned(),
        labels: labels
            .iter()
            .map(|&(key, text)| (key.to_owned(), text.to_owned()))
            .collect(),
        mode: ServiceMode::Replicated(2),
        ..Service::default()
    }
}

fn task(slot: u8) -> Task {
    let attachment = |network: &str, third, ingress| {
        let mut attachment = NetworkAttachment {
            id: format!("id-{network}"),
            ingress,
            ..NetworkAttachment::default()
        };
        attachment.address.add([10, 0, third, slot].into());
        (network.to_owned(), attachment)
    };
    Task {
        id: format!("t{slot}"),
        service_id: "s".to_owned(),
        node_id: "n".to_owned(),
        slot: u64::from(slot),
        desired: TaskState::Running,
        state: TaskState::Running,
        container_id: Some(format!("c{slot}")),
        networks: BTreeMap::from([
            attachment("ingress", 0, true),
            attachment("site_front", 1, false),
            attachment("site_back", 2, false),
        ]),
        ..Task::default()
    }
}

fn swarm(service: Service, tasks: Vec<Task>) -> Swarm {
    let network = |name: &str| Network {
        id: format!("id-{name}"),
        name: name.to_owned(),
        scope: "swarm".to_owned(),
        ingress: name == "ingress",
    };
    Swarm {
        services: vec![service],
        tasks,
        networks: ["ingress", "site_back", "site_front"].map(network).into(),
        nodes: vec![Node {
            id: "n".to_owned(),
            address: Some([192, 0, 2, 1].into()),
            state: NodeState::Ready,
            ..Node::default()
        }],
    }
}

fn urls(configuration: &Configuration) -> Vec<&str> {
    let service = &configuration.http.services["web"];
    let balancer = service
        .value
        .load_balancer
        .as_ref()
        .expect("a load balancer");
    balancer
        .servers
        .iter()
        .map(|server| server.url.as_str())
        .collect()
}

fn converted(swarm: &Swarm) -> Configuration {
    convert(swarm, &rules(&Config::default()).expect("good rules"))
}

#[test]
fn only_tasks_that_run_and_shall_run_are_servers() {
    let mut tasks: Vec<_> = (1..=8).map(task).collect();
    tasks[1].desired = TaskState::Ended;
    tasks[2].state = TaskState::Pending;
    tasks[3].leaving = true;
    tasks[4].service_id = "another".to_owned();
    tasks[5].node_id = "down".to_owned();
    tasks[6].health = Some(Health::Unhealthy);
    tasks[7].health = Some(Health::Starting);
    let mut swarm = swarm(service(&[PORT]), tasks);
    swarm.nodes.insert(
        0,
        Node {
            id: "down".to_owned(),
            state: NodeState::Down,
            ..Node::default()
        },
    );
    let configuration = converted(&swarm);
    assert_eq!(urls(&configuration), ["http://10.0.2.1:80"]);
    let router = &configuration.http.routers["site-web"].value;
    assert_eq!(
        (router.rule.as_str(), router.service.as_str()),
        ("Host(`site-web`)", "web")
    );
}

#[test]
fn a_service_without_tasks_keeps_its_routers() {
    for label in [
        PORT,
        (
            "traefik.http.services.web.loadbalancer.server.url",
            "http://x",
        ),
    ] {
        let configuration = converted(&swarm(service(&[label]), Vec::new()));
        assert!(urls(&configuration).is_empty(), "{label:?}");
        assert!(
            !configuration.http.routers["site-web"].is_broken(),
            "{label:?}"
        );
        assert!(!configuration.http.services["web"].is_broken(), "{label:?}");
    }
}

#[test]
fn the_network_is_the_named_one_and_never_ingress() {
    for (label, expected, remarks) in [
        (None, "http://10.0.2.1:80", 0),
        (
            Some(("traefik.swarm.network", "site_front")),
            "http://10.0.1.1:80",
            0,
        ),
        (
            Some(("traefik.docker.network", "site_front")),
            "http://10.0.1.1:80",
            0,
        ),
        (
            Some(("traefik.swarm.network", "front")),
            "http://10.0.1.1:80",
            1,
        ),
        (
            Some(("traefik.swarm.network", "ingress")),
            "http://10.0.2.1:80",
            1,
        ),
    ] {
        let mut labels = vec![PORT];
        labels.extend(label);
        let configuration = converted(&swarm(service(&labels), vec![task(1)]));
        assert_eq!(urls(&configuration), [expected], "{label:?}");
        assert_eq!(configuration.problems.len(), remarks, "{label:?}");
    }
}

#[test]
fn the_swarm_balances_where_it_can() {
    let labels = [PORT, ("traefik.swarm.lbswarm", "true")];
    let mut balanced = service(&labels);
    for (network, third) in [
        ("ingress", 0),
        ("site_front", 1),
        ("site_back", 2),
        ("gone", 3),
    ] {
        let vip = [10, 9, third, 2].into();
        balanced.virtual_ips.insert(format!("id-{network}"), vip);
    }
    let mut spread = balanced.clone();
    spread.endpoint_mode = EndpointMode::DnsRoundRobin;
    let tasks = || vec![task(1), task(2)];
    let configuration = converted(&swarm(balanced.clone(), tasks()));
    assert_eq!(urls(&configuration), ["http://10.9.2.2:80"]);
    assert!(
        urls(&converted(&swarm(balanced, Vec::new()))).is_empty(),
        "nothing runs"
    );
    let configuration = converted(&swarm(spread, tasks()));
    assert_eq!(
        urls(&configuration),
        ["http://10.0.2.1:80", "http://10.0.2.2:80"]
    );
    assert_eq!(configuration.problems[0].key, "swarm.lbswarm");
}

#[test]
fn a_task_on_its_nodes_network_is_reached_by_the_node() {
    let mut on_host = task(1);
    on_host.networks = BTreeMap::from([("host".to_owned(), NetworkAttachment::default())]);
    let configuration = converted(&swarm(service(&[PORT]), vec![on_host]));
    assert_eq!(urls(&configuration), ["http://192.0.2.1:80"]);

    let mut published = task(1);
    published.ports = vec![PortBinding {
        port: 80,
        protocol: Protocol::Tcp,
        host_address: None,
        host_port: Some(8080),
    }];
    let config = Config {
        use_bind_port_ip: true,
        ..Config::default()
    };
    let rules = rules(&config).expect("good rules");
    let configuration = convert(&swarm(service(&[PORT]), vec![published]), &rules);
    assert_eq!(urls(&configuration), ["http://192.0.2.1:8080"]);
}

#[test]
fn labels_of_both_families_are_an_error() {
    let labels = [
        PORT,
        ("traefik.swarm.network", "a"),
        ("traefik.docker.network", "a"),
    ];
    let configuration = converted(&swarm(service(&labels), vec![task(1)]));
    assert!(configuration.http.services.is_empty());
    assert_eq!(configuration.problems.len(), 1);
}

#[test]
fn templates_know_the_first_tasks_name() {
    let config = Config {
        default_rule: "Host(`{{ .ContainerName }}`)".to_owned(),
        ..Config::default()
    };
    let rules = rules(&config).expect("good rules");
    for (tasks, mode, expected) in [
        (
            vec![task(2), task(3)],
            ServiceMode::Replicated(2),
            "Host(`site_web.2`)",
        ),
        (vec![], ServiceMode::Replicated(2), "Host(`site_web.1`)"),
        (vec![task(2)], ServiceMode::Global, "Host(`site_web`)"),
    ] {
        let mut service = service(&[PORT]);
        service.mode = mode;
        let configuration = convert(&swarm(service, tasks), &rules);
        assert_eq!(configuration.http.routers["site-web"].value.rule, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_task_leaves_at_once_and_the_service_stays() {
    let engine = ScriptedEngine::default();
    let Swarm {
        services,
        tasks,
        networks,
        nodes,
    } = swarm(service(&[PORT]), vec![task(1)]);
    engine.set_services(services);
    engine.set_tasks(tasks);
    engine.set_networks(networks);
    engine.set_nodes(nodes);
    let provider = Provider::with_engine(&Config::default(), Arc::new(engine.clone()));
    let (sender, mut updates) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let running = tokio::spawn(provider.expect("good settings").run(sender, stop.clone()));

    let update = updates.recv().await.expect("an update");
    assert_eq!(&*update.provider, "swarm");
    assert_eq!(urls(&update.configuration).len(), 1);
    tokio::time::sleep(Duration::from_secs(3)).await;

    engine.tell(Event::Container {
        id: "c1".to_owned(),
        action: ContainerAction::Stopped,
    });
    let update = updates.recv().await.expect("an update");
    assert!(urls(&update.configuration).is_empty());

    let mut replacement = task(2);
    replacement.slot = 1;
    engine.set_tasks(vec![replacement]);
    let update = updates.recv().await.expect("an update");
    assert_eq!(urls(&update.configuration), ["http://10.0.2.2:80"]);
    stop.cancel();
    running.await.expect("it ends");
}
