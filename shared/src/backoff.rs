//! How long to wait before the next try.
//!
//! A pure iterator: it sleeps nowhere and asks no clock. Whoever retries
//! something takes the next wait from it, and calls [`Backoff::reset`] once the
//! thing has worked.

use std::time::Duration;

/// Waits that double from a first one up to a longest one, each shortened by a
/// random part of up to half, so that many who failed together do not return
/// together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    /// Waits from `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self::with_random(first, longest, fastrand::Rng::new())
    }

    /// The same with a random source of the caller's, for reproducible tests.
    pub fn with_random(first: Duration, longest: Duration, random: fastrand::Rng) -> Self {
        let first = first.min(longest);
        Self {
            first,
            longest,
            next: first,
            random,
        }
    }

    /// Starts over with the first wait.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next wait.
    pub fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.longest);
        whole.mul_f64(1.0 - self.random.f64() / 2.0)
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    /// Never ends.
    fn next(&mut self) -> Option<Duration> {
        Some(self.wait())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_longest_and_jitters_downwards() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        for seed in 0..50 {
            let mut backoff = Backoff::with_random(first, longest, fastrand::Rng::with_seed(seed));
            for whole in [100, 200, 400, 800, 1_000, 1_000] {
                let whole = Duration::from_millis(whole);
                let wait = backoff.wait();
                assert!(
                    wait <= whole && wait >= whole / 2,
                    "seed {seed}: {wait:?} of {whole:?}"
                );
            }
            backoff.reset();
            assert!(backoff.wait() <= first, "seed {seed}");
        }
    }

    #[test]
    fn a_first_wait_above_the_longest_is_cut() {
        let second = Duration::from_secs(1);
        assert!(Backoff::new(second * 9, second).all_within(second));
    }

    impl Backoff {
        fn all_within(self, longest: Duration) -> bool {
            self.take(20).all(|wait| wait <= longest)
        }
    }
}
