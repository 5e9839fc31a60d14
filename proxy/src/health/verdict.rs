//! When a server is up: pure counting, with the time passed in.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::plan::Passive;

/// How long a full server that answers nobody may let checks time out before
/// that counts against it.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// What active checks say: checks in a row against the present state, HAProxy's
/// rise and fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) is_up: bool,
    against: u32,
}

impl Tally {
    pub(super) const fn new(is_up: bool) -> Self {
        Self { is_up, against: 0 }
    }

    /// Counts a check. True if it changed the state.
    pub(super) fn note(&mut self, passed: bool, rise: u32, fall: u32) -> bool {
        if passed == self.is_up {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        if self.against < if passed { rise } else { fall } {
            return false;
        }
        *self = Self::new(passed);
        true
    }
}

/// Failed requests of the last while, with no success in between.
#[derive(Clone, Debug, Default)]
pub(super) struct Window(VecDeque<Instant>);

impl Window {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Counts a failure. True if there were enough of them.
    pub(super) fn fail(&mut self, rule: Passive, now: Instant) -> bool {
        let limit = usize::try_from(rule.limit).unwrap_or(usize::MAX);
        let failures = &mut self.0;
        let is_over = |then: &Instant| now.saturating_duration_since(*then) >= rule.span;
        while failures.len() >= limit || failures.front().is_some_and(is_over) {
            failures.pop_front();
        }
        failures.push_back(now);
        failures.len() >= limit
    }
}

/// Which time-outs of checks say nothing.
///
/// A server with a limit may have given all its workers to our own requests and
/// kept-alive connections, so that a check, which comes on top of them, gets
/// none (uWSGI, one connection for each worker). That is no illness.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patience {
    silent_since: Option<Instant>,
}

/// What was seen of a server while a check of it timed out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    /// Whether all that it may hold was held, before or after.
    pub(super) was_full: bool,
    /// Whether it answered somebody else.
    pub(super) answered: bool,
}

impl Patience {
    /// Whether a time-out is to be passed over.
    pub(super) fn excuses(&mut self, sight: Sight, now: Instant) -> bool {
        if sight.answered {
            self.silent_since = None;
            return true;
        }
        if !sight.was_full {
            return false;
        }
        let since = *self.silent_since.get_or_insert(now);
        now.saturating_duration_since(since) < LONGEST_SILENCE
    }

    /// A check has passed, or failed in another way.
    pub(super) fn forget(&mut self) {
        self.silent_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_change_after_enough_checks_in_a_row() {
        // Checks as they come, and the states after them.
        let table = [
            (true, 1, 1, "-+-", "-+-"),
            (true, 2, 3, "--+---+-++", "+++++----+"),
            (false, 2, 1, "+-++-", "---+-"),
        ];
        for (start, rise, fall, checks, states) in table {
            let mut tally = Tally::new(start);
            for (check, state) in checks.chars().zip(states.chars()) {
                tally.note(check == '+', rise, fall);
                assert_eq!(tally.is_up, state == '+', "{checks} {states}");
            }
        }
        let mut tally = Tally::new(true);
        let changes = "--+---+-++".chars();
        let changes: String = changes
            .map(|check| {
                if tally.note(check == '+', 2, 3) {
                    '!'
                } else {
                    '.'
                }
            })
            .collect();
        assert_eq!(changes, ".....!...!");
    }

    #[test]
    fn failures_count_within_the_window() {
        let start = Instant::now();
        let rule = Passive {
            limit: 3,
            span: Duration::from_secs(10),
        };
        let mut window = Window::default();
        let mut at = |seconds| window.fail(rule, start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(5), at(10), at(14)], [false, false, false, true]);
        window.clear();
        let mut at = |seconds| window.fail(rule, start + Duration::from_secs(seconds));
        assert_eq!([at(15), at(16), at(17)], [false, false, true]);
    }

    #[test]
    fn the_window_holds_no_more_than_it_needs() {
        let now = Instant::now();
        let rule = Passive {
            limit: 2,
            span: Duration::from_secs(10),
        };
        let mut window = Window::default();
        for _ in 0..100 {
            window.fail(rule, now);
        }
        assert_eq!(window.0.len(), 2);
    }

    #[test]
    fn a_busy_server_is_excused_and_a_silent_one_not_for_long() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let sight = |was_full, answered| Sight { was_full, answered };
        let mut patience = Patience::default();
        assert!(!patience.excuses(sight(false, false), at(0)));
        assert!(patience.excuses(sight(false, true), at(1)));
        assert!(patience.excuses(sight(true, false), at(2)));
        assert!(patience.excuses(sight(true, false), at(61)));
        assert!(!patience.excuses(sight(true, false), at(62)));
        assert!(patience.excuses(sight(true, true), at(63)));
        assert!(patience.excuses(sight(true, false), at(70)));
        patience.forget();
        assert!(patience.excuses(sight(true, false), at(140)));
    }
}
