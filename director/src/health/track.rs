//! One way of asking one node: how it fares, and when to ask again.
//!
//! Pure; the clock is passed in. A good layer is asked at its period. The first
//! bad answer makes it doubtful: it is asked again at once (or soon, if bad
//! answers come fast), until it has answered well or failed often enough. The
//! time a connection may take follows what is usual; the answer that decides
//! is waited for longer than that, so that a short stutter decides nothing.

use std::time::{Duration, Instant};

use super::LayerHealth;
use super::probe::{Evidence, Failure, Outcome};
use crate::config::CheckSettings;

/// How often, how long, how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) rise: u32,
    pub(super) fall: u32,
}

impl Rates {
    pub(super) fn of(check: &CheckSettings) -> Self {
        Self {
            interval: check.interval,
            timeout: check.timeout,
            rise: check.rise.max(1),
            fall: check.fall.max(1),
        }
    }

    /// Between answers that come at once, while they are to decide something.
    pub(super) fn soon(&self) -> Duration {
        let (least, most) = (Duration::from_millis(20), Duration::from_millis(200));
        (self.interval / 5).clamp(least, most)
    }

    /// What any connection is given, however fast it usually is. Connections
    /// are taken by the other kernel: a busy program does not delay them.
    fn floor(&self) -> Duration {
        let (least, most) = (Duration::from_millis(25), Duration::from_millis(100));
        (self.interval / 2).clamp(least, most)
    }

    /// What the connection is given that decides.
    fn last_word(&self) -> Duration {
        let (least, most) = (Duration::from_millis(100), Duration::from_millis(250));
        self.interval.clamp(least, most)
    }
}

/// How long a connection usually takes: smoothed, with the mean deviation, as
/// TCP estimates its round trips (RFC 6298 section 2). After one answer the bound
/// is four times what that took.
#[derive(Clone, Copy, Debug)]
struct Usual {
    mean: Duration,
    deviation: Duration,
}

impl Usual {
    fn with(before: Option<Self>, took: Duration) -> Self {
        let Some(Self { mean, deviation }) = before else {
            return Self {
                mean: took,
                deviation: took / 2,
            };
        };
        Self {
            deviation: (deviation * 3 + mean.abs_diff(took)) / 4,
            mean: (mean * 7 + took) / 8,
        }
    }

    fn bound(&self) -> Duration {
        self.mean * 2 + self.deviation * 4
    }
}

/// One way of asking one node.
#[derive(Clone, Debug)]
pub(super) struct Track {
    is_up: Option<bool>,
    /// Good or bad answers in a row, and the last bad one.
    streak: u32,
    failure: Option<Failure>,
    usual: Option<Usual>,
    took: Option<Duration>,
    asked: Option<Instant>,
    /// The last question could not be asked: our fault.
    is_blind: bool,
    /// When the question was asked that a run of bad answers began with.
    doubted: Option<Instant>,
    /// When the last good answer came.
    pub(super) good: Option<Instant>,
    /// When to ask next.
    pub(super) due: Instant,
    /// The question that is out.
    pub(super) out: Option<u64>,
}

impl Track {
    pub(super) fn new(due: Instant) -> Self {
        Self {
            is_up: None,
            streak: 0,
            failure: None,
            usual: None,
            took: None,
            asked: None,
            is_blind: false,
            doubted: None,
            good: None,
            due,
            out: None,
        }
    }

    /// Does it count as good? Nothing: no answer so far.
    pub(super) fn is_up(&self) -> Option<bool> {
        self.is_up
    }

    /// No answer so far, and not for want of ability to ask.
    pub(super) fn is_awaited(&self) -> bool {
        self.is_up.is_none() && !self.is_blind
    }

    /// Why it is down, or could not be asked.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Since when it is in doubt, or down.
    pub(super) fn doubted(&self) -> Option<Instant> {
        self.doubted
    }

    /// How many bad answers in a row, if it is silent of late.
    pub(super) fn silence(&self) -> u32 {
        let silence = |it: &Failure| it.evidence() == Evidence::Silent;
        let is_silent = self.failure.as_ref().is_some_and(silence);
        if is_silent { self.bad() } else { 0 }
    }

