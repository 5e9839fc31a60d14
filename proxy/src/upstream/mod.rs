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
mod http1;
mod http2;
mod limit;
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
pub use request::is_idempotent;
pub use transport::{Transport, TransportError};
pub use tunnel::Tunnel;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::http1::Connection;
use self::http2::{Opened, Stream};
use self::request::prepare;
use self::shared::Shared;
use self::tunnel::Wish;
use crate::http::{ErrorKind, ProxyError, Request, Response};
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
    pub upgraded: Option<Tunnel>,
}

/// A request that brought no response.
#[derive(Debug)]
pub struct Failure {
    /// What happened, and whether the request may be sent again.
    pub error: ProxyError,
    /// The request as it came, if nothing of its body is gone and nothing was
    /// answered. Always there after a failure to connect.
    pub request: Option<Box<Request>>,
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
        }
    }

    /// Gives up all present connections: idle ones are closed within a second
    /// and never used again, those in use are closed after their response. For
    /// a server that is about to stop.
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
    /// what the server is to see, its Host header too. Dropping the future
    /// gives the request up and closes its connection.
    pub async fn send(&self, mut request: Request, reuse: Reuse) -> Result<Answer, Failure> {
        if request.head.method == Method::CONNECT {
            let error = ErrorKind::NotImplemented.into();
            return Err(Failure::new(error, Some(request)));
        }
        let wish = Wish::of(&request.head);
        let mut stale = 0;
        loop {
            let is_fresh = reuse == Reuse::Forbidden || stale >= MAX_STALE;
            let carrier = self.carrier(&request, wish.is_some(), is_fresh);
            let carrier = match carrier.await {
                Ok(carrier) => carrier,
                Err(error) => return Err(Failure::new(error, Some(request))),
            };
            let can_repeat = carrier.is_reused() && !is_fresh;
            if carrier.is_reused() {
                self.shared.count(|counters| &counters.reused);
            }
            let (unsent, is_stale) = match carrier {
                Carrier::Http1(connection) => {
                    match http1::exchange(connection, &mut request, wish.as_ref()).await {
                        Ok(answer) => return Ok(answer),
                        Err(lost) => {
                            let unsent = lost.is_whole.then_some(request);
                            (Failure::new(lost.error, unsent), lost.is_stale)
                        }
                    }
                }
                Carrier::Http2(stream) => match over_http2(stream, request, &self.shared).await {
                    Ok(answer) => return Ok(answer),
                    Err(broken) => broken,
                },
            };
            match unsent.request {
                // It was closed under our hands, and the request never left them.
                Some(whole) if is_stale && can_repeat => {
                    request = *whole;
                    stale += 1;
                }
                _ => return Err(unsent),
            }
        }
    }

    async fn carrier(
        &self,
        request: &Request,
        is_upgrade: bool,
        is_fresh: bool,
    ) -> Result<Carrier, ProxyError> {
        let shared = &self.shared;
        while !is_upgrade && shared.may_speak_http2() {
            if let Some(stream) = http2::stream(shared, is_fresh) {
                return Ok(Carrier::Http2(stream));
            }
            if let Opened::Http1(Some(connection)) = Box::pin(http2::open(shared)).await? {
                return Ok(Carrier::Http1(connection));
            }
        }
        if !is_fresh {
            // A body that was sent is gone: such a request can't be repeated
            // either, whatever its method.
            let can_repeat = is_idempotent(&request.head) && request.body.is_end_stream();
            if let Some(connection) = pool::take(shared, can_repeat) {
                return Ok(Carrier::Http1(connection));
            }
        }
        Box::pin(self.open()).await.map(Carrier::Http1)
    }

    /// Opens an HTTP/1.1 connection. Boxed by its caller: TLS handshakes are
    /// rare, and their state is large.
    async fn open(&self) -> Result<Connection, ProxyError> {
        let shared = &self.shared;
        let dialed = dial::dial(shared, true).await;
        shared.count(|counters| match dialed {
            Ok(_) => &counters.opened,
            Err(_) => &counters.failed,
        });
        dialed.map(|(wire, _)| Connection::new(wire, Arc::clone(shared)))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.retire();
    }
}

impl Failure {
    fn new(error: ProxyError, request: Option<Request>) -> Self {
        Self {
            error,
            request: request.map(Box::new),
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

/// The failure comes with whether the connection was dead before the request
/// came to it.
async fn over_http2(
    stream: Stream,
    request: Request,
    shared: &Shared,
) -> Result<Answer, (Failure, bool)> {
    let (prepared, kept) = prepare(request, &shared.url)
        .map_err(|(error, request)| (Failure::new(error, Some(*request)), false))?;
    let limit = shared.transport.header_timeout;
    let response = match stream.exchange(prepared, limit).await {
        Ok(response) => response,
        Err(lost) => return Err((Failure::new(lost.error, kept.restore()), lost.is_stale)),
    };
    let response = response::from_http2(response, stream, kept.method(), kept.sending())
        .map_err(|error| (Failure::new(error, None), false))?;
    Ok(Answer {
        response,
        upgraded: None,
    })
}
