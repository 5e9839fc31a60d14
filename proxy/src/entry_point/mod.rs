//! Entry points: from a listening socket to a request that is worth routing.
//!
//! Owns the worker threads, the sockets, the PROXY header, the TLS handshake,
//! HTTP/1 ([`http1`]) and hyper's server for HTTP/2, every time limit towards
//! clients, and the graceful stop. It hands each request to one service and never
//! looks at routes. Each worker has its own listener (`SO_REUSEPORT`) and runs its
//! connections to their end, so nothing in here is shared between threads but settings.
//!
//! [`Workers::start`] is called once, by the composition root.

mod accept;
mod body;
mod cork;
mod dispatch;
mod drive;
mod handler;
mod handshake;
mod http1;
mod io;
mod pace;
mod roster;
mod serve;
mod sniff;
mod state;
mod subject;
mod watch;
mod workers;

use std::fmt;
use std::io as std_io;
use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;
use tidegate_shared::listen::{ListenAddress, ParseListenAddressError};

pub use self::dispatch::Dispatch;
pub use self::workers::Workers;
use crate::config::startup;
use crate::http::SharedService;
use crate::http::trust::BadNetwork;
use crate::tls::ServerConfigs;

/// An entry point to be opened.
#[derive(Clone, Debug)]
pub struct EntryPoint {
    /// Its name.
    pub name: Arc<str>,
    /// Its settings.
    pub config: startup::EntryPoint,
    /// Answers every request that is not refused at once.
    pub service: SharedService,
    /// TLS; without it a ClientHello is a malformed request.
    pub tls: Option<Arc<dyn ServerConfigs>>,
    /// Hears about its connections.
    pub events: Arc<dyn ConnectionEvents>,
}

/// Hears about an entry point's connections, from every worker. The calls lie
/// on the path of the connection: they must be quick and must not block.
pub trait ConnectionEvents: fmt::Debug + Send + Sync {
    /// A connection was accepted.
    fn opened(&self);
    /// A connection is gone, an upgraded one too.
    fn closed(&self);
    /// A TLS handshake failed or took too long.
    fn handshake_failed(&self);
    /// A service or a body panicked; only its request was lost.
    fn panicked(&self);
}

/// Nobody is interested.
impl ConnectionEvents for () {
    fn opened(&self) {}
    fn closed(&self) {}
    fn handshake_failed(&self) {}
    fn panicked(&self) {}
}

/// Why the entry points can't be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address can't be understood.
    #[error("entry point {entry_point:?} has a malformed address")]
    Address {
        /// The entry point's name.
        entry_point: Arc<str>,
        /// What is wrong with it.
        source: ParseListenAddressError,
    },
    /// A trusted address is neither an IP address nor a network.
    #[error("entry point {entry_point:?} can't tell whom to trust")]
    Network {
        /// The entry point's name.
        entry_point: Arc<str>,
        /// What was configured.
        source: BadNetwork,
    },
    /// The address can't be bound.
    #[error("entry point {entry_point:?} can't listen on {address}")]
    Bind {
        /// The entry point's name.
        entry_point: Arc<str>,
        /// Its address.
        address: ListenAddress,
        /// The operating system's reason.
        source: std_io::Error,
    },
    /// A worker can't be started.
    #[error("a worker thread can't be started")]
    Worker(#[source] std_io::Error),
}

/// IPv4 clients of a dual-stack socket get their own spelling back.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
