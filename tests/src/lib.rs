//! End-to-end harness: what the scenarios under `tests/tests` are built from.
//!
//! - [`demo`]: the server behind the proxy, which counts for itself.
//! - [`lab`]: a real Swarm of several Docker engines on one kernel.
//! - [`process`]: the built proxy binary as a child process.
//! - [`client`]: a plain HTTP/1.1 client that hides nothing.
//! - [`site`]: the proxy with routes from a file, [`raw`]: bytes as they are.
//! - [`haproxy`]: the peer whose queues ours are compared with.
//! - [`pebble`]: an authority for certificates, with a DNS of its own.
//! - [`ports`], [`eventually()`]: free ports, and waiting without sleeping.

pub mod client;
pub mod demo;
mod eventually;
pub mod haproxy;
pub mod lab;
pub mod pebble;
pub mod ports;
pub mod process;
pub mod raw;
mod scratch;
pub mod site;

pub use eventually::{eventually, eventually_blocking};
pub use scratch::Scratch;
