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

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

pub(super) use self::encode::has_usually_a_body;
pub(super) use self::exchange::{Lost, exchange};
use super::place::Place;
use super::shared::Shared;
use super::spare::Spare;
use super::wire::Wire;

/// How long a server may take to close a connection that was closed to it.
const PARTING: Duration = Duration::from_millis(50);

/// A connection. Dropping it closes it.
pub(super) struct Connection {
    wire: Wire,
    /// What was read and not used up yet. Without memory while idle.
    buffer: BytesMut,
    /// Below the wire, which has to be closed first.
    place: Place,
    /// How long it may be idle.
    pub(super) keep_for: Option<Duration>,
    /// How long it was idle before the request at hand, unless it is new.
    pub(super) reused_after: Option<Duration>,
    pub(super) age: u32,
}

impl Connection {
    pub(super) fn new(wire: Wire, place: Place) -> Self {
        Self {
            wire,
            buffer: BytesMut::new(),
            keep_for: place.transport.idle_timeout,
            age: place.age(),
            place,
            reused_after: None,
        }
    }

    /// Takes a spare connection up; its place is left if that fails.
    pub(super) fn take_up(spare: Spare, now: Instant) -> Result<Self, Place> {
        let Spare { socket, place, .. } = spare;
        let Ok(stream) = TcpStream::from_std(socket) else {
            return Err(place);
        };
        let mut connection = Self::new(Wire::Plain(stream), place);
        connection.wake();
        connection.keep_for = spare.keep_for;
        connection.age = spare.age;
        connection.reused_after = Some(now.saturating_duration_since(spare.since));
        Ok(connection)
    }

    /// Makes a connection in the clear one that every worker can take up.
    pub(super) fn into_spare(self, since: Instant, seen: Instant) -> Option<Spare> {
        let Wire::Plain(stream) = self.wire else {
            return None;
        };
        Some(Spare {
            socket: stream.into_std().ok()?,
            since,
            seen,
            keep_for: self.keep_for,
            age: self.age,
            place: self.place,
        })
    }

    /// Closes an idle connection and leaves its place. If places are limited it
    /// waits, for a moment, until the server has let go of it too, so that the
    /// server never has more of them either.
    pub(super) async fn leave_place(mut self) -> Place {
        if self.place.places.is_limited() {
            let parting = async {
                self.wire.shutdown().await?;
                while self.wire.read(&mut [0; 64]).await? > 0 {}
                std::io::Result::Ok(())
            };
            // Whoever does not answer is left all the same.
            let _ = timeout(PARTING, parting).await;
        } else {
            self.wire.forsake();
        }
        drop(self.wire);
        self.place.wake();
        self.place
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.place
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
        self.place.rest()
    }

    /// Counts it as idle no more.
    pub(super) fn wake(&mut self) {
        self.place.wake();
    }
}
