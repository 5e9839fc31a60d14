//! The client's side of a change of protocol (RFC 9110 section 7.8).
//!
//! A request that asks for a change carries an [`OnUpgrade`] in its extensions.
//! Whoever tunnels it waits on that; the entry point gives the raw connection
//! away once the `101` is written. If it never is, the waiting ends.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

/// A connection both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A client's connection that carries something else than HTTP from now on,
/// beginning with what the client sent behind its request.
pub type Upgraded = Box<dyn Duplex>;

/// The connection was not given away.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("client's connection ended before it was switched")]
pub struct NotUpgraded;

/// Becomes the client's connection. Clones wait for the same one; the first
/// that is polled when it is there gets it.
#[derive(Clone)]
pub struct OnUpgrade(Arc<Mutex<oneshot::Receiver<Upgraded>>>);

/// Gives a client's connection to whoever waits for it.
pub struct Granting(oneshot::Sender<Upgraded>);

/// The two ends of one hand-over.
pub fn pair() -> (Granting, OnUpgrade) {
    let (sender, receiver) = oneshot::channel();
    (Granting(sender), OnUpgrade(Arc::new(Mutex::new(receiver))))
}

impl Granting {
    /// Hands the connection over. It is dropped if nobody waits any more.
    pub fn give(self, connection: Upgraded) {
        let _ = self.0.send(connection);
    }
}

impl Future for OnUpgrade {
    type Output = Result<Upgraded, NotUpgraded>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut receiver = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if receiver.is_terminated() {
            return Poll::Ready(Err(NotUpgraded));
        }
        Pin::new(&mut *receiver).poll(cx).map_err(|_| NotUpgraded)
    }
}

impl fmt::Debug for OnUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnUpgrade")
    }
}

impl fmt::Debug for Granting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Granting")
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn one_of_the_clones_gets_the_connection() {
        let (granting, upgrade) = pair();
        let other = upgrade.clone();
        let (ours, mut theirs) = tokio::io::duplex(16);
        granting.give(Box::new(ours));
        let mut got = upgrade.await.unwrap();
        theirs.write_all(b"hi").await.unwrap();
        let mut read = [0; 2];
        got.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hi");
        assert!(matches!(other.await, Err(NotUpgraded)));
    }

    #[tokio::test]
    async fn a_refused_switch_ends_the_waiting() {
        let (granting, upgrade) = pair();
        drop(granting);
        assert!(matches!(upgrade.await, Err(NotUpgraded)));
    }
}
