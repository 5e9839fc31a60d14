//! One director of ours and one keepalived, either way round.

use director_lab::{Figures, Lab, Make, Pace};

use crate::{failover, millis};

fn both_ways(first: Make, second: Make, column: &str) {
    let mut lab = Lab::up([first, second], Pace::Shared).unwrap();
    let figures = Figures::of(column);
    let runs = failover::cut_off(&lab, 2, &figures);
    assert!(runs.worst_gap() < millis(1500), "{:?}", runs.gaps);
    lab.settle_anyhow().unwrap();
    let active = lab.holders()[0];
    failover::stop_of(&mut lab, active, &figures);
    lab.start(active).unwrap();
    lab.settle_anyhow().unwrap();
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn ours_is_first() {
    both_ways(
        Make::Tidegate,
        Make::Keepalived,
        "tidegate before keepalived",
    );
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn keepalived_is_first() {
    both_ways(
        Make::Keepalived,
        Make::Tidegate,
        "keepalived before tidegate",
    );
}
