//! The load balancer: one server's slot, one upstream, one response.
//!
//! A request first gets a slot of a server, at once or by waiting; the slot then
//! lives as long as the response body (or the tunnel) does. A failure that
//! cannot have reached the application is tried again before the client hears of
//! it. It knows neither middlewares nor where its servers come from.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ::http::Uri;
use ::http::header::{HOST, UPGRADE};
use smallvec::SmallVec;
use tidegate_shared::report::Chain;
use tokio::time::timeout;
use tracing::debug;

use super::{Bound, Endpoint, Servers, Sticky};
use crate::balance::{Acquire, Ask, Rank, Refusal, ServerKey, Slot, Waiter};
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
    sticky: Option<Sticky>,
}

impl LoadBalancer {
    /// A load balancer over `servers`, which outlive it.
    pub fn new(settings: LoadBalancerSettings, servers: Arc<Servers>) -> Self {
        Self {
            settings,
            servers,
            sticky: None,
        }
    }

    /// The same, which keeps clients at their servers by a cookie.
    #[must_use]
    pub fn with_sticky(mut self, sticky: Option<Sticky>) -> Self {
        self.sticky = sticky;
        self
    }

    /// Sends a prepared request until a server answers or there is no point in
    /// going on.
    async fn forward(&self, request: &mut Request) -> Result<Response, ProxyError> {
        let mut trial = Trial::new();
        let sticky = self.sticky.as_ref();
        let bound = sticky.and_then(|sticky| sticky.bound(&request.head.headers));
        loop {
            let slot = match self.acquire(&request.exchange, bound, &trial.failed) {
                Ok(Acquire::Slot(slot)) => Ok(slot),
                // Boxed: most requests don't wait.
                Ok(Acquire::Wait(waiter)) => Box::pin(self.wait(&request.exchange, waiter)).await,
                Err(refusal) => Err(refused(refusal)),
            };
            // Nobody else is left: the failure tells more than that.
            let slot = slot.map_err(|error| trial.last_error.take().unwrap_or(error))?;
            let endpoint = slot.server().target();
            let original = self.address(request, &endpoint)?;
            let clock = request.exchange.origin_clock();
            let failure = match endpoint.upstream.send(request, trial.reuse).await {
                Ok(mut answer) => {
                    request.exchange.note_origin(&answer.response, clock);
                    if let Some(sticky) = sticky {
                        sticky.mark(answer.response.headers_mut(), slot.server(), bound);
                    }
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
            trial.judge(failure, request, slot.server().key())?;
            if let Some(original) = original {
                // The next server has a base path of its own.
                request.head.uri = *original;
            }
            request
                .exchange
                .retries
                .set(request.exchange.retries.get() + 1);
        }
    }

    /// Asks for a slot of a server that has not failed this request yet.
    fn acquire(
        &self,
        exchange: &Exchange,
        bound: Option<&Bound>,
        failed: &[ServerKey],
    ) -> Result<Acquire<Endpoint>, Refusal> {
        let arrival = exchange.started.saturating_duration_since(epoch());
        let priority = exchange.priority.get();
        let mut ask = Ask::new(Rank::new(priority.class, arrival, priority.offset));
        ask.bound = bound.map(Bound::server);
        ask.excluded = failed;
        self.servers.acquire(&ask)
    }

    async fn wait(
        &self,
        exchange: &Exchange,
        waiter: Waiter<Endpoint>,
    ) -> Result<Slot<Endpoint>, ProxyError> {
        exchange.enter_queue();
        let answer = match self.settings.queue_timeout {
            Some(limit) => timeout(limit, waiter).await,
            None => Ok(waiter.await),
        };
        exchange.leave_queue();
        match answer {
            Ok(answer) => answer.map_err(refused),
            Err(_) => Err(ErrorKind::QueueTimeout.into()),
        }
    }

    /// Addresses a request to a server. The target is returned that another
    /// server must see again, if this one has a path of its own.
    fn address(
        &self,
        request: &mut Request,
        endpoint: &Endpoint,
    ) -> Result<Option<Box<Uri>>, ProxyError> {
        *request.exchange.server.borrow_mut() = Some(Arc::clone(&endpoint.url));
        let url = endpoint.upstream.url();
        if !self.settings.pass_host_header {
            request.head.headers.insert(HOST, url.authority().clone());
        }
        if !endpoint.preserve_path || url.base_path().is_empty() {
            return Ok(None);
        }
        let original = Box::new(request.head.uri.clone());
        let path = format!("{}{}", url.base_path(), target::path(&request.head));
        target::set_path(&mut request.head, &path)?;
        Ok(Some(original))
    }
}

/// What has been tried for one request.
struct Trial {
    attempts: usize,
    failed: SmallVec<[ServerKey; MAX_ATTEMPTS]>,
    reuse: Reuse,
    last_error: Option<ProxyError>,
}

impl Trial {
    fn new() -> Self {
        Self {
            attempts: 0,
            failed: SmallVec::new(),
            reuse: Reuse::Allowed,
            last_error: None,
        }
    }

    /// Decides on a failure at one server: to try `request` again, or the end.
    fn judge(
        &mut self,
        failure: Failure,
        request: &Request,
        server: ServerKey,
    ) -> Result<(), ProxyError> {
        let Failure { error, is_whole } = failure;
        self.attempts += 1;
        if !is_whole || self.attempts >= MAX_ATTEMPTS {
            return Err(error);
        }
        match error.retry {
            Retry::Always => self.failed.push(server),
            // An old connection that died says nothing about its server.
            Retry::Idempotent if upstream::is_idempotent(&request.head) => {
                self.reuse = Reuse::Forbidden;
            }
            Retry::Idempotent | Retry::Never => return Err(error),
        }
        self.last_error = Some(error);
        Ok(())
    }
}

impl HttpService for LoadBalancer {
    fn call<'a>(&'a self, mut request: Request) -> ResponseFuture<'a> {
        *request.exchange.service.borrow_mut() = Some(Arc::clone(&self.settings.name));
        prepare(&mut request);
        // The one place where the request stays until its end.
        Box::pin(async move {
            let answer = self.forward(&mut request).await;
            answer.unwrap_or_else(|error| respond::error(&error))
        })
    }

    fn takes_lines(&self) -> bool {
        true
    }
}

/// Makes a client's request one of ours: our word about the client, and none of
/// what concerned only the client's connection.
fn prepare(request: &mut Request) {
    let head = &mut request.head;
    let exchange = &request.exchange;
    let connection = &exchange.connection;
    if exchange.lines.borrow().is_none() {
        forwarded::forward(head, connection, connection.appends_forwarded_for);
    }
    hop_by_hop::request(head.version, &mut head.headers);
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
