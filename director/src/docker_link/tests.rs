use super::*;
use crate::journal::Journal;
use crate::model::{Family, KernelName, Table};
use crate::network::{Interface, InterfaceAddress};
use crate::registry::{BackendRequest, Linked, Policy};
use std::net::IpAddr;
use tidegate_shared::docker::{
    ContainerAction, ContainerState, Event, Health, PortBinding, Protocol, ScriptedEngine,
};

const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 11));

fn published(port: u16, address: &str, host_port: u16) -> PortBinding {
    PortBinding {
        port,
        protocol: Protocol::Tcp,
        host_address: Some(address.parse().unwrap()),
        host_port: Some(host_port),
    }
}

fn container(name: &str, host_port: u16) -> Container {
    Container {
        id: format!("id-{name}"),
        name: name.to_owned(),
        image: "registry:5000/team/web:1.2@sha256:0123".to_owned(),
        state: ContainerState::Running,
        ports: vec![
            published(8080, "0.0.0.0", host_port),
            published(8080, "::", host_port),
        ],
        ..Container::default()
    }
}

const SERVICE: &str = "registry-5000-team-web-1.2-8080-tcp";

fn rows_of(containers: &[Container]) -> (Vec<Linked>, Vec<(String, String)>) {
    let host = |family| (family == Family::V4).then_some(HOST);
    rows::rows(containers, |_| Some(Family::V4), host)
}

fn interface(name: &str, addresses: &[(&str, u8)]) -> Interface {
    let addresses = addresses.iter().map(|(address, prefix)| InterfaceAddress {
        address: address.parse().unwrap(),
        prefix: *prefix,
        is_tentative: false,
    });
    Interface {
        index: 1,
        name: KernelName::new(name).unwrap(),
        hardware: None,
        is_running: true,
        is_up: true,
        mtu: 1500,
        is_loopback: name == "lo",
        is_dummy: false,
        addresses: addresses.collect(),
    }
}

fn network() -> Snapshot {
    Snapshot {
        interfaces: vec![
            interface("lo", &[("127.0.0.1", 8), ("192.0.2.10", 32)]),
            interface("docker0", &[("172.17.0.1", 16)]),
            interface(
                "eth0",
                &[
                    ("fe80::1", 64),
                    ("192.0.2.10", 32),
                    ("192.0.2.11", 24),
                    ("2001:db8::11", 64),
                ],
            ),
        ],
        gateways: Vec::new(),
    }
}

fn hosts(interface: Option<&str>) -> Hosts {
    let vip = |address: &str, prefix| crate::config::Vip {
        address: address.parse().unwrap(),
        prefix,
    };
    Hosts {
        interface: interface.map(|it| KernelName::new(it).unwrap()),
        vips: vec![vip("192.0.2.10", 24), vip("2001:db8::10", 64)],
    }
}

#[test]
fn a_published_port_is_a_back_end_of_its_images_service() {
    let (rows, refused) = rows_of(&[container("/team.1.abc", 32768)]);
    let expected = Linked {
        service: SERVICE.to_owned(),
        backend: "team.1.abc-32768-tcp".to_owned(),
        port: 8080,
        protocol: crate::model::Protocol::Tcp,
        address: (HOST, 32768).into(),
        is_ready: true,
    };
    assert_eq!((rows, refused), (vec![expected], Vec::new()));
}

#[test]
fn what_runs_well_is_ready() {
    use ContainerState::{Created, Ended, Paused, Restarting, Running};
    let rows = [
        (Running, None, false, Some(true)),
        (Running, Some(Health::Healthy), false, Some(true)),
        (Running, Some(Health::Starting), false, Some(false)),
        (Running, Some(Health::Unhealthy), false, Some(false)),
        (Running, None, true, Some(false)),
        (Paused, None, false, Some(false)),
        (Restarting, None, false, None),
        (Created, None, false, None),
        (Ended, None, false, None),
    ];
    for (state, health, leaving, expected) in rows {
        let container = Container {
            state,
            health,
            leaving,
            ..container("a", 1000)
        };
        let (rows, _) = rows_of(&[container]);
        let is = rows.first().map(|row| row.is_ready);
        assert_eq!(is, expected, "{state:?} {health:?} {leaving}");
    }
}

#[test]
fn labels_say_otherwise() {
    let labelled = |name: &str, value: &str| {
        let mut container = container("a", 1000);
        container
            .labels
            .insert(format!("tidegate.director.{name}"), value.to_owned());
        rows_of(&[container])
    };
    assert!(labelled("link", "false").0.is_empty());
    assert_eq!(
        labelled("service", "shop/web").0[0].service,
        "shop-web-8080-tcp"
    );
    assert_eq!(labelled("port.8080", "81").0[0].port, 81);
    for value in ["0", "70000", "x"] {
        let (rows, refused) = labelled("port.8080", value);
        assert!(rows.is_empty());
        assert!(
            refused[0].1.contains("tidegate.director.port.8080"),
            "{refused:?}"
        );
    }
}

