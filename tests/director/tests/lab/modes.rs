//! The ways in which things go wrong that a director is built for, by the numbers
//! that this project gives them:
//!
//! 1 a director killed (`tidegate`), 2 an edited table, 3 a node that dies
//! (`tidegate`), 4 a flapping node, 5 all nodes bad, 6 a dead master (`tidegate`),
//! 7 a hanging one, 8 directors that can't hear each other, 9 a stranger with the
//! same address, 10 stale neighbours, 11 a receiver that lost its settings,
//! 14 missing schedulers, 15 a jumping clock, 17 loops (`neighbours` too), 19 links
//! that are down at the start (renamed and made again: `neighbours`), 20 a flood of
//! SYNs (`neighbours`), 21 many changes of roles, 22 what stays behind. The others
//! need no network and are named beside the code: 12 and 13 (`controller`'s tests),
//! 16 (`config::loader`'s), 18 (`source::swarm`'s).

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use director_lab::director::tell;
use director_lab::{
    Attempt, Figures, Flows, Lab, Make, Pace, Probe, RECEIVERS, VIP, kernel, within,
};

use crate::{LONG, millis, pass, secs};

const BOTH: [Make; 2] = [Make::Tidegate; 2];

fn figures() -> Figures {
    Figures::of("tidegate")
}

fn up() -> Lab {
    Lab::up(BOTH, Pace::Default).unwrap()
}

/// How long until what is asked is so.
fn until(what: &str, ask: impl Fn() -> bool) -> Duration {
    within(LONG * 3, what, || ask().then_some(())).unwrap().1
}

