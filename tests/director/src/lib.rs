//! A lab for the director: one client, two directors and three receivers, each a
//! network namespace on one bridge, on a kernel with IPVS.
//!
//! It lays out links, runs directors (ours or keepalived) as they are shipped,
//! and looks at nothing but what a network sees: answers, the kernel's tables,
//! packets. It needs to be root where that hurts nobody: `tests/kernel` runs it
//! in an emulated kernel, whose clock counts instructions, so that the figures
//! do not depend on the machine.
//!
//! - [`Lab`] is the whole of it, [`Namespace`] one machine.
//! - [`director`] starts and stops directors and receivers.
//! - [`Site`] answers on the receivers; [`Probe`] and [`Flows`] are the client's load.
//! - [`kernel`] reads tables and counts packets; [`Figures`] are what was measured.

#![expect(
    clippy::indexing_slicing,
    reason = "machines are numbered by the scenarios; a wrong number fails one"
)]

pub mod director;
mod figures;
mod flows;
pub mod kernel;
mod lab;
pub mod load;
mod namespace;
mod probe;
mod process;
mod site;

pub use director::{Make, Pace};
pub use figures::Figures;
pub use flows::Flows;
pub use lab::{CLIENT, DIRECTORS, Lab, RECEIVERS, VIP};
pub use namespace::Namespace;
pub use probe::{Attempt, Load, Outcome, Probe};
pub use process::Process;
pub use site::{Answer, Site};

use std::time::{Duration, Instant};

/// Asks every 10 ms until the answer is something; how long it took.
///
/// # Errors
///
/// If there is none within the limit.
pub fn within<T>(
    limit: Duration,
    what: &str,
    mut ask: impl FnMut() -> Option<T>,
) -> anyhow::Result<(T, Duration)> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok((answer, start.elapsed()));
        }
        if start.elapsed() > limit {
            anyhow::bail!("not within {limit:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
