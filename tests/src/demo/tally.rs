//! The count of requests at work: how many now, how many at most, how many ever.
//!
//! A request counts from its head until the last byte of its answer has been
//! handed to the connection, and not a moment longer: a client that has read
//! the whole answer must never find itself still counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

/// Requests at work in one server.
#[derive(Debug, Default)]
pub struct Tally {
    now: AtomicUsize,
    peak: AtomicUsize,
    requests: AtomicUsize,
    refused: AtomicUsize,
}

/// A reading of a [`Tally`], the body of `/peak`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Peak {
    /// Who answers.
    pub name: String,
    /// Requests at work.
    pub now: usize,
    /// The most requests at work at once, refused ones included.
    pub peak: usize,
    /// Requests ever begun.
    pub requests: usize,
    /// Requests beyond the limit.
    pub refused: usize,
}

/// One request at work; dropping it takes it off the count.
#[derive(Debug)]
pub(super) struct Entry(Arc<Tally>);

impl Tally {
    /// Counts a request in; the second value says whether it is within `limit`.
    pub(super) fn enter(self: &Arc<Self>, limit: Option<usize>) -> (Entry, bool) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        self.requests.fetch_add(1, Ordering::SeqCst);
        let within = limit.is_none_or(|limit| now <= limit);
        if !within {
            self.refused.fetch_add(1, Ordering::SeqCst);
        }
        (Entry(Arc::clone(self)), within)
    }

    /// The counts at this moment.
    #[must_use]
    pub fn read(&self, name: &str) -> Peak {
        Peak {
            name: name.to_owned(),
            now: self.now.load(Ordering::SeqCst),
            peak: self.peak.load(Ordering::SeqCst),
            requests: self.requests.load(Ordering::SeqCst),
            refused: self.refused.load(Ordering::SeqCst),
        }
    }

    /// Forgets the past; what is at work stays counted.
    pub fn reset(&self) {
        self.peak
            .store(self.now.load(Ordering::SeqCst), Ordering::SeqCst);
        self.requests.store(0, Ordering::SeqCst);
        self.refused.store(0, Ordering::SeqCst);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_stays_and_the_limit_tells() {
        let tally = Arc::new(Tally::default());
        let (first, within) = tally.enter(Some(1));
        assert!(within);
        let (second, within) = tally.enter(Some(1));
        assert!(!within);
        drop((first, second));
        let expected = Peak {
            name: "x".to_owned(),
            now: 0,
            peak: 2,
            requests: 2,
            refused: 1,
        };
        assert_eq!(tally.read("x"), expected);
        tally.reset();
        assert_eq!(tally.read("x").peak, 0);
    }
}
