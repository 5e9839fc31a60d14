//! What the last pulses of a back end say of it.
//!
//! Pure; time is given. As GORB documents it: one bad answer takes the weight
//! away, and it comes back in the measure in which the last hundred answers
//! were good. A back end that is up has a weight of one at least, though, so
//! that it is used at all after a long silence.

use std::collections::VecDeque;
use std::time::Instant;

/// How many answers count.
const KEPT: usize = 100;

/// What is known of a back end.
#[derive(Clone, Debug)]
pub(super) struct Vitals {
    answers: VecDeque<bool>,
    is_up: bool,
    up_since: Instant,
}

impl Vitals {
    /// A back end counts as up until it was asked.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            answers: VecDeque::new(),
            is_up: true,
            up_since: now,
        }
    }

    /// Notes an answer; true if it went up or down by it.
    pub(super) fn note(&mut self, is_good: bool, now: Instant) -> bool {
        if self.answers.len() == KEPT {
            self.answers.pop_front();
        }
        self.answers.push_back(is_good);
        if !is_good {
            self.up_since = now;
        }
        std::mem::replace(&mut self.is_up, is_good) != is_good
    }

    /// Was the last answer good?
    pub(super) fn is_up(&self) -> bool {
        self.is_up
    }

    fn good(&self) -> (usize, usize) {
        let good = self.answers.iter().filter(|it| **it).count();
        (good, self.answers.len())
    }

    /// The share of good answers, 1 before the first.
    pub(super) fn health(&self) -> f64 {
        let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        match self.good() {
            (_, 0) => 1.0,
            (good, all) => count(good) / count(all),
        }
    }

    /// Whole seconds since the last bad answer or the registration; 0 while down.
    pub(super) fn uptime(&self, now: Instant) -> u64 {
        match self.is_up {
            true => now.saturating_duration_since(self.up_since).as_secs(),
            false => 0,
        }
    }

    /// What is left of a weight.
    pub(super) fn weight(&self, full: u32) -> u32 {
        match self.good() {
            _ if !self.is_up || full == 0 => 0,
            (_, 0) => full,
            (good, all) => {
                let share = u64::from(full) * good as u64 / all as u64;
                u32::try_from(share).unwrap_or(full).max(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_bad_answer_takes_the_weight_and_good_ones_bring_it_back() {
        let now = Instant::now();
        let mut vitals = Vitals::new(now);
        assert_eq!((vitals.weight(100), vitals.health()), (100, 1.0));
        assert!(vitals.note(false, now));
        assert_eq!((vitals.weight(100), vitals.health()), (0, 0.0));
        assert!(vitals.note(true, now));
        assert_eq!(vitals.weight(100), 50);
        assert!(!vitals.note(true, now));
        assert_eq!(vitals.weight(100), 66);
        for _ in 0..97 {
            vitals.note(true, now);
        }
        assert_eq!(vitals.weight(100), 99);
        vitals.note(true, now);
        assert_eq!(vitals.weight(100), 100);
    }

    #[test]
    fn after_a_long_silence_there_is_something_and_zero_stays_zero() {
        let now = Instant::now();
        let mut vitals = Vitals::new(now);
        for _ in 0..500 {
            vitals.note(false, now);
        }
        vitals.note(true, now);
        assert_eq!(vitals.weight(10), 1);
        assert_eq!(vitals.weight(0), 0);
        assert_eq!(vitals.answers.len(), KEPT);
        let most = i32::MAX.unsigned_abs();
        assert_eq!(vitals.weight(most), most / 100);
    }

    #[test]
    fn uptime_counts_from_the_last_bad_answer() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut vitals = Vitals::new(start);
        assert_eq!(vitals.uptime(at(5)), 5);
        vitals.note(false, at(6));
        assert_eq!(vitals.uptime(at(9)), 0);
        vitals.note(true, at(10));
        assert_eq!(vitals.uptime(at(11)), 5);
    }
}
