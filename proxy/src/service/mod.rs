//! HTTP services: where a request ends up.
//!
//! Joins what is apart below: a balancer that knows no HTTP, and upstreams that
//! choose nothing. It knows neither middlewares nor where its servers come
//! from; `snapshot` builds it, the registry keeps its state over changes.

mod load_balancer;
mod sticky;

pub use load_balancer::{LoadBalancer, LoadBalancerSettings};
pub use sticky::{Bound, Sticky};

use std::sync::Arc;

use crate::balance::{Group, ServerState};
use crate::upstream::Upstream;

/// What stands behind a balancer's server.
#[derive(Debug)]
pub struct Endpoint {
    /// The server's URL as it was written, for logs, metrics and the API.
    pub url: Arc<str>,
    /// The way there.
    pub upstream: Arc<Upstream>,
    /// Whether the URL's path goes in front of the request's.
    pub preserve_path: bool,
}

/// The servers of one service, and the requests that wait for them.
pub type Servers = Group<Endpoint>;

/// One server of a service.
pub type Server = ServerState<Endpoint>;
