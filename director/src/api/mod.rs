//! How a running director is looked at, and told: HTTP over a unix socket and,
//! if asked for, over TCP.
//!
//! [`Api::bind`] opens both doors, [`Api::serve`] answers until the shutdown.
//! The unix socket is the operator's and may do everything; TCP wants the token,
//! and only reads unless it was allowed more. Answers are made of what the parts
//! publish ([`Observed`]) and never change anything by themselves: what an
//! operator asks for goes to the parts as a [`Command`](crate::view::Command).
//! Other surfaces hook in by [`Routes`].

mod answer;
mod ask;
mod events;
pub mod gorb;
mod picture;
mod reply;
mod server;
mod socket;
mod tls;
pub mod types;
mod words;

#[cfg(test)]
mod tests;

pub use reply::{Body, Response, error, json};
pub use server::Api;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Method;
use tidegate_shared::shutdown::Shutdown;
use tokio::sync::mpsc;

use crate::config::Settings;
use crate::view::{Ask, Observed};

/// Paths that another part answers, beside those of the API itself.
pub trait Routes: Send + Sync {
    /// Answers a request, or says by nothing that the path is not its own.
    ///
    /// Only called for who may: the token is right, and any method but `GET`
    /// and `HEAD` comes from where changes are allowed. The path is as it was
    /// sent, without the query; the body is whole and at most 64 KiB. [`json`]
    /// and [`error`] make the answers.
    fn handle(&self, method: &Method, path: &str, body: Bytes) -> Option<BoxFuture<'_, Response>>;

    /// Metrics of its own in Prometheus' text form, added to `/metrics`.
    fn metrics(&self) -> String {
        String::new()
    }
}

/// Why the API can't be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// Another director answers there.
    #[error(
        "another director already serves the socket {}: stop it, or name another path with --socket",
        .0.display()
    )]
    SocketInUse(PathBuf),
    /// Something that is not a socket has the name.
    #[error(
        "{} exists and is not a socket: remove it, or name another path with --socket",
        .0.display()
    )]
    NotASocket(PathBuf),
    /// The socket can't be made.
    #[error("can't serve the unix socket {}: name a path with --socket that can be written", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The address can't be listened on.
    #[error("can't listen on {address} for the API: name another address with --api")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the certificate can't be read.
    #[error("can't read {} for the API's TLS", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds no certificate or no key.
    #[error("{} holds no {what} in PEM form", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// The certificate can't be served.
    #[error("the certificate and the key of the API can't be used together")]
    Tls(#[source] rustls::Error),
}

impl ApiError {
    /// Does somebody else have the socket or the address?
    pub fn is_in_use(&self) -> bool {
        match self {
            Self::SocketInUse(_) => true,
            Self::Listen { source, .. } => source.kind() == io::ErrorKind::AddrInUse,
            _ => false,
        }
    }
}

/// Binds and serves the API until the shutdown begins.
///
/// # Errors
/// When it can't be bound: see [`Api::bind`]. Once it serves, nothing ends it
/// but the shutdown.
pub async fn run(
    settings: Arc<Settings>,
    observed: Observed,
    asks: mpsc::Sender<Ask>,
    routes: Vec<Arc<dyn Routes>>,
    shutdown: Shutdown,
) -> Result<(), ApiError> {
    let api = Api::bind(settings).await?;
    api.serve(observed, asks, routes, shutdown).await;
    Ok(())
}
