//! The load balancer: one server's slot, one upstream, one response.
//!
//! A request first gets a slot of a server, at once or by waiting; the slot then
//! lives as long as the response body (or the tunnel) does. A failure that
//! cannot have reached the application is tried again before the client hears of
//! it. It knows neither middlewares nor where its servers come from.

use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ::http::header::{HOST, UPGRADE};
use smallvec::SmallVec;
use tidegate_shared::report::Chain;
use tokio::time::timeout;
use tracing::debug;

use super::{Endpoint, Servers};
use crate::balance::{Acquire, Ask, Rank, Refusal, ServerKey, Slot};
use crate::http::{
    ErrorKind, Exchange, HttpService, ProxyError, Request, Response, ResponseFuture, Retry,
    forwarded, hop_by_hop, respond, target,
};
use crate::upstream::{self, Answer, Failure, Reuse};

/// How often a request is sent at most, the first time included. HAProxy makes
/// three retries, most of them to the same server; another one is the better bet.
const MAX_ATTEMPTS: usize = 3;

/// What a load balancer obeys besides its servers.
#[derive(Clone, Debug)]
pub struct LoadBalancerSettings {
    /// The service's full name.
    pub name: Arc<str>,
    /// Whether servers see the client's Host header.
    pub pass_host_header: bool,
    /// Longest wait for a slot; absent means no limit.
    pub queue_timeout: Option<Duration>,
}

/// Spreads requests over the servers of one service.
#[derive(Debug)]
pub struct LoadBalancer {
    settings: LoadBalancerSettings,
    servers: Arc<Servers>,
}

impl LoadBalancer {
    /// A load balancer over `servers`, which outlive it.
    pub fn new(settings: LoadBalancerSettings, servers: Arc<Servers>) -> Self {
        Self { settings, servers }
    }

    async fn forward(&self, mut request: Request) -> Result<Response, ProxyError> {
        let exchange = Rc::clone(&request.exchange);
        prepare(&mut request);
        let idempotent = upstream::is_idempotent(&request.head);
        let mut failed: SmallVec<[ServerKey; MAX_ATTEMPTS]> = SmallVec::new();
        let mut reuse = Reuse::Allowed;
        let mut last_error = None;
        for attempt in 1.. {
            let slot = match self.slot(&exchange, &failed).await {
                Ok(slot) => slot,
                // Nobody else is left: the failure tells more than that.
                Err(error) => return Err(last_error.unwrap_or(error)),
            };
            let began = Instant::now();
            let failure = match self.send(request, &slot, reuse).await {
                Ok(answer) => {
                    exchange.note_origin(&answer.response, began.elapsed());
                    return Ok(deliver(answer, slot));
                }
                Err(failure) => failure,
            };
            debug!(
                service = %self.settings.name,
                server = %slot.server().id(),
                error = %Chain(&failure.error),
                "Request to a server failed"
            );
            match failure.error.retry {
                Retry::Always => failed.push(slot.server().key()),
                // An old connection that died says nothing about its server.
                Retry::Idempotent if idempotent => reuse = Reuse::Forbidden,
                Retry::Idempotent | Retry::Never => return Err(failure.error),
            }
            let Some(returned) = failure.request.filter(|_| attempt < MAX_ATTEMPTS) else {
                return Err(failure.error);
            };
            request = *returned;
            exchange.retries.set(exchange.retries.get() + 1);
            last_error = Some(failure.error);
        }
        Err(ErrorKind::Internal.into())
    }

    /// Waits for a slot of a server that has not failed this request yet.
    async fn slot(
        &self,
        exchange: &Exchange,
        failed: &[ServerKey],
    ) -> Result<Slot<Endpoint>, ProxyError> {
        let arrival = exchange.started.saturating_duration_since(epoch());
        let mut ask = Ask::new(Rank::at(arrival));
        ask.excluded = failed;
        let waiter = match self.servers.acquire(&ask).map_err(refused)? {
            Acquire::Slot(slot) => return Ok(slot),
            Acquire::Wait(waiter) => waiter,
        };
        let began = Instant::now();
        let answer = match self.settings.queue_timeout {
            Some(limit) => timeout(limit, waiter).await,
            None => Ok(waiter.await),
        };
        exchange
            .queue_wait
            .set(exchange.queue_wait.get() + began.elapsed());
        match answer {
            Ok(answer) => answer.map_err(refused),
            Err(_) => Err(ErrorKind::QueueTimeout.into()),
        }
    }

    async fn send(
        &self,
        mut request: Request,
        slot: &Slot<Endpoint>,
        reuse: Reuse,
    ) -> Result<Answer, Failure> {
        let endpoint = slot.server().target();
        *request.exchange.server.borrow_mut() = Some(Arc::clone(&endpoint.url));
        let url = endpoint.upstream.url();
        if !self.settings.pass_host_header {
            request.head.headers.insert(HOST, url.authority().clone());
        }
        let path = target::path(&request.head);
        if !endpoint.preserve_path || url.base_path().is_empty() {
            return endpoint.upstream.send(request, reuse).await;
        }
        let original = request.head.uri.clone();
        let path = format!("{}{path}", url.base_path());
        if let Err(error) = target::set_path(&mut request.head, &path) {
            return Err(Failure {
                error,
                request: None,
            });
        }
        let mut answer = endpoint.upstream.send(request, reuse).await;
        if let Err(Failure {
            request: Some(returned),
            ..
        }) = &mut answer
        {
            // The next server has a base path of its own.
            returned.head.uri = original;
        }
        answer
    }
}

impl HttpService for LoadBalancer {
    fn call<'a>(&'a self, request: Request) -> ResponseFuture<'a> {
        *request.exchange.service.borrow_mut() = Some(Arc::clone(&self.settings.name));
        Box::pin(async move {
            self.forward(request)
                .await
                .unwrap_or_else(|error| respond::error(&error))
        })
    }
}

/// Makes a client's request one of ours: our word about the client, and none of
/// what concerned only the client's connection.
fn prepare(request: &mut Request) {
    let head = &mut request.head;
    let connection = &request.exchange.connection;
    let upgrade = hop_by_hop::upgrade_protocol(head.version, &head.headers);
    forwarded::forward(head, connection, connection.appends_forwarded_for);
    hop_by_hop::request(&mut head.headers);
    if let Some(protocol) = upgrade {
        hop_by_hop::set_upgrade(&mut head.headers, protocol);
    }
}

/// The response with its slot, which ends with the body or with the tunnel.
fn deliver(answer: Answer, slot: Slot<Endpoint>) -> Response {
    let mut response = answer.response;
    let Some(tunnel) = answer.upgraded else {
        hop_by_hop::response(response.headers_mut());
        return response.map(|body| body.hold(slot));
    };
    let protocol = response.headers_mut().remove(UPGRADE);
    hop_by_hop::response(response.headers_mut());
    if let Some(protocol) = protocol {
        hop_by_hop::set_upgrade(response.headers_mut(), protocol);
    }
    tunnel.run(slot);
    response
}

fn refused(refusal: Refusal) -> ProxyError {
    let kind = match refusal {
        Refusal::QueueFull => ErrorKind::QueueFull,
        _ => ErrorKind::NoServer,
    };
    kind.into()
}

/// The zero of the queue's order of arrival. What began before it counts as
/// arriving with it.
fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}