    /// How long the next connection may take. `fall`: as for [`Self::answered`].
    pub(super) fn patience(&self, rates: &Rates, fall: u32) -> Duration {
        let Some(usual) = self.usual else {
            // A node that was never heard of; once it is down it is asked often.
            let is_down = self.is_up == Some(false);
            let patience = if is_down {
                rates.last_word()
            } else {
                rates.timeout
            };
            return patience.min(rates.timeout);
        };
        let usual = usual.bound().max(rates.floor());
        let patience = if self.decides(fall) {
            usual.max(rates.last_word())
        } else {
            usual
        };
        patience.min(rates.timeout)
    }

    /// Would a bad answer to the next question decide, or keep it down?
    pub(super) fn decides(&self, fall: u32) -> bool {
        self.is_up != Some(true) || self.bad() + 1 >= fall
    }

    fn bad(&self) -> u32 {
        if self.doubted.is_some() {
            self.streak
        } else {
            0
        }
    }

    /// Takes an answer to the question asked at `asked`, to which a connection
    /// was given `patience`. `fall`: so many bad ones are enough.
    pub(super) fn answered(
        &mut self,
        outcome: &Outcome,
        (asked, patience): (Instant, Duration),
        (rates, fall): (&Rates, u32),
        now: Instant,
    ) {
        self.asked = Some(asked);
        self.is_blind = false;
        match outcome {
            Outcome::Good { connected, took } => {
                self.usual = Some(Usual::with(self.usual, *connected));
                self.took = Some(*took);
                self.good(rates.rise, now);
            }
            Outcome::Bad(failure) if failure.evidence() == Evidence::Nothing => {
                self.is_blind = true;
                if self.doubted.is_none() {
                    self.failure = Some(failure.clone());
                }
            }
            Outcome::Bad(failure) => {
                let is_patient = patience >= rates.last_word().min(rates.timeout);
                let is_enough = is_patient || failure.evidence() != Evidence::Silent;
                self.bad_answer(failure.clone(), asked, is_enough.then_some(fall));
            }
        }
    }

    fn good(&mut self, rise: u32, now: Instant) {
        self.streak = match self.doubted.take() {
            Some(_) => 1,
            None => self.streak.saturating_add(1),
        };
        self.good = Some(now);
        // One that is down keeps its last word until it has risen.
        if self.is_up != Some(false) || self.streak >= rise {
            self.is_up = Some(true);
            self.failure = None;
        }
    }

    fn bad_answer(&mut self, failure: Failure, asked: Instant, fall: Option<u32>) {
        self.streak = self.bad().saturating_add(1);
        self.doubted.get_or_insert(asked);
        self.failure = Some(failure);
        if self.is_up.is_none() || fall.is_some_and(|fall| self.streak >= fall) {
            self.is_up = Some(false);
        }
    }

    /// When to ask again, after an answer. `period` is for one that is fine.
    pub(super) fn next(&self, rates: &Rates, period: Duration, now: Instant) -> Instant {
        let started = self.asked.unwrap_or(now);
        let next = match (self.is_up, self.doubted) {
            _ if self.is_blind => started + period,
            (Some(false), None) => now + rates.soon(),
            (Some(true), None) | (None, _) => started + period,
            (Some(false), Some(_)) => started + rates.interval / 2,
            (Some(true), Some(_)) if self.silence() > 0 => now,
            (Some(true), Some(_)) => now + rates.soon(),
        };
        next.max(now)
    }

    /// Forgets the counts, not what they led to: this machine was away.
    pub(super) fn restart(&mut self) {
        self.out = None;
        self.is_blind = false;
        self.streak = 0;
        if self.is_up != Some(false) {
            self.doubted = None;
            self.failure = None;
        }
    }

