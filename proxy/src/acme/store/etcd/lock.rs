//! Locks as keys that live no longer than their lease.
//!
//! etcd counts the lease's time and removes the key when nobody kept it alive, so a
//! dead holder needs nobody else. The holder counts as well, from before it asked, and
//! so lets go no later than etcd does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use super::super::Lease;
use super::client::{EtcdError, Gateway};
use super::wire;

/// gRPC's number for what is not there.
const NOT_FOUND: i64 = 5;

/// The lock of this key, if nobody holds it. `owner` is not used twice.
pub(super) async fn lock(
    gateway: &Arc<Gateway>,
    key: String,
    owner: String,
    patience: Duration,
) -> Result<Option<EtcdLease>, EtcdError> {
    if holder(gateway, &key).await?.is_some() {
        return Ok(None);
    }
    let began = Instant::now();
    let seconds = i64::try_from(patience.as_secs()).unwrap_or(i64::MAX).max(1);
    let question = wire::Grant {
        ttl: wire::Long(seconds),
    };
    let granted: wire::Lease = gateway.ask("/v3/lease/grant", &question).await?;
    let held = Held {
        gateway: Arc::clone(gateway),
        id: granted.id,
        ttl: ttl(&granted).ok_or_else(|| EtcdError::Nonsense("a lease without time".into()))?,
        key,
    };
    let taken = held.take(&owner).await;
    if !matches!(taken, Ok(true)) {
        held.revoke().await;
    }
    Ok(taken?.then(|| EtcdLease::start(held, began)))
}

async fn holder(gateway: &Gateway, key: &str) -> Result<Option<Vec<u8>>, EtcdError> {
    let found: wire::Found = gateway.ask("/v3/kv/range", &wire::Range::one(key)).await?;
    Ok(found.kvs.into_iter().next().map(|found| found.value.0))
}

/// How long a lease lives from now on.
fn ttl(lease: &wire::Lease) -> Option<Duration> {
    let seconds = u64::try_from(lease.ttl.0).ok().filter(|&ttl| ttl > 0)?;
    Some(Duration::from_secs(seconds))
}

struct Held {
    gateway: Arc<Gateway>,
    id: wire::Long,
    ttl: Duration,
    key: String,
}

impl Held {
    /// Makes the key, and looks at it if it was there: the answer to our own step may
    /// have been lost and the step be made again.
    async fn take(&self, owner: &str) -> Result<bool, EtcdError> {
        let txn = wire::Txn {
            compare: vec![wire::Compare::is_at(&self.key, wire::Long(0))],
            success: vec![wire::Op::Put {
                key: self.key.as_str().into(),
                value: owner.into(),
                lease: Some(self.id),
            }],
        };
        let outcome: wire::TxnOutcome = self.gateway.ask("/v3/kv/txn", &txn).await?;
        if outcome.succeeded {
            return Ok(true);
        }
        let holder = holder(&self.gateway, &self.key).await?;
        Ok(holder.is_some_and(|holder| holder == owner.as_bytes()))
    }

    /// Keeps the lease alive until told to stop, then ends it.
    async fn keep(self, until: watch::Sender<Instant>, stop: CancellationToken) {
        let pause = self.ttl / 4;
        while stop.run_until_cancelled(sleep(pause)).await.is_some() {
            let began = Instant::now();
            if began >= *until.borrow() {
                break;
            }
            match timeout(self.ttl / 2, self.renew()).await {
                Ok(Ok(Some(ttl))) => {
                    until.send_replace(began + ttl);
                }
                Ok(Ok(None)) => {
                    debug!(lock = self.key, "A lock's lease was lost");
                    break;
                }
                // It is held for as long as etcd keeps it; try again.
                Ok(Err(_)) | Err(_) => {}
            }
        }
        until.send_replace(Instant::now());
        self.revoke().await;
    }

    /// How long it lives from now on; nothing if it is over.
    async fn renew(&self) -> Result<Option<Duration>, EtcdError> {
        let question = wire::LeaseId { id: self.id };
        let asked = self.gateway.ask("/v3/lease/keepalive", &question).await;
        match asked {
            Ok(wire::Message::<wire::Lease> { result }) => Ok(result.as_ref().and_then(ttl)),
            Err(EtcdError::Refused {
                code: NOT_FOUND, ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends the lease, and with it the key. If that fails time does it.
    async fn revoke(&self) {
        let question = wire::LeaseId { id: self.id };
        let revoked = self.gateway.ask("/v3/lease/revoke", &question);
        if let Err(error) = revoked.await.map(|wire::Done {}| ()) {
            debug!(lock = self.key, %error, "A lock's lease ends by itself");
        }
    }
}

/// A lock that this proxy holds.
pub(super) struct EtcdLease {
    key: String,
    until: watch::Receiver<Instant>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl EtcdLease {
    fn start(held: Held, began: Instant) -> Self {
        let (sender, until) = watch::channel(began + held.ttl);
        let stop = CancellationToken::new();
        Self {
            key: held.key.clone(),
            until,
            task: tokio::spawn(held.keep(sender, stop.clone())),
            stop: stop.drop_guard(),
        }
    }
}

impl Lease for EtcdLease {
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

impl fmt::Debug for EtcdLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdLease")
            .field("key", &self.key)
            .field("is_held", &self.is_held())
            .finish_non_exhaustive()
    }
}
