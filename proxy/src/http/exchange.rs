//! What is known about a connection and about one request on it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use bytes::Bytes;
use http_body::Frame;

use super::client_lines::ClientLines;
use super::{Body, ErrorKind, Response, RetryCause, Termination};
use crate::clock;

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
    /// What servers were told last about the client.
    pub lines: RefCell<Option<Rc<ClientLines>>>,
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
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub target: PathAndQuery,
    /// The host it asked for, as it was written.
    pub host: HeaderValue,
    /// Its protocol version.
    pub version: Version,

    /// What servers are to be told about the client, unless it is among the headers.
    pub lines: RefCell<Option<Rc<ClientLines>>>,
    /// Whether nobody looks into the headers of the response that a server gives,
    /// so that they may come as [`ServerLines`](super::ServerLines).
    pub passes_lines: Cell<bool>,
    /// Whether it is one that Traefik counts as `websocket` or `sse`.
    pub protocol: Cell<Protocol>,
    /// Whether it came as far as a service.
    pub is_served: Cell<bool>,
    /// The name of that service, as `name@provider`, if it is wanted.
    pub service: RefCell<Option<Arc<str>>>,
    /// The URL of the server that was used last, if it is wanted.
    pub server: RefCell<Option<Arc<str>>>,
    /// The user that authenticated.
    pub user: RefCell<Option<Box<str>>>,
    /// The server's status, if there was a response of a server.
    pub origin_status: Cell<Option<StatusCode>>,
    /// How long the server took to its response's head.
    pub origin_duration: Cell<Duration>,
    /// Bytes of the body that the server sent.
    pub origin_bytes: Cell<u64>,
    /// Its place among those that wait for a server.
    pub priority: Cell<Priority>,
    /// How long it waited for a server with a free slot.
    pub queue_wait: Cell<Duration>,
    /// Since when it has been waiting for one.
    pub queued_since: Cell<Option<Instant>>,
    /// How often it was sent again.
    pub retries: Cell<u32>,
    /// How often for which [`RetryCause`], in the order of [`RetryCause::ALL`].
    pub causes: Cell<[u16; RetryCause::ALL.len()]>,
    /// How it ended; before that, how it would end if the client left now.
    pub termination: Cell<Termination>,
    /// Bytes of its own body that were read.
    pub request_bytes: Cell<u64>,
    /// Bytes of the body that the client was sent.
    pub response_bytes: Cell<u64>,
    /// What the client was answered.
    pub status: Cell<Option<StatusCode>>,
    /// What failed, if the answer is one of our own.
    pub failure: Cell<Option<ErrorKind>>,
    /// What `observe` knows of the router that took it.
    pub route: RefCell<Option<Arc<dyn Any + Send + Sync>>>,
    /// What `observe` wants to know of the server's answer.
    pub wants_origin: Cell<WantsOrigin>,
    /// The headers of the server's response, if they are wanted.
    pub origin_headers: RefCell<Option<Box<HeaderMap>>>,
    /// Who hears of its end, once.
    pub observer: RefCell<Option<Arc<dyn Observer>>>,
    /// What the observer keeps of it meanwhile.
    pub notes: RefCell<Option<Box<dyn Any>>>,
}

/// What is to be noted of the server and its answer, besides its status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum WantsOrigin {
    /// Nothing.
    #[default]
    Status,
    /// Which it was, and how long it took.
    Duration,
    /// And its headers.
    Headers,
}

/// Hears what became of requests.
pub trait Observer: fmt::Debug + Send + Sync {
    /// There is a response; its body is still to come.
    fn answered(&self, exchange: &Exchange, response: &Response);
    /// Nothing will happen any more.
    fn ended(&self, exchange: &Exchange);
}

/// Ends the record of its request when it is dropped. Held by the request's
/// future until there is a response, then by the response's body.
#[derive(Debug)]
#[must_use = "dropping it ends the request's record"]
pub struct Finish(Rc<Exchange>);

impl Finish {
    /// Tells `observer` of the end of `exchange`.
    pub fn new(exchange: &Rc<Exchange>, observer: Arc<dyn Observer>) -> Self {
        exchange.observer.replace(Some(observer));
        Self(Rc::clone(exchange))
    }

    /// Lets `response` carry the record to its end, and counts its bytes. That
    /// of a tunnel ends when its last user lets go of the exchange.
    pub fn track(self, mut response: Response) -> Response {
        let exchange = &self.0;
        exchange.status.set(Some(response.status()));
        exchange.failure.set(response.extensions().get().copied());
        exchange.note_answer(response.body());
        let observer = exchange.observer.take();
        if let Some(observer) = &observer {
            observer.answered(exchange, &response);
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // This drop must not tell, so that the exchange's own will.
            let exchange = Rc::clone(exchange);
            drop(self);
            exchange.observer.replace(observer);
            return response;
        }
        exchange.observer.replace(observer);
        response.body_mut().finish(self);
        response
    }

    /// The response's body has come to its end, or it broke.
    pub(super) fn end(self, is_broken: bool) {
        let termination = &self.0.termination;
        if termination.get() == Termination::CLIENT_IN_DATA {
            termination.set(if is_broken {
                Termination::SERVER_IN_DATA
            } else {
                Termination::NORMAL
            });
        }
    }

