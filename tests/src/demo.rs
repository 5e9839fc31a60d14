//! The demo server: an HTTP server that names itself and counts what it sees.
//!
//! It stands behind the proxy in the demo stack and in the end-to-end tests, so
//! it is the witness of every claim about balancing, limits and lost requests.
//! It never trusts the proxy to count: the tally is taken where the work is
//! done. The binary `demo` is a thin shell around [`run`].

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

mod answer;
mod body;
mod options;
mod tally;

pub use options::{Options, UsageError};
pub use tally::{Peak, Tally};

/// How an instance sees itself while it answers.
#[derive(Debug)]
struct Site {
    options: Options,
    tally: Arc<Tally>,
    stopping: watch::Receiver<bool>,
}

/// Serves on `listener` until `stop` resolves, then stops in order: health turns
/// to 503, new connections are taken for another `stop_delay`, the listener
/// closes, and what runs may finish within `stop_timeout`.
///
/// Returns how many connections had to be cut at the end.
pub async fn run(
    listener: TcpListener,
    options: Options,
    stop: impl Future<Output = ()> + Send,
) -> usize {
    let (stopping, seen) = watch::channel(false);
    let site = Arc::new(Site {
        options,
        tally: Arc::new(Tally::default()),
        stopping: seen,
    });
    let (close, closing) = watch::channel(false);
    let mut connections = JoinSet::new();

    let end = async {
        stop.await;
        // Nobody can have dropped the receiver: the site holds it.
        let _ = stopping.send(true);
        tokio::time::sleep(site.options.stop_delay).await;
    };
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(serve(stream, peer, Arc::clone(&site), closing.clone()));
                }
                // Out of descriptors: wait until some connection ends.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let _ = close.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(site.options.stop_timeout, drained).await;
    let cut = connections.len();
    connections.shutdown().await;
    cut
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    site: Arc<Site>,
    mut closing: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let h2c = speaks_h2(&stream).await.unwrap_or(false);
    let io = TokioIo::new(stream);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(answer::answer(&site, peer, request).await) }
    });
    let closed = async move { drop(closing.wait_for(|closing| *closing).await) };
    if h2c {
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = closed => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    } else {
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = closed => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

/// Whether the client opens with HTTP/2's preface (RFC 9113 section 3.4), which
/// no HTTP/1 request can begin with: there is no method `PRI`.
async fn speaks_h2(stream: &TcpStream) -> io::Result<bool> {
    let mut head = [0; 3];
    loop {
        let read = stream.peek(&mut head).await?;
        if read == head.len() || !b"PRI".starts_with(head.get(..read).unwrap_or_default()) {
            return Ok(&head == b"PRI");
        }
        if read == 0 {
            return Ok(false);
        }
        // One or two bytes of a preface: peek returns at once until more come.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[cfg(test)]
mod tests;
