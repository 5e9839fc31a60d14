//! The power of two random choices.
//!
//! Owns a stream of random numbers. Two different servers are drawn and the less
//! loaded one wins. If both are full the others are tried too: a request never
//! waits while any server has room.

use super::policy::Candidates;
use super::stream::{Stream, scaled};

/// Draws two.
#[derive(Debug)]
pub(super) struct PowerOfTwo {
    stream: Stream,
}

impl PowerOfTwo {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            stream: Stream::new(seed),
        }
    }

    /// The less loaded of two servers drawn at random, else any with room.
    pub(super) fn pick(&self, candidates: &impl Candidates) -> Option<usize> {
        let count = candidates.len();
        let (first, second) = self.draw(count)?;
        let drawn = [first, second]
            .into_iter()
            .filter(|&index| candidates.has_room(index));
        let winner = drawn.reduce(|best, index| {
            if candidates.is_lighter(index, best) {
                index
            } else {
                best
            }
        });
        winner.or_else(|| {
            (first..count)
                .chain(0..first)
                .find(|&index| candidates.has_room(index))
        })
    }

    /// Two different indices below `count`, or the same one twice if it is alone.
    fn draw(&self, count: usize) -> Option<(usize, usize)> {
        let bits = self.stream.next();
        let first = scaled(bits >> 32, count);
        if count < 2 {
            return (count == 1).then_some((0, 0));
        }
        let step = 1 + scaled(bits, count - 1);
        Some((first, (first + step) % count))
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::table::Table;
    use super::*;

    const SEQUENCE_OF_SEED_7: [usize; 12] = [1, 0, 3, 2, 1, 0, 1, 1, 0, 1, 0, 3];

    fn picks(seed: u64, table: &Table, count: usize) -> Vec<usize> {
        let policy = PowerOfTwo::new(seed);
        (0..count).filter_map(|_| policy.pick(table)).collect()
    }

    #[test]
    fn a_seed_replays_its_exact_sequence() {
        let table = Table::new(&[1, 1, 1, 1]);
        assert_eq!(picks(7, &table, 12), SEQUENCE_OF_SEED_7);
        assert_ne!(picks(8, &table, 12), SEQUENCE_OF_SEED_7);
    }

    #[test]
    fn the_two_drawn_differ_and_cover_all_pairs() {
        let policy = PowerOfTwo::new(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let (a, b) = policy.draw(4).unwrap();
            assert!(a != b && a < 4 && b < 4);
            seen.insert((a, b));
        }
        assert_eq!(seen.len(), 12);
        assert_eq!(policy.draw(1), Some((0, 0)));
        assert_eq!(policy.draw(0), None);
    }

    #[test]
    fn the_heaviest_never_wins_and_the_only_free_one_always_does() {
        let mut table = Table::new(&[1, 1, 1, 1]);
        table.loads = vec![0, 9, 0, 0];
        assert!(!picks(3, &table, 500).contains(&1));
        table.full = vec![0, 2, 3];
        assert_eq!(picks(3, &table, 50), vec![1; 50]);
        table.full = vec![0, 1, 2, 3];
        assert!(picks(3, &table, 50).is_empty());
    }

    #[test]
    fn equal_servers_share_evenly() {
        let mut counts = [0; 5];
        for index in picks(11, &Table::new(&[1; 5]), 10_000) {
            counts[index] += 1;
        }
        assert!(
            counts.iter().all(|count| (1850..2150).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn weights_scale_the_load() {
        let mut table = Table::new(&[1, 10]);
        table.loads = vec![1, 9];
        assert!(picks(5, &table, 100).iter().all(|&index| index == 1));
    }
}
