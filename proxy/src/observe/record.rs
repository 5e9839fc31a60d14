//! From a request's start to its record.
//!
//! A [`Recorder`] belongs to an entry point. It makes a [`Finish`] for each
//! request, which records the request exactly once: when the response's body
//! has ended or is dropped, when a tunnel's last user lets go of the exchange,
//! or when the request is given up before there was a response (status 499).
//! Nothing is allocated for a request but the wrapper of its response's body,
//! and the access log's entry.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::header::{ACCEPT, CONNECTION, HeaderValue, UPGRADE};
use ::http::{HeaderMap, HeaderName, StatusCode};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::access_log::{AccessLog, Entry, Headers, Origin};
use super::metrics::{EntryPointScope, Metrics, Observation, QueueRejection, Scope, ServiceScope};
use crate::config::dynamic::ObservabilitySwitches;
use crate::http::{Body, BodyError, ErrorKind, Exchange, Protocol, Response, Tail};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What is recorded of the requests of one router, resolved when it is built.
#[derive(Debug, Default)]
pub struct RouteScopes {
    /// The router's counters.
    pub router: Option<Arc<Scope>>,
    /// The counters of its service, for requests that reach it.
    pub service: Option<Arc<ServiceScope>>,
    /// Its own switches; an absent one means the entry point's.
    pub switches: ObservabilitySwitches,
}

