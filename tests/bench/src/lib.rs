//! Measures Tidegate against HAProxy, nginx, Caddy and Traefik: the same work
//! for each in turn, one processor for the proxy, another for the load and the
//! back end, figures from the kernel's accounting.
//!
//! `subject` starts proxies from the files in `configs/`; `workload` lists what
//! is measured; `load` makes the requests and `back_end` answers them, both on
//! one event loop; `run` interleaves rounds; `report` makes tables of medians.

pub mod accounting;
pub mod back_end;
pub mod frame;
pub mod histogram;
pub mod load;
pub mod options;
pub mod report;
pub mod run;
pub mod subject;
pub mod workload;

use std::sync::OnceLock;

/// What all bodies are made of: 256 KiB that repeat only after 251 octets.
#[must_use]
pub fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| (0..=250).cycle().take(256 * 1024).collect())
}