/// The receivers with their weights for new connections of port 80.
fn weights(lab: &Lab) -> Vec<u32> {
    let table = kernel::table(&lab.directors[0]);
    let service = table.get(&format!("TCP {VIP}:80")).cloned();
    service.unwrap_or_default().into_values().collect()
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn mode_02_edits_are_repaired_and_strangers_left_alone() {
    let lab = up();
    let d1 = &lab.directors[0];
    d1.run("ipvsadm -A -t 10.77.0.1:25 -s rr").unwrap();
    d1.run("ipvsadm -a -t 10.77.0.1:25 -r 10.77.0.11 -g -w 7")
        .unwrap();
    let good = weights(&lab);
    let edits = [
        ("removed", format!("ipvsadm -d -t {VIP}:80 -r 10.77.0.11")),
        (
            "changed",
            format!("ipvsadm -e -t {VIP}:80 -r 10.77.0.12 -g -w 9"),
        ),
        (
            "added",
            format!("ipvsadm -a -t {VIP}:80 -r 10.77.0.99 -g -w 1"),
        ),
        ("service removed", format!("ipvsadm -D -t {VIP}:80")),
    ];
    for (what, edit) in edits {
        d1.run(&edit).unwrap();
        let took = until(what, || weights(&lab) == good);
        figures().add(&format!("edited table ({what}): repaired"), secs(took));
        assert!(took <= millis(1000), "{what}: {took:?}");
    }
    let table = kernel::table(d1);
    assert_eq!(table["TCP 10.77.0.1:25"][&IpAddr::from(RECEIVERS[0])], 7);
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn mode_04_a_flapping_node_is_held_down() {
    let lab = up();
    let is_used = || lab.used(0).contains(&RECEIVERS[0]);
    let (mut changes, mut last) = (0, is_used());
    for toggle in 0..100 {
        match toggle % 2 {
            0 => lab.cut(&lab.receivers[0]).unwrap(),
            _ => lab.heal(&lab.receivers[0]).unwrap(),
        }
        for _ in 0..10 {
            pass(millis(if toggle % 2 == 0 { 130 } else { 70 }));
            if is_used() != last {
                last = !last;
                changes += 1;
            }
        }
    }
    figures().add("node off and on 50 times: changes of the table", changes);
    assert!(changes <= 12, "{changes}\n{}", lab.logs());
    // The longest hold is a minute, and may have begun with the last toggle.
    within(LONG * 8, "the node used again", || is_used().then_some(())).unwrap();
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn mode_05_when_all_nodes_look_dead_the_last_set_stays() {
    let lab = up();
    for receiver in &lab.receivers {
        lab.cut(receiver).unwrap();
    }
    pass(millis(10_000));
    let kept = lab.used(0);
    assert!(!kept.is_empty(), "{}", lab.logs());
    let answer = Instant::now();
    for receiver in &lab.receivers {
        lab.heal(receiver).unwrap();
    }
    let probe = Probe::start(&lab.client, VIP);
    // The kept set may well be all of them.
    let answers = || probe.so_far().iter().any(Attempt::is_good);
    until("an answer, and all used", || {
        answers() && lab.used(0).len() == 3
    });
    let attempts = probe.stop().unwrap();
    let first = attempts.iter().find(|it| it.is_good()).unwrap();
    figures().add(
        "all nodes off and on: answers a client",
        secs(first.at - answer),
    );
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn mode_07_a_hanging_master_yields_before_it_speaks() {
    let mut lab = up();
    let flows = Flows::start(&lab.client, VIP, 60).unwrap();
    let probe = Probe::start(&lab.client, VIP);
    pass(millis(1500));
    lab.director(0)
        .unwrap()
        .signal(rustix::process::Signal::Stop);
    pass(millis(5000));
    lab.director(0)
        .unwrap()
        .signal(rustix::process::Signal::Cont);
    pass(millis(3000));
    lab.settle_anyhow().unwrap();
    let gap = Attempt::gap(&probe.stop().unwrap());
    let alive = flows.survivors(Instant::now(), LONG);
    figures().add("master hangs for 5 s: gap", secs(gap));
    figures().add(
        "master hangs for 5 s: flows that go on",
        format!("{alive} of 60"),
    );
    let good = gap < millis(1000) && alive >= 59;
    assert!(good, "{gap:?}, {alive}\n{}", lab.logs());
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn mode_08_directors_that_do_not_hear_each_other() {
    let lab = up();
    let flows = Flows::start(&lab.client, VIP, 60).unwrap();
    let probe = Probe::start(&lab.client, VIP);
    pass(millis(1500));
    lab.part_directors(true).unwrap();
    pass(millis(5000));
    lab.part_directors(false).unwrap();
    pass(millis(3000));
    lab.settle_anyhow().unwrap();
    let gap = Attempt::gap(&probe.stop().unwrap());
    let alive = flows.survivors(Instant::now(), LONG);
    figures().add("directors parted for 5 s: gap", secs(gap));
    figures().add(
        "directors parted for 5 s: flows that go on",
        format!("{alive} of 60"),
    );
    assert!(gap < millis(1000), "{gap:?}\n{}", lab.logs());
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn mode_09_a_stranger_with_the_same_address_is_answered() {
    let lab = up();
    let stranger = lab.stranger().unwrap();
    let probe = Probe::start(&lab.client, VIP);
    pass(millis(500));
    stranger
        .run(&format!("ip addr add {VIP}/24 dev eth0"))
        .unwrap();
    stranger
        .run(&format!("arping -q -c 1 -A -I eth0 {VIP}"))
        .unwrap();
    pass(millis(4000));
    let gap = Attempt::gap(&probe.stop().unwrap());
    figures().add("a stranger claims the address: gap", secs(gap));
    assert!(gap < millis(2000), "{gap:?}");
    assert_eq!(lab.holders(), [0]);
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn mode_10_a_stale_neighbour_entry_is_refreshed() {
    let lab = up();
    lab.client
        .run(&format!(
            "ip neigh replace {VIP} lladdr 02:00:00:00:77:ee dev eth0 nud stale"
        ))
        .unwrap();
    let probe = Probe::start(&lab.client, VIP);
    let begun = Instant::now();
    let is_good = || probe.so_far().last().is_some_and(Attempt::is_good);
    until("an answer", is_good);
    figures().add(
        "stale neighbour entry: until an answer",
        secs(begun.elapsed()),
    );
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn mode_11_a_receiver_that_lost_its_address_or_settings_repairs_itself() {
    let lab = up();
    let receiver = &lab.receivers[0];
    let holds = || kernel::has_address(receiver, "tidegate0", VIP);
    assert!(holds());
    receiver
        .run(&format!("ip addr del {VIP}/32 dev tidegate0"))
        .unwrap();
    let address = until("the address", holds);
    figures().add("receiver lost its address: repaired", secs(address));
    receiver.run("ip link del tidegate0").unwrap();
    let device = until("the device", holds);
    figures().add("receiver lost its device: repaired", secs(device));
    let ignores = || {
        let path = "/proc/sys/net/ipv4/conf/all/arp_ignore";
        let read = receiver.call(|| std::fs::read_to_string(path).unwrap());
        read.unwrap().trim() == "1"
    };
    receiver.set(&["net/ipv4/conf/all/arp_ignore=0"]).unwrap();
    let settings = until("the setting", ignores);
    figures().add("receiver's ARP settings reset: repaired", secs(settings));
    assert!(
        [address, device, settings]
            .into_iter()
            .all(|it| it <= millis(1000))
    );
    lab.settle(0).unwrap();
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn mode_14_a_missing_scheduler_is_replaced() {
    let mut lab = Lab::new(BOTH, Pace::Default).unwrap();
    lab.flags = "--scheduler twos";
    lab.start(0).unwrap();
    lab.settle(0).unwrap();
    let log = lab.director(0).unwrap().log();
    assert!(log.contains("twos"), "{log}");
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn mode_15_a_clock_that_jumps_changes_nothing() {
    let lab = up();
    let probe = Probe::start(&lab.client, VIP);
    for year in ["2031", "2019", "2026"] {
        let set = Command::new("date")
            .args(["-s", &format!("{year}-03-01 00:00:00")])
            .output();
        assert!(set.unwrap().status.success());
        pass(millis(2000));
        assert_eq!(lab.holders(), [0]);
    }
    let gap = Attempt::gap(&probe.stop().unwrap());
    figures().add("clock set by years: gap", secs(gap));
    assert!(gap < millis(100), "{gap:?}");
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn mode_17_a_standby_has_nothing_that_could_loop() {
    let lab = up();
    let table = kernel::table(&lab.directors[1]);
    assert!(table.keys().all(|it| it.starts_with("FWM")), "{table:?}");
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn mode_19_a_link_that_is_down_at_the_start_is_waited_for() {
    let mut lab = Lab::new(BOTH, Pace::Default).unwrap();
    lab.directors[0].run("ip link set eth0 down").unwrap();
    lab.start(0).unwrap();
    pass(millis(3000));
    assert!(!lab.director(0).unwrap().has_ended(), "{}", lab.logs());
    lab.directors[0].run("ip link set eth0 up").unwrap();
    let took = lab.settle(0).unwrap();
    figures().add("link up after the start: serving", secs(took));
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn mode_21_roles_change_ten_times() {
    let lab = up();
    let flows = Flows::start(&lab.client, VIP, 60).unwrap();
    let probe = Probe::start(&lab.client, VIP);
    pass(millis(1000));
    for _ in 0..10 {
        let active = lab.holders()[0];
        tell(&lab.directors[active], "failover").unwrap();
        until("the other", || lab.holders() == [1 - active]);
        pass(millis(1000));
    }
    let gap = Attempt::gap(&probe.stop().unwrap());
    let alive = flows.survivors(Instant::now(), LONG);
    figures().add("ten changes of roles: longest gap", secs(gap));
    figures().add(
        "ten changes of roles: flows that go on",
        format!("{alive} of 60"),
    );
    let good = gap < millis(200) && alive >= 59;
    assert!(good, "{gap:?}, {alive}\n{}", lab.logs());
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn mode_22_nothing_stays_behind() {
    let mut lab = up();
    let receiver = lab.receivers[0].clone();
    let has_device = || kernel::has_interface(&receiver, "tidegate0");
    lab.take_receiver(0).unwrap().stop().unwrap();
    assert!(!has_device());
    lab.start_receiver(0).unwrap();
    until("the device", has_device);
    drop(lab.take_receiver(0));
    assert!(has_device());
    // What a killed program left, the next one adopts and takes away.
    lab.start_receiver(0).unwrap();
    until("an answer of the program", || {
        tell(&receiver, "status").is_ok()
    });
    tell(&receiver, "teardown").unwrap();
    until("no device", || !has_device());
    for number in [0, 1] {
        lab.take(number).unwrap().stop().unwrap();
        assert!(kernel::table(&lab.directors[number]).is_empty());
        assert!(!kernel::has_address(&lab.directors[number], "eth0", VIP));
    }
}
