use std::net::IpAddr;
use std::time::Duration;

use super::super::arp::HardwareAddress;
use super::super::event::{Alarm, State};
use super::super::packet::{Advertisement, Checksum, GROUP_V4, HOP_LIMIT, Version};
use super::super::settings::Settings;
use super::*;

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn routers(now: Instant) -> Routers {
    let mut routers = Routers::new();
    for (vrid, own, shared) in [(7, address(1), address(10)), (8, address(1), address(11))]
        .into_iter()
        .chain([(7, "fe80::1".parse().unwrap(), "fd00::10".parse().unwrap())])
    {
        let mut settings =
            Settings::new(vrid, own, HardwareAddress([2, 0, 0, 0, 0, 1]), vec![shared]);
        settings.witness = false;
        assert!(
            routers
                .insert(VirtualRouter::new(settings, now).unwrap())
                .is_none()
        );
    }
    routers
}

fn message(vrid: u8, priority: u8, addresses: Vec<IpAddr>) -> Vec<u8> {
    let interval = Duration::from_millis(250);
    let said = Advertisement {
        version: Version::V3,
        vrid,
        priority,
        interval,
        addresses,
    };
    said.encode(address(2), GROUP_V4.into(), Checksum::Addressed)
}

fn datagram(message: &[u8]) -> Datagram<'_> {
    let (source, destination) = (address(2), GROUP_V4.into());
    Datagram {
        source,
        destination,
        hop_limit: HOP_LIMIT,
        message,
    }
}

#[test]
fn a_message_reaches_the_virtual_router_of_its_number_and_family_only() {
    let start = Instant::now();
    let mut routers = routers(start);
    routers.handle_all(start, &Event::Start { holding: false });
    let heard = message(7, 200, vec![address(10)]);
    let (_, result) = routers.receive(start, &datagram(&heard));
    assert_eq!(result, Ok(()));
    let masters: Vec<_> = routers
        .iter()
        .filter(|(_, one)| one.master().is_some())
        .collect();
    assert_eq!(masters.len(), 1);
    assert_eq!(
        masters[0].0,
        Key {
            vrid: 7,
            ipv6: false
        }
    );
}

#[test]
fn what_is_thrown_away_is_counted_by_reason() {
    let start = Instant::now();
    let mut routers = routers(start);
    routers.handle_all(start, &Event::Start { holding: false });
    let unknown = message(9, 200, vec![address(10)]);
    let foreign = message(7, 200, vec![address(99)]);
    assert_eq!(
        routers.receive(start, &datagram(&unknown)).1,
        Err(Discard::UnknownVrid)
    );
    assert_eq!(
        routers.receive(start, &datagram(b"hello")).1,
        Err(Discard::Length)
    );
    let (effects, result) = routers.receive(start, &datagram(&foreign));
    assert_eq!(result, Err(Discard::Addresses));
    assert!(matches!(
        effects[0].1,
        Effect::Alarm(Alarm::AddressesDiffer { .. })
    ));
    let counts: Vec<_> = routers.discards().values().copied().collect();
    assert_eq!(counts, [1, 1, 1]);
}

#[test]
fn each_is_woken_at_its_own_time() {
    let start = Instant::now();
    let mut routers = routers(start);
    let key = Key {
        vrid: 8,
        ipv6: false,
    };
    routers.handle(start, key, Event::Start { holding: false });
    // First the question for holders, then the claim.
    for _ in 0..3 {
        let due = routers.deadline().unwrap();
        routers.timer(due);
    }
    let states: Vec<_> = routers
        .iter()
        .map(|(key, one)| (key.vrid, one.state()))
        .collect();
    assert_eq!(
        states,
        [
            (7, State::Initialize),
            (7, State::Initialize),
            (8, State::Master)
        ]
    );
    let effects = routers.handle(
        start,
        Key {
            vrid: 99,
            ipv6: true,
        },
        Event::Timer,
    );
    assert!(effects.is_empty());
}
