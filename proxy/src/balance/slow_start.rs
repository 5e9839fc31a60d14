//! The slow start of one server.
//!
//! Owns when the server came up and how much of its limit and weight it has by
//! now. Moves in steps of a twentieth, as HAProxy's does, because every step lays
//! out the service anew. `server` begins and ends one, `control` carries it on;
//! all under the group's lock, while anyone may read the share.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::limit::Share;

/// One step, in percent.
const STEP: u32 = 5;
/// The shortest time between two steps: a ramp that takes no longer than this has
/// no use for finer ones.
const SHORTEST_STEP: Duration = Duration::from_millis(10);

/// Since when, and how far.
#[derive(Debug)]
pub(super) struct Rise {
    /// Microseconds since the caller's epoch; of meaning while the share is not full.
    began: AtomicU64,
    share: AtomicU32,
}

impl Default for Rise {
    fn default() -> Self {
        Self {
            began: AtomicU64::new(0),
            share: AtomicU32::new(Share::FULL.0),
        }
    }
}

impl Rise {
    /// How much of limit and weight is in force.
    pub(super) fn share(&self) -> Share {
        Share(self.share.load(Ordering::Relaxed))
    }

    pub(super) fn is_on(&self) -> bool {
        self.share() != Share::FULL
    }

    /// Starts from nothing, which [`Share::of`] makes the least there is.
    pub(super) fn begin(&self, now: Duration) {
        self.began.store(micros(now), Ordering::Relaxed);
        self.share.store(0, Ordering::Relaxed);
    }

    pub(super) fn finish(&self) {
        self.share.store(Share::FULL.0, Ordering::Relaxed);
    }

    /// Steps up to where it should be at `now`; returns whether it moved.
    pub(super) fn advance(&self, now: Duration, length: Duration) -> bool {
        if !self.is_on() {
            return false;
        }
        let share = match self.percent(now, length) {
            percent if percent >= Share::FULL.0 => Share::FULL.0,
            percent => percent - percent % STEP,
        };
        self.share.swap(share, Ordering::Relaxed) != share
    }

    /// The time from `now` to the next step; nothing once it is over.
    pub(super) fn next_step(&self, now: Duration, length: Duration) -> Option<Duration> {
        if !self.is_on() {
            return None;
        }
        let next = self.share().0 + STEP;
        let due = self.began() + length * next / Share::FULL.0;
        Some(due.saturating_sub(now).max(SHORTEST_STEP))
    }

    fn percent(&self, now: Duration, length: Duration) -> u32 {
        let elapsed = now.saturating_sub(self.began()).as_micros();
        let percent = elapsed.saturating_mul(u128::from(Share::FULL.0));
        let percent = percent.checked_div(length.as_micros());
        percent.map_or(Share::FULL.0, |percent| {
            u32::try_from(percent).unwrap_or(Share::FULL.0)
        })
    }

    fn began(&self) -> Duration {
        Duration::from_micros(self.began.load(Ordering::Relaxed))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(20);

    #[test]
    fn rises_in_twentieths() {
        let rise = Rise::default();
        assert!(!rise.is_on() && rise.next_step(Duration::ZERO, LENGTH).is_none());
        let start = Duration::from_secs(100);
        rise.begin(start);
        assert_eq!(rise.share(), Share(0));
        let mut now = start;
        let mut shares = Vec::new();
        while let Some(step) = rise.next_step(now, LENGTH) {
            assert_eq!(step, Duration::from_secs(1));
            now += step;
            assert!(rise.advance(now, LENGTH));
            shares.push(rise.share().0);
        }
        let expected: Vec<u32> = (1..=20).map(|step| 5 * step).collect();
        assert_eq!(shares, expected);
        assert!(!rise.advance(now, LENGTH));
    }

    #[test]
    fn late_early_and_absurd_calls_do_no_harm() {
        let start = Duration::from_secs(100);
        // (now in ms, length in ms, moved, share)
        let cases = [
            (0, 20_000, false, 0),
            (100_000, 20_000, false, 0),
            (100_999, 20_000, false, 0),
            (107_600, 20_000, true, 35),
            (119_999, 20_000, true, 95),
            (900_000, 20_000, true, 100),
            (100_000, 0, true, 100),
            (u64::MAX, 1, true, 100),
        ];
        for (now, length, moved, share) in cases {
            let rise = Rise::default();
            rise.begin(start);
            let (now, length) = (Duration::from_millis(now), Duration::from_millis(length));
            assert_eq!(rise.advance(now, length), moved, "{now:?} of {length:?}");
            assert_eq!(rise.share(), Share(share), "{now:?} of {length:?}");
        }
        let rise = Rise::default();
        rise.begin(start);
        assert_eq!(rise.next_step(start, Duration::ZERO), Some(SHORTEST_STEP));
    }
}
