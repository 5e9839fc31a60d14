//! From a request's start to its record.
//!
//! A [`Recorder`] belongs to an entry point and hears of the end of each of its
//! requests, exactly once: when the response's body has ended or is dropped,
//! when a tunnel's last user lets go of the exchange, or when the request is
//! given up before there was a response (status 499). Nothing is allocated for
//! a request but what the access log or labels made of headers need.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::http::header::{ACCEPT, CONNECTION, HeaderValue, UPGRADE};
use ::http::{HeaderMap, HeaderName, StatusCode};
use http_body::Body as _;

use super::access_log::{AccessLog, Entry, Headers, Origin};
use super::metrics::{EntryPointScope, Metrics, Observation, QueueRejection, Scope, ServiceScope};
use super::termination::termination;
use crate::clock;
use crate::config::dynamic::ObservabilitySwitches;
use crate::http::{ErrorKind, Exchange, Finish, Observer, Protocol, Response, WantsOrigin};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What is recorded of the requests of one router, resolved when it is built.
#[derive(Debug, Default)]
pub struct RouteScopes {
    /// The router's name, as `name@provider`.
    pub name: Arc<str>,
    /// The router's counters.
    pub router: Option<Arc<Scope>>,
    /// The counters of its service, for requests that reach it.
    pub service: Option<Arc<ServiceScope>>,
    /// Its own switches; an absent one means the entry point's.
    pub switches: ObservabilitySwitches,
    /// Whether the service is a built-in one, whose requests are mostly not recorded.
    pub is_internal: bool,
}

impl RouteScopes {
    /// Makes `exchange` count for this router.
    pub fn enter(self: &Arc<Self>, exchange: &Exchange) {
        *exchange.route.borrow_mut() = Some(Arc::<Self>::clone(self));
    }
}

/// Records the requests of one entry point.
#[derive(Debug)]
pub struct Recorder {
    switches: ObservabilitySwitches,
    entry_point: Option<Arc<EntryPointScope>>,
    header_labels: Box<[HeaderName]>,
    counts_internals: bool,
    access_log: Option<Arc<AccessLog>>,
}

impl Recorder {
    /// A recorder for the entry point `name`. `switches` apply where routers
    /// have none of their own.
    pub fn new(
        name: &str,
        switches: ObservabilitySwitches,
        metrics: Option<&Metrics>,
        access_log: Option<Arc<AccessLog>>,
    ) -> Self {
        Self {
            switches,
            entry_point: metrics.map(|metrics| metrics.entry_point(name)),
            header_labels: metrics.map_or_else(Box::default, |it| it.header_labels().into()),
            counts_internals: metrics.is_some_and(Metrics::adds_internals),
            access_log,
        }
    }

    /// Whether it looks at headers that tell about the client.
    pub fn reads_headers(&self) -> bool {
        let log = self.access_log.as_ref();
        !self.header_labels.is_empty() || log.is_some_and(|log| log.wants_request_headers())
    }

    /// Begins the record of a request. `headers` are those of its head, after
    /// headers of untrusted clients were removed.
    pub fn start(self: &Arc<Self>, exchange: &Rc<Exchange>, headers: &HeaderMap) -> Finish {
        exchange.protocol.set(protocol(headers));
        if self.access_log.is_some() || !self.header_labels.is_empty() {
            let captured = self.capture(exchange, headers);
            exchange.notes.replace(Some(Box::new(captured)));
        }
        Finish::new(exchange, Arc::<Self>::clone(self))
    }

    fn capture(&self, exchange: &Exchange, headers: &HeaderMap) -> Captured {
        let mut captured = Captured {
            labels: self.label_values(headers),
            ..Captured::default()
        };
        if let Some(log) = &self.access_log {
            exchange.wants_origin.set(if log.wants_response_headers() {
                WantsOrigin::Headers
            } else {
                WantsOrigin::Duration
            });
            captured.started_at = Some(SystemTime::now());
            captured.count = log.next_count();
            captured.forwarded_for = headers.get(FORWARDED_FOR).cloned();
            captured.request = log.request_headers(headers);
        }
        captured
    }

    fn label_values(&self, headers: &HeaderMap) -> Vec<HeaderValue> {
        let value = |name| headers.get(name).cloned();
        self.header_labels
            .iter()
            .map(|name| value(name).unwrap_or(HeaderValue::from_static("")))
            .collect()
    }

    /// Records a request that has ended.
    fn finish(&self, exchange: &Exchange) {
        let status = exchange.status.get().unwrap_or_else(given_up);
        count_abandoned_wait(exchange);
        let now = clock::now().into_std();
        let duration = now.saturating_duration_since(exchange.started);
        let route = exchange.route.take();
        let route = route.as_ref().and_then(|route| route.downcast_ref());
        let captured = exchange.notes.take();
        let captured: Option<Box<Captured>> = captured.and_then(|notes| notes.downcast().ok());
        let (own, is_internal) = match route {
            Some(RouteScopes {
                switches,
                is_internal,
                ..
            }) => (switches, *is_internal),
            None => (&NO_SWITCHES, false),
        };
        let is_counted = own.metrics.or(self.switches.metrics) != Some(false);
        if is_counted && (!is_internal || self.counts_internals) {
            let labels = captured.as_ref().map_or(&[][..], |it| &it.labels);
            self.count(exchange, labels, route, status, duration);
        }
        let is_logged = own.access_logs.or(self.switches.access_logs) != Some(false);
        if is_logged
            && let Some(log) = &self.access_log
            && (!is_internal || log.adds_internals())
        {
            let router = route.map(|route| Arc::clone(&route.name));
            write(
                log,
                exchange,
                *captured.unwrap_or_default(),
                (router, status, duration),
            );
        }
    }

