//! A kept-alive client that never repeats a request: what goes wrong is seen.

use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::wire::{Broken, Wire};

/// So much of a response's body is looked at.
const KEPT: usize = 1024;

/// The name by which every request asks.
pub const HOST: &str = "queue.test";

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The beginning of the body.
    pub body: Vec<u8>,
}

/// Why there was no answer.
#[derive(Debug, Error)]
pub enum Failure {
    /// The proxy did not take the connection.
    #[error("refused")]
    Refused,
    /// The answer did not come whole.
    #[error("{0}")]
    Broken(#[from] Broken),
    /// It took too long.
    #[error("time-out")]
    Late,
}

/// One client with at most one connection.
#[derive(Debug)]
pub struct Client {
    to: SocketAddr,
    patience: Duration,
    wire: Option<Wire>,
}

impl Client {
    /// A client without a connection; it waits so long for each answer.
    #[must_use]
    pub fn new(to: SocketAddr, patience: Duration) -> Self {
        Self {
            to,
            patience,
            wire: None,
        }
    }

    /// Sends a request, on a new connection if the last one ended, and reads the answer.
    ///
    /// # Errors
    /// Why there is none; the next request then gets a new connection.
    pub async fn send(&mut self, request: &[u8]) -> Result<Answer, Failure> {
        let patience = self.patience;
        let wire = self.wire.take();
        let exchange = exchange(self.to, wire, request);
        let (answer, wire) = timeout(patience, exchange)
            .await
            .map_err(|_| Failure::Late)??;
        self.wire = wire;
        Ok(answer)
    }
}

async fn exchange(
    to: SocketAddr,
    wire: Option<Wire>,
    request: &[u8],
) -> Result<(Answer, Option<Wire>), Failure> {
    let mut wire = match wire {
        Some(wire) => wire,
        None => open(to).await.map_err(|_| Failure::Refused)?,
    };
    // A refusal may come before all was sent: what counts is the answer.
    let _ = wire.send(request).await;
    let head = wire.response().await?;
    let body = match head.length {
        Some(length) => wire.body(length, KEPT).await?,
        None => Vec::new(),
    };
    let answer = Answer {
        status: head.status,
        body,
    };
    Ok((answer, (!head.closes).then_some(wire)))
}

async fn open(to: SocketAddr) -> std::io::Result<Wire> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(Wire::new(stream))
}

/// A GET of that path.
#[must_use]
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").into_bytes()
}

/// A POST of that body.
#[must_use]
pub fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}
