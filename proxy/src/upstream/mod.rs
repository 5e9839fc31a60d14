//! Servers: connections to them, and one request at a time on each.
//!
//! Takes one prepared request to one server and brings back its response, over
//! HTTP/1.1 or HTTP/2, in the clear or over TLS. Whoever calls it has picked
//! the server, has taken hop-by-hop headers out (all but those of an upgrade),
//! and decides on retries; a [`Failure`] says whether one can hurt. Connections
//! are kept for each worker, which is why everything here must run on a
//! `LocalSet`.

mod address;
mod dial;
mod direct;
mod host;
mod http1;
mod http2;
mod limit;
mod mailbox;
mod patience;
mod place;
mod pool;
mod request;
mod response;
mod shared;
mod spare;
#[cfg(test)]
mod tests;
mod transport;
mod tunnel;
mod wire;

pub use address::{Host, Scheme, ServerUrl, ServerUrlError};
pub use direct::{ByteStream, connect};
pub use request::is_idempotent;
pub use transport::{Transport, TransportError};
pub use tunnel::Tunnel;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use self::http1::{Connection, Lost};
use self::http2::{Opened, Stream};
use self::place::Grant;
use self::request::prepare;
use self::shared::Shared;
use self::tunnel::Wish;
use crate::clock;
use crate::http::{Body, ErrorKind, ProxyError, Request, Response};
use ::http::Method;
use http_body::Body as _;

/// How many dead connections a request may come upon before it takes a new one.
const MAX_STALE: u32 = 3;

/// One server under one transport, with its connections.
///
/// Shared by all workers. Dropping it lets its idle connections go; those in
/// use end with their responses.
#[derive(Debug)]
pub struct Upstream {
    shared: Arc<Shared>,
}

/// Which connections a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// An idle one, if it is likely to live; else a new one.
    Allowed,
    /// Only a new one: the request was lost on an idle one before.
    Forbidden,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// The response, with the server's hop-by-hop headers still in it, but for
    /// a `Connection: keep-alive`.
    pub response: Response,
    /// What to [run](Tunnel::run) when the server has granted an upgrade.
    pub upgraded: Option<Box<Tunnel>>,
}

/// A request that brought no response.
#[derive(Debug)]
pub struct Failure {
    /// What happened, and whether the request may be sent again.
    pub error: ProxyError,
    /// Whether the request is as it came: nothing of its body is gone, or it was
    /// [kept](Body::keep) and rewound, and nothing was answered. Always so after a
    /// failure to connect.
    pub is_whole: bool,
    /// Whether it was lost on a connection that had been idle.
    pub was_reused: bool,
}

/// Connections to a server since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Opened.
    pub opened: u64,
    /// Taken again for a further request.
    pub reused: u64,
    /// Not opened, for whatever reason.
    pub failed: u64,
    /// Idle at the moment.
    pub idle: u64,
    /// All that exist, those that are being opened and tunnels included.
    pub open: u64,
}

/// What carries a request.
enum Carrier {
    Http1(Connection),
    Http2(Stream),
}

impl Upstream {
    /// A server without connections.
    pub fn new(url: ServerUrl, transport: Arc<Transport>) -> Self {
        Self {
            shared: Arc::new(Shared::new(url, transport)),
        }
    }

    /// Where it is.
    pub fn url(&self) -> &ServerUrl {
        &self.shared.url
    }

    /// How it is spoken to.
    pub fn transport(&self) -> &Arc<Transport> {
        &self.shared.transport
    }

    /// Its connections, counted over all workers.
    pub fn connections(&self) -> ConnectionCounts {
        let counters = &self.shared.counters;
        ConnectionCounts {
            opened: counters.opened.load(Ordering::Relaxed),
            reused: counters.reused.load(Ordering::Relaxed),
            failed: counters.failed.load(Ordering::Relaxed),
            idle: self.shared.idle() as u64,
            open: self.shared.places.taken() as u64 + counters.multiplexed.load(Ordering::Relaxed),
        }
    }

    /// Sets the most HTTP/1.1 connections that may exist at once over all
    /// workers, idle ones and tunnels included; 0 means no limit. Beyond it a
    /// request takes an idle one of any worker, or closes it and opens another,
    /// or waits for one as long as it would wait for a connection. HTTP/2
    /// connections don't count. When the limit is lowered idle ones are closed.
    pub fn set_max_connections(&self, limit: u32) {
        let shared = &self.shared;
        if !shared.places.set_limit(limit) {
            return;
        }
        place::serve(shared);
        if shared.places.is_exceeded() {
            drop(shared.spares.take_all());
            mailbox::ask_all();
        }
    }

    /// Gives up all present connections: idle ones are closed at once by all
    /// workers and never used again, those in use are closed after their
    /// response. For a server that is about to stop.
    pub fn retire(&self) {
        self.shared.retire();
    }

    /// Says that the server is not to be used any more. As [`Self::retire`]; and
    /// who waits for a connection to it is told at once that there will be none,
    /// and may try another server. Responses under way go on.
    pub fn leave(&self) {
        self.shared.retire();
        self.shared.gone.cancel();
    }

