//! keepalived in both roles: the anchor, and the proof that the lab measures.

use director_lab::{Figures, Lab, Make, Pace, RECEIVERS, director};

use crate::{drain, failover, nodes, traffic};

const BOTH: [Make; 2] = [Make::Keepalived; 2];

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn spreads_connections() {
    let lab = Lab::up(BOTH, Pace::Default).unwrap();
    traffic::spread(&lab, &Figures::of("keepalived"));
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn loses_a_node() {
    let lab = Lab::up(BOTH, Pace::Default).unwrap();
    nodes::power_off(&lab, &Figures::of("keepalived"));
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn loses_a_node_tuned() {
    let lab = Lab::up(BOTH, Pace::Tuned).unwrap();
    nodes::power_off(&lab, &Figures::of("keepalived, tuned"));
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn is_cut_off() {
    let lab = Lab::up(BOTH, Pace::Default).unwrap();
    failover::cut_off(&lab, 2, &Figures::of("keepalived"));
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn is_cut_off_tuned() {
    let lab = Lab::up(BOTH, Pace::Tuned).unwrap();
    failover::cut_off(&lab, 1, &Figures::of("keepalived, tuned"));
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn stops() {
    let mut lab = Lab::up(BOTH, Pace::Default).unwrap();
    failover::clean_stop(&mut lab, &Figures::of("keepalived"));
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn drains_a_node() {
    let lab = Lab::up(BOTH, Pace::Default).unwrap();
    let at = &lab.directors[0];
    let tell = || {
        director::reconfigure(at, Pace::Default, &RECEIVERS[1..])?;
        lab.reload(0)
    };
    drain::drain(&lab, tell, &Figures::of("keepalived"));
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn loses_a_node_whose_ports_are_reused() {
    let lab = Lab::up(BOTH, Pace::Default).unwrap();
    drain::dies(&lab, &Figures::of("keepalived"));
}
