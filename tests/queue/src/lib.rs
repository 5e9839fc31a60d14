//! Experiments on what the queue and the pool are for: the same requests through
//! HAProxy, Traefik and Tidegate to servers that are hard to serve well.
//!
//! `uwsgi` is the case for a limit per server, with real uWSGI; `races` closes
//! idle connections under the proxy's hands; `waits` looks for requests that are
//! forgotten in a queue. `subject` starts the proxies, `client` and `wire` speak
//! HTTP/1.1, `verdict` holds the lines that Tidegate is to keep. Every process
//! ends with this one.

pub mod client;
pub mod options;
pub mod races;
pub mod subject;
pub mod uwsgi;
pub mod verdict;
pub mod waits;
pub mod wire;

use std::future::Future;

/// Runs one experiment's clients on this thread. Proxies and servers must be
/// started outside: they end with the thread that started them.
///
/// # Errors
/// The runtime cannot be made, or what the experiment says.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
