//! HTTP services: where a request ends up.
//!
//! Joins what is apart below: a balancer that knows no HTTP, and upstreams that
//! choose nothing. It knows neither middlewares nor where its servers come
//! from; `snapshot` builds it, the registry keeps its state over changes.

mod load_balancer;
mod read_ahead;
mod retry_on;
mod sticky;
#[cfg(test)]
mod tests;
mod trial;

pub use load_balancer::{LoadBalancer, LoadBalancerSettings};
pub use retry_on::{RetryOn, RetryOnError};
pub use sticky::{Bound, Sticky};

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ::http::StatusCode;

use crate::balance::{Group, ServerState};
use crate::health::{Room, Subject, Vital};
use crate::http::ProxyError;
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
    /// Its health, if anybody asks for it.
    pub vital: Option<Arc<Vital>>,
}

impl Endpoint {
    /// Says to its health that it has answered.
    pub fn note_answer(&self, status: StatusCode) {
        if let Some(vital) = &self.vital {
            vital.answered(status);
        }
    }

    /// Says to its health that a request to it failed.
    pub fn note_failure(&self, error: &ProxyError) {
        if let Some(vital) = &self.vital {
            vital.failed(error);
        }
    }
}

/// The time since some moment early in the life of the process, by which slow
/// starts go.
pub fn uptime() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// The servers of one service, and the requests that wait for them.
pub type Servers = Group<Endpoint>;

/// One server of a service.
pub type Server = ServerState<Endpoint>;

impl Subject for Server {
    fn set_up(&self, up: bool) {
        self.set_up_at(up, uptime());
    }

    /// A kept-alive connection may hold one of the server's workers as well as a
    /// request does.
    fn room(&self) -> Room {
        let limit = u64::from(self.limits().max_in_flight);
        if limit == 0 {
            return Room::Unlimited;
        }
        let idle = self.target().upstream.connections().idle;
        if u64::from(self.in_flight()).saturating_add(idle) < limit {
            Room::Some
        } else {
            Room::None
        }
    }
}
