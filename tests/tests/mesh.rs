//! A mesh of shipped proxies on loopback: who may speak in it, what becomes of those
//! who may not, and how its secret is replaced while it serves.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what fails, fails them"
)]

#[path = "mesh/hostile.rs"]
mod hostile;
#[path = "mesh/rotation.rs"]
mod rotation;
#[path = "mesh/stage.rs"]
mod stage;
#[path = "mesh/stranger.rs"]
mod stranger;