impl RouteScopes {
    /// Makes `exchange` count for this router.
    pub fn enter(self: &Arc<Self>, exchange: &Exchange) {
        *exchange.scopes.borrow_mut() = Some(Arc::<Self>::clone(self));
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

    /// Begins the record of a request. `headers` are those of its head, after
    /// headers of untrusted clients were removed.
    pub fn start(self: &Arc<Self>, exchange: &Rc<Exchange>, headers: &HeaderMap) -> Finish {
        exchange.protocol.set(protocol(headers));
        let captured = self.capture(exchange, headers);
        Finish(Some(Open {
            recorder: Arc::clone(self),
            exchange: Rc::clone(exchange),
            captured,
        }))
    }

    fn capture(&self, exchange: &Exchange, headers: &HeaderMap) -> Captured {
        let mut captured = Captured {
            labels: self.label_values(headers),
            ..Captured::default()
        };
        if let Some(log) = &self.access_log {
            exchange
                .wants_origin_headers
                .set(log.wants_response_headers());
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
    fn finish(&self, exchange: &Exchange, captured: Captured) {
        let status = exchange.status.get().unwrap_or_else(given_up);
        let duration = exchange.started.elapsed();
        let scopes = exchange.scopes.take();
        let route = scopes
            .as_ref()
            .and_then(|scopes| scopes.downcast_ref::<RouteScopes>());
        let default = ObservabilitySwitches::default();
        let own = route.map_or(&default, |route| &route.switches);
        let is_counted = own.metrics.or(self.switches.metrics) != Some(false);
        if is_counted && (!exchange.is_internal.get() || self.counts_internals) {
            self.count(exchange, &captured, route, status, duration);
        }
        let is_logged = own.access_logs.or(self.switches.access_logs) != Some(false);
        if is_logged && let Some(log) = &self.access_log {
            write(log, exchange, captured, status, duration);
        }
    }

    fn count(
        &self,
        exchange: &Exchange,
        captured: &Captured,
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
            header_values: &captured.labels,
        };
        if let Some(scope) = &self.entry_point {
            scope.record(&observation);
        }
        if let Some(router) = route.and_then(|route| route.router.as_ref()) {
            router.record(&observation);
        }
        let service = route.and_then(|route| route.service.as_ref());
        let is_reached = exchange.service.borrow().is_some();
        if let Some(service) = service.filter(|_| is_reached) {
            service.record(&observation);
            service.retried(exchange.retries.get());
            service.waited(exchange.queue_wait.get());
            if let Some(reason) = captured.rejection {
                service.rejected(reason);
            }
        }
    }
}

/// What Traefik calls the protocol of a request with these headers.
fn protocol(headers: &HeaderMap) -> Protocol {
    if lists(headers, &CONNECTION, "upgrade") && lists(headers, &UPGRADE, "websocket") {
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
    status: StatusCode,
    duration: Duration,
) {
    let is_kept = !exchange.is_internal.get() || log.adds_internals();
    if !is_kept || !log.wants(status, exchange.retries.get(), duration) {
        return;
    }
    let origin_headers = exchange.origin_headers.take();
    let origin = exchange.origin_status.get().map(|status| Origin {
        status,
        duration: exchange.origin_duration.get(),
        bytes: exchange.origin_bytes.get(),
    });
    log.submit(Entry {
        started_at: exchange.started_at,
        duration,
        count: captured.count,
        entry_point: Arc::clone(&exchange.connection.entry_point),
        router: exchange.router.take(),
        service: exchange.service.take(),
        server: exchange.server.take(),
        client: exchange.connection.client,
        forwarded_for: captured.forwarded_for.filter(|value| !value.is_empty()),
        user: exchange.user.take(),
        host: Arc::clone(&exchange.host),
        method: exchange.method.clone(),
        target: Arc::clone(&exchange.target),
        keep_query: log.keeps_query(),
        version: exchange.version,
        tls: exchange.connection.tls.clone(),
        request_bytes: exchange.request_bytes.get(),
        status,
        response_bytes: exchange.response_bytes.get(),
        origin,
        retries: exchange.retries.get(),
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
    count: u64,
    forwarded_for: Option<HeaderValue>,
    labels: Vec<HeaderValue>,
    request: Headers,
    downstream: Headers,
    rejection: Option<QueueRejection>,
}

/// Records its request when it is dropped. Held by the request's future until
/// there is a response, then by the response.
#[derive(Debug)]
#[must_use = "dropping it ends the request's record"]
pub struct Finish(Option<Open>);

#[derive(Debug)]
struct Open {
    recorder: Arc<Recorder>,
    exchange: Rc<Exchange>,
    captured: Captured,
}

impl Finish {
    /// Lets `response` carry the record to its end, and counts its bytes.
    pub fn track(mut self, response: Response) -> Response {
        let Some(open) = &mut self.0 else {
            return response;
        };
        open.note(&response);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.leave_to_tunnel();
            return response;
        }
        if response.body().is_end_stream() {
            return response;
        }
        response.map(|body| Body::new(Tracked { body, finish: self }))
    }

    /// The record is written when the last holder of the exchange, which is the
    /// tunnel, lets go of it.
    fn leave_to_tunnel(mut self) {
        if let Some(open) = self.0.take() {
            let (recorder, captured) = (open.recorder, open.captured);
            let tail = Tail::new(move |exchange| recorder.finish(exchange, captured));
            *open.exchange.tail.borrow_mut() = Some(tail);
        }
    }

    fn count(&self, bytes: usize) {
        if let Some(open) = &self.0 {
            let sum = &open.exchange.response_bytes;
            sum.set(sum.get().saturating_add(bytes as u64));
        }
    }
}

impl Open {
    fn note(&mut self, response: &Response) {
        self.exchange.status.set(Some(response.status()));
        self.captured.rejection = match response.extensions().get() {
            Some(ErrorKind::QueueFull) => Some(QueueRejection::Full),
            Some(ErrorKind::QueueTimeout) => Some(QueueRejection::Timeout),
            _ => None,
        };
        if let Some(log) = &self.recorder.access_log {
            self.captured.downstream = log.response_headers(response.headers());
        }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            open.recorder.finish(&open.exchange, open.captured);
        }
    }
}

/// A response's body that counts itself and carries the record.
struct Tracked {
    body: Body,
    finish: Finish,
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(part))) => {
                self.finish.count(part.data_ref().map_or(0, Bytes::len));
                if self.body.is_end_stream() {
                    self.finish = Finish(None);
                }
            }
            Poll::Ready(None | Some(Err(_))) => self.finish = Finish(None),
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
