use super::*;
use crate::model::{Forwarding, Protocol};
use crate::registry::Linked;

const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10));
const NODE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

fn services() -> Services {
    let own = SocketAddr::new(VIP, 80);
    Services::new(Policy {
        reserved: BTreeSet::from([VirtualAddress::socket(Protocol::Tcp, own)]),
        host: Some(VIP),
        ..Policy::default()
    })
}

fn service(text: &str) -> ServiceRequest {
    ServiceRequest::read(text.as_bytes()).unwrap()
}

fn backend(text: &str) -> BackendRequest {
    BackendRequest::read(text.as_bytes()).unwrap()
}

/// One service on port 81 with one back end.
fn one() -> Services {
    let mut all = services();
    all.add_service("web", service("{\"port\": 81}"), None)
        .unwrap();
    let request = backend("{\"port\": 8081, \"weight\": 10}");
    all.add_backend(("web", "a"), request, NODE, Instant::now())
        .unwrap();
    all
}

fn weight(all: &Services) -> u32 {
    let table = all.table();
    let server = table.values().next().unwrap();
    server.real_servers.values().next().unwrap().weight
}

fn linked(backend: &str, port: u16, is_ready: bool) -> Linked {
    Linked {
        service: "nginx-82-tcp".to_owned(),
        backend: backend.to_owned(),
        port: 82,
        protocol: Protocol::Tcp,
        address: SocketAddr::new(NODE, port),
        is_ready,
    }
}

#[test]
fn what_is_registered_is_in_the_table() {
    let table = one().table();
    let key = VirtualAddress::socket(Protocol::Tcp, SocketAddr::new(VIP, 81));
    let server = &table[&key];
    assert_eq!(server.scheduling.scheduler.as_str(), "wrr");
    let real = server.real_servers[&SocketAddr::new(NODE, 8081)];
    assert_eq!(real, RealServer::new(Forwarding::Masquerade, 10));
}

#[test]
fn places_that_are_taken_are_refused() {
    let mut all = one();
    let mut add = |id: &str, text: &str| all.add_service(id, service(text), None);
    let own = add("own", "{\"port\": 80}").unwrap_err();
    assert_eq!(own.status(), 409);
    assert!(own.to_string().contains("tcp 192.0.2.10:80"), "{own}");
    assert_eq!(add("web", "{\"port\": 82}").unwrap_err().status(), 409);
    let same = add("other", "{\"port\": 81}").unwrap_err();
    assert!(same.to_string().contains("\"web\""), "{same}");
    add("udp", "{\"port\": 80, \"protocol\": \"UDP\"}").unwrap();
    let now = Instant::now();
    let mut add = |id: &str, text: &str| all.add_backend(("web", id), backend(text), NODE, now);
    assert_eq!(add("a", "{\"port\": 1}").unwrap_err().status(), 409);
    assert_eq!(add("b", "{\"port\": 8081}").unwrap_err().status(), 409);
    add("b", "{\"port\": 8082}").unwrap();
}

#[test]
fn what_is_not_there_is_missing() {
    let mut all = one();
    let now = Instant::now();
    let request = || backend("{\"port\": 1}");
    let results = [
        all.remove_service("x"),
        all.remove_backend("x", "a"),
        all.remove_backend("web", "x"),
        all.add_backend(("x", "a"), request(), NODE, now),
        all.change_backend(("web", "x"), request(), None, now),
        all.change_service("x", service("{}"), None),
    ];
    for result in results {
        assert_eq!(result.unwrap_err().status(), 404);
    }
}

#[test]
fn a_change_moves_a_service_but_not_onto_another() {
    let mut all = one();
    all.change_service("web", service("{\"port\": 83, \"method\": \"rr\"}"), None)
        .unwrap();
    assert_eq!(all.service("web").unwrap().options.address.port(), 83);
    let onto = all.change_service("web", service("{\"port\": 80}"), None);
    assert_eq!(onto.unwrap_err().status(), 409);
    let family = all.change_service("web", service("{}"), Some("::1".parse().unwrap()));
    assert_eq!(family.unwrap_err().status(), 400);
    all.change_service("web", service("{\"port\": 83}"), None)
        .unwrap();
}

