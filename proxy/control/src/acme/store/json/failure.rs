//! Tidegate's own member: orders that failed, and when the next one may be made.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::nullable;
use crate::acme::store::FailedOrder;

/// A failure as it is written; times are in seconds since 1970.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::acme::store) struct FailureEntry {
    #[serde(deserialize_with = "nullable")]
    names: String,
    #[serde(deserialize_with = "nullable")]
    failures: u32,
    #[serde(deserialize_with = "nullable")]
    at: u64,
    #[serde(deserialize_with = "nullable")]
    not_before: u64,
    #[serde(deserialize_with = "nullable")]
    is_limit: bool,
    #[serde(deserialize_with = "nullable")]
    reason: String,
}

impl FailureEntry {
    /// The failure; nothing if it is none.
    pub(in crate::acme::store) fn read(&self) -> Option<FailedOrder> {
        Some(FailedOrder {
            names: Some(&self.names).filter(|names| !names.is_empty())?.clone(),
            failures: self.failures,
            at: time(self.at)?,
            not_before: time(self.not_before)?,
            is_limit: self.is_limit,
            reason: self.reason.clone(),
        })
    }

    pub(super) fn is_of(&self, names: &str) -> bool {
        self.names == names
    }

    pub(super) fn is_over(&self, now: SystemTime) -> bool {
        self.read().is_none_or(|failure| failure.is_over(now))
    }
}

impl From<FailedOrder> for FailureEntry {
    fn from(failure: FailedOrder) -> Self {
        Self {
            names: failure.names,
            failures: failure.failures,
            at: seconds(failure.at),
            not_before: seconds(failure.not_before),
            is_limit: failure.is_limit,
            reason: failure.reason,
        }
    }
}

fn time(seconds: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
