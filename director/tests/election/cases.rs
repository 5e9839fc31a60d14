//! The elections.

use std::time::{Duration, Instant};

use crate::lab::{Lab, PATIENCE, Worker};

const VIP: &str = "10.77.0.100";
const VIP6: &str = "fd77::100";

/// Three adverts and the skew of priority 100, at 250 ms.
const DOWN: Duration = Duration::from_millis(903);

/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(500);

/// Waits until something is so.
fn until(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn master(worker: &Worker, since: Instant) -> Instant {
    worker.wait(since, &["! ipv6 Master holding=true"]);
    worker.wait(since, &["! ipv4 Master holding=true"])
}

/// Two machines, `a` master of both families, and somebody who listens.
struct Pair {
    a: Worker,
    b: Worker,
    sniffer: Worker,
    lab: Lab,
}

fn pair(told: &str) -> Option<Pair> {
    let start = Instant::now();
    let mut lab = Lab::new()?;
    for (machine, last) in [("a", 11), ("b", 12), ("c", 13)] {
        lab.add(machine, last);
    }
    let sniffer = lab.start("c", "sniff", "");
    sniffer.wait(start, &["listening"]);
    let a = lab.elect("a", &format!("priority=150 {told}"));
    master(&a, start);
    let b = lab.elect("b", &format!("priority=100 {told}"));
    b.wait(start, &["ipv4 Backup"]);
    b.wait(start, &["ipv6 Backup"]);
    Some(Pair { a, b, sniffer, lab })
}

#[test]
fn the_backup_takes_over_within_the_master_down_time() {
    let Some(Pair {
        mut a,
        b,
        sniffer,
        lab,
    }) = pair("")
    else {
        return;
    };
    assert!(lab.holds("a", VIP) && lab.holds("a", VIP6));
    assert!(!lab.holds("b", VIP) && !lab.holds("b", VIP6));
    sniffer.wait(
        Instant::now() - PATIENCE,
        &["claim 10.77.0.100 02:00:00:00:00:0b"],
    );
    sniffer.wait(
        Instant::now() - PATIENCE,
        &["claim fd77::100 02:00:00:00:00:0b"],
    );
    let death = Instant::now();
    lab.power_off("a");
    a.kill();
    let taken = master(&b, death) - death;
    assert!(taken < DOWN + SLACK, "took {taken:?}\n{}", b.all());
    let heard = sniffer.wait(death, &["claim 10.77.0.100 02:00:00:00:00:0c"]) - death;
    assert!(heard < DOWN + SLACK, "announced after {heard:?}");
    sniffer.wait(death, &["claim fd77::100 02:00:00:00:00:0c"]);
    assert!(lab.holds("b", VIP) && lab.holds("b", VIP6));
    println!("taken over after {taken:?}, announced after {heard:?}");
}

#[test]
fn a_clean_stop_leaves_no_gap() {
    let Some(Pair { mut a, b, lab, .. }) = pair("") else {
        return;
    };
    let asked = Instant::now();
    a.tell("stop");
    let taken = b.wait(asked, &["! ipv4 Master holding=true"]);
    let gone = a.wait(asked, &["! ipv4 Initialize"]);
    a.wait(asked, &["! ended"]);
    let gap = taken.saturating_duration_since(gone);
    assert!(gap < Duration::from_millis(100), "a gap of {gap:?}");
    assert!(taken - asked < Duration::from_millis(250) + SLACK);
    assert!(!lab.holds("a", VIP) && !lab.holds("a", VIP6));
    until("b holds both", || {
        lab.holds("b", VIP) && lab.holds("b", VIP6)
    });
    let order = a.wait(asked, &["order withdraw"]);
    assert!(order >= gone || a.said(asked, &["ipv4 Initialize holding=false"]).is_some());
}

#[test]
fn the_operator_hands_over() {
    let Some(Pair {
        mut a, mut b, lab, ..
    }) = pair("peers=10.77.0.11,10.77.0.12,fd77::b,fd77::c")
    else {
        return;
    };
    let asked = Instant::now();
    a.tell("failover");
    b.wait(asked, &["! ipv4 Master holding=true"]);
    let answer = "! answer Ok(Ok(\"handed the addresses over to 10.77.0.12, fd77::c\"))";
    a.wait(asked, &[answer]);
    until("a lets go", || !lab.holds("a", VIP));
    a.tell("failover");
    a.wait(
        asked,
        &["! answer Ok(Err(\"this machine is not the master\"))"],
    );
    b.tell("stop");
    a.wait(asked, &["! ipv4 Master holding=true"]);
}

#[test]
fn a_machine_that_was_cut_off_gives_way() {
    let Some(Pair { a, b, sniffer, lab }) = pair("") else {
        return;
    };
    let cut = Instant::now();
    lab.cut("a");
    master(&b, cut);
    a.wait(cut, &["this machine hears nobody"]);
    let healed = Instant::now();
    lab.heal("a");
    // Its priority is higher, but it was alone, and the other one serves.
    a.wait(healed, &["! ipv4 Backup"]);
    a.wait(healed, &["! ipv6 Backup"]);
    until("a lets go", || {
        !lab.holds("a", VIP) && !lab.holds("a", VIP6)
    });
    sniffer.wait(healed, &["claim 10.77.0.100 02:00:00:00:00:0c"]);
    assert_eq!(b.said(healed, &["! ipv4 Backup"]), None, "{}", b.all());
}

#[test]
fn of_two_masters_the_lower_yields_and_the_other_announces_anew() {
    let Some(Pair { a, b, sniffer, lab }) = pair("trusting=1") else {
        return;
    };
    let cut = Instant::now();
    lab.cut("a");
    master(&b, cut);
    assert!(lab.holds("a", VIP));
    let healed = Instant::now();
    lab.heal("a");
    b.wait(healed, &["! ipv4 Backup"]);
    sniffer.wait(healed, &["claim 10.77.0.100 02:00:00:00:00:0b"]);
    until("b lets go", || !lab.holds("b", VIP));
    assert_eq!(a.said(cut, &["! ipv4 Backup"]), None, "{}", a.all());
}

#[test]
fn a_stranger_with_the_address_is_reported_and_answered() {
    let Some(Pair {
        a, sniffer, lab, ..
    }) = pair("")
    else {
        return;
    };
    let added = Instant::now();
    lab.ip("c", &format!("addr add {VIP}/32 dev eth0"));
    a.wait(Instant::now() - PATIENCE, &["! ipv4 Master"]);
    a.wait(
        added,
        &["a machine outside the election holds a virtual address"],
    );
    sniffer.wait(added, &["claim 10.77.0.100 02:00:00:00:00:0b"]);
    assert_eq!(a.said(added, &["! ipv4 Backup"]), None);
}

#[test]
fn addresses_of_a_killed_process_are_adopted() {
    let Some(mut lab) = Lab::new() else { return };
    lab.add("a", 11);
    let start = Instant::now();
    let mut a = lab.elect("a", "");
    master(&a, start);
    a.kill();
    assert!(lab.holds("a", VIP) && lab.holds("a", VIP6));
    let again = Instant::now();
    let a = lab.elect("a", "");
    a.wait(again, &["! ipv4 Master holding=true cause=Some(Adopted)"]);
    assert_eq!(a.said(again, &["Initialize"]).is_some(), true);
    assert!(lab.holds("a", VIP) && lab.holds("a", VIP6));
    // Somebody takes one away.
    let taken = Instant::now();
    lab.ip("a", &format!("addr del {VIP}/32 dev eth0"));
    let back = a.wait(taken, &["puts the addresses back"]) - taken;
    until("it is back", || lab.holds("a", VIP));
    assert!(back < Duration::from_secs(1) + SLACK, "{back:?}");
}

#[test]
fn a_refusing_kernel_leaves_it_to_the_other() {
    let Some(mut lab) = Lab::new() else { return };
    lab.add("a", 11);
    lab.add("b", 12);
    let start = Instant::now();
    let mut a = lab.elect("a", "priority=150");
    a.tell("refuse");
    a.wait(start, &["cannot serve", "refused by the test"]);
    let b = lab.elect("b", "");
    master(&b, start);
    assert!(!lab.holds("a", VIP));
    a.tell("accept");
    a.wait(start, &["! ipv4 Backup"]);
    a.wait(start, &["! ipv6 Backup"]);
}

#[test]
fn a_missing_interface_is_waited_for() {
    let Some(mut lab) = Lab::new() else { return };
    lab.add("a", 11);
    lab.ip("a", "link del eth0");
    let start = Instant::now();
    let a = lab.elect("a", "");
    a.wait(start, &["waits for the interface eth0"]);
    lab.plug("a", 11);
    master(&a, start);
    let lost = Instant::now();
    lab.ip("a", "link del eth0");
    a.wait(lost, &["! ipv4 Initialize holding=false", "LinkDown"]);
    lab.plug("a", 11);
    master(&a, lost);
    let down = Instant::now();
    lab.ip("gw", "link set pa down");
    a.wait(down, &["! ipv4 Initialize"]);
    until("it lets go", || !lab.holds("a", VIP));
    lab.ip("gw", "link set pa up");
    master(&a, down);
}

#[test]
fn without_an_election_the_addresses_are_always_held() {
    let Some(mut lab) = Lab::new() else { return };
    lab.add("a", 11);
    lab.add("c", 13);
    let start = Instant::now();
    let sniffer = lab.start("c", "sniff", "");
    sniffer.wait(start, &["listening"]);
    let mut a = lab.elect("a", "alone=1");
    master(&a, start);
    sniffer.wait(start, &["claim 10.77.0.100 02:00:00:00:00:0b"]);
    a.tell("stop");
    a.wait(start, &["! ended"]);
    assert!(!lab.holds("a", VIP) && !lab.holds("a", VIP6));
    assert_eq!(sniffer.said(start, &["advert"]), None);
}

#[test]
fn a_master_that_was_stopped_for_a_while_gives_way() {
    let Some(Pair { a, b, lab, .. }) = pair("trusting=1") else {
        return;
    };
    let stopped = Instant::now();
    a.signal("STOP");
    // Its kernel still answers for the addresses, so that b is patient.
    master(&b, stopped);
    let resumed = Instant::now();
    a.signal("CONT");
    a.wait(resumed, &["! ipv4 Backup"]);
    until("a lets go", || !lab.holds("a", VIP));
    assert_eq!(b.said(resumed, &["! ipv4 Backup"]), None, "{}", b.all());
}
