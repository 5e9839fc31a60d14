//! A lock that a task of this proxy keeps, in stores that count time.
//!
//! Others wait for a term from its last renewal on. The holder counts from before it
//! asked, and so lets go no later than others may take it.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use super::Lease;

/// A lock as its store holds it.
pub(super) trait Held: Send + 'static {
    /// What the store calls it.
    fn name(&self) -> &str;

    /// How long it is held without a renewal.
    fn term(&self) -> Duration;

    /// Holds it for another term, whose length comes back: nothing if it is somebody
    /// else's now. `None` if that can't be told; it is held until others stop waiting.
    fn renew(&mut self) -> impl Future<Output = Option<Renewal>> + Send;

    /// Lets it go, if it is still ours. If that fails time does it.
    fn let_go(self) -> impl Future<Output = ()> + Send;
}

/// What came of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// It is held for so long.
    Held(Duration),
    /// It is somebody else's now.
    Lost,
}

/// A lock that this proxy holds.
pub(super) struct Kept {
    name: String,
    until: watch::Receiver<Instant>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl Kept {
    /// Keeps a lock that was asked for at `began`.
    pub(super) fn start(held: impl Held, began: Instant) -> Box<dyn Lease> {
        let (sender, until) = watch::channel(began + held.term());
        let stop = CancellationToken::new();
        Box::new(Self {
            name: held.name().to_owned(),
            until,
            task: tokio::spawn(keep(held, sender, stop.clone())),
            stop: stop.drop_guard(),
        })
    }
}

/// Renews until told to stop, then lets go.
async fn keep(mut held: impl Held, until: watch::Sender<Instant>, stop: CancellationToken) {
    let term = held.term();
    while stop.run_until_cancelled(sleep(term / 4)).await.is_some() {
        let began = Instant::now();
        if began >= *until.borrow() {
            break;
        }
        match timeout(term / 2, held.renew()).await {
            Ok(Some(Renewal::Held(term))) => drop(until.send_replace(began + term)),
            Ok(Some(Renewal::Lost)) => {
                until.send_replace(began);
                debug!(lock = held.name(), "A lock was lost to somebody else");
                return;
            }
            // Try again.
            Ok(None) | Err(_) => {}
        }
    }
    until.send_replace(Instant::now());
    // Who can't reach the place now leaves it to the patience of others.
    drop(timeout(term, held.let_go()).await);
}

impl Lease for Kept {
    fn is_held(&self) -> bool {
        Instant::now() < *self.until.borrow()
    }

    fn release(self: Box<Self>) -> BoxFuture<'static, ()> {
        let Self { stop, task, .. } = *self;
        drop(stop);
        Box::pin(async move {
            drop(task.await);
        })
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("name", &self.name)
            .field("is_held", &self.is_held())
            .finish_non_exhaustive()
    }
}
