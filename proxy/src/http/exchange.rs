//! What is known about a connection and about one request on it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ::http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

/// What is known about a client's connection. Made once for each connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// The entry point that accepted it.
    pub entry_point: Arc<str>,
    /// The client's address: the TCP peer, or what a believed PROXY header says.
    pub client: SocketAddr,
    /// The client's IP address as a header value.
    pub client_ip: HeaderValue,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// Whether the client's `X-Forwarded-*` headers are believed.
    pub is_trusted: bool,
    /// Whether servers are told the client's address in `X-Forwarded-For`.
    pub appends_forwarded_for: bool,
    /// TLS, if the client speaks it.
    pub tls: Option<TlsConnection>,
}

/// What was agreed upon in a TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConnection {
    /// Go's spelling, as Traefik logs it: `1.2` or `1.3`.
    pub version: &'static str,
    /// The name of the cipher suite, as Go spells it.
    pub cipher: &'static str,
    /// The name that the client asked for, in lower case.
    pub server_name: Option<Arc<str>>,
    /// The TLS options that applied, as `name@provider` or `default`.
    pub options: Arc<str>,
    /// The subject of the client's certificate.
    pub client_subject: Option<Arc<str>>,
}

/// One request and what became of it.
///
/// Made by the entry point before any middleware ran, so the first group of
/// fields is what the client sent. The second group is filled in on the way by
/// whoever knows; the access log and the metrics read it when the response has
/// ended. It never leaves its worker, hence the cells.
#[derive(Debug)]
pub struct Exchange {
    /// The connection it came on.
    pub connection: Rc<ConnectionInfo>,
    /// When its head was complete, by a clock that only goes forward.
    pub started: Instant,
    /// The same by the wall clock.
    pub started_at: SystemTime,
    /// Its method.
    pub method: Method,
    /// Path and query, or whatever the request line held.
    pub target: Arc<str>,
    /// The host it asked for, as it was written.
    pub host: Arc<str>,
    /// Its protocol version.
    pub version: Version,

    /// Whether it is one that Traefik counts as `websocket` or `sse`.
    pub protocol: Cell<Protocol>,
    /// The name of the router that took it, as `name@provider`.
    pub router: RefCell<Option<Arc<str>>>,
    /// The name of the service that answered, as `name@provider`.
    pub service: RefCell<Option<Arc<str>>>,
    /// The URL of the server that was used last.
    pub server: RefCell<Option<Arc<str>>>,
    /// The user that authenticated.
    pub user: RefCell<Option<Box<str>>>,
    /// The server's status, if there was a response of a server.
    pub origin_status: Cell<Option<StatusCode>>,
    /// How long the server took to its response's head.
    pub origin_duration: Cell<Duration>,
    /// Bytes of the body that the server sent.
    pub origin_bytes: Cell<u64>,
    /// How long it waited for a server with a free slot.
    pub queue_wait: Cell<Duration>,
    /// How often it was sent again.
    pub retries: Cell<u32>,
    /// Bytes of its own body that were read.
    pub request_bytes: Cell<u64>,
    /// Bytes of the body that the client was sent.
    pub response_bytes: Cell<u64>,
    /// What the client was answered.
    pub status: Cell<Option<StatusCode>>,
    /// Whether it may appear in the access log and metrics (internal services may not).
    pub is_internal: Cell<bool>,
    /// What `observe` keeps for the router that took it.
    pub scopes: RefCell<Option<Arc<dyn Any + Send + Sync>>>,
    /// Whether [`Exchange::note_origin`] keeps the server's headers; set by `observe`.
    pub wants_origin_headers: Cell<bool>,
    /// The headers of the server's response, if they are wanted.
    pub origin_headers: RefCell<Option<Box<HeaderMap>>>,
    /// Runs when the exchange is dropped: how the end of a tunnel is noticed.
    pub tail: RefCell<Option<Tail>>,
}

/// What is left to do when the last holder of an [`Exchange`] lets go of it.
pub struct Tail(Box<dyn FnOnce(&Exchange)>);

impl Tail {
    /// A tail that runs `end`, which must hold no [`Exchange`] itself.
    pub fn new(end: impl FnOnce(&Exchange) + 'static) -> Self {
        Self(Box::new(end))
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tail")
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let tail = self.tail.get_mut().take();
        if let Some(Tail(end)) = tail {
            end(self);
        }
    }
}

/// What Traefik's metrics call the protocol of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Anything else.
    #[default]
    Http,
    /// An upgrade to WebSocket.
    WebSocket,
    /// Accepts `text/event-stream`.
    ServerSentEvents,
}

impl Exchange {
    /// What is known when a request's head is complete.
    pub fn new(connection: Rc<ConnectionInfo>, head: &::http::request::Parts, host: &str) -> Self {
        let target = head
            .uri
            .path_and_query()
            .map_or_else(|| head.uri.path(), ::http::uri::PathAndQuery::as_str);
        Self {
            connection,
            started: Instant::now(),
            started_at: SystemTime::now(),
            method: head.method.clone(),
            target: target.into(),
            host: host.into(),
            version: head.version,
            protocol: Cell::default(),
            router: RefCell::default(),
            service: RefCell::default(),
            server: RefCell::default(),
            user: RefCell::default(),
            origin_status: Cell::default(),
            origin_duration: Cell::default(),
            origin_bytes: Cell::default(),
            queue_wait: Cell::default(),
            retries: Cell::default(),
            request_bytes: Cell::default(),
            response_bytes: Cell::default(),
            status: Cell::default(),
            is_internal: Cell::default(),
            scopes: RefCell::default(),
            wants_origin_headers: Cell::default(),
            origin_headers: RefCell::default(),
            tail: RefCell::default(),
        }
    }

    /// Takes down what a server answered after `duration`: its status, and its
    /// headers if the access log wants them. Called with each response's head,
    /// before any middleware changes it.
    pub fn note_origin<B>(&self, response: &::http::Response<B>, duration: Duration) {
        self.origin_status.set(Some(response.status()));
        self.origin_duration.set(duration);
        if self.wants_origin_headers.get() {
            *self.origin_headers.borrow_mut() = Some(Box::new(response.headers().clone()));
        }
    }

    /// The client's IP address.
    pub fn client_ip(&self) -> IpAddr {
        self.connection.client.ip()
    }

    /// Whether the client speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.connection.tls.is_some()
    }
}
