//! Least connections.
//!
//! Owns the turn that breaks ties. Every pick looks at all servers of the
//! service and takes the one on which one more request would weigh least; those
//! waiting for just that server count as if in flight, as HAProxy's `leastconn`
//! counts them.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::policy::Candidates;

/// The turn for ties.
#[derive(Debug, Default)]
pub(super) struct LeastConnections {
    next: AtomicUsize,
}

impl LeastConnections {
    /// The least loaded server with room; equals take turns.
    pub(super) fn pick(&self, candidates: &impl Candidates) -> Option<usize> {
        let count = candidates.len();
        let start = self.next.load(Ordering::Relaxed).checked_rem(count)?;
        let chosen = (start..count)
            .chain(0..start)
            .filter(|&index| candidates.has_room(index))
            .reduce(|best, index| {
                if candidates.is_lighter(index, best) {
                    index
                } else {
                    best
                }
            })?;
        // Threads that race here may break a tie the same way; no more is lost.
        self.next.store(chosen + 1, Ordering::Relaxed);
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::table::Table;
    use super::*;

    /// Picks `count` times, each pick staying in flight.
    fn filled(weights: &[u32], count: usize) -> Vec<usize> {
        let mut table = Table::new(weights);
        let policy = LeastConnections::default();
        let mut chosen = Vec::new();
        for _ in 0..count {
            let index = policy.pick(&table).unwrap();
            table.loads[index] += 1;
            chosen.push(index);
        }
        chosen
    }

    #[test]
    fn fills_exactly() {
        let cases: [(&[u32], &[usize]); 3] = [
            (&[1], &[0, 0, 0]),
            (&[1, 1, 1], &[0, 1, 2, 0, 1, 2]),
            (&[1, 2], &[1, 0, 1, 1, 0, 1]),
        ];
        for (weights, expected) in cases {
            assert_eq!(filled(weights, expected.len()), expected, "{weights:?}");
        }
    }

    #[test]
    fn prefers_the_lighter_and_skips_the_full() {
        let mut table = Table::new(&[1, 1, 4]);
        table.loads = vec![3, 1, 9];
        let policy = LeastConnections::default();
        assert_eq!(policy.pick(&table), Some(1));
        table.full = vec![1];
        assert_eq!(policy.pick(&table), Some(2));
        table.full = vec![0, 1, 2];
        assert_eq!(policy.pick(&table), None);
        assert_eq!(policy.pick(&Table::new(&[])), None);
    }

    #[test]
    fn idle_equals_take_turns() {
        let table = Table::new(&[1, 1, 1]);
        let policy = LeastConnections::default();
        let chosen: Vec<_> = (0..5).filter_map(|_| policy.pick(&table)).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1]);
    }
}
