//! How old the last answer of an engine is.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When an engine last answered, for metrics and readiness. Shared by the loop
/// that reads the engine and whoever wants to know.
#[derive(Debug, Default)]
pub struct Freshness(Mutex<Option<Instant>>);

impl Freshness {
    /// Notes an answer at `now`.
    pub fn mark(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// When the last answer came; nothing before the first.
    pub fn last(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How old the last answer is at `now`; nothing before the first.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.last().map(|last| now.saturating_duration_since(last))
    }
}
