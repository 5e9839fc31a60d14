//! What a director is measured by. Needs root on a kernel with IPVS, where it
//! hurts nobody: `tests/kernel` runs it. Every scenario makes its own lab, so
//! there must be one at a time (`--test-threads=1`).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: what is not as expected fails it"
)]

mod checks;
mod cost;
mod drain;
mod failover;
mod families;
mod keepalived;
mod modes;
mod neighbours;
mod nodes;
mod peers;
mod talks;
mod tidegate;
mod traffic;

use std::time::Duration;

/// Long enough for anything to settle.
const LONG: Duration = Duration::from_secs(10);

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn secs(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}

/// Lets virtual time pass: what is observed needs it, nothing is waited for.
fn pass(duration: Duration) {
    std::thread::sleep(duration);
}

/// All figures once more, side by side; the last by name.
#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn z_all_figures() {
    println!("{}", director_lab::Figures::table());
}
