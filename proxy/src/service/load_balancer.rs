//! The load balancer: one server's slot, one upstream, one response.
//!
//! A request first gets a slot of a server, at once or by waiting; the slot then
//! lives until the server has sent its response (or as long as the tunnel does).
//! A failure that cannot have reached the application, and what else the user asks
//! for, is tried again before the client hears of it. It knows neither middlewares
//! nor where its servers come from.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ::http::Uri;
use ::http::header::{HOST, HeaderValue, SET_COOKIE, UPGRADE};
use tidegate_shared::report::Chain;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{timeout, timeout_at};
use tracing::debug;

use super::read_ahead::read_ahead;
use super::retry_on::RetryOn;
use super::trial::Trial;
use super::{Bound, Endpoint, Servers, Sticky};
use crate::balance::{Acquire, Ask, Rank, Refusal, ServerKey, Slot, Strategy, Waiter};
use crate::http::{
    Declined, ErrorKind, Exchange, HttpService, ProxyError, Request, Response, ResponseFuture,
    Termination, forwarded, hop_by_hop, respond, target,
};
use crate::upstream::Answer;

/// What a load balancer obeys besides its servers.
#[derive(Clone, Debug)]
pub struct LoadBalancerSettings {
    /// The service's full name.
    pub name: Arc<str>,
    /// Whether servers see the client's Host header.
    pub pass_host_header: bool,
    /// How a server is chosen.
    pub strategy: Strategy,
    /// Longest wait for a slot; absent means no limit.
    pub queue_timeout: Option<Duration>,
    /// Longest wait for a server when there is none; absent means not at all.
    pub hold_time: Option<Duration>,
    /// The answer when the queue is full.
    pub when_full: Declined,
    /// The answer when the wait was too long.
    pub when_late: Declined,
    /// Whether a request leaves with its client as long as it waits. If not, it is
    /// sent for nobody when its turn comes (HAProxy without `abortonclose`).
    pub leaves_with_client: bool,
    /// Whether a request may go elsewhere when its own server's queue is full.
    pub redispatch: bool,
    /// Bytes that are read ahead of a client from a server with a limit.
    pub response_buffer: usize,
    /// How often a request is sent again at most (HAProxy's `retries`).
    pub retries: u32,
    /// After what.
    pub retry_on: RetryOn,
}

/// Spreads requests over the servers of one service.
#[derive(Debug)]
pub struct LoadBalancer(Arc<Core>);

/// What requests hold on to that go on without their clients.
#[derive(Debug)]
struct Core {
    settings: LoadBalancerSettings,
    servers: Arc<Servers>,
    sticky: Option<Sticky>,
}

impl LoadBalancer {
    /// A load balancer over `servers`, which outlive it.
    pub fn new(settings: LoadBalancerSettings, servers: Arc<Servers>) -> Self {
        Self::with_sticky(settings, servers, None)
    }

    /// The same, which keeps clients at their servers by a cookie.
    pub fn with_sticky(
        settings: LoadBalancerSettings,
        servers: Arc<Servers>,
        sticky: Option<Sticky>,
    ) -> Self {
        Self(Arc::new(Core {
            settings,
            servers,
            sticky,
        }))
    }
}

