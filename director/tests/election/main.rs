//! Elections between real machines: network namespaces, joined by a bridge.
//!
//! Each machine is this test binary again, run inside its namespace (`worker`),
//! which says on standard output what becomes of it. Needs root; without the
//! right to make namespaces every test says so and passes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "a test: what is not as expected fails it, and what it measures is printed"
)]

mod cases;
mod lab;
mod peer;
mod worker;
