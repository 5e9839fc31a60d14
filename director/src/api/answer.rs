//! From a request to its answer: who may, which path, and what it says.
//!
//! The order matters: the token is looked at before anything else is, the method
//! before the permission to change, and a body is read last, bounded in size and
//! time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tidegate_shared::shutdown::Shutdown;
use tokio::sync::{Semaphore, mpsc};

use super::picture::Picture;
use super::reply::{Response, error, json, typed, wrong_method};
use super::{Routes, ask, events};
use crate::config::{Secret, Settings};
use crate::metrics;
use crate::view::{Ask, Observed};

/// The largest body that is read, in bytes.
const LARGEST: usize = 64 << 10;

/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many answers are made at once: each holds a table as text.
const MAKERS: usize = 2;

/// How many may follow the events at once.
const FOLLOWERS: usize = 32;

/// What Prometheus expects of its text form.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What answers are made of.
pub(super) struct Context {
    pub(super) observed: Observed,
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) shutdown: Shutdown,
    pub(super) followers: Arc<Semaphore>,
    settings: Arc<Settings>,
    routes: Vec<Arc<dyn Routes>>,
    started: Instant,
    makers: Semaphore,
}

/// What those who come through a door may do.
#[derive(Debug)]
pub(super) struct Access {
    is_writable: bool,
    /// The digest of the token, so that nothing is learned of its length.
    token: Option<[u8; 32]>,
}

/// What a path of our own leads to.
enum Target {
    /// Something to read.
    Picture(fn(&Picture) -> Response),
    /// The metrics.
    Metrics,
    /// The events.
    Events,
    /// Something to do; its node comes as it was sent.
    Order(ask::Order, String),
}

impl Context {
    pub(super) fn new(
        settings: Arc<Settings>,
        observed: Observed,
        asks: mpsc::Sender<Ask>,
        routes: Vec<Arc<dyn Routes>>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            observed,
            asks,
            shutdown,
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
            settings,
            routes,
            started: Instant::now(),
            makers: Semaphore::new(MAKERS),
        }
    }

    /// Makes an answer where it may take its time.
    async fn make(&self, make: impl FnOnce(Picture) -> Response + Send + 'static) -> Response {
        // Nobody closes the semaphore.
        let _maker = self.makers.acquire().await;
        let picture = Picture::take(&self.observed, &self.settings, self.started);
        let made = tokio::task::spawn_blocking(move || make(picture)).await;
        made.unwrap_or_else(|reason| {
            tracing::error!(error = %reason, "An answer of the API could not be made");
            let words = "the answer could not be made; the log says why";
            error(StatusCode::INTERNAL_SERVER_ERROR, words)
        })
    }

    async fn metrics(&self) -> Response {
        let observed = self.observed.clone();
        let started = self.started;
        let routes = self.routes.clone();
        self.make(move |_| {
            let more: String = routes.iter().map(|it| it.metrics()).collect();
            let page = metrics::render(&observed, started, &more);
            typed(StatusCode::OK, EXPOSITION, page.into())
        })
        .await
    }
}

impl Access {
    /// Everything, to everybody.
    pub(super) fn full() -> Self {
        Self {
            is_writable: true,
            token: None,
        }
    }

    /// To those who bear the token, if there is one.
    pub(super) fn new(is_writable: bool, token: Option<&Secret>) -> Self {
        Self {
            is_writable,
            token: token.map(|token| Sha256::digest(&token.0).into()),
        }
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let Some(given) = headers.get(AUTHORIZATION).and_then(bearer) else {
            return false;
        };
        let given: [u8; 32] = Sha256::digest(given).into();
        token.ct_eq(&given).into()
    }

    /// Why nothing may be changed, if so. A page of a browser may not either,
    /// whatever site it is from: it would act in the operator's name.
    fn refusal(&self, headers: &HeaderMap) -> Option<Response> {
        let words = if !self.is_writable {
            "this address only reads: use the unix socket, or start the director with --api-write"
        } else if headers.contains_key(ORIGIN) {
            "pages of a browser change nothing here"
        } else {
            return None;
        };
        Some(error(StatusCode::FORBIDDEN, words))
    }
}

/// The token of `Bearer TOKEN`; the scheme is written in any case (RFC 9110
/// section 11.1).
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then_some(token.trim_ascii())
}

