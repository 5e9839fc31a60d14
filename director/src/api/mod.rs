//! How a running director is looked at, and told.

pub mod gorb;

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Method;
use http_body_util::combinators::UnsyncBoxBody;

/// What an answer carries.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer of the API.
pub type Response = http::Response<Body>;

/// Paths that another part answers, beside those of the API itself.
pub trait Routes: Send + Sync {
    /// Answers a request, or says by nothing that the path is not its own.
    fn handle(&self, method: &Method, path: &str, body: Bytes) -> Option<BoxFuture<'_, Response>>;

    /// Metrics of its own in Prometheus' text form, added to `/metrics`.
    fn metrics(&self) -> String {
        String::new()
    }
}
