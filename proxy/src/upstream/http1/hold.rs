//! `Expect: 100-continue`: the body waits for the server's word.
//!
//! The entry point sends the client a `100 Continue` when the body is first asked
//! for, so keeping the body from being asked for is all there is to it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// How long a server may keep silent (Go's and Traefik's second), for many know
/// nothing of the matter and wait for the body.
const PATIENCE: Duration = Duration::from_secs(1);

/// A body's wait. Whoever drops it lets the body go.
pub(super) struct Hold {
    patience: Pin<Box<Sleep>>,
}

impl Hold {
    pub(super) fn new() -> Self {
        Self {
            patience: Box::pin(sleep(PATIENCE)),
        }
    }

    /// Ready when the server has kept silent for too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.patience.as_mut().poll(cx)
    }
}
