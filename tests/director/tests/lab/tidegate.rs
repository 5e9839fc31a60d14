//! Our director in both roles, and what is promised of it.

use std::time::Duration;

use director_lab::{Figures, Flows, Lab, Load, Make, Pace, Probe, VIP, kernel};

use crate::{drain, failover, millis, nodes, pass, secs, traffic};

const BOTH: [Make; 2] = [Make::Tidegate; 2];

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn spreads_connections() {
    let lab = Lab::up(BOTH, Pace::Default).unwrap();
    traffic::spread(&lab, &Figures::of("tidegate"));
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn loses_a_node() {
    let lab = Lab::up(BOTH, Pace::Default).unwrap();
    let loss = nodes::power_off(&lab, &Figures::of("tidegate"));
    assert!(loss.out <= millis(1000) && loss.failing <= millis(1000));
    assert!(loss.back <= millis(1000) && loss.used <= millis(2000));
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn loses_a_node_tuned() {
    let lab = Lab::up(BOTH, Pace::Tuned).unwrap();
    let loss = nodes::power_off(&lab, &Figures::of("tidegate, tuned"));
    assert!(loss.out <= millis(300) && loss.failing <= millis(300));
    assert!(loss.back <= millis(1000) && loss.used <= millis(2000));
}

/// Connections that nobody has told to end, and five times as many new ones.
#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn loses_a_node_under_load() {
    let lab = Lab::up(BOTH, Pace::Default).unwrap();
    let flows = Flows::start(&lab.client, VIP, 100).unwrap();
    let load = Probe::with(&lab.client, VIP, millis(5), Load::Fresh);
    let loss = nodes::power_off(&lab, &Figures::of("tidegate, under load"));
    load.stop().unwrap();
    drop(flows);
    assert!(loss.out <= millis(1000) && loss.failing <= millis(1000));
    assert!(loss.back <= millis(1000) && loss.used <= millis(2000));
}

fn assert_failover(runs: &failover::Runs, gap: Duration) {
    assert!(runs.worst_gap() < gap, "{:?}", runs.gaps);
    assert!(runs.fewest() >= 198, "{:?}", runs.alive);
    assert!(runs.worst_return() <= millis(100), "{:?}", runs.returns);
}

fn cut_off(runs: usize) {
    let lab = Lab::up(BOTH, Pace::Default).unwrap();
    let runs = failover::cut_off(&lab, runs, &Figures::of("tidegate"));
    assert_failover(&runs, millis(1000));
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn is_cut_off() {
    cut_off(20);
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn is_cut_off_tuned() {
    let lab = Lab::up(BOTH, Pace::Tuned).unwrap();
    let runs = failover::cut_off(&lab, 3, &Figures::of("tidegate, tuned"));
    assert_failover(&runs, millis(500));
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn is_killed() {
    let mut lab = Lab::up(BOTH, Pace::Default).unwrap();
    let (gap, alive) = failover::killed(&mut lab, &Figures::of("tidegate"));
    assert!(gap < millis(1000) && alive >= 198, "{gap:?}, {alive}");
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn stops() {
    let mut lab = Lab::up(BOTH, Pace::Default).unwrap();
    let (gap, alive) = failover::clean_stop(&mut lab, &Figures::of("tidegate"));
    assert!(gap < millis(100) && alive >= 198, "{gap:?}, {alive}");
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn is_killed_and_restarted_without_a_standby() {
    let mut lab = Lab::new(BOTH, Pace::Default).unwrap();
    lab.start(0).unwrap();
    lab.settle(0).unwrap();
    let restart = failover::restarted(&mut lab, &Figures::of("tidegate"));
    assert_eq!(restart.alive, failover::FLOWS);
    assert!(restart.gap <= restart.away, "{:?}", restart.gap);
    let deletes = restart
        .commands
        .iter()
        .filter(|it| kernel::DELETES.contains(it));
    assert_eq!(deletes.count(), 0, "{:?}", restart.commands);
    assert!(!restart.commands.is_empty(), "nothing was traced");
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn drains_a_node() {
    let lab = Lab::up(BOTH, Pace::Default).unwrap();
    let tell = || director_lab::director::tell(&lab.directors[0], "drain 10.77.0.11").map(|_| ());
    let drained = drain::drain(&lab, tell, &Figures::of("tidegate"));
    assert_eq!(drained.failed, 0);
    assert!(drained.last <= millis(300), "{:?}", drained.last);
    assert_eq!(drained.alive, drain::FLOWS);
    director_lab::director::tell(&lab.directors[0], "undrain 10.77.0.11").unwrap();
    let probe = Probe::start(&lab.client, VIP);
    pass(millis(2000));
    let attempts = probe.stop().unwrap();
    let used = attempts.iter().find(|it| it.receiver() == Some("r1"));
    let used = used.unwrap().at - attempts[0].at;
    Figures::of("tidegate").add("undrained: answers a client", secs(used));
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn loses_a_node_whose_ports_are_reused() {
    let lab = Lab::up(BOTH, Pace::Default).unwrap();
    let failed = drain::dies(&lab, &Figures::of("tidegate"));
    assert_eq!(failed, 0);
}
