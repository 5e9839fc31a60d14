//! One connection of the load: its transport, the protocol on it, and what is
//! under way. Driven by `load::Engine`, which decides when to send.

use std::time::Instant;

use super::h1::Reader;
use super::h2::{Exchange, Streams};
use super::socket::Socket;
use super::transport::{Buffers, Transport};

/// What is asked for on every connection.
#[derive(Clone, Debug)]
pub enum Work {
    /// HTTP/1.1 requests in turn, each answered with so many octets.
    Http1 {
        /// Whole requests.
        requests: Vec<Vec<u8>>,
        /// Octets in each answer's body.
        length: usize,
    },
    /// HTTP/2 with so many streams at once.
    Http2 {
        /// Request and answer.
        exchange: Exchange,
        /// Streams at once.
        streams: usize,
    },
    /// WebSocket messages, after this request.
    Socket {
        /// The request that changes the protocol.
        opening: Vec<u8>,
    },
}

#[derive(Debug)]
enum Speech {
    Http1 {
        reader: Reader,
        since: Option<Instant>,
    },
    Http2(Streams),
    Socket {
        socket: Socket,
        since: Option<Instant>,
    },
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    /// Its bytes.
    pub transport: Transport,
    /// When it was begun.
    pub opened: Instant,
    /// Requests sent.
    pub sent: u64,
    /// Whether the handshake has been counted.
    pub is_counted: bool,
    /// Whether it is among those that wait for a request to become due.
    pub is_ready: bool,
    speech: Speech,
}

impl Client {
    /// Speaks as the work demands.
    #[must_use]
    pub fn new(mut transport: Transport, work: &Work) -> Self {
        let speech = match work {
            Work::Http1 { .. } => Speech::Http1 {
                reader: Reader::default(),
                since: None,
            },
            Work::Http2 { streams, .. } => {
                Streams::begin(&mut transport.out);
                Speech::Http2(Streams::new(*streams))
            }
            Work::Socket { opening } => {
                transport.out.extend_from_slice(opening);
                Speech::Socket {
                    socket: Socket::default(),
                    since: None,
                }
            }
        };
        Self {
            transport,
            opened: Instant::now(),
            sent: 0,
            is_counted: false,
            is_ready: false,
            speech,
        }
    }

    /// Requests under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        match &self.speech {
            Speech::Http1 { since, .. } | Speech::Socket { since, .. } => {
                usize::from(since.is_some())
            }
            Speech::Http2(streams) => streams.under_way(),
        }
    }

    /// Whether one more request may be sent.
    #[must_use]
    pub fn has_room(&self, work: &Work) -> bool {
        match (&self.speech, work) {
            (Speech::Http1 { since, .. }, _) => since.is_none(),
            (Speech::Socket { socket, since }, _) => socket.is_open() && since.is_none(),
            (Speech::Http2(streams), Work::Http2 { exchange, .. }) => streams.has_room(exchange),
            (Speech::Http2(_), _) => false,
        }
    }

    /// Prepares request number `turn`, which was due at `due`.
    pub fn send(&mut self, work: &Work, turn: usize, due: Instant) {
        let out = &mut self.transport.out;
        match (&mut self.speech, work) {
            (Speech::Http1 { since, .. }, Work::Http1 { requests, .. }) => {
                // A prime step visits all of them in no simple order.
                let at = turn.wrapping_mul(7919) % requests.len().max(1);
                out.extend_from_slice(requests.get(at).map_or(&[], Vec::as_slice));
                *since = Some(due);
            }
            (Speech::Http2(streams), Work::Http2 { exchange, .. }) => {
                streams.send(due, exchange, out);
            }
            (Speech::Socket { since, .. }, _) => {
                Socket::send(out);
                *since = Some(due);
            }
            _ => return,
        }
        self.sent += 1;
    }

    /// Reads what has come; appends to `done` when each answered request was
    /// due. Returns false at the end of the stream.
    ///
    /// # Errors
    /// The connection has failed or an answer is wrong.
    pub fn read(
        &mut self,
        work: &Work,
        buffers: &mut Buffers,
        done: &mut Vec<Instant>,
    ) -> anyhow::Result<bool> {
        let speech = &mut self.speech;
        self.transport
            .read(buffers, |bytes, out| match (&mut *speech, work) {
                (Speech::Http1 { reader, since }, Work::Http1 { length, .. }) => {
                    if reader.take(bytes, *length)? {
                        done.extend(since.take());
                    }
                    Ok(())
                }
                (Speech::Http2(streams), Work::Http2 { exchange, .. }) => {
                    streams.take(bytes, exchange, out, |due| done.push(due))
                }
                (Speech::Socket { socket, since }, _) => {
                    if socket.take(bytes)? {
                        done.extend(since.take());
                    }
                    Ok(())
                }
                _ => Ok(()),
            })
    }
}
