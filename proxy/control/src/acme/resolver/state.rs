//! What resolvers show of themselves: plain values for the API and the metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::acme::store::Observed;
use crate::config::dynamic::Domain;

/// Every resolver, by name.
#[derive(Clone, Debug, Default)]
pub struct ResolverStates {
    /// The resolvers.
    pub by_name: BTreeMap<String, Arc<ResolverState>>,
}

/// One resolver.
#[derive(Clone, Debug)]
pub struct ResolverState {
    /// Where its store is.
    pub place: String,
    /// What is known of the store, which changes without the rest.
    pub store: watch::Receiver<Arc<Observed>>,
    /// Its account's URL at the authority, once there is one.
    pub account: Option<String>,
    /// Why nothing is ordered for now, and until when.
    pub pause: Option<Pause>,
    /// The certificates that routers want.
    pub sets: Vec<SetState>,
    /// How many certificates it has that can be served, wanted or not.
    pub certificates: usize,
    /// What lies in the store and can't be served, with the reason.
    pub broken: Vec<(String, String)>,
    /// Orders that this proxy made since its start, by outcome.
    pub orders: BTreeMap<&'static str, u64>,
}

/// Nothing is ordered for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: SystemTime,
}

/// One certificate that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetState {
    /// Its names.
    pub domain: Domain,
    /// The routers that want it.
    pub routers: Vec<String>,
    /// How far it is.
    pub status: SetStatus,
    /// Why it is no further.
    pub reason: Option<String>,
    /// When it is tried again.
    pub next_attempt: Option<SystemTime>,
    /// When the first of the certificates that cover the names ends; absent while a
    /// name has none.
    pub not_after: Option<SystemTime>,
    /// When it is to be renewed.
    pub renew_at: Option<SystemTime>,
    /// Whether this very proxy ordered the certificate, since its start.
    pub is_ordered_here: bool,
}

/// How far a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetStatus {
    /// All names have a valid certificate that is not to be renewed yet.
    Valid,
    /// It will be ordered: after others, when the resolver's pause is over, or with
    /// another set that brings its names.
    Pending,
    /// This proxy is ordering it.
    Ordering,
    /// Another proxy is ordering it, or is to.
    WaitingForLock,
    /// The last order failed.
    Failed,
}

impl SetStatus {
    /// The API's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Pending => "pending",
            Self::Ordering => "ordering",
            Self::WaitingForLock => "waiting-for-lock",
            Self::Failed => "failed",
        }
    }
}
