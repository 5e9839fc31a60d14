//! Answers: JSON, text, and errors as `{"error": words}`.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde::Serialize;

use super::types::Problem;

/// What an answer carries.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer of the API.
pub type Response = http::Response<Body>;

/// An answer in JSON. Nothing of it is to be kept by caches.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => typed(status, "application/json", text.into()),
        Err(reason) => {
            tracing::error!(error = %reason, "An answer of the API can't be written as JSON");
            let words = Bytes::from_static(br#"{"error":"the answer can't be written"}"#);
            typed(StatusCode::INTERNAL_SERVER_ERROR, "application/json", words)
        }
    }
}

/// An error, in words.
pub fn error(status: StatusCode, words: impl Into<String>) -> Response {
    let error = words.into();
    json(status, &Problem { error })
}

/// An answer of this type.
pub(super) fn typed(status: StatusCode, content: &'static str, body: Bytes) -> Response {
    with_body(status, content, Full::new(body).boxed_unsync())
}

/// An answer whose body comes bit by bit.
pub(super) fn with_body(status: StatusCode, content: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The path is there, the method is not.
pub(super) fn wrong_method(allowed: &'static str) -> Response {
    let words = format!("this path only knows {allowed}");
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, words);
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(ALLOW, allowed);
    response
}