    /// Sends `request` and waits for the head of the response. Its target is
    /// what the server is to see, its Host header too. What is left of it is
    /// worth something only to a [`Failure`] that says so. Dropping the future
    /// gives the request up and closes its connection.
    pub async fn send(&self, request: &mut Request, reuse: Reuse) -> Result<Answer, Failure> {
        if request.head.method == Method::CONNECT {
            return Err(Failure::whole(ErrorKind::NotImplemented.into()));
        }
        let wish = Wish::of(&request.head);
        let mut stale = 0;
        loop {
            let is_fresh = reuse == Reuse::Forbidden || stale >= MAX_STALE;
            let carrier = match self.at_hand(request, wish.is_some(), is_fresh) {
                Some(carrier) => carrier,
                // Boxed: handshakes are rare, and their state is large.
                None => match Box::pin(self.open(request, wish.is_some(), is_fresh)).await {
                    Ok(Some(carrier)) => carrier,
                    Ok(None) => continue,
                    Err(error) => return Err(Failure::whole(error)),
                },
            };
            let was_reused = carrier.is_reused();
            if was_reused {
                self.shared.count(|counters| &counters.reused);
            }
            let answer = match carrier {
                Carrier::Http1(connection) => {
                    http1::exchange(connection, request, wish.as_ref()).await
                }
                Carrier::Http2(stream) => Box::pin(over_http2(stream, request, &self.shared)).await,
            };
            match answer {
                Ok(answer) => return Ok(answer),
                // It was closed under our hands, and the request never left them.
                Err(lost) if lost.is_whole && lost.is_stale && was_reused && !is_fresh => {
                    stale += 1;
                }
                Err(Lost {
                    error, is_whole, ..
                }) => {
                    return Err(Failure {
                        error,
                        is_whole,
                        was_reused,
                    });
                }
            }
        }
    }

    /// What can carry a request at once.
    fn at_hand(&self, request: &Request, is_upgrade: bool, is_fresh: bool) -> Option<Carrier> {
        let shared = &self.shared;
        if self.takes_http2(is_upgrade) {
            return http2::stream(shared, is_fresh).map(Carrier::Http2);
        }
        if is_fresh {
            return None;
        }
        pool::take(shared, self.reach(request)).map(Carrier::Http1)
    }

    /// How long a connection may have been idle to be good for `request`, if
    /// that matters.
    fn reach(&self, request: &Request) -> Option<Duration> {
        // A body that was sent and not kept is gone: such a request can't be
        // repeated either, whatever its method.
        let can_repeat = is_idempotent(&request.head)
            && (request.body.is_end_stream() || request.body.is_replayable());
        (!can_repeat).then(|| self.shared.patience.sure(clock::now()))
    }

    fn takes_http2(&self, is_upgrade: bool) -> bool {
        !is_upgrade && self.shared.may_speak_http2()
    }

    /// Opens a connection, or waits for one if there may be no more. It carries
    /// HTTP/2 streams, or else is returned, unless another request has taken it.
    async fn open(
        &self,
        request: &Request,
        is_upgrade: bool,
        is_fresh: bool,
    ) -> Result<Option<Carrier>, ProxyError> {
        let shared = &self.shared;
        if self.takes_http2(is_upgrade) {
            return Ok(match http2::open(shared).await? {
                Opened::Http1(connection) => connection.map(Carrier::Http1),
                Opened::Multiplexed => None,
            });
        }
        let reach = if is_fresh {
            Some(Duration::ZERO)
        } else {
            self.reach(request)
        };
        let place = match place::obtain(shared, !is_fresh && reach.is_some()).await? {
            Grant::Place(place) => place,
            Grant::Spare(spare) => match pool::revive(spare, reach) {
                Ok(connection) => return Ok(Some(Carrier::Http1(connection))),
                Err(left) => left.vacate().await,
            },
        };
        let dialed = dial::dial(shared, true).await;
        shared.count(|counters| match dialed {
            Ok(_) => &counters.opened,
            Err(_) => &counters.failed,
        });
        dialed.map(|(wire, _)| {
            let connection = Connection::new(wire, place);
            Some(Carrier::Http1(connection))
        })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.retire();
    }
}

impl Failure {
    fn whole(error: ProxyError) -> Self {
        Self {
            error,
            is_whole: true,
            was_reused: false,
        }
    }
}

impl Carrier {
    fn is_reused(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.reused_after.is_some(),
            Self::Http2(stream) => stream.is_reused,
        }
    }
}

async fn over_http2(
    stream: Stream,
    request: &mut Request,
    shared: &Shared,
) -> Result<Answer, Lost> {
    let (prepared, kept) = prepare(take(request), &shared.url).map_err(|(error, whole)| {
        *request = *whole;
        Lost {
            error,
            is_stale: false,
            is_whole: true,
        }
    })?;
    let limit = shared.transport.header_timeout;
    let response = match stream.exchange(prepared, limit).await {
        Ok(response) => response,
        Err(lost) => {
            let restored = kept.restore();
            let is_whole = restored.is_some();
            if let Some(restored) = restored {
                *request = restored;
            }
            return Err(Lost {
                error: lost.error,
                is_stale: lost.is_stale,
                is_whole,
            });
        }
    };
    if let Some(body) = kept.sent() {
        // Nobody but a retry looks at it.
        request.body = body;
    }
    let response = response::from_http2(response, stream, kept.method(), kept.sending());
    let response = response.map_err(|error| Lost {
        error,
        is_stale: false,
        is_whole: false,
    })?;
    Ok(Answer {
        response,
        upgraded: None,
    })
}

/// The request, in whose place an empty one stays.
fn take(request: &mut Request) -> Request {
    let (head, ()) = ::http::Request::new(()).into_parts();
    Request {
        head: std::mem::replace(&mut request.head, head),
        body: std::mem::replace(&mut request.body, Body::empty()),
        exchange: Rc::clone(&request.exchange),
    }
}
