//! A clock that never goes back.
//!
//! Owns the translation between the instants of the shell and the time of one
//! virtual router, which begins at zero. An instant before the last one counts
//! as the last one; how late a call comes is the caller's to judge. It reads no
//! clock itself.

use std::time::{Duration, Instant};

/// Time since the virtual router was made, in steps that are never negative.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    last: Instant,
    now: Duration,
}

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last: now,
            now: Duration::ZERO,
        }
    }

    /// The virtual router's time as of the last [`Self::advance`].
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn advance(&mut self, now: Instant) {
        let step = now.saturating_duration_since(self.last);
        self.now = self.now.saturating_add(step);
        self.last = now;
    }

    /// When `time` will be, by the shell's clock; a time that is past is now.
    pub(super) fn instant(&self, time: Duration) -> Instant {
        let ahead = time.saturating_sub(self.now);
        self.last.checked_add(ahead).unwrap_or(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_back_stands_still_and_keeps_the_distance_to_a_deadline() {
        let start = Instant::now() + Duration::from_secs(1000);
        let second = Duration::from_secs(1);
        let mut clock = Clock::new(start);
        clock.advance(start + second);
        clock.advance(start - 500 * second);
        assert_eq!(clock.now(), second);
        assert_eq!(clock.instant(3 * second), start - 498 * second);
        clock.advance(start - 498 * second);
        assert_eq!(clock.now(), 3 * second);
        assert_eq!(clock.instant(second), start - 498 * second);
    }
}