    /// `count` bytes of the response's body went to the client.
    pub(super) fn count(&self, count: usize) {
        let sum = &self.0.response_bytes;
        sum.set(sum.get().saturating_add(count as u64));
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        if let Some(observer) = self.0.observer.take() {
            observer.ended(&self.0);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(observer) = self.observer.get_mut().take() {
            observer.ended(self);
        }
    }
}

/// Who goes first where requests wait for a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Priority {
    /// The lower class goes first (HAProxy's `set-priority-class`).
    pub class: i16,
    /// Milliseconds by which it counts as having come later (HAProxy's
    /// `set-priority-offset`).
    pub offset: i32,
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
    pub fn new(
        connection: Rc<ConnectionInfo>,
        head: &::http::request::Parts,
        host: HeaderValue,
    ) -> Self {
        let target = head.uri.path_and_query().cloned();
        Self {
            connection,
            started: clock::now().into_std(),
            method: head.method.clone(),
            target: target.unwrap_or_else(|| PathAndQuery::from_static("/")),
            host,
            version: head.version,
            lines: RefCell::default(),
            passes_lines: Cell::default(),
            protocol: Cell::default(),
            is_served: Cell::default(),
            service: RefCell::default(),
            server: RefCell::default(),
            user: RefCell::default(),
            origin_status: Cell::default(),
            origin_duration: Cell::default(),
            origin_bytes: Cell::default(),
            priority: Cell::default(),
            queue_wait: Cell::default(),
            queued_since: Cell::default(),
            retries: Cell::default(),
            causes: Cell::default(),
            termination: Cell::default(),
            request_bytes: Cell::default(),
            response_bytes: Cell::default(),
            status: Cell::default(),
            failure: Cell::default(),
            route: RefCell::default(),
            wants_origin: Cell::default(),
            origin_headers: RefCell::default(),
            observer: RefCell::default(),
            notes: RefCell::default(),
        }
    }

    /// Takes down that a service has it, and which if somebody wants to know.
    pub fn enter_service(&self, name: &Arc<str>) {
        self.is_served.set(true);
        if self.wants_origin.get() > WantsOrigin::Status {
            *self.service.borrow_mut() = Some(Arc::clone(name));
        }
    }

    /// Takes down which server gets it, if somebody wants to know.
    pub fn enter_server(&self, url: &Arc<str>) {
        if self.wants_origin.get() > WantsOrigin::Status {
            *self.server.borrow_mut() = Some(Arc::clone(url));
        }
    }

    /// The moment at which something begins whose duration somebody wants.
    pub fn origin_clock(&self) -> Option<Instant> {
        (self.wants_origin.get() >= WantsOrigin::Duration).then(Instant::now)
    }

    /// Takes down what a server answered since `clock`: its status, and its
    /// headers if the access log wants them. Called with each response's head,
    /// before any middleware changes it.
    pub fn note_origin<B>(&self, response: &::http::Response<B>, clock: Option<Instant>) {
        self.origin_status.set(Some(response.status()));
        if let Some(began) = clock {
            self.origin_duration.set(began.elapsed());
        }
        if self.wants_origin.get() == WantsOrigin::Headers {
            *self.origin_headers.borrow_mut() = Some(Box::new(response.headers().clone()));
        }
    }

    /// Takes down that it is sent again, and why. What the server said last is
    /// forgotten.
    pub fn note_retry(&self, cause: RetryCause) {
        self.retries.set(self.retries.get().saturating_add(1));
        let mut causes = self.causes.get();
        if let Some(count) = causes.get_mut(cause as usize) {
            *count = count.saturating_add(1);
        }
        self.causes.set(causes);
        self.origin_status.set(None);
    }

    /// It waits for a server with a free slot from now on.
    pub fn enter_queue(&self) {
        self.queued_since.set(Some(Instant::now()));
        self.termination.set(Termination::CLIENT_IN_QUEUE);
    }

    /// It waits no more. One that is given up while it waits never comes here.
    pub fn leave_queue(&self) {
        if let Some(since) = self.queued_since.take() {
            self.queue_wait.set(self.queue_wait.get() + since.elapsed());
        }
        self.termination.set(Termination::CLIENT_BEFORE_HEAD);
    }

    /// The host that it asked for, as text.
    pub fn host(&self) -> &str {
        // Of a header's text, this is the quicker check.
        std::str::from_utf8(self.host.as_bytes()).unwrap_or_default()
    }

    /// Takes down how it ends, now that there is an answer with this body.
    fn note_answer(&self, body: &Body) {
        self.termination.set(match self.failure.get() {
            Some(kind) => Termination::of(kind),
            None if http_body::Body::is_end_stream(body) => Termination::NORMAL,
            None => Termination::CLIENT_IN_DATA,
        });
    }

    /// Counts what was read of the request's body.
    pub fn count_request(&self, frame: &Frame<Bytes>) {
        let read = frame.data_ref().map_or(0, Bytes::len);
        self.request_bytes
            .set(self.request_bytes.get() + read as u64);
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
