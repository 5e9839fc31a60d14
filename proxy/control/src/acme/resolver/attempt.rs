//! What is remembered of a set of names between two orders.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::backoff::growing;
use crate::acme::store::FailedOrder;

/// Between two looks at a lock that another proxy holds.
const FIRST_LOOK: Duration = Duration::from_secs(2);
const LONGEST_LOOK: Duration = Duration::from_secs(15);

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
    /// The last failure that the store told of: how many in a row, and when.
    heeded: Option<(u32, SystemTime)>,
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
            heeded: None,
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
            Duration::from_secs(240),
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

    /// Another proxy's order failed, or this one's before it was started again; each
    /// failure counts once.
    pub(super) fn heed(&mut self, failed: &FailedOrder, not_before: Instant) {
        let heeded = Some((failed.failures, failed.at));
        if self.heeded == heeded {
            return;
        }
        self.heeded = heeded;
        self.failures = self.failures.max(failed.failures);
        self.waits = 0;
        self.not_before = self.not_before.max(not_before);
        self.last = Last::Failed;
        self.reason.clone_from(&failed.reason);
    }

    /// What the others are to know of a failure at `at`, which is this proxy's own.
    pub(super) fn told(
        &mut self,
        names: &str,
        at: SystemTime,
        wait: Duration,
        is_limit: bool,
    ) -> FailedOrder {
        let at = whole_seconds(at);
        self.heeded = Some((self.failures, at));
        FailedOrder {
            names: names.to_owned(),
            failures: self.failures,
            at,
            not_before: at + Duration::from_secs(wait.as_secs()),
            is_limit,
            reason: self.reason.clone(),
        }
    }
}

/// As stores keep it.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.unwrap_or_default().as_secs())
}
