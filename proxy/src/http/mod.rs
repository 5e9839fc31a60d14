//! Requests, responses and what is known about them.
//!
//! Owns the types that every layer above speaks: [`Request`], [`Response`],
//! [`Body`], the one service trait [`HttpService`], the [`Exchange`] that
//! collects what the access log and the metrics want to know, and
//! [`respond`], the only place where an error becomes a status and a body. It
//! knows neither configuration nor Docker, and picks no servers.

mod body;
pub mod chunked;
pub mod client_lines;
mod error;
mod exchange;
pub mod forwarded;
pub mod hop_by_hop;
pub mod memo;
pub mod respond;
pub mod target;
mod termination;
#[cfg(test)]
pub(crate) mod testing;
pub mod trust;
pub mod upgrade;
pub mod validate;

pub use body::{Body, BodyError};
pub use error::{ErrorKind, ProxyError, Retry, Side};
pub use exchange::{
    ConnectionInfo, Exchange, Finish, Observer, Priority, Protocol, TlsConnection, WantsOrigin,
};
pub use termination::{RetryCause, Termination};

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

/// A response on its way to the client.
pub type Response = ::http::Response<Body>;

/// A request on its way to a server.
#[derive(Debug)]
pub struct Request {
    /// Method, target, version, headers and extensions.
    pub head: ::http::request::Parts,
    /// The body, not yet read.
    pub body: Body,
    /// Where the request came from, and what became of it so far.
    pub exchange: Rc<Exchange>,
}

/// What a [`HttpService`] returns. It stays on the worker that it was made on.
pub type ResponseFuture<'a> = Pin<Box<dyn Future<Output = Response> + 'a>>;

/// Answers requests: a router's chain, a middleware, a load balancer.
///
/// Services are shared by all workers; their futures never leave one. There is
/// no error: whoever meets one turns it into a response by [`respond`], so that
/// the middlewares around it see what the client will see.
pub trait HttpService: fmt::Debug + Send + Sync {
    /// Answers `request`. Dropping the future gives the request up.
    fn call<'a>(&'a self, request: Request) -> ResponseFuture<'a>;

    /// The same for a caller that can't keep the service borrowed meanwhile.
    /// `this` is the service itself. One whose future needs nothing of it says so here.
    fn start(&self, this: &SharedService, request: Request) -> ResponseFuture<'static> {
        let this = Arc::clone(this);
        Box::pin(async move { this.call(request).await })
    }

    /// Whether it takes requests whose exchange still has `lines`, and sees to it
    /// that servers get them. Others find all headers where headers belong.
    fn takes_lines(&self) -> bool {
        false
    }
}

/// A service as it is handed around.
pub type SharedService = Arc<dyn HttpService>;
