//! How soon a server closes idle connections, as far as it can be known.
//!
//! A request that must not be sent twice is lost if its server closes the
//! connection at the same moment, so it may only ride where that does not
//! happen. Atomics only: all workers tell what they see, and ask on the path of
//! such requests. The pool tells of survivals and closes, `http1` of lost races.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long a connection to a trusted server may have been idle for a request
/// that must not be sent twice: less than the patience of usual servers.
const SURE_IDLE: Duration = Duration::from_secs(1);

/// A close at less than this age may have happened within [`SURE_IDLE`], since
/// closes are looked for once a second.
const YOUNG: Duration = Duration::from_secs(2);

/// How long idle connections must have survived, all together, to be trusted.
const PROBATION: Duration = Duration::from_secs(10);

/// How long nothing is trusted after a young close.
const GRUDGE: Duration = Duration::from_secs(60);

/// How long the age of an old close counts. Since it keeps such closes from
/// being seen again, it must be learned anew now and then.
const MEMORY: Duration = Duration::from_secs(600);

/// Part of the least age at which the server has closed, after which we close.
const RETIRE_PERCENT: u32 = 80;

/// What idle connections were seen to survive.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Survival {
    /// Idle time since each of them was last looked at, all together.
    total: Duration,
    /// The greatest age among them.
    oldest: Duration,
}

impl Survival {
    /// That of one connection, idle since one moment and last looked at in another.
    pub(super) fn of(since: Instant, seen: Instant, now: Instant) -> Self {
        Self {
            total: now.saturating_duration_since(seen),
            oldest: now.saturating_duration_since(since),
        }
    }

    /// Adds that of others.
    pub(super) fn add(&mut self, other: Self) {
        self.total += other.total;
        self.oldest = self.oldest.max(other.oldest);
    }
}

