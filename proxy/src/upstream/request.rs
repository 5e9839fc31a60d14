//! A request in the form in which hyper sends it to an HTTP/2 server.
//!
//! Sets the target and the length (made from the body itself; what the client
//! wrote about it is dropped), wraps the body so that its progress can be seen
//! from outside, and keeps what is needed to hand the request back when the
//! server never got it. What requests of both protocols have in common is here
//! as well.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::io;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use ::http::header::{
    CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use ::http::request::Parts;
use ::http::uri::{self, Authority, PathAndQuery};
use ::http::{Extensions, Method, Uri, Version};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::address::ServerUrl;
use super::http1::has_usually_a_body;
use crate::http::client_lines::settle_to_send;
use crate::http::{Body, BodyError, ErrorKind, Exchange, ProxyError, Request};

/// A request as hyper takes it, and the handle on it that stays here.
pub(super) struct Prepared {
    pub(super) request: ::http::Request<Outgoing>,
    pub(super) sending: Rc<Sending>,
}

/// What stays here of a request under way.
pub(super) struct Kept {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    extensions: Extensions,
    sending: Rc<Sending>,
}

/// The body of a request under way, seen from both of its ends.
pub(super) struct Sending {
    body: RefCell<Body>,
    exchange: Rc<Exchange>,
    /// What is left of an announced length.
    left: Cell<Option<u64>>,
    is_touched: Cell<bool>,
    is_done: Cell<bool>,
    fault: Cell<Option<ErrorKind>>,
}

/// The body of a request as hyper takes it.
pub(super) struct Outgoing(Rc<Sending>);

/// Makes `request` ready for `url`.
pub(super) fn prepare(
    mut request: Request,
    url: &ServerUrl,
) -> Result<(Prepared, Kept), (ProxyError, Box<Request>)> {
    let uri = match target(&request.head, url) {
        Ok(uri) => uri,
        Err(error) => {
            let error = ProxyError::new(ErrorKind::BadRequest).because(error);
            return Err((error, Box::new(request)));
        }
    };
    settle_to_send(&mut request);
    let Request {
        mut head,
        body,
        exchange,
    } = request;
    let headers = head.headers.clone();
    let extensions = mem::take(&mut head.extensions);
    let uri = mem::replace(&mut head.uri, uri);
    let version = mem::replace(&mut head.version, Version::HTTP_2);
    if version == Version::HTTP_2 {
        join_cookies(&mut head.headers);
    }
    frame(&mut head, &body);
    head.headers.remove(HOST);
    let sending = Rc::new(Sending::new(body, exchange));
    let kept = Kept {
        method: head.method.clone(),
        uri,
        version,
        headers,
        extensions,
        sending: Rc::clone(&sending),
    };
    let request = ::http::Request::from_parts(head, Outgoing(Rc::clone(&sending)));
    Ok((Prepared { request, sending }, kept))
}

/// The target, with the host in it.
fn target(head: &Parts, url: &ServerUrl) -> Result<Uri, Box<dyn Error + Send + Sync>> {
    let mut parts = uri::Parts::default();
    parts.path_and_query = Some(match head.uri.path_and_query() {
        Some(path) if !path.as_str().is_empty() => path.clone(),
        _ => PathAndQuery::from_static("/"),
    });
    parts.scheme = Some(url.scheme().pseudo());
    parts.authority = Some(match head.headers.get(HOST) {
        Some(host) => Authority::try_from(host.as_bytes())?,
        None => url.uri_authority().clone(),
    });
    Ok(Uri::from_parts(parts)?)
}

/// HTTP/2 clients may cut their cookies up; one piece is as good for a server.
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<_> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if crumbs.len() < 2 {
        return;
    }
    // Valid parts make a valid whole.
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}