#[test]
fn ports_nobody_reaches_are_left_out() {
    let unpublished = PortBinding {
        port: 80,
        protocol: Protocol::Tcp,
        host_address: None,
        host_port: None,
    };
    let ports = vec![
        unpublished,
        published(81, "127.0.0.1", 81),
        published(82, "0.0.0.0", 0),
    ];
    let container = Container {
        ports,
        ..container("a", 1)
    };
    assert_eq!(rows_of(&[container]), (Vec::new(), Vec::new()));
    let (rows, refused) = rows::rows(&[self::container("a", 1)], |_| Some(Family::V4), |_| None);
    assert!(rows.is_empty() && refused[0].1.contains("no IPv4 address"));
}

#[test]
fn this_machines_address_is_never_a_virtual_one() {
    let rows = [
        (None, Family::V4, Some("192.0.2.11")),
        (None, Family::V6, Some("2001:db8::11")),
        (Some("docker0"), Family::V4, Some("172.17.0.1")),
        (Some("docker0"), Family::V6, None),
        (Some("eth1"), Family::V4, None),
    ];
    for (interface, family, expected) in rows {
        let own = hosts(interface).own(&network(), family);
        let expected = expected.map(|it| it.parse().unwrap());
        assert_eq!(own, expected, "{interface:?} {family}");
    }
}

struct Bench {
    engine: ScriptedEngine,
    registry: Registry,
    table: channel::Receiver<Arc<Table>>,
    network: channel::Sender<Arc<Snapshot>>,
    trigger: tidegate_shared::shutdown::Trigger,
    task: tokio::task::JoinHandle<()>,
}

impl Bench {
    fn start(containers: Vec<Container>) -> Self {
        let engine = ScriptedEngine::default();
        engine.set_containers(containers);
        let (sender, table) = channel::channel(Arc::default());
        let policy = Policy {
            host: Some([192, 0, 2, 10].into()),
            ..Policy::default()
        };
        let registry = Registry::open(policy, None, sender, Journal::default()).unwrap();
        let (network, snapshots) = channel::channel(Arc::new(network()));
        let (trigger, shutdown) = tidegate_shared::shutdown::channel();
        let task = tokio::spawn(run(
            Arc::new(engine.clone()),
            hosts(None),
            snapshots,
            registry.clone(),
            shutdown,
        ));
        Self {
            engine,
            registry,
            table,
            network,
            trigger,
            task,
        }
    }

    /// Waits until the real servers are these, with these weights.
    async fn reals(&mut self, expected: &[(&str, u32)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(address, weight)| (address.parse().unwrap(), *weight))
            .collect();
        let is = |table: &Arc<Table>| {
            let reals = table.values().flat_map(|it| &it.real_servers);
            let reals = reals.map(|(address, it)| (*address, it.weight));
            reals.collect::<Vec<_>>() == expected
        };
        let limit = std::time::Duration::from_secs(60);
        let reached = tokio::time::timeout(limit, self.table.wait_for(is)).await;
        reached.expect("in a minute").unwrap();
    }

    fn tell(&self, name: &str, action: ContainerAction) {
        let id = format!("id-{name}");
        self.engine.tell(Event::Container { id, action });
    }
}

#[tokio::test(start_paused = true)]
async fn containers_are_followed_from_their_start_to_their_end() {
    let mut bench = Bench::start(vec![container("a", 1001)]);
    bench.reals(&[("192.0.2.11:1001", 100)]).await;
    let sick = Container {
        health: Some(Health::Unhealthy),
        ..container("a", 1001)
    };
    bench
        .engine
        .set_containers(vec![sick.clone(), container("b", 1002)]);
    bench.tell("b", ContainerAction::Started);
    bench
        .reals(&[("192.0.2.11:1001", 0), ("192.0.2.11:1002", 100)])
        .await;
    bench.tell("b", ContainerAction::Leaving);
    bench
        .reals(&[("192.0.2.11:1001", 0), ("192.0.2.11:1002", 0)])
        .await;
    bench.engine.set_containers(vec![sick]);
    bench.tell("b", ContainerAction::Stopped);
    bench.reals(&[("192.0.2.11:1001", 0)]).await;
    bench.engine.set_containers(Vec::new());
    // No event tells of it: the next full reading does.
    bench.reals(&[]).await;
    assert!(bench.table.borrow().is_empty());
    bench.trigger.advance(Stage::Draining);
    bench.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_goes_away_takes_nothing_with_it() {
    let mut bench = Bench::start(vec![container("a", 1001)]);
    bench.reals(&[("192.0.2.11:1001", 100)]).await;
    bench.engine.set_gone(true);
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    bench.reals(&[("192.0.2.11:1001", 100)]).await;
    bench.engine.set_containers(vec![container("b", 1002)]);
    bench.engine.set_gone(false);
    bench.reals(&[("192.0.2.11:1002", 100)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_address_of_the_machine_moves_the_back_ends() {
    let mut bench = Bench::start(vec![container("a", 1001)]);
    bench.reals(&[("192.0.2.11:1001", 100)]).await;
    let weight = BackendRequest::read(b"{\"weight\": 5}").unwrap();
    let registry = bench.registry.clone();
    registry
        .change_backend(SERVICE, "a-1001-tcp", weight, None)
        .unwrap();
    bench.reals(&[("192.0.2.11:1001", 5)]).await;
    let moved = Snapshot {
        interfaces: vec![interface("eth0", &[("192.0.2.12", 24)])],
        gateways: Vec::new(),
    };
    bench.network.send_replace(Arc::new(moved));
    bench.reals(&[("192.0.2.12:1001", 100)]).await;
}
