//! One HTTP/1.1 connection to a server.
//!
//! No task of its own: a connection runs inside whoever waits for it, first the
//! request, then the response's body. So nothing is woken twice, a dropped
//! request or body takes its connection with it, and an idle connection is no
//! more than a socket. [`exchange`] is all that the rest of `upstream` calls.

mod body;
mod budget;
mod chunked;
mod encode;
mod exchange;
mod head;
mod hold;
mod memo;
mod outbound;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

pub(super) use self::encode::has_usually_a_body;
pub(super) use self::exchange::exchange;
use super::shared::Shared;
use super::wire::Wire;

/// A connection. Dropping it closes it.
pub(super) struct Connection {
    wire: Wire,
    /// What was read and not used up yet. Without memory while idle.
    buffer: BytesMut,
    shared: Arc<Shared>,
    /// How long it may be idle.
    pub(super) keep_for: Option<Duration>,
    /// How long it was idle before the request at hand, unless it is new.
    pub(super) reused_after: Option<Duration>,
    pub(super) age: u32,
    is_idle: bool,
}

impl Connection {
    pub(super) fn new(wire: Wire, shared: Arc<Shared>) -> Self {
        Self {
            wire,
            buffer: BytesMut::new(),
            keep_for: shared.transport.idle_timeout,
            age: shared.age(),
            shared,
            reused_after: None,
            is_idle: false,
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Whether an idle connection still is one: neither closed by its server
    /// nor written to. With `is_careful` nothing but the kernel is believed.
    pub(super) fn is_silent(&mut self, is_careful: bool) -> bool {
        self.wire.is_silent(is_careful)
    }

    /// Counts it as idle, if there may be one more.
    pub(super) fn rest(&mut self) -> bool {
        self.buffer = BytesMut::new();
        self.is_idle = self.is_idle || self.shared.add_idle();
        self.is_idle
    }

    /// Counts it as idle no more.
    pub(super) fn wake(&mut self) {
        if std::mem::take(&mut self.is_idle) {
            self.shared.remove_idle();
        }
    }

    /// Reads once, in the end at least a byte unless the server has closed. At
    /// most about `room` bytes, for which memory is taken when they are there.
    fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        ready!(self.wire.poll_readable(cx))?;
        if self.buffer.capacity() == self.buffer.len() {
            self.buffer.reserve(room);
        }
        pin!(self.wire.read_buf(&mut self.buffer)).poll(cx)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.wake();
    }
}
