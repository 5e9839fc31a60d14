//! How many bytes a TLS session may take at once.
//!
//! Usually a record: whatever a slow client hasn't taken is kept as ciphertext,
//! which is memory. As long as a client takes all it is given, several records
//! leave by one system call. Sessions that are stuck with more than one record
//! are counted for the worker as a whole, so that a crowd of clients that stop
//! reading at once can't take much. Called by the socket wrapper.

use std::cell::Cell;

/// The plaintext of one full record.
const RECORD: usize = 16 * 1024;
/// What a client that keeps up is given at once.
const BURST: usize = 4 * RECORD;
/// How many sessions of a worker may be stuck with a burst.
const MAX_STUCK: usize = 16;
/// What a client that was too slow once must take without a stop to be trusted again.
const PROOF: usize = 1024 * 1024;

thread_local! {
    static STUCK: Cell<usize> = const { Cell::new(0) };
}

/// The pace of one client.
#[derive(Debug)]
pub(super) struct Pace {
    /// What it took since it was too slow, up to [`PROOF`].
    kept_up: usize,
    /// Whether it is counted.
    is_stuck: bool,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            kept_up: PROOF,
            is_stuck: false,
        }
    }

    /// How many bytes of a write of `len` the session may take.
    pub(super) fn limit(&self, len: usize) -> usize {
        let may_burst = len > RECORD && self.kept_up >= PROOF && STUCK.get() < MAX_STUCK;
        if may_burst { BURST } else { RECORD }
    }

    /// The session took `count` bytes and keeps none of them.
    pub(super) fn went(&mut self, count: usize) {
        self.kept_up = self.kept_up.saturating_add(count).min(PROOF);
        self.release();
    }

    /// The session keeps some of up to `limit` bytes.
    pub(super) fn stuck(&mut self, limit: usize) {
        self.kept_up = 0;
        if limit > RECORD && !self.is_stuck {
            self.is_stuck = true;
            STUCK.set(STUCK.get() + 1);
        }
    }

    fn release(&mut self) {
        if std::mem::take(&mut self.is_stuck) {
            STUCK.set(STUCK.get().saturating_sub(1));
        }
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_up_is_given_more_at_once() {
        let mut pace = Pace::new();
        assert_eq!((pace.limit(100), pace.limit(BURST * 2)), (RECORD, BURST));
        pace.stuck(BURST);
        assert_eq!(pace.limit(BURST), RECORD);
        pace.went(PROOF - 1);
        assert_eq!(pace.limit(BURST), RECORD);
        pace.went(1);
        assert_eq!(pace.limit(BURST), BURST);
    }

    #[test]
    fn a_worker_holds_a_few_bursts_only() {
        let mut crowd: Vec<_> = (0..MAX_STUCK).map(|_| Pace::new()).collect();
        for pace in &mut crowd {
            assert_eq!(pace.limit(BURST), BURST);
            pace.stuck(BURST);
            pace.stuck(BURST);
        }
        assert_eq!(Pace::new().limit(BURST), RECORD);
        drop(crowd.pop());
        assert_eq!(Pace::new().limit(BURST), BURST);
        let mut late = Pace::new();
        late.stuck(RECORD);
        assert_eq!(Pace::new().limit(BURST), BURST);
        crowd.clear();
        assert_eq!(STUCK.get(), 0);
    }
}