    fn count(
        &self,
        exchange: &Exchange,
        labels: &[HeaderValue],
        route: Option<&RouteScopes>,
        status: StatusCode,
        duration: Duration,
    ) {
        let observation = Observation {
            status,
            method: &exchange.method,
            protocol: exchange.protocol.get(),
            duration,
            request_bytes: exchange.request_bytes.get(),
            response_bytes: exchange.response_bytes.get(),
            tls: exchange.connection.tls.as_ref(),
            header_values: labels,
        };
        if let Some(scope) = &self.entry_point {
            scope.record(&observation);
        }
        if let Some(router) = route.and_then(|route| route.router.as_ref()) {
            router.record(&observation);
        }
        let service = route.and_then(|route| route.service.as_ref());
        let is_reached = exchange.is_served.get();
        if let Some(service) = service.filter(|_| is_reached) {
            service.record(&observation);
            if exchange.retries.get() > 0 {
                service.retried(exchange.retries.get(), &exchange.causes.get());
            }
            service.waited(exchange.queue_wait.get());
            match exchange.failure.get() {
                Some(ErrorKind::QueueFull) => service.rejected(QueueRejection::Full),
                Some(ErrorKind::QueueTimeout) => service.rejected(QueueRejection::Timeout),
                Some(ErrorKind::NoServer) => service.rejected(QueueRejection::NoServer),
                _ => {}
            }
        }
    }
}

impl Observer for Recorder {
    fn answered(&self, exchange: &Exchange, response: &Response) {
        if let Some(log) = &self.access_log
            && let Some(notes) = exchange.notes.borrow_mut().as_mut()
            && let Some(captured) = notes.downcast_mut::<Captured>()
        {
            captured.downstream = log.response_headers(response.headers());
            captured.length = response.body().size_hint().exact();
        }
    }

    fn ended(&self, exchange: &Exchange) {
        self.finish(exchange);
    }
}

/// Those of a request that no router took.
const NO_SWITCHES: ObservabilitySwitches = ObservabilitySwitches {
    metrics: None,
    access_logs: None,
};

/// What Traefik calls the protocol of a request with these headers.
fn protocol(headers: &HeaderMap) -> Protocol {
    // Few requests have any of these, which one look at all names tells.
    let is_one = |name: &HeaderName| *name == UPGRADE || *name == ACCEPT;
    if !headers.keys().any(is_one) {
        Protocol::Http
    } else if lists(headers, &CONNECTION, "upgrade") && lists(headers, &UPGRADE, "websocket") {
        Protocol::WebSocket
    } else if lists(headers, &ACCEPT, "text/event-stream") {
        Protocol::ServerSentEvents
    } else {
        Protocol::Http
    }
}

/// Whether a header's first line lists `wanted`.
fn lists(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    let line = headers.get(name).map_or(&[][..], HeaderValue::as_bytes);
    line.split(|byte| *byte == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
}

/// A client that left the queue has waited, too.
fn count_abandoned_wait(exchange: &Exchange) {
    if let Some(since) = exchange.queued_since.get() {
        let wait = &exchange.queue_wait;
        wait.set(wait.get() + since.elapsed());
    }
}

/// 499, or 500 if it was not the client that gave the request up.
fn given_up() -> StatusCode {
    if std::thread::panicking() {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        crate::http::respond::status(ErrorKind::ClientGone)
    }
}

/// Hands a request to the access log, if the log wants it.
fn write(
    log: &AccessLog,
    exchange: &Exchange,
    captured: Captured,
    (router, status, duration): (Option<Arc<str>>, StatusCode, Duration),
) {
    if !log.wants(status, exchange.retries.get(), duration) {
        return;
    }
    let origin_headers = exchange.origin_headers.take();
    // Before the service's name is taken.
    let termination = termination(exchange, captured.length);
    let origin = exchange.origin_status.get().map(|status| Origin {
        status,
        duration: exchange.origin_duration.get(),
        bytes: exchange.origin_bytes.get(),
    });
    log.submit(Entry {
        started_at: captured.started_at.unwrap_or_else(SystemTime::now),
        duration,
        count: captured.count,
        entry_point: Arc::clone(&exchange.connection.entry_point),
        router,
        service: exchange.service.take(),
        server: exchange.server.take(),
        client: exchange.connection.client,
        forwarded_for: captured.forwarded_for.filter(|value| !value.is_empty()),
        user: exchange.user.take(),
        host: exchange.host.clone(),
        method: exchange.method.clone(),
        target: exchange.target.clone(),
        keep_query: log.keeps_query(),
        version: exchange.version,
        tls: exchange.connection.tls.clone(),
        request_bytes: exchange.request_bytes.get(),
        status,
        response_bytes: exchange.response_bytes.get(),
        origin,
        retries: exchange.retries.get(),
        queue_wait: exchange.queue_wait.get(),
        termination,
        request_headers: captured.request,
        origin_headers: origin_headers
            .map(|headers| log.response_headers(&headers))
            .unwrap_or_default(),
        downstream_headers: captured.downstream,
    });
}

/// What must be kept of messages that are gone by the end.
#[derive(Debug, Default)]
struct Captured {
    started_at: Option<SystemTime>,
    count: u64,
    forwarded_for: Option<HeaderValue>,
    labels: Vec<HeaderValue>,
    request: Headers,
    downstream: Headers,
    /// That of the response's body, if it is known.
    length: Option<u64>,
}

#[cfg(test)]
mod tests;
