//! How old the last answer of an engine is, and why there is no newer one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When an engine last answered, for metrics and readiness. Shared by the loop
/// that reads the engine and whoever wants to know.
#[derive(Debug, Default)]
pub struct Freshness(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    answer: Option<Instant>,
    source: Option<Arc<str>>,
    error: Option<String>,
}

impl Freshness {
    fn known(&self) -> MutexGuard<'_, Last> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an answer at `now`.
    pub fn mark(&self, now: Instant) {
        *self.known() = Last {
            answer: Some(now),
            source: None,
            error: None,
        };
    }

    /// Notes that somebody else's engine answered at `at`, and that the answer was passed on.
    pub fn mark_from(&self, at: Instant, source: &Arc<str>) {
        let mut known = self.known();
        known.answer = Some(at);
        known.source = Some(Arc::clone(source));
    }

    /// Who passed the last answer on, if it was not the engine itself.
    pub fn source(&self) -> Option<Arc<str>> {
        self.known().source.clone()
    }

    /// Notes that the engine fails, and why.
    pub fn fail(&self, error: String) {
        self.known().error = Some(error);
    }

    /// When the last answer came; nothing before the first.
    pub fn last(&self) -> Option<Instant> {
        self.known().answer
    }

    /// Why the engine has not answered since.
    pub fn error(&self) -> Option<String> {
        self.known().error.clone()
    }

    /// How old the last answer is at `now`; nothing before the first.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.last().map(|last| now.saturating_duration_since(last))
    }
}
