//! Keeps a node that comes and goes out for longer each time.
//!
//! The first failure costs nothing: back as soon as it answers. Each further
//! one before a calm time has passed holds the node down, twice as long as the
//! one before. Pure; the clock is passed in.

use std::time::{Duration, Instant};

/// The longest hold, and the calm it takes to be trusted again, at least.
const MOST: Duration = Duration::from_secs(60);

/// What is remembered of a node's failures.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hold {
    failures: u32,
    up_since: Option<Instant>,
    length: Duration,
    until: Option<Instant>,
}

impl Hold {
    /// The node is used from now on.
    pub(super) fn came_up(&mut self, now: Instant) {
        self.up_since = Some(now);
        self.until = None;
    }

    /// The node failed. `first` is how long the first hold is.
    pub(super) fn went_down(&mut self, first: Duration, now: Instant) {
        let up_since = self.up_since.take().unwrap_or(now);
        if now.saturating_duration_since(up_since) > MOST + self.length {
            self.failures = 0;
        }
        self.length = match self.failures {
            0 => Duration::ZERO,
            // Enough doublings to be over the limit, few enough not to overflow.
            more => (first * 2_u32.pow((more - 1).min(16))).min(MOST),
        };
        self.failures = self.failures.saturating_add(1);
        self.until = (!self.length.is_zero()).then(|| now + self.length);
    }

    /// Lets the node go: it is needed.
    pub(super) fn release(&mut self) {
        self.until = None;
    }

    /// Until when it is held, if it is.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// For how long it is or was held.
    pub(super) fn length(&self) -> Duration {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn holds_double_up_to_a_limit_and_are_forgotten_after_calm() {
        let mut hold = Hold::default();
        let mut now = Instant::now();
        let mut lengths = Vec::new();
        for _ in 0..40 {
            hold.came_up(now);
            now += SECOND;
            hold.went_down(SECOND, now);
            lengths.push(hold.until(now).map_or(0, |until| (until - now).as_secs()));
            now += hold.length();
            assert_eq!(hold.until(now), None);
        }
        assert_eq!(lengths[..9], [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(lengths[39], 60);
        hold.came_up(now);
        now += SECOND * 121;
        hold.went_down(SECOND, now);
        assert_eq!(hold.until(now), None, "the first one again");
    }

    #[test]
    fn a_held_node_can_be_let_go() {
        let mut hold = Hold::default();
        let now = Instant::now();
        hold.went_down(SECOND, now);
        hold.came_up(now);
        hold.went_down(SECOND, now);
        assert!(hold.until(now).is_some());
        hold.release();
        assert_eq!(hold.until(now), None);
    }
}
