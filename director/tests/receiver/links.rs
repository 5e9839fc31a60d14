//! What is known of links, and how soon; and what virtual addresses are.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_director::network::{AddressUse, Links, Snapshot};
use tokio::sync::watch;

use crate::neighbour::{FAR, Link, NEAR, OWN, PEER, VIP, VIP6, address, name, run};

/// Waits for a snapshot of this kind.
async fn shows(
    network: &mut watch::Receiver<Arc<Snapshot>>,
    what: &str,
    is_so: impl Fn(&Snapshot) -> bool,
) {
    let begin = Instant::now();
    let seen = network.wait_for(|now| is_so(now));
    let seen = tokio::time::timeout(Duration::from_secs(20), seen).await;
    assert!(seen.is_ok(), "{what}");
    println!("{what}: known within {:?}", begin.elapsed());
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a machine of its own: tests/kernel"]
async fn the_snapshot_follows_the_kernel() {
    let _link = Link::new();
    let (links, mut network) = Links::open().await.unwrap();
    let near = |now: &Snapshot| now.named(&name(NEAR)).cloned();
    let seen = near(&network.borrow()).unwrap();
    assert!(
        seen.is_up && seen.hardware.is_some() && seen.mtu == 1500,
        "{seen:?}"
    );
    let found = network
        .borrow()
        .for_vip(address(VIP), 32, None)
        .map(|it| it.index);
    assert_eq!(found, Ok(seen.index));
    run(&format!("ip -n {FAR} link set tgfar down"));
    shows(&mut network, "a cable is out", |now| {
        !near(now).unwrap().is_running
    })
    .await;
    run(&format!("ip -n {FAR} link set tgfar up"));
    shows(&mut network, "it is in again", |now| {
        near(now).unwrap().is_running
    })
    .await;
    shows(&mut network, "an address is checked", |now| {
        near(now).unwrap().link_local().is_some()
    })
    .await;
    run("ip route add default via 192.0.2.1");
    let gateway = [address("192.0.2.1")];
    shows(&mut network, "a default route", |now| {
        now.gateways == gateway
    })
    .await;
    run(&format!("ip link set {NEAR} down"));
    run(&format!("ip link set {NEAR} name tgother"));
    run("ip link set tgother up");
    run("ip route add default via 192.0.2.1");
    shows(&mut network, "a name", |now| {
        now.named(&name("tgother")).is_some()
    })
    .await;
    run("ip link del tgother");
    let is_gone = |now: &Snapshot| now.named(&name("tgother")).is_none() && now.gateways.is_empty();
    shows(&mut network, "a link is gone, and its routes", is_gone).await;
    assert!(links.remove_link(seen.index).await.is_ok());
    assert!(
        links
            .remove_address(seen.index, address(VIP), 32)
            .await
            .is_ok()
    );
    let added = links
        .add_address(seen.index, address(VIP), 32, AddressUse::Held)
        .await;
    assert!(
        added
            .unwrap_err()
            .to_string()
            .contains("the device is gone")
    );
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a machine of its own: tests/kernel"]
async fn lost_messages_cost_nothing_but_time() {
    const MANY: usize = 3000;
    let _link = Link::new();
    let (_links, mut network) = Links::open().await.unwrap();
    let count = |now: &Snapshot| now.named(&name(NEAR)).unwrap().addresses.len();
    let before = count(&network.borrow());
    let place = std::env::temp_dir().join(format!("tidegate-addresses-{}", std::process::id()));
    let mut lines = String::new();
    for number in 0..MANY {
        let (high, low) = (number / 256, number % 256);
        lines.push_str(&format!("addr add 10.9.{high}.{low}/32 dev {NEAR}\n"));
    }
    fs::write(&place, lines).unwrap();
    // Nobody reads the messages meanwhile: this blocks the only thread.
    run(&format!("ip -batch {}", place.display()));
    fs::remove_file(&place).unwrap();
    shows(&mut network, "all addresses", |now| {
        count(now) == before + MANY
    })
    .await;
    run("ip addr flush to 10.9.0.0/16");
    shows(&mut network, "none of them", |now| count(now) == before).await;
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a machine of its own: tests/kernel"]
async fn virtual_addresses_are_no_sources() {
    let _link = Link::new();
    let (links, network) = Links::open().await.unwrap();
    let near = network.borrow().named(&name(NEAR)).unwrap().index;
    for purpose in [AddressUse::Held, AddressUse::Received] {
        run(&format!("ip addr flush dev {NEAR}"));
        for (vip, prefix) in [(VIP, 32), (VIP6, 128)] {
            for _ in 0..2 {
                let added = links.add_address(near, address(vip), prefix, purpose);
                added.await.unwrap();
            }
        }
        run(&format!("ip addr add {OWN}/24 dev {NEAR}"));
        run(&format!("ip addr add fd00::7/64 dev {NEAR} nodad"));
        for (target, own) in [(PEER, OWN), ("fd00::99", "fd00::7")] {
            let route = run(&format!("ip route get {target}"));
            assert!(
                route.contains(&format!("src {own} ")),
                "{purpose:?} {route}"
            );
        }
        run("ip route replace default via 192.0.2.1");
        let route = run("ip route get 198.51.100.1");
        assert!(
            route.contains(&format!("src {OWN} ")),
            "{purpose:?} {route}"
        );
        let listed = run(&format!("ip addr show dev {NEAR}"));
        let mut lines = listed.lines();
        let line = lines.find(|line| line.contains(VIP6)).unwrap();
        let is_as_told = ["nodad", "deprecated"]
            .iter()
            .all(|flag| line.contains(flag));
        assert!(is_as_told, "{line}");
    }
}
