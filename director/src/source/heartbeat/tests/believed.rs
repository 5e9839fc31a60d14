//! What messages make of nodes, without a socket.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use tidegate_shared::heartbeat::{Heartbeat, HeartbeatError, Key, Receiving, State};
use tokio::time::Instant;

use super::super::peers::{MOST, Peers, Refusal};
use crate::source::Stance;

const INTERVAL: Duration = Duration::from_millis(500);

fn key() -> Key {
    Key::new(b"secret")
}

fn ip(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

fn message(boot: u64, counter: u64, last: u8) -> Heartbeat {
    Heartbeat {
        boot,
        counter,
        interval: INTERVAL,
        v4: Some(Ipv4Addr::new(192, 0, 2, last)),
        ..Heartbeat::default()
    }
}

/// Peers with a key or without, and the clock they see.
struct Scene {
    peers: Peers,
    key: Option<Key>,
    now: Instant,
}

impl Scene {
    fn new(key: Option<Key>) -> Self {
        let vips = [
            "192.0.2.10/24".parse().unwrap(),
            "2001:db8::10/64".parse().unwrap(),
        ];
        Self {
            peers: Peers::new(key.clone(), &vips),
            key,
            now: Instant::now(),
        }
    }

    /// Hears a message from the address it speaks for.
    fn hear(&mut self, message: &Heartbeat) -> Result<bool, Refusal> {
        let from = message.addresses().next().unwrap_or_else(|| ip(99));
        self.hear_from(message, from)
    }

    fn hear_from(&mut self, message: &Heartbeat, from: IpAddr) -> Result<bool, Refusal> {
        let bytes = message.encode(self.key.as_ref());
        self.peers.hear(&bytes, from, self.now)
    }

    fn stance(&self, last: u8) -> Option<Stance> {
        let nodes = self.peers.nodes(self.now);
        nodes.get(&ip(last)).map(|said| said.sighting.stance)
    }
}

#[test]
fn silence_is_a_hint_and_then_forgotten() {
    let mut scene = Scene::new(Some(key()));
    assert_eq!(scene.hear(&message(1, 1, 11)), Ok(true));
    assert_eq!(scene.stance(11), Some(Stance::Ready));
    let silent = scene.peers.next_change(scene.now).unwrap();
    assert_eq!(silent - scene.now, INTERVAL * 3);
    scene.now = silent;
    assert_eq!(scene.stance(11), Some(Stance::Down));
    let gone = scene.peers.next_change(scene.now).unwrap();
    assert_eq!(gone - silent, Duration::from_secs(60));
    assert_eq!(scene.hear(&message(1, 2, 11)), Ok(true), "it is back");
    assert_eq!(scene.stance(11), Some(Stance::Ready));
    scene.now += INTERVAL * 3 + Duration::from_secs(60);
    assert_eq!(scene.hear(&message(9, 1, 12)), Ok(true), "another is heard");
    assert_eq!(scene.stance(11), None);
}

#[test]
fn when_all_are_silent_none_is_forgotten() {
    let mut scene = Scene::new(Some(key()));
    scene.peers.set_own(vec![ip(1)]);
    for (boot, last) in [(1, 11), (2, 12), (3, 1)] {
        assert_eq!(scene.hear(&message(boot, 1, last)), Ok(true));
    }
    scene.now += Duration::from_secs(3600);
    assert_eq!(
        scene.hear(&message(3, 2, 1)),
        Ok(true),
        "only this machine itself"
    );
    assert_eq!(scene.stance(11), Some(Stance::Down));
    assert_eq!(
        scene.hear(&message(1, 2, 11)),
        Ok(true),
        "the network is back"
    );
    assert_eq!(scene.stance(11), Some(Stance::Ready));
    assert_eq!(scene.stance(12), None);
}

#[test]
fn a_node_that_left_is_forgotten_whoever_is_heard() {
    let mut scene = Scene::new(Some(key()));
    let leaving = Heartbeat {
        state: State::Leaving,
        ..message(1, 1, 11)
    };
    assert_eq!(scene.hear(&leaving), Ok(true));
    scene.now += INTERVAL * 3 + Duration::from_secs(60);
    assert_eq!(scene.stance(11), None);
}

#[test]
fn no_interval_is_believed_beyond_measure() {
    for (interval, expected) in [(1, 150), (65_535, 30_000)] {
        let mut scene = Scene::new(Some(key()));
        let message = Heartbeat {
            interval: Duration::from_millis(interval),
            ..message(1, 1, 11)
        };
        assert_eq!(scene.hear(&message), Ok(true));
        let silent = scene.peers.next_change(scene.now).unwrap();
        assert_eq!(silent - scene.now, Duration::from_millis(expected));
    }
}

#[test]
fn nothing_that_was_said_before_counts_again() {
    let mut scene = Scene::new(Some(key()));
    let ready = message(1, 5, 11);
    assert_eq!(scene.hear(&ready), Ok(true));
    assert_eq!(scene.hear(&ready), Err(Refusal::Replayed));
    assert_eq!(scene.hear(&message(1, 4, 11)), Err(Refusal::Replayed));
    assert_eq!(scene.hear(&message(1, 6, 11)), Ok(false), "nothing new");
    // Long after it is gone, and after another boot took its place.
    scene.now += Duration::from_secs(3600);
    assert_eq!(scene.hear(&ready), Err(Refusal::Replayed));
    assert_eq!(scene.hear(&message(2, 1, 11)), Ok(true));
    assert_eq!(scene.hear(&ready), Err(Refusal::Replayed));
}

#[test]
fn a_boot_waits_until_the_other_is_silent_or_left() {
    let mut scene = Scene::new(Some(key()));
    assert_eq!(scene.hear(&message(1, 1, 11)), Ok(true));
    assert_eq!(scene.hear(&message(2, 1, 11)), Err(Refusal::Contested));
    assert_eq!(
        scene.hear(&message(3, 1, 12)),
        Ok(true),
        "another's address"
    );
    scene.now += INTERVAL * 3;
    assert_eq!(scene.hear(&message(2, 2, 11)), Ok(true));
    let leaving = Heartbeat {
        state: State::Leaving,
        ..message(2, 3, 11)
    };
    assert_eq!(scene.hear(&leaving), Ok(true));
    assert_eq!(scene.stance(11), Some(Stance::Draining));
    scene.now += INTERVAL * 9;
    assert_eq!(scene.stance(11), Some(Stance::Draining), "it said so");
    assert_eq!(scene.hear(&message(4, 1, 11)), Ok(true));
    assert_eq!(scene.stance(11), Some(Stance::Ready));
}

#[test]
fn with_a_key_a_node_decides_of_itself() {
    let mut scene = Scene::new(Some(key()));
    let draining = Heartbeat {
        state: State::Draining,
        host: Some("pi-1".to_owned()),
        weight: NonZeroU32::new(u32::MAX),
        v6: "2001:db8::11".parse().ok(),
        ..message(1, 1, 11)
    };
    assert_eq!(scene.hear_from(&draining, ip(200)), Ok(true));
    let nodes = scene.peers.nodes(scene.now);
    assert_eq!(nodes.len(), 2);
    for said in nodes.values() {
        assert_eq!(said.sighting.stance, Stance::Draining);
        assert_eq!(said.sighting.name.as_deref(), Some("pi-1"));
        assert_eq!(said.sighting.weight, Some(65_535));
    }
    let bytes = message(1, 2, 11).encode(None);
    let unsigned = scene.peers.hear(&bytes, ip(11), scene.now);
    assert_eq!(unsigned, Err(HeartbeatError::Unsigned.into()));
    let bytes = message(1, 2, 11).encode(Some(&Key::new(b"guessed")));
    let forged = scene.peers.hear(&bytes, ip(11), scene.now);
    assert_eq!(forged, Err(HeartbeatError::Signature.into()));
}

#[test]
fn without_a_key_a_message_is_a_hint_on_its_own_address() {
    let mut scene = Scene::new(None);
    assert_eq!(
        scene.hear_from(&message(1, 1, 11), ip(12)),
        Err(Refusal::NotItsOwn)
    );
    let draining = Heartbeat {
        state: State::Draining,
        host: Some("pi-1".to_owned()),
        weight: NonZeroU32::new(7),
        v6: "2001:db8::11".parse().ok(),
        ..message(1, 1, 11)
    };
    assert_eq!(scene.hear(&draining), Ok(true));
    let nodes = scene.peers.nodes(scene.now);
    let said = &nodes[&ip(11)].sighting;
    assert_eq!(nodes.len(), 1, "only the address it came from");
    assert_eq!((said.stance, said.weight), (Stance::Down, None));
    assert_eq!(said.name, None);
    let own = message(2, 1, 13);
    assert_eq!(
        scene.hear_from(&own, Ipv4Addr::LOCALHOST.into()),
        Ok(true),
        "this machine"
    );
}

#[test]
fn a_node_that_lacks_a_virtual_address_is_to_be_checked() {
    let mut scene = Scene::new(Some(key()));
    for (counter, in_place, expected) in [
        (1, vec![ip(10)], Stance::Ready),
        (2, vec![], Stance::Down),
        (3, vec!["2001:db8::10".parse().unwrap()], Stance::Down),
        (4, vec![ip(10), ip(9)], Stance::Ready),
        (5, vec![ip(9); 32], Stance::Ready),
    ] {
        let message = Heartbeat {
            receiving: Some(Receiving {
                in_place,
                is_hushed: true,
            }),
            ..message(1, counter, 11)
        };
        assert_eq!(scene.hear(&message), Ok(true), "{counter}");
        assert_eq!(scene.stance(11), Some(expected), "{counter}");
    }
}

#[test]
fn nobody_speaks_for_addresses_that_are_no_nodes() {
    let mut scene = Scene::new(Some(key()));
    let nameless = Heartbeat {
        v4: None,
        ..message(1, 1, 11)
    };
    assert_eq!(scene.hear(&nameless), Err(Refusal::Nameless));
    for address in [
        Ipv4Addr::new(192, 0, 2, 10),
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::UNSPECIFIED,
    ] {
        let message = Heartbeat {
            v4: Some(address),
            ..message(1, 1, 11)
        };
        let heard = scene.hear(&message);
        assert!(matches!(heard, Err(Refusal::Unusable(..))), "{address}");
    }
}

#[test]
fn memory_is_bounded_and_live_nodes_keep_their_place() {
    let mut scene = Scene::new(Some(key()));
    let most = u16::try_from(MOST).unwrap();
    let of = |number: u16| {
        let [high, low] = number.to_be_bytes();
        Heartbeat {
            v4: Some(Ipv4Addr::new(10, 0, high, low)),
            ..message(number.into(), 1, 1)
        }
    };
    for number in 0..most {
        assert_eq!(scene.hear(&of(number)), Ok(true), "{number}");
    }
    assert_eq!(scene.hear(&of(most)), Err(Refusal::TooMany));
    scene.now += INTERVAL * 3;
    assert_eq!(scene.hear(&of(most)), Ok(true));
    assert_eq!(scene.peers.nodes(scene.now).len(), MOST);
}

#[test]
fn random_bytes_change_nothing() {
    let mut random = fastrand::Rng::with_seed(6);
    for mut scene in [Scene::new(None), Scene::new(Some(key()))] {
        assert_eq!(scene.hear(&message(1, 1, 11)), Ok(true));
        let before = scene.peers.nodes(scene.now);
        for _ in 0..5_000 {
            let bytes: Vec<u8> = (0..random.usize(..300)).map(|_| random.u8(..)).collect();
            assert!(scene.peers.hear(&bytes, ip(11), scene.now).is_err());
        }
        assert_eq!(scene.peers.nodes(scene.now), before);
    }
}
