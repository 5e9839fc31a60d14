//! Locks as keys that live no longer than their lease.
//!
//! etcd counts the lease's time and removes the key when nobody kept it alive, so a
//! dead holder needs nobody else.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::super::Lease;
use super::super::kept::{self, Kept, Renewal};
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
) -> Result<Option<Box<dyn Lease>>, EtcdError> {
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
    Ok(taken?.then(|| Kept::start(held, began)))
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

    /// How long it lives from now on; nothing if it is over.
    async fn stay_alive(&self) -> Result<Option<Duration>, EtcdError> {
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

impl kept::Held for Held {
    fn name(&self) -> &str {
        &self.key
    }

    fn term(&self) -> Duration {
        self.ttl
    }

    async fn renew(&mut self) -> Option<Renewal> {
        let left = self.stay_alive().await.ok()?;
        Some(left.map_or(Renewal::Lost, Renewal::Held))
    }

    async fn let_go(self) {
        self.revoke().await;
    }
}
