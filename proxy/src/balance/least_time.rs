//! Least time.
//!
//! Owns two turns: one breaks ties, one says whose mean fades next. The cost of a
//! server is the mean time to its first byte times the requests that it would
//! then have, per unit of weight (Traefik's `leasttime`). Two things keep a slow
//! server from being judged for good by a time long past: who was never tried
//! goes first, and with every pick the mean of one idle server sinks a little
//! until it is worth another try. Not by the clock: while nobody asks, nothing
//! needs to fade.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::policy::Candidates;

/// The turns.
#[derive(Debug, Default)]
pub(super) struct LeastTime {
    next: AtomicUsize,
    fading: AtomicUsize,
}

impl LeastTime {
    /// The server with room that seems to answer soonest; equals take turns.
    pub(super) fn pick(&self, candidates: &impl Candidates) -> Option<usize> {
        let count = candidates.len();
        let start = self.next.load(Ordering::Relaxed).checked_rem(count)?;
        let unknown = shortest_mean(candidates);
        let costs = (start..count)
            .chain(0..start)
            .filter(|&index| candidates.has_room(index))
            .map(|index| (index, Cost::of(candidates, index, unknown)));
        let (chosen, _) = costs.reduce(
            |best, next| {
                if next.1.is_below(&best.1) { next } else { best }
            },
        )?;
        self.next.store(chosen + 1, Ordering::Relaxed);
        self.fade_one(candidates, chosen);
        Some(chosen)
    }

    fn fade_one(&self, candidates: &impl Candidates, chosen: usize) {
        let turn = self.fading.fetch_add(1, Ordering::Relaxed);
        if let Some(index) = turn.checked_rem(candidates.len())
            && index != chosen
            && candidates.load(index) == 0
        {
            candidates.fade(index);
        }
    }
}

/// The mean that a server without one counts with: the best, so that it takes
/// part, but a silent one gets no more than its share.
fn shortest_mean(candidates: &impl Candidates) -> u64 {
    (0..candidates.len())
        .map(|index| candidates.mean_time(index))
        .filter(|&mean| mean > 0)
        .min()
        .unwrap_or(1)
}

/// Expected time over weight, as a fraction.
struct Cost {
    time: u128,
    weight: u32,
}

impl Cost {
    fn of(candidates: &impl Candidates, index: usize, unknown: u64) -> Self {
        let mean = match candidates.mean_time(index) {
            0 if candidates.is_untried(index) => 0,
            0 => unknown,
            mean => mean,
        };
        Self {
            time: u128::from(mean) * (u128::from(candidates.load(index)) + 1),
            weight: candidates.weight(index),
        }
    }

    /// Means are below 2^40, so that the products fit.
    fn is_below(&self, other: &Self) -> bool {
        self.time * u128::from(other.weight) < other.time * u128::from(self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::table::Table;
    use super::*;

    fn table(weights: &[u32], means: &[u64]) -> Table {
        let mut table = Table::new(weights);
        table.set_means(means);
        table.tried = vec![true; weights.len()];
        table
    }

    #[test]
    fn time_load_and_weight_make_the_cost() {
        // (weights, means, loads, choice)
        type Case = (&'static [u32], &'static [u64], &'static [u32], usize);
        let cases: [Case; 5] = [
            (&[1, 1], &[20, 10], &[0, 0], 1),
            (&[1, 1], &[20, 10], &[0, 2], 0),
            (&[3, 1], &[20, 10], &[0, 0], 0),
            (&[1, 1], &[1 << 40, 1 << 40], &[u32::MAX, 0], 1),
            (&[1, 1], &[0, 10], &[1, 0], 1),
        ];
        for (weights, means, loads, choice) in cases {
            let mut table = table(weights, means);
            table.loads = loads.to_vec();
            let picked = LeastTime::default().pick(&table);
            assert_eq!(picked, Some(choice), "{weights:?} {means:?} {loads:?}");
        }
        assert_eq!(LeastTime::default().pick(&Table::new(&[])), None);
    }

    #[test]
    fn the_untried_come_first_and_equals_take_turns() {
        let mut table = table(&[1, 1, 1], &[10, 0, 10]);
        table.tried = vec![true, false, true];
        let policy = LeastTime::default();
        assert_eq!(policy.pick(&table), Some(1));
        // Tried, but still without an answer: no better than the best.
        table.tried[1] = true;
        table.loads[1] = 1;
        assert_eq!(policy.pick(&table), Some(2));
        assert_eq!(policy.pick(&table), Some(0));
    }

    #[test]
    fn full_servers_are_passed_over() {
        let mut table = table(&[1, 1], &[10, 90]);
        table.full = vec![0];
        assert_eq!(LeastTime::default().pick(&table), Some(1));
        table.full = vec![0, 1];
        assert_eq!(LeastTime::default().pick(&table), None);
    }

    #[test]
    fn a_slow_server_gets_another_try_and_not_too_often() {
        let table = table(&[1, 1], &[1_000_000, 100_000_000]);
        let policy = LeastTime::default();
        let until_tried = || {
            (1..100_000)
                .find(|_| policy.pick(&table) == Some(1))
                .unwrap()
        };
        let first = until_tried();
        assert!((300..1500).contains(&first), "{first}");
        table.set_means(&[1_000_000, 2_000_000]);
        assert!(until_tried() < first);
    }
}
