//! Chance, by weight.
//!
//! Owns a stream of random numbers. A server is drawn from the round-robin turn,
//! where each stands as often as its weight says. If it is full, another is drawn
//! from those with room, so that a request never waits while any server has some
//! (HAProxy's `random(1)` would queue it).

use super::policy::Candidates;
use super::stream::{Stream, scaled};

/// Draws by weight.
#[derive(Debug)]
pub(super) struct Random {
    stream: Stream,
}

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            stream: Stream::new(seed),
        }
    }

    /// A server with room, each with the chance that its weight gives it.
    pub(super) fn pick(&self, candidates: &impl Candidates) -> Option<usize> {
        let bits = self.stream.next();
        let turn = candidates.schedule();
        let &drawn = turn.get(scaled(bits >> 32, turn.len()))?;
        if candidates.has_room(drawn as usize) {
            return Some(drawn as usize);
        }
        pick_with_room(candidates, bits)
    }
}

/// The same among those that have room alone.
fn pick_with_room(candidates: &impl Candidates, bits: u64) -> Option<usize> {
    let with_room = || (0..candidates.len()).filter(|&index| candidates.has_room(index));
    let weight = |index| candidates.weight(index) as usize;
    let total = with_room().map(weight).fold(0, usize::saturating_add);
    let mut point = scaled(bits, total);
    let mut last = None;
    for index in with_room() {
        if point < weight(index) {
            return Some(index);
        }
        point -= weight(index);
        last = Some(index);
    }
    // Room came and went between the two passes.
    last
}

#[cfg(test)]
mod tests {
    use super::super::policy::table::Table;
    use super::*;

    fn counts(table: &Table, rounds: usize) -> Vec<usize> {
        let policy = Random::new(7);
        let mut counts = vec![0; table.weights.len()];
        for _ in 0..rounds {
            if let Some(index) = policy.pick(table) {
                counts[index] += 1;
            }
        }
        counts
    }

    fn assert_near(counts: &[usize], expected: &[usize]) {
        for (count, expected) in counts.iter().zip(expected) {
            let slack = expected / 10;
            assert!(count.abs_diff(*expected) <= slack, "{counts:?}");
        }
    }

    #[test]
    fn weights_are_chances() {
        assert_near(
            &counts(&Table::new(&[1, 3, 6]), 20_000),
            &[2000, 6000, 12_000],
        );
    }

    #[test]
    fn the_share_of_the_full_goes_to_the_others_by_weight() {
        let mut table = Table::new(&[6, 1, 3]);
        table.full = vec![0];
        assert_near(&counts(&table, 20_000), &[0, 5000, 15_000]);
        table.full = vec![0, 2];
        assert_eq!(counts(&table, 100), [0, 100, 0]);
        table.full = vec![0, 1, 2];
        assert_eq!(counts(&table, 100), [0, 0, 0]);
        assert_eq!(Random::new(1).pick(&Table::new(&[])), None);
    }

    #[test]
    fn a_seed_replays() {
        let table = Table::new(&[1; 8]);
        let picks = |seed| {
            let policy = Random::new(seed);
            (0..32).map(|_| policy.pick(&table)).collect::<Vec<_>>()
        };
        assert_eq!(picks(3), picks(3));
        assert_ne!(picks(3), picks(4));
    }
}
