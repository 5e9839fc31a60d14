//! One request on a connection: refused, or passed to the service.
//!
//! Owns what is the same for HTTP/1 and HTTP/2: how a request is admitted and
//! refused, and what is answered for a service that panics; and [`Handler`], which
//! answers the requests of an HTTP/2 connection. It reads no body.

use std::future::ready;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ::http::StatusCode;
use ::http::request::Parts;
use futures_util::FutureExt;
use http_body::Body as _;
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::timeout_at;
use tracing::error;

use super::ConnectionEvents;
use super::body::{RequestBody, ResponseBody};
use super::state::{State, Ticket};
use crate::http::validate::{Valid, validate};
use crate::http::{
    Body, ConnectionInfo, ErrorKind, Exchange, Request, Response, ResponseFuture, SharedService,
    respond,
};

/// The response was not there in time. Its connection or stream is cut.
#[derive(Clone, Copy, Debug, Error)]
#[error("response took longer than the write timeout")]
pub(super) struct TooLate;

/// Answers the requests of one HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Handler {
    pub(super) service: SharedService,
    pub(super) events: Arc<dyn ConnectionEvents>,
    pub(super) connection: Rc<ConnectionInfo>,
    pub(super) state: Rc<State>,
    pub(super) max_requests: u64,
    pub(super) max_age: Option<Duration>,
}

impl Handler {
    /// Answers `request`. The part before the first await runs when the head is
    /// complete, so time limits begin there.
    pub(super) fn answer(
        self: Rc<Self>,
        request: hyper::Request<Incoming>,
    ) -> impl Future<Output = Result<hyper::Response<ResponseBody>, TooLate>> {
        let ticket = self.state.begin_request();
        if self.is_last(&ticket) {
            self.state.set_last();
        }
        let work = self.begin(request, &ticket);
        async move {
            let work = AssertUnwindSafe(work).catch_unwind();
            let outcome = match ticket.write_until {
                // Boxed: hyper keeps room for this future as long as the stream lives.
                Some(at) => Box::pin(timeout_at(at, work)).await.map_err(|_| TooLate)?,
                None => work.await,
            };
            let response = match outcome {
                Ok(response) => check_switch(response, false),
                Err(_) => panicked(&self.connection, self.events.as_ref()),
            };
            Ok(response.map(|body| ResponseBody::new(body, ticket)))
        }
    }

    fn is_last(&self, ticket: &Ticket) -> bool {
        (self.max_requests > 0 && ticket.count >= self.max_requests)
            || self.max_age.is_some_and(|limit| self.state.age() > limit)
    }

    /// Does what can be done at once; most of what a request needs is known now.
    fn begin(&self, request: hyper::Request<Incoming>, ticket: &Ticket) -> ResponseFuture<'static> {
        let (mut head, body) = request.into_parts();
        let exchange = match admit(&self.connection, &mut head) {
            Ok(exchange) => exchange,
            Err(refusal) => return Box::pin(ready(refusal.response())),
        };
        let body = if body.is_end_stream() {
            Body::empty()
        } else {
            Body::new(RequestBody::new(body, ticket, Rc::clone(&exchange)))
        };
        let request = Request {
            head,
            body,
            exchange,
        };
        let start = AssertUnwindSafe(|| self.service.start(&self.service, request));
        catch_unwind(start).unwrap_or_else(|_| {
            let response = panicked(&self.connection, self.events.as_ref());
            Box::pin(ready(response))
        })
    }
}

/// What a request is answered that goes to no service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    /// Whether nobody can be sure where the next request begins.
    pub(super) is_fatal: bool,
}

impl Refusal {
    /// A refusal of a request that may be read in two ways.
    pub(super) fn new(status: StatusCode) -> Self {
        Self {
            status,
            is_fatal: true,
        }
    }

    pub(super) fn response(self) -> Response {
        if self.is_fatal {
            respond::status_text(self.status)
        } else {
            respond::empty(self.status)
        }
    }
}

/// Checks a request's head and begins its exchange.
pub(super) fn admit(
    connection: &Rc<ConnectionInfo>,
    head: &mut Parts,
) -> Result<Rc<Exchange>, Refusal> {
    match validate(head) {
        Ok(Valid::Request { host }) => {
            Ok(Rc::new(Exchange::new(Rc::clone(connection), head, host)))
        }
        Ok(Valid::Asterisk) => Err(Refusal {
            status: StatusCode::OK,
            is_fatal: false,
        }),
        Err(status) => Err(Refusal::new(status)),
    }
}

/// What is answered for a service that panicked.
pub(super) fn panicked(connection: &ConnectionInfo, events: &dyn ConnectionEvents) -> Response {
    error!(entry_point = %connection.entry_point, "A service panicked");
    events.panicked();
    respond::error(&ErrorKind::Internal.into())
}

/// Nobody switches protocols unasked.
pub(super) fn check_switch(response: Response, may_switch: bool) -> Response {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && !may_switch {
        respond::error(&ErrorKind::BadResponse.into())
    } else {
        response
    }
}
