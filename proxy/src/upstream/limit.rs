//! The limit for a response's head, over either protocol.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// Begins when the request is sent. Without a limit it costs nothing.
pub(super) struct HeadLimit {
    limit: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl HeadLimit {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { limit, sleep: None }
    }

    /// Ready when the time is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, is_sent: bool) -> Poll<()> {
        let Some(limit) = self.limit.filter(|_| is_sent) else {
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(limit)));
        sleep.as_mut().poll(cx)
    }
}
