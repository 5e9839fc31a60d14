//! One HTTP/1.1 connection to a server.
//!
//! No task of its own: a connection runs inside whoever waits for it, first the
//! request, then the response's body. So nothing is woken twice, a dropped
//! request or body takes its connection with it, and an idle connection is no
//! more than a socket. [`exchange`] is all that the rest of `upstream` calls.

mod body;
mod budget;
mod encode;
mod exchange;
mod head;
mod hold;
mod memo;
mod outbound;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::Instant;

pub(super) use self::encode::has_usually_a_body;
pub(super) use self::exchange::{Lost, exchange};
use super::shared::Shared;
use super::spare::Spare;
use super::wire::Wire;

/// A connection. Dropping it closes it.
pub(super) struct Connection {
    wire: Wire,
    /// What was read and not used up yet. Without memory while idle.
    buffer: BytesMut,
    shared: Share,
    /// How long it may be idle.
    pub(super) keep_for: Option<Duration>,
    /// How long it was idle before the request at hand, unless it is new.
    pub(super) reused_after: Option<Duration>,
    pub(super) age: u32,
}

/// A connection's part in its server's counts.
struct Share {
    shared: Arc<Shared>,
    is_idle: bool,
}

impl Share {
    fn wake(&mut self) {
        if std::mem::take(&mut self.is_idle) {
            self.shared.remove_idle();
        }
    }
}

impl std::ops::Deref for Share {
    type Target = Arc<Shared>;

    fn deref(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.wake();
    }
}

impl Connection {
    pub(super) fn new(wire: Wire, shared: Arc<Shared>) -> Self {
        Self {
            wire,
            buffer: BytesMut::new(),
            keep_for: shared.transport.idle_timeout,
            age: shared.age(),
            shared: Share {
                shared,
                is_idle: false,
            },
            reused_after: None,
        }
    }

    /// Takes a spare connection up, which is counted as idle until now.
    pub(super) fn take_up(spare: Spare, shared: &Arc<Shared>) -> io::Result<Self> {
        shared.remove_idle();
        let wire = Wire::Plain(TcpStream::from_std(spare.socket)?);
        let mut connection = Self::new(wire, Arc::clone(shared));
        connection.keep_for = spare.keep_for;
        connection.age = spare.age;
        Ok(connection)
    }

    /// Gives an idle connection to whoever needs one. It stays counted.
    pub(super) fn give_away(mut self, since: Instant) {
        if let Wire::Plain(stream) = self.wire
            && let Ok(socket) = stream.into_std()
            && std::mem::take(&mut self.shared.is_idle)
        {
            self.shared.spares.give(Spare {
                socket,
                since,
                keep_for: self.keep_for,
                age: self.age,
            });
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
        self.shared.is_idle = self.shared.is_idle || self.shared.add_idle();
        self.shared.is_idle
    }

    /// Counts it as idle no more.
    pub(super) fn wake(&mut self) {
        self.shared.wake();
    }
}
