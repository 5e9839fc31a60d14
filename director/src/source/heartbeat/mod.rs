//! What receivers say of themselves, heard by directors and sent by receivers.
//!
//! With a key, a heartbeat names a node, drains it and gives it a weight. Without
//! one anybody on the network could write it, so it is no more than a hint on a
//! node that another source names, believed for the address it came from: ready,
//! or down, which only makes checks decide sooner. Nobody looks at a clock that
//! can be set: messages are ordered by their boot and counter ([`peers`]).

mod listen;
mod peers;
mod send;
#[cfg(test)]
mod tests;

pub(super) use listen::listen;
pub use send::report;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tidegate_shared::heartbeat::Key;
use tokio::sync::watch;

use crate::config::HeartbeatSettings;

/// The key of the settings.
fn key(settings: &HeartbeatSettings) -> Option<Key> {
    settings.key.as_ref().map(|secret| Key::new(&secret.0))
}

/// Any local address of the family of `target`, with this port.
fn unbound(target: SocketAddr, port: u16) -> SocketAddr {
    match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
    }
}

/// Waits for a change; for ever once none can come.
async fn changed<T: Send + Sync>(state: &mut watch::Receiver<Arc<T>>) {
    if state.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