/// Answers a request. `body` is read only if the request may change something.
pub(super) async fn answer<B>(context: &Context, access: &Access, request: Request<B>) -> Response
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let (method, path) = (&head.method, head.uri.path());
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    if path == "/healthz" {
        return match is_read {
            true => json(StatusCode::OK, &serde_json::json!({"status": "ok"})),
            false => wrong_method("GET, HEAD"),
        };
    }
    if !access.admits(&head.headers) {
        return unauthorized();
    }
    let target = target(path);
    match &target {
        Some(Target::Order(..)) if *method != Method::POST => return wrong_method("POST"),
        Some(Target::Picture(_) | Target::Metrics | Target::Events) if !is_read => {
            return wrong_method("GET, HEAD");
        }
        _ => {}
    }
    if !is_read && let Some(refusal) = access.refusal(&head.headers) {
        return refusal;
    }
    let body = match is_read {
        true => Bytes::new(),
        false => match whole(body).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        },
    };
    match target {
        Some(Target::Picture(make)) => context.make(move |picture| make(&picture)).await,
        Some(Target::Metrics) => context.metrics().await,
        Some(Target::Events) => events::answer(context, head.uri.query(), &head.headers),
        Some(Target::Order(order, node)) => ask::answer(context, order, &node).await,
        None => others(context, method, path, body).await,
    }
}

/// What stands behind a path of our own.
fn target(path: &str) -> Option<Target> {
    let make: fn(&Picture) -> Response = match path {
        "/metrics" => return Some(Target::Metrics),
        "/v1/events" => return Some(Target::Events),
        "/v1/failover" => return Some(Target::Order(ask::Order::Failover, String::new())),
        "/v1/teardown" => return Some(Target::Order(ask::Order::Teardown, String::new())),
        "/v1/status" => |it| json(StatusCode::OK, &it.status()),
        "/v1/desired" => |it| json(StatusCode::OK, &it.desired()),
        "/v1/actual" => |it| json(StatusCode::OK, &it.actual()),
        "/v1/plan" => |it| json(StatusCode::OK, &it.plan()),
        "/v1/nodes" => |it| json(StatusCode::OK, &it.nodes()),
        "/v1/health" => |it| json(StatusCode::OK, &it.health()),
        "/v1/vrrp" => |it| json(StatusCode::OK, &it.vrrp()),
        "/v1/sources" => |it| json(StatusCode::OK, &it.sources()),
        "/v1/receiver" => receiver,
        _ => return order(path),
    };
    Some(Target::Picture(make))
}

fn order(path: &str) -> Option<Target> {
    let (order, node) = match path.strip_prefix("/v1/drain/") {
        Some(node) => (ask::Order::Drain, node),
        None => (ask::Order::Undrain, path.strip_prefix("/v1/undrain/")?),
    };
    (!node.is_empty()).then(|| Target::Order(order, node.to_owned()))
}

fn receiver(picture: &Picture) -> Response {
    match picture.receiver() {
        Some(receiver) => json(StatusCode::OK, &receiver),
        None => {
            let words = "this machine does not receive: its --role lacks receiver";
            error(StatusCode::NOT_FOUND, words)
        }
    }
}

async fn others(context: &Context, method: &Method, path: &str, body: Bytes) -> Response {
    for routes in &context.routes {
        if let Some(answer) = routes.handle(method, path, body.clone()) {
            return answer.await;
        }
    }
    error(StatusCode::NOT_FOUND, "there is no such path")
}

fn unauthorized() -> Response {
    let words = "this address wants its token, as in Authorization: Bearer TOKEN";
    let mut response = error(StatusCode::UNAUTHORIZED, words);
    let scheme = HeaderValue::from_static("Bearer");
    response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    response
}

/// The whole body, or why it is not taken.
async fn whole<B>(body: B) -> Result<Bytes, Response>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let limited = std::pin::pin!(Limited::new(body, LARGEST));
    let (status, words) = match tokio::time::timeout(PATIENCE, limited.collect()).await {
        Ok(Ok(whole)) => return Ok(whole.to_bytes()),
        Ok(Err(reason)) if reason.is::<LengthLimitError>() => {
            let words = "the body is larger than 64 KiB";
            (StatusCode::PAYLOAD_TOO_LARGE, words)
        }
        Ok(Err(_)) => (StatusCode::BAD_REQUEST, "the body is broken"),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
    };
    let mut response = error(status, words);
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    Err(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_borne_in_one_way() {
        let access = Access::new(false, Some(&Secret(b"s3cret".to_vec())));
        let rows = [
            ("Bearer s3cret", true),
            ("bearer  s3cret ", true),
            ("Bearer s3cre", false),
            ("Bearer s3crets", false),
            ("Bearer ", false),
            ("Bearer", false),
            ("Basic s3cret", false),
            ("s3cret", false),
        ];
        for (value, expected) in rows {
            let value = HeaderValue::from_static(value);
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value.clone())]);
            assert_eq!(access.admits(&headers), expected, "{value:?}");
        }
        assert!(!access.admits(&HeaderMap::new()));
        assert!(Access::full().admits(&HeaderMap::new()));
    }
}
