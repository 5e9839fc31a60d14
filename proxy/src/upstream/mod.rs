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
mod hold;
mod http1;
mod http2;
mod pool;
mod request;
mod response;
mod shared;
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

use ::http::{Method, StatusCode};
use http_body::Body as _;
use tokio::time::Instant;

use self::dial::Protocol;
use self::http1::{Connection, Lost};
use self::http2::{Opened, Stream};
use self::request::{Kept, prepare};
use self::shared::Shared;
use self::tunnel::Wish;
use crate::http::{ErrorKind, ProxyError, Request, Response};

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
    /// The response, with the server's hop-by-hop headers still in it.
    pub response: Response,
    /// What to [run](Tunnel::run) when the server has granted an upgrade.
    pub upgraded: Option<Tunnel>,
}

/// A request that brought no response.
#[derive(Debug)]
pub struct Failure {
    /// What happened, and whether the request may be sent again.
    pub error: ProxyError,
    /// The request as it came, if nothing of its body is gone. Always there
    /// after a failure to connect, and for requests on a reused connection.
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

/// A [`Failure`] before it is decided who hears of it.
struct Broken {
    failure: Failure,
    /// Whether the connection was dead before the request came to it.
    is_stale: bool,
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
            return Err(Failure::new(ErrorKind::NotImplemented.into(), request));
        }
        let wish = Wish::of(&request.head);
        let mut stale = 0;
        loop {
            let is_fresh = reuse == Reuse::Forbidden || stale >= MAX_STALE;
            let carrier = self.carrier(&request, wish.is_some(), is_fresh);
            let carrier = match carrier.await {
                Ok(carrier) => carrier,
                Err(error) => return Err(Failure::new(error, request)),
            };
            let can_repeat = carrier.is_reused() && !is_fresh;
            match self.carry(carrier, request, wish.as_ref()).await {
                Ok(answer) => return Ok(answer),
                Err(Broken { failure, is_stale }) => match failure.request {
                    // It was closed under our hands, and the request never left them.
                    Some(unsent) if is_stale && can_repeat => {
                        request = *unsent;
                        stale += 1;
                    }
                    _ => return Err(failure),
                },
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
            let sure = || shared.patience.sure(Instant::now());
            // A body that was sent is gone: such a request can't be repeated
            // either, whatever its method.
            let can_repeat = is_idempotent(&request.head) && request.body.is_end_stream();
            let limit = (!can_repeat).then(sure);
            if let Some(connection) = pool::take(shared, limit) {
                return Ok(Carrier::Http1(connection));
            }
        }
        Box::pin(self.open()).await.map(Carrier::Http1)
    }

    /// Opens an HTTP/1.1 connection. Boxed by its caller: TLS handshakes are
    /// rare, and their state is large.
    async fn open(&self) -> Result<Connection, ProxyError> {
        let shared = &self.shared;
        let opened = match dial::dial(shared, true).await {
            Ok((wire, _)) => Connection::open(wire, Arc::clone(shared)).await,
            Err(error) => Err(error),
        };
        shared.count(|counters| match opened {
            Ok(_) => &counters.opened,
            Err(_) => &counters.failed,
        });
        opened
    }
}

impl Upstream {
    async fn carry(
        &self,
        carrier: Carrier,
        request: Request,
        wish: Option<&Wish>,
    ) -> Result<Answer, Broken> {
        if carrier.is_reused() {
            self.shared.count(|counters| &counters.reused);
        }
        match carrier {
            Carrier::Http1(connection) => over_http1(connection, request, &self.shared, wish).await,
            Carrier::Http2(stream) => over_http2(stream, request, &self.shared).await,
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.retire();
    }
}

impl Failure {
    fn new(error: ProxyError, request: Request) -> Self {
        Self {
            error,
            request: Some(Box::new(request)),
        }
    }
}

impl Broken {
    fn lost(lost: Lost, kept: Kept) -> Self {
        Self {
            failure: Failure {
                error: lost.error,
                request: kept.restore(lost.unsent).map(Box::new),
            },
            is_stale: lost.is_stale,
        }
    }
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            is_stale: false,
        }
    }
}

impl From<ProxyError> for Broken {
    fn from(error: ProxyError) -> Self {
        let request = None;
        Self::from(Failure { error, request })
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

async fn over_http1(
    mut connection: Connection,
    request: Request,
    shared: &Shared,
    wish: Option<&Wish>,
) -> Result<Answer, Broken> {
    let (prepared, kept) = prepare(
        request,
        &shared.url,
        Protocol::Http1,
        connection.reused_after.is_some(),
    )
    .map_err(|(error, request)| Failure::new(error, *request))?;
    let response = match connection.exchange(prepared).await {
        Ok(response) => response,
        Err(lost) => return Err(Broken::lost(lost, kept)),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(tunnel::switch(response, connection, kept.sending(), wish)?);
    }
    let response = response::from_http1(response, connection, kept.method(), kept.sending())?;
    Ok(Answer {
        response,
        upgraded: None,
    })
}

async fn over_http2(stream: Stream, request: Request, shared: &Shared) -> Result<Answer, Broken> {
    let (prepared, kept) = prepare(request, &shared.url, Protocol::Http2, true)
        .map_err(|(error, request)| Failure::new(error, *request))?;
    let limit = shared.transport.header_timeout;
    let response = match stream.exchange(prepared, limit).await {
        Ok(response) => response,
        Err(lost) => return Err(Broken::lost(lost, kept)),
    };
    let response = response::from_http2(response, stream, kept.method(), kept.sending())?;
    Ok(Answer {
        response,
        upgraded: None,
    })
}