#[test]
fn answers_change_the_weight_and_old_ones_do_not_count() {
    let mut all = one();
    let now = Instant::now();
    let first = all.backend("web", "a").unwrap().1.incarnation;
    assert_eq!(
        all.note(("web", "a"), first, false, now),
        Some((true, true))
    );
    assert_eq!(
        (weight(&all), all.service("web").unwrap().health()),
        (0, 0.0)
    );
    let request = backend("{\"weight\": 20}");
    all.change_backend(("web", "a"), request, None, now)
        .unwrap();
    assert_eq!(weight(&all), 0, "a new weight is no good answer");
    assert_eq!(all.note(("web", "a"), first, true, now), Some((true, true)));
    assert_eq!(weight(&all), 10);
    let request = backend("{\"pulse\": {\"interval\": \"1s\"}}");
    all.change_backend(("web", "a"), request, None, now)
        .unwrap();
    assert_eq!(weight(&all), 20, "it is asked anew");
    assert_eq!(all.note(("web", "a"), first, false, now), None);
}

#[test]
fn containers_come_and_go_with_their_service() {
    let mut all = one();
    let now = Instant::now();
    let outcome = all.link(&[linked("c1", 1000, true), linked("c2", 1001, false)], now);
    assert_eq!((outcome.added.len(), outcome.refused.len()), (2, 0));
    let of = |all: &Services, id: &str| all.backend("nginx-82-tcp", id).unwrap().1.weight();
    assert_eq!((of(&all, "c1"), of(&all, "c2")), (100, 0));
    let request = backend("{\"weight\": 5}");
    all.change_backend(("nginx-82-tcp", "c2"), request, None, now)
        .unwrap();
    let outcome = all.link(&[linked("c2", 1001, true)], now);
    assert_eq!((outcome.added.len(), outcome.removed.len()), (0, 1));
    assert_eq!(of(&all, "c2"), 5, "a weight that was set stays");
    assert!(!all.link(&[linked("c2", 1001, true)], now).is_news());
    assert_eq!(
        all.remove_backend("nginx-82-tcp", "c2")
            .unwrap_err()
            .status(),
        409
    );
    assert_eq!(
        all.remove_service("nginx-82-tcp").unwrap_err().status(),
        409
    );
    all.link(&[linked("c2", 1002, true)], now);
    let moved = &all.backend("nginx-82-tcp", "c2").unwrap().1.options;
    assert_eq!(moved.address.port(), 1002);
    all.link(&[], now);
    assert!(all.service("nginx-82-tcp").is_err());
    assert!(all.service("web").is_ok());
}

#[test]
fn a_container_joins_a_service_that_was_registered() {
    let mut all = services();
    let request = service("{\"port\": 443}");
    all.add_service("nginx-82-tcp", request, None).unwrap();
    all.link(&[linked("c1", 1000, true)], Instant::now());
    assert_eq!(all.table().len(), 1);
    all.link(&[], Instant::now());
    assert!(all.service("nginx-82-tcp").unwrap().backends.is_empty());
}

#[test]
fn a_container_on_the_directors_own_port_is_refused() {
    let mut all = services();
    let row = Linked {
        port: 80,
        ..linked("c1", 1000, true)
    };
    let outcome = all.link(&[row], Instant::now());
    assert_eq!(outcome.refused[0].1.status(), 409);
    assert!(all.all.is_empty());
}

#[test]
fn there_is_an_end_to_it() {
    let mut all = services();
    let mut add = |number: usize| {
        let request = service(&format!("{{\"port\": {}}}", number + 1000));
        all.add_service(&number.to_string(), request, None)
    };
    for number in 0..MOST_SERVICES {
        add(number).unwrap();
    }
    assert!(matches!(add(MOST_SERVICES), Err(Refusal::Full { .. })));
    for id in ["", "a/b", "a\n", &"x".repeat(256)] {
        let refusal = services().add_service(id, service("{\"port\": 1}"), None);
        assert_eq!(refusal.unwrap_err().status(), 400, "{id:?}");
    }
}
