//! Answers of the services in here, made on any thread.

use std::sync::Arc;

use ::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName,
    HeaderValue, LOCATION, X_CONTENT_TYPE_OPTIONS,
};
use ::http::{HeaderMap, Method, StatusCode};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::http::{Body, ErrorKind, Response, respond};

/// The header with the number of a list's next page.
const NEXT_PAGE: HeaderName = HeaderName::from_static("x-next-page");

/// How many costly answers of one service are made at once.
const AT_ONCE: usize = 2;

/// An answer that is not a [`Response`] yet, because those stay on one thread.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    pub(super) fn new(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Self {
            status,
            headers,
            body: body.into(),
        }
    }

    /// A JSON value, with an end of line as Go's encoder writes it.
    pub(super) fn json(status: StatusCode, value: &Value) -> Self {
        Self::new(status, "application/json", format!("{value}\n"))
    }

    /// A page of a list.
    pub(super) fn list(items: Vec<Value>, next_page: usize) -> Self {
        let mut reply = Self::json(StatusCode::OK, &Value::Array(items));
        reply.headers.insert(NEXT_PAGE, next_page.into());
        reply
    }

    /// A complaint in Traefik's form.
    pub(super) fn complaint(status: StatusCode, message: &str) -> Self {
        Self::json(status, &json!({ "message": message }))
    }

    /// An HTML page under a content security policy.
    pub(super) fn page(html: &'static str, policy: HeaderValue) -> Self {
        let mut reply = Self::new(StatusCode::OK, "text/html; charset=utf-8", html);
        let headers = [
            (CONTENT_SECURITY_POLICY, policy),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ];
        reply.headers.extend(headers);
        reply
    }

    /// A redirection with 302.
    pub(super) fn redirect(location: HeaderValue) -> Self {
        let mut reply = Self::new(StatusCode::FOUND, "text/plain; charset=utf-8", "");
        reply.headers.insert(LOCATION, location);
        reply
    }

    /// The answer to methods other than GET and HEAD.
    pub(super) fn method_not_allowed() -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let mut reply = Self::new(status, "text/plain; charset=utf-8", "");
        let allowed = HeaderValue::from_static("GET, HEAD");
        reply.headers.insert(ALLOW, allowed);
        reply
    }

    /// The response to a request with `method`; one to HEAD has only the length of its body.
    pub(super) fn respond(self, method: &Method) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if method == Method::HEAD {
            let length = self.body.len().into();
            response.headers_mut().insert(CONTENT_LENGTH, length);
        } else {
            *response.body_mut() = Body::full(self.body);
        }
        response
    }
}

/// Whether a method only reads.
pub(super) fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// Makes costly answers on the runtime's blocking threads.
#[derive(Clone, Debug)]
pub(super) struct Desk(Arc<Semaphore>);

impl Default for Desk {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Desk {
    /// Runs `make` aside; nothing from it is a 404.
    pub(super) async fn answer(
        &self,
        method: &Method,
        make: impl FnOnce() -> Option<Reply> + Send + 'static,
    ) -> Response {
        let Ok(permit) = Arc::clone(&self.0).acquire_owned().await else {
            return respond::error(&ErrorKind::Internal.into());
        };
        let made = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            make()
        });
        match made.await {
            Ok(Some(reply)) => reply.respond(method),
            Ok(None) => respond::error(&ErrorKind::NoRouter.into()),
            Err(_) => respond::error(&ErrorKind::Internal.into()),
        }
    }
}