impl Core {
    async fn answer(&self, request: &mut Request) -> Response {
        let mut cookie = None;
        let answer = self.forward(request, &mut cookie).await;
        let mut response = answer.unwrap_or_else(|error| respond::error(&error));
        if let Some(cookie) = cookie {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        response
    }

    /// Sends a prepared request until a server answers or there is no point in
    /// going on. Leaves in `cookie` what binds the client to the last server, which
    /// it gets with a failure too (as in Traefik).
    async fn forward(
        &self,
        request: &mut Request,
        cookie: &mut Option<HeaderValue>,
    ) -> Result<Response, ProxyError> {
        let mut trial = Trial::new(&self.settings.retry_on, self.settings.retries, request);
        let sticky = self.sticky.as_ref();
        let bound = sticky.and_then(|sticky| sticky.bound(&request.head.headers));
        loop {
            let slot = match self.acquire(&request.exchange, bound, &trial.failed) {
                Ok(Acquire::Slot(slot)) => Ok(slot),
                // Boxed: most requests don't wait.
                Ok(Acquire::Wait(waiter)) => Box::pin(self.wait(&request.exchange, waiter)).await,
                Err(refusal) => Err(self.refused(refusal)),
            };
            // Nobody else is left: the failure tells more than that.
            let slot = slot.map_err(|error| trial.last_error.take().unwrap_or(error))?;
            let endpoint = slot.server().target();
            let original = self.address(request, &endpoint)?;
            if let Some(sticky) = sticky {
                *cookie = sticky.cookie(slot.server(), bound);
            }
            let exchange = &request.exchange;
            trial.begin(exchange);
            exchange.termination.set(Termination::CLIENT_BEFORE_HEAD);
            let clock = exchange.origin_clock();
            let is_timed = self.settings.strategy == Strategy::LeastTime;
            let began = is_timed.then(Instant::now);
            match endpoint.upstream.send(request, trial.reuse).await {
                Ok(answer) => {
                    request.exchange.note_origin(&answer.response, clock);
                    endpoint.note_answer(answer.response.status());
                    if let Some(began) = began {
                        slot.server().note_time(began.elapsed());
                    }
                    if !trial.rejects(&answer.response, request) {
                        return Ok(self.deliver(answer, slot));
                    }
                }
                Err(failure) => {
                    endpoint.note_failure(&failure.error);
                    debug!(
                        service = %self.settings.name,
                        server = %slot.server().id(),
                        error = %Chain(&failure.error),
                        "Request to a server failed"
                    );
                    trial.judge(failure, request, slot.server().key())?;
                }
            }
            if let Some(original) = original {
                // The next server has a base path of its own.
                request.head.uri = *original;
            }
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
        ask.redispatch = self.settings.redispatch;
        if self.settings.strategy == Strategy::HighestRandomWeight {
            ask.key = client_key(exchange.client_ip());
        }
        self.servers.acquire(&ask)
    }

    async fn wait(
        &self,
        exchange: &Exchange,
        waiter: Waiter<Endpoint>,
    ) -> Result<Slot<Endpoint>, ProxyError> {
        exchange.enter_queue();
        let answer = self.turn(waiter).await;
        exchange.leave_queue();
        answer
    }

    /// Awaits a request's turn: as long as the queue allows, and where there is no
    /// server as long as one is hoped for.
    async fn turn(&self, mut waiter: Waiter<Endpoint>) -> Result<Slot<Endpoint>, ProxyError> {
        let began = tokio::time::Instant::now();
        if let Some(hold_time) = self.settings.hold_time
            && !self.servers.has_server()
        {
            if let Ok(answer) = timeout(hold_time, &mut waiter).await {
                return answer.map_err(|refusal| self.refused(refusal));
            }
            if !self.servers.has_server() {
                return Err(ErrorKind::NoServer.into());
            }
        }
        let answer = match self.settings.queue_timeout {
            Some(limit) => timeout_at(began + limit, waiter).await,
            None => Ok(waiter.await),
        };
        match answer {
            Ok(answer) => answer.map_err(|refusal| self.refused(refusal)),
            Err(_) => {
                let late = ProxyError::new(ErrorKind::QueueTimeout);
                Err(late.decline(self.settings.when_late))
            }
        }
    }

    fn refused(&self, refusal: Refusal) -> ProxyError {
        match refusal {
            Refusal::QueueFull => {
                ProxyError::new(ErrorKind::QueueFull).decline(self.settings.when_full)
            }
            _ => ErrorKind::NoServer.into(),
        }
    }

    /// Addresses a request to a server. The target is returned that another
    /// server must see again, if this one has a path of its own.
    fn address(
        &self,
        request: &mut Request,
        endpoint: &Endpoint,
    ) -> Result<Option<Box<Uri>>, ProxyError> {
        request.exchange.enter_server(&endpoint.url);
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

    /// The response with its slot, which ends when the server has sent all, or
    /// with the tunnel.
    fn deliver(&self, answer: Answer, slot: Slot<Endpoint>) -> Response {
        let mut response = answer.response;
        let Some(tunnel) = answer.upgraded else {
            hop_by_hop::response(response.headers_mut());
            let is_limited = slot.server().limits().max_in_flight > 0;
            let ahead = if is_limited {
                self.settings.response_buffer
            } else {
                0
            };
            return response.map(|body| read_ahead(body, slot, ahead));
        };
        let protocol = response.headers_mut().remove(UPGRADE);
        hop_by_hop::response(response.headers_mut());
        if let Some(protocol) = protocol {
            hop_by_hop::set_upgrade(response.headers_mut(), protocol);
        }
        tunnel.run(slot);
        response
    }
}

impl HttpService for LoadBalancer {
    fn call<'a>(&'a self, mut request: Request) -> ResponseFuture<'a> {
        let core = &self.0;
        request.exchange.enter_service(&core.settings.name);
        prepare(&mut request);
        if !core.settings.leaves_with_client {
            return Box::pin(answer_anyhow(Arc::clone(core), request));
        }
        // The one place where the request stays until its end.
        Box::pin(async move { core.answer(&mut request).await })
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

/// Answers a request for nobody, if need be: it goes on when its client has left.
async fn answer_anyhow(core: Arc<Core>, mut request: Request) -> Response {
    let (tell, told) = oneshot::channel();
    spawn_local(async move {
        let response = core.answer(&mut request).await;
        // The client may have left.
        let _ = tell.send(response);
    });
    told.await
        .unwrap_or_else(|_| respond::error(&ErrorKind::Internal.into()))
}

/// What stands for a client's address wherever it comes in: 64-bit FNV-1a.
fn client_key(client: IpAddr) -> u64 {
    let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    match client.to_canonical() {
        IpAddr::V4(client) => client.octets().iter().fold(0xcbf2_9ce4_8422_2325, hash),
        IpAddr::V6(client) => client.octets().iter().fold(0xcbf2_9ce4_8422_2325, hash),
    }
}

/// The zero of the queue's order of arrival. What began before it counts as
/// arriving with it.
fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}