/// What is known of a server's habit of closing idle connections.
///
/// Trust is earned by idle time survived, and reaches half as far as a connection
/// was seen to survive: a server with a short limit shows a young close on the
/// first connection that is left alone for so long. One that closes at random, at a rate of `r` for each
/// second of an idle connection, survives ten such seconds without a young close
/// with a probability of `e^-10r` only; so where trust is given `r` is small, and
/// the risk of a request is `r` times the moment in which its bytes and the
/// server's close can cross. The first young close then ends the trust for a
/// minute at least. Whoever is not trusted gets such requests on new connections,
/// each in the place of an idle one.
#[derive(Debug)]
pub(super) struct Patience {
    start: Instant,
    /// Microseconds of idle time survived since the last young close.
    survived: AtomicU64,
    /// The greatest age at which a connection was found alive since then, in
    /// microseconds.
    oldest: AtomicU64,
    /// When that was, in milliseconds from one up; 0 if never.
    young_at: AtomicU64,
    /// Whether the server has announced a limit that is long enough.
    is_announced: AtomicBool,
    /// The least age of an old close, in microseconds.
    least: AtomicU64,
    /// When the first close of the present memory was seen, in milliseconds.
    least_at: AtomicU64,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            survived: AtomicU64::new(0),
            oldest: AtomicU64::new(0),
            young_at: AtomicU64::new(0),
            is_announced: AtomicBool::new(false),
            least: AtomicU64::new(u64::MAX),
            least_at: AtomicU64::new(0),
        }
    }

    fn millis(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.start).as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Idle connections were found alive.
    pub(super) fn note_alive(&self, found: Survival) {
        // Enough is enough: no writes for a server that is trusted.
        if !found.total.is_zero() && !self.has_proved_itself() {
            let total = micros(found.total);
            self.survived.fetch_add(total, Ordering::Relaxed);
        }
        let oldest = micros(found.oldest.min(YOUNG));
        if oldest > self.oldest.load(Ordering::Relaxed) {
            self.oldest.fetch_max(oldest, Ordering::Relaxed);
        }
    }

    /// The server has closed a connection that was idle for `idle_for`.
    pub(super) fn note_close(&self, idle_for: Duration, now: Instant) {
        let at = self.millis(now);
        if idle_for < YOUNG {
            self.young_at.store(at, Ordering::Relaxed);
            self.survived.store(0, Ordering::Relaxed);
            self.oldest.store(0, Ordering::Relaxed);
            self.least.store(u64::MAX, Ordering::Relaxed);
        } else if !self.bears_a_grudge(now) {
            let age = micros(idle_for);
            if self.least(now).is_none() {
                self.least_at.store(at, Ordering::Relaxed);
                self.least.store(age, Ordering::Relaxed);
            } else {
                self.least.fetch_min(age, Ordering::Relaxed);
            }
        }
    }

    /// The server says how long it keeps an idle connection; `keep_for` is that
    /// less a margin.
    pub(super) fn note_announced(&self, keep_for: Duration) {
        if keep_for * 100 >= YOUNG * RETIRE_PERCENT && !self.is_announced.load(Ordering::Relaxed) {
            self.is_announced.store(true, Ordering::Relaxed);
        }
    }

    /// How long a connection may have been idle for a request that must not be
    /// sent twice. Nothing if the server is not trusted.
    pub(super) fn sure(&self, now: Instant) -> Duration {
        let is_innocent = self.young_at.load(Ordering::Relaxed) == 0;
        if is_innocent && self.is_announced.load(Ordering::Relaxed) {
            SURE_IDLE
        } else if self.has_proved_itself() && (is_innocent || !self.bears_a_grudge(now)) {
            let oldest = self.oldest.load(Ordering::Relaxed);
            SURE_IDLE.min(Duration::from_micros(oldest) / 2)
        } else {
            Duration::ZERO
        }
    }

    /// After what time an idle connection is better closed than kept, for its
    /// server would soon do so.
    pub(super) fn retire_after(&self, now: Instant) -> Option<Duration> {
        let least = self.least(now)?;
        Some(Duration::from_micros(least) * RETIRE_PERCENT / 100)
    }

    fn least(&self, now: Instant) -> Option<u64> {
        let least = self.least.load(Ordering::Relaxed);
        let at = self.least_at.load(Ordering::Relaxed);
        let is_known = least != u64::MAX && self.is_within(at, now, MEMORY);
        is_known.then_some(least)
    }

    fn has_proved_itself(&self) -> bool {
        self.survived.load(Ordering::Relaxed) >= micros(PROBATION)
    }

    fn bears_a_grudge(&self, now: Instant) -> bool {
        let at = self.young_at.load(Ordering::Relaxed);
        at != 0 && self.is_within(at, now, GRUDGE)
    }

    fn is_within(&self, at: u64, now: Instant, time: Duration) -> bool {
        let passed = self.millis(now).saturating_sub(at);
        Duration::from_millis(passed) < time
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn started() -> (Patience, impl Fn(u64) -> Instant) {
        let patience = Patience::new();
        let start = patience.start;
        (patience, move |seconds| {
            start + Duration::from_secs(seconds)
        })
    }

    /// So many seconds, by connections of up to two seconds.
    fn survived(seconds: u64) -> Survival {
        Survival {
            total: SECOND * u32::try_from(seconds).unwrap(),
            oldest: SECOND * 2,
        }
    }

    #[test]
    fn trust_reaches_half_as_far_as_a_connection_lived() {
        let (patience, at) = started();
        let mut found = Survival::default();
        let moment = Duration::from_millis(4);
        for _ in 0..3_000 {
            found.add(Survival::of(at(0), at(0), at(0) + moment));
        }
        patience.note_alive(found);
        assert_eq!(patience.sure(at(20)), moment / 2);
        patience.note_alive(Survival::of(at(20), at(20), at(21)));
        assert_eq!(patience.sure(at(21)), SECOND / 2);
        patience.note_alive(Survival::of(at(20), at(21), at(29)));
        assert_eq!(patience.sure(at(29)), SURE_IDLE);
    }

    #[test]
    fn trust_is_earned_by_idle_time_survived() {
        let (patience, at) = started();
        assert_eq!(patience.sure(at(0)), Duration::ZERO);
        patience.note_alive(survived(9));
        assert_eq!(patience.sure(at(900)), Duration::ZERO);
        patience.note_alive(survived(1));
        assert_eq!(patience.sure(at(900)), SURE_IDLE);
    }

    #[test]
    fn a_young_close_takes_trust_away_for_a_minute_and_until_it_is_earned_anew() {
        let (patience, at) = started();
        patience.note_alive(survived(10));
        patience.note_close(Duration::from_millis(1900), at(5));
        patience.note_alive(survived(10));
        assert_eq!(patience.sure(at(64)), Duration::ZERO);
        assert_eq!(patience.sure(at(65)), SURE_IDLE);
        patience.note_close(Duration::from_millis(5), at(66));
        assert_eq!(patience.sure(at(600)), Duration::ZERO);
    }

    #[test]
    fn an_old_close_does_not_shake_trust() {
        let (patience, at) = started();
        patience.note_alive(survived(10));
        patience.note_close(SECOND * 2, at(5));
        assert_eq!(patience.sure(at(5)), SURE_IDLE);
    }

    #[test]
    fn an_announcement_is_believed_until_it_is_broken() {
        let (patience, at) = started();
        patience.note_announced(SECOND * 4 / 5);
        assert_eq!(patience.sure(at(0)), Duration::ZERO);
        patience.note_announced(SECOND * 8 / 5);
        assert_eq!(patience.sure(at(0)), SURE_IDLE);
        patience.note_close(SECOND, at(1));
        patience.note_announced(SECOND * 8 / 5);
        assert_eq!(patience.sure(at(600)), Duration::ZERO);
    }

    #[test]
    fn connections_retire_before_the_server_closes_them() {
        let (patience, at) = started();
        assert_eq!(patience.retire_after(at(0)), None);
        patience.note_close(SECOND * 6, at(1));
        patience.note_close(SECOND * 5, at(2));
        patience.note_close(SECOND * 7, at(3));
        assert_eq!(patience.retire_after(at(3)), Some(SECOND * 4));
        // Learned anew after ten minutes.
        assert_eq!(patience.retire_after(at(601)), None);
        patience.note_close(SECOND * 10, at(602));
        assert_eq!(patience.retire_after(at(602)), Some(SECOND * 8));
        // Of a server that closes at any age nothing can be learned.
        patience.note_close(SECOND, at(603));
        patience.note_close(SECOND * 5, at(604));
        assert_eq!(patience.retire_after(at(604)), None);
    }
}
