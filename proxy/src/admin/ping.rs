//! `ping@internal`: whether the process serves, for load balancers in front.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::http::StatusCode;

use super::reply::Reply;
use crate::config::startup::Ping;
use crate::http::{HttpService, Request, ResponseFuture, respond};

/// Whether the process is about to stop. Clones share one answer.
#[derive(Clone, Debug, Default)]
pub struct Terminating(Arc<AtomicBool>);

impl Terminating {
    /// From now on the process is stopping.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Answers 200, and another status while the process stops.
#[derive(Clone, Debug)]
pub struct PingService {
    terminating: Terminating,
    status_then: StatusCode,
}

impl PingService {
    /// A status that is none (below 100 or above 999) becomes 503.
    pub fn new(config: &Ping, terminating: Terminating) -> Self {
        let status = StatusCode::from_u16(config.terminating_status_code);
        Self {
            terminating,
            status_then: status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

impl HttpService for PingService {
    fn call<'a>(&'a self, request: Request) -> ResponseFuture<'a> {
        let status = if self.terminating.has_begun() {
            self.status_then
        } else {
            StatusCode::OK
        };
        Box::pin(async move {
            let text = respond::name(status);
            let reply = Reply::new(status, "text/plain; charset=utf-8", text);
            reply.respond(&request.head.method)
        })
    }
}
