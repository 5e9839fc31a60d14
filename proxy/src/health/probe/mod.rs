//! One check of one server: a connection of its own, a question, an answer.
//!
//! Nothing is pooled and nothing is kept, and what a server sends is bounded in
//! time and memory. All time goes off one clock, the check's timeout.

mod grpc;
mod link;
mod place;
mod web;

pub(super) use place::is_local_reference;

use std::time::Duration;

use ::http::StatusCode;
use thiserror::Error;
use tokio::time::{Instant, timeout};

use self::place::Place;
use super::plan::{Mode, Plan};
use crate::http::ProxyError;
use crate::upstream::{self, Scheme, ServerUrl, Transport};

/// Why a server did not pass.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    /// It can't be connected to.
    #[error("no connection")]
    Connect(#[source] ProxyError),
    /// It did not let itself be connected to in time.
    #[error("connecting took too long")]
    ConnectLate,
    /// It did not answer in time.
    #[error("no answer in time")]
    Late,
    /// It did not answer at all, or not in HTTP.
    #[error("no answer")]
    Exchange(#[source] hyper::Error),
    /// It answered something else.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// It redirects to nowhere.
    #[error("it redirects to {0:?}")]
    Location(String),
    /// It redirects for ever.
    #[error("it redirects too often")]
    Redirects,
    /// It speaks another protocol.
    #[error("{0}")]
    Protocol(&'static str),
    /// A gRPC call failed.
    #[error("the call failed with gRPC status {0}")]
    Grpc(u32),
}

/// Checks a server once.
///
/// # Errors
/// Says why it did not pass.
pub(super) async fn probe(
    plan: &Plan,
    url: &ServerUrl,
    transport: &Transport,
) -> Result<(), Trouble> {
    let clock = Clock::start(plan.timeout);
    let mut place = Place::of(url);
    if let Some(port) = plan.port {
        place.port = port;
    }
    match (&plan.mode, plan.scheme) {
        (Mode::Tcp, scheme) => {
            place.scheme = scheme.unwrap_or(Scheme::Http);
            clock.connect(&place, transport).await.map(drop)
        }
        (Mode::Http(question), scheme) => {
            place.scheme = scheme.unwrap_or(place.scheme);
            web::ask(question, place, transport, &clock).await
        }
        (Mode::Grpc(manners), scheme) => {
            place.scheme = scheme.unwrap_or(place.scheme);
            grpc::ask(manners, &place, transport, &clock).await
        }
    }
}

/// What is left of a check's time.
struct Clock {
    start: Instant,
    limit: Duration,
}

impl Clock {
    fn start(limit: Duration) -> Self {
        Self {
            start: Instant::now(),
            limit,
        }
    }

    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.start.elapsed())
    }

    /// A connection, and whether it was agreed to speak HTTP/2 on it.
    async fn connect(
        &self,
        place: &Place,
        transport: &Transport,
    ) -> Result<(upstream::ByteStream, bool), Trouble> {
        let url = place.url()?;
        match timeout(self.left(), upstream::connect(&url, transport)).await {
            Ok(connected) => connected.map_err(Trouble::Connect),
            Err(_) => Err(Trouble::ConnectLate),
        }
    }

    async fn wait<T>(&self, work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        let done = timeout(self.left(), work).await;
        done.unwrap_or(Err(Trouble::Late))
    }
}
