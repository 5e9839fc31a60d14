//! The right to have one request in flight at one server.
//!
//! Owns nothing but the release: dropping the slot is the only way to give it
//! back, so a cancelled request frees it as surely as a finished one. The caller
//! keeps it with the response body.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::server::ServerState;

/// One slot at one server, already counted in flight.
#[must_use = "dropping the slot releases it"]
pub struct Slot<T> {
    server: Arc<ServerState<T>>,
}

impl<T> Slot<T> {
    /// Wraps a slot that the server's gate has counted.
    pub(super) fn counted(server: Arc<ServerState<T>>) -> Self {
        server.served.fetch_add(1, Ordering::Relaxed);
        Self { server }
    }

    /// The server to send the request to.
    pub const fn server(&self) -> &Arc<ServerState<T>> {
        &self.server
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        ServerState::release(&self.server);
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(self.server.id()).finish()
    }
}