/// One length, if there is any, and one that is true.
fn frame(head: &mut Parts, body: &Body) {
    let was_sized = head.headers.remove(CONTENT_LENGTH).is_some();
    head.headers.remove(TRANSFER_ENCODING);
    if body.is_end_stream() {
        if was_sized || has_usually_a_body(&head.method) {
            head.headers
                .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    } else if let Some(length) = body.size_hint().exact() {
        head.headers.insert(CONTENT_LENGTH, length.into());
    }
}

/// Whether sending the request twice does what sending it once does: by its
/// method (RFC 9110 §9.2.2), or because its sender says so.
pub fn is_idempotent(head: &Parts) -> bool {
    const KEYS: [HeaderName; 2] = [
        HeaderName::from_static("idempotency-key"),
        HeaderName::from_static("x-idempotency-key"),
    ];
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE];
    safe.contains(&head.method)
        || [Method::PUT, Method::DELETE].contains(&head.method)
        || KEYS.iter().any(|key| head.headers.contains_key(key))
}

impl Kept {
    /// The request as it came, if nothing of its body is gone.
    pub(super) fn restore(self) -> Option<Request> {
        if self.sending.is_touched.get() && !self.sending.body.borrow_mut().rewind() {
            return None;
        }
        let (mut head, ()) = ::http::Request::new(()).into_parts();
        head.method = self.method;
        head.uri = self.uri;
        head.version = self.version;
        head.headers = self.headers;
        head.extensions = self.extensions;
        Some(Request {
            head,
            body: self.sending.body.replace(Body::empty()),
            exchange: Rc::clone(&self.sending.exchange),
        })
    }

    pub(super) fn sending(&self) -> &Sending {
        &self.sending
    }

    /// The body that was sent, unless some of it is still on its way.
    pub(super) fn sent(&self) -> Option<Body> {
        let is_done = self.sending.is_done();
        is_done.then(|| self.sending.body.replace(Body::empty()))
    }

    pub(super) fn method(&self) -> &Method {
        &self.method
    }
}

impl Sending {
    fn new(body: Body, exchange: Rc<Exchange>) -> Self {
        Self {
            left: Cell::new(body.size_hint().exact()),
            is_done: Cell::new(body.is_end_stream()),
            body: RefCell::new(body),
            exchange,
            is_touched: Cell::new(false),
            fault: Cell::new(None),
        }
    }

    pub(super) fn exchange(&self) -> &Rc<Exchange> {
        &self.exchange
    }

    /// Whether hyper has the whole body.
    pub(super) fn is_done(&self) -> bool {
        self.is_done.get()
    }

    /// What became of the client, if its body broke off.
    pub(super) fn fault(&self) -> Option<ErrorKind> {
        self.fault.get()
    }

    fn note(&self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        match frame {
            None => self.is_done.set(true),
            Some(Err(error)) => self.fault.set(Some(fault(error.as_ref()))),
            Some(Ok(frame)) => {
                self.is_touched.set(true);
                match frame.data_ref() {
                    Some(data) => self.note_data(data.len() as u64),
                    None => self.is_done.set(true),
                }
            }
        }
    }

    fn note_data(&self, length: u64) {
        let left = self.left.get().map(|left| left.saturating_sub(length));
        self.left.set(left);
        if left == Some(0) || self.body.borrow().is_end_stream() {
            self.is_done.set(true);
        }
    }
}

/// What a broken body says of the client: a middleware's own word if there is
/// one, else a guess from the way it broke.
pub(super) fn fault(error: &(dyn Error + 'static)) -> ErrorKind {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(known) = error.downcast_ref::<ProxyError>() {
            return known.kind;
        }
        if error
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_timeout)
        {
            return ErrorKind::ClientTimeout;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => ErrorKind::BadRequest,
                io::ErrorKind::TimedOut => ErrorKind::ClientTimeout,
                _ => ErrorKind::ClientGone,
            };
        }
        cause = error.source();
    }
    ErrorKind::ClientGone
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut *self.0.body.borrow_mut()).poll_frame(cx));
        self.0.note(frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.body.borrow().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.body.borrow().size_hint()
    }
}