    pub(super) fn health(&self) -> LayerHealth {
        LayerHealth {
            is_up: self.is_up,
            streak: self.streak,
            reason: self.failure.as_ref().map(ToString::to_string),
            took: self.took,
            asked: self.asked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn rates(interval: u32) -> Rates {
        Rates {
            interval: MS * interval,
            timeout: MS * interval,
            rise: 2,
            fall: 3,
        }
    }

    fn good(took: Duration) -> Outcome {
        Outcome::Good {
            connected: took,
            took,
        }
    }

    /// Gives it this answer after as long as such an answer takes, and says
    /// when that was.
    fn give(track: &mut Track, outcome: &Outcome, rates: &Rates, asked: Instant) -> Instant {
        let patience = track.patience(rates, rates.fall);
        let took = match outcome {
            Outcome::Good { took, .. } => *took,
            Outcome::Bad(Failure::Silent(_)) => patience,
            Outcome::Bad(_) => MS,
        };
        let now = asked + took;
        track.answered(outcome, (asked, patience), (rates, rates.fall), now);
        now
    }

    #[test]
    fn silence_decides_after_quick_questions_and_a_patient_one() {
        for (interval, most) in [(1000, 450), (100, 200), (5000, 450)] {
            let rates = rates(interval);
            let start = Instant::now();
            let mut track = Track::new(start);
            give(&mut track, &good(MS), &rates, start);
            assert_eq!(track.is_up(), Some(true), "the first answer decides");
            let silent = Outcome::Bad(Failure::Silent(MS));
            let mut now = start + MS * interval;
            let asked = now;
            for _ in 0..3 {
                assert_eq!(track.is_up(), Some(true));
                now = give(&mut track, &silent, &rates, now);
                now = track
                    .next(&rates, rates.interval, now)
                    .min(now + rates.interval);
            }
            assert_eq!(track.is_up(), Some(false));
            let given = MS * most + rates.interval / 2;
            assert!(now - asked <= given, "{interval}: {:?}", now - asked);
        }
    }

    #[test]
    fn fast_refusals_are_spread_over_time() {
        let rates = rates(1000);
        let start = Instant::now();
        let mut track = Track::new(start);
        give(&mut track, &good(MS), &rates, start);
        let refused = Outcome::Bad(Failure::Refused);
        let mut now = start;
        for _ in 0..2 {
            now = give(&mut track, &refused, &rates, now);
            assert_eq!(track.is_up(), Some(true));
            let next = track.next(&rates, rates.interval, now);
            assert_eq!(next - now, MS * 200);
            now = next;
        }
        give(&mut track, &refused, &rates, now);
        assert_eq!(track.is_up(), Some(false));
        assert_eq!(track.silence(), 0);
    }

    #[test]
    fn it_rises_soon_after_the_first_good_answer() {
        let rates = rates(1000);
        let start = Instant::now();
        let mut track = Track::new(start);
        let silent = Outcome::Bad(Failure::Silent(MS));
        let now = give(&mut track, &silent, &rates, start);
        assert_eq!(track.is_up(), Some(false), "the first answer decides");
        assert_eq!(track.patience(&rates, 3), MS * 250);
        let now = give(&mut track, &good(MS), &rates, now);
        assert_eq!(track.is_up(), Some(false));
        let next = track.next(&rates, rates.interval, now);
        assert_eq!(next - now, MS * 200);
        give(&mut track, &good(MS), &rates, next);
        assert_eq!(track.is_up(), Some(true));
    }

    #[test]
    fn one_good_answer_ends_the_doubt() {
        let rates = rates(1000);
        let start = Instant::now();
        let mut track = Track::new(start);
        give(&mut track, &good(MS), &rates, start);
        let silent = Outcome::Bad(Failure::Silent(MS));
        for _ in 0..20 {
            give(&mut track, &silent, &rates, start);
            give(&mut track, &silent, &rates, start);
            give(&mut track, &good(MS), &rates, start);
            assert_eq!(track.is_up(), Some(true));
        }
    }

    #[test]
    fn patience_follows_what_is_usual() {
        let rates = rates(1000);
        let start = Instant::now();
        let mut track = Track::new(start);
        assert_eq!(track.patience(&rates, 3), MS * 1000, "nothing is usual yet");
        for _ in 0..50 {
            give(&mut track, &good(MS), &rates, start);
        }
        assert_eq!(track.patience(&rates, 3), MS * 100);
        for _ in 0..50 {
            give(&mut track, &good(MS * 60), &rates, start);
        }
        let patience = track.patience(&rates, 3);
        assert!(patience > MS * 115 && patience < MS * 150, "{patience:?}");
    }

    #[test]
    fn what_could_not_be_asked_says_nothing() {
        let rates = rates(1000);
        let start = Instant::now();
        let mut track = Track::new(start);
        let own = Outcome::Bad(Failure::Own("no descriptors".to_owned()));
        for _ in 0..5 {
            give(&mut track, &own, &rates, start);
            assert_eq!((track.is_up(), track.is_awaited()), (None, false));
        }
        give(&mut track, &good(MS), &rates, start);
        for _ in 0..5 {
            give(&mut track, &own, &rates, start);
            assert_eq!(track.is_up(), Some(true));
        }
        assert!(track.health().reason.unwrap().contains("no descriptors"));
    }
}
