//! What is remembered of a set of names between two orders.

use std::time::Duration;

use tokio::time::Instant;

use super::backoff::growing;
use crate::acme::store::Lease;

/// Between two looks at a lock that another proxy holds.
const FIRST_LOOK: Duration = Duration::from_secs(2);
const LONGEST_LOOK: Duration = Duration::from_secs(15);

/// Failures in a row after which a set's lock is left to other proxies.
const TRIES_HERE: u32 = 6;

/// A set that was tried and has no certificate that is good enough.
#[derive(Debug)]
pub(super) struct Attempt {
    /// Orders in a row that did not help.
    pub(super) failures: u32,
    /// Times in a row that another proxy held the lock.
    pub(super) waits: u32,
    /// When it may be tried again.
    pub(super) not_before: Instant,
    /// How the last try ended.
    pub(super) last: Last,
    /// Why there is no certificate.
    pub(super) reason: String,
    /// The lock, kept while no other proxy should try either.
    pub(super) lease: Option<Box<dyn Lease>>,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// Nothing was tried yet.
    None,
    /// Another proxy held the lock.
    Waited,
    /// The order failed.
    Failed,
    /// There is a new certificate.
    Issued,
}

impl Attempt {
    /// Nothing was tried yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            failures: 0,
            waits: 0,
            not_before: now,
            last: Last::None,
            reason: String::new(),
            lease: None,
        }
    }

    /// Whether other sets should not rely on this one's order.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0 && self.last != Last::Issued
    }

    /// Another proxy holds the lock: it is likely to bring the certificate.
    pub(super) fn waited(&mut self, now: Instant, random: f64) {
        self.not_before = now + growing(FIRST_LOOK, LONGEST_LOOK, self.waits, random);
        self.waits = self.waits.saturating_add(1);
        self.last = Last::Waited;
        "another proxy holds the lock to order it".clone_into(&mut self.reason);
    }

    /// The order failed. True if that is news.
    pub(super) fn failed(&mut self, not_before: Instant, reason: String) -> bool {
        let is_news = self.last != Last::Failed || self.reason != reason;
        self.failures = self.failures.saturating_add(1);
        self.waits = 0;
        self.not_before = not_before;
        self.last = Last::Failed;
        self.reason = reason;
        is_news
    }

    /// There is a new certificate. If it does not help, that counts as a failure.
    pub(super) fn issued(&mut self, now: Instant, random: f64) {
        let wait = growing(
            Duration::from_secs(120),
            Duration::from_secs(6 * 3600),
            self.failures,
            random,
        );
        self.failed(
            now + wait,
            "the authority's new certificate does not cover the names, or ends too soon".to_owned(),
        );
        self.last = Last::Issued;
    }

    /// Whether this proxy should keep others from trying the set.
    pub(super) fn keeps_others_away(&self) -> bool {
        !self.failures.is_multiple_of(TRIES_HERE)
    }
}
