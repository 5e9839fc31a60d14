//! A resolver's account at its authority: one for the whole cluster.
//!
//! Whoever needs the account first makes it, under a lock of the store, and keeps it
//! there before anything is ordered with it. All orders of this proxy share what comes
//! of it, a failure too: eight orders don't ask an authority that is away one after
//! the other.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::{PATIENCE, lock_name};
use crate::acme::authority::{Authority, Enroll, OrderError};
use crate::acme::store::{Account, Change, Lease, Store, StoreError};

/// How long the account's lock is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(90);

/// Orders that come so soon after a failure to enroll share it.
const SAME_TRY: Duration = Duration::from_millis(500);

/// An order came to nothing.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where a resolver's orders get their authority from.
#[derive(Debug)]
pub(super) struct Office {
    resolver: Arc<str>,
    store: Arc<dyn Store>,
    pub(super) enroll: Arc<dyn Enroll>,
    desk: Mutex<Desk>,
}

#[derive(Debug, Default)]
struct Desk {
    authority: Option<Arc<dyn Authority>>,
    /// When the last try failed, and why.
    last: Option<(Instant, OrderError)>,
}

impl Office {
    pub(super) fn new(resolver: Arc<str>, store: Arc<dyn Store>, enroll: Arc<dyn Enroll>) -> Self {
        Self {
            resolver,
            store,
            enroll,
            desk: Mutex::default(),
        }
    }

    /// The account that the store holds.
    pub(super) fn account(&self) -> Option<Account> {
        let observed = self.store.observed();
        let observed = observed.borrow();
        let contents = observed.contents.as_ref()?;
        contents.resolvers.get(&*self.resolver)?.account.clone()
    }

    /// The authority, with the cluster's account there.
    pub(super) async fn authority(&self) -> Result<Arc<dyn Authority>, Failure> {
        let asked = Instant::now();
        let mut desk = self.desk.lock().await;
        if let Some(authority) = &desk.authority {
            return Ok(Arc::clone(authority));
        }
        if let Some((at, last)) = &desk.last
            && *at + SAME_TRY > asked
        {
            return Err(repeated(last).into());
        }
        match self.enroll().await {
            Ok(authority) => {
                desk.authority = Some(Arc::clone(&authority));
                Ok(authority)
            }
            Err(failure) => {
                if let Failure::Order(error) = &failure {
                    desk.last = Some((Instant::now(), repeated(error)));
                }
                Err(failure)
            }
        }
    }

    /// Enrolls again before the next order: there is something about the account.
    pub(super) async fn forget(&self) {
        self.desk.lock().await.authority = None;
    }

    async fn enroll(&self) -> Result<Arc<dyn Authority>, Failure> {
        let lease = self.lock().await?;
        let enrolled = self.enroll_alone().await;
        lease.release().await;
        enrolled
    }

    /// Enrolls while nobody else does.
    async fn enroll_alone(&self) -> Result<Arc<dyn Authority>, Failure> {
        self.store.refresh().await?;
        let enrolled = self.enroll.enroll(self.account()).await?;
        if let Some(account) = enrolled.account {
            let uri = account.uri.clone();
            let change = vec![Change::SetAccount(account)];
            self.store.apply(&self.resolver, change).await?;
            debug!(resolver = %self.resolver, account = %uri, "The account is in the store");
        }
        Ok(enrolled.authority)
    }

    async fn lock(&self) -> Result<Box<dyn Lease>, Failure> {
        let name = lock_name("account", &self.resolver, &[]);
        let until = Instant::now() + LOCK_WAIT;
        loop {
            if let Some(lease) = self.store.lock(&name, PATIENCE).await? {
                return Ok(lease);
            }
            if Instant::now() >= until {
                let message = "another proxy holds the account for too long".to_owned();
                return Err(OrderError::Local(message).into());
            }
            sleep(Duration::from_millis(fastrand::u64(300..900))).await;
        }
    }
}

/// The same error for somebody else.
fn repeated(error: &OrderError) -> OrderError {
    match error {
        OrderError::Unreachable(message) => OrderError::Unreachable(message.clone()),
        OrderError::RateLimited {
            message,
            retry_after,
        } => OrderError::RateLimited {
            message: message.clone(),
            retry_after: *retry_after,
        },
        OrderError::NotValidated { name, message } => OrderError::NotValidated {
            name: name.clone(),
            message: message.clone(),
        },
        OrderError::Refused(message) => OrderError::Refused(message.clone()),
        OrderError::NotIssued(message) => OrderError::NotIssued(message.clone()),
        OrderError::Account(message) => OrderError::Account(message.clone()),
        OrderError::Local(message) => OrderError::Local(message.clone()),
    }
}
