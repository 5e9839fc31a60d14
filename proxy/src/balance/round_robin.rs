//! Smooth weighted round robin.
//!
//! Owns the precomputed sequence of one full turn and the position in it. The
//! turn is laid out when membership or weights change, so that a request costs
//! one compare-and-swap and no lock. `group` keeps the position over changes.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::policy::Candidates;

/// The longest turn; heavier weights are scaled down to fit, which bounds both
/// the memory of a service and the error of a share to about one in 4096.
const MAX_TURN: u64 = 4096;

/// The position in the turn.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    next: AtomicUsize,
}

impl RoundRobin {
    /// The next server in the turn that has room. Servers without room lose
    /// their place in this turn only; nothing moves if all are full.
    pub(super) fn pick(&self, candidates: &impl Candidates) -> Option<usize> {
        let turn = candidates.schedule();
        loop {
            let next = self.next.load(Ordering::Relaxed);
            let (place, chosen) = first_with_room(turn, next, candidates)?;
            let after = if place + 1 < turn.len() { place + 1 } else { 0 };
            let moved =
                self.next
                    .compare_exchange_weak(next, after, Ordering::Relaxed, Ordering::Relaxed);
            if moved.is_ok() {
                return Some(chosen);
            }
        }
    }

    /// The index into `turn` of the server that would be next.
    pub(super) fn place(&self, turn: usize) -> usize {
        self.next
            .load(Ordering::Relaxed)
            .checked_rem(turn)
            .unwrap_or(0)
    }

    /// Continues at this place of a new turn.
    pub(super) fn resume(&self, place: usize) {
        self.next.store(place, Ordering::Relaxed);
    }
}

/// The place and the server of the first with room at or after `next`, once around.
fn first_with_room(
    turn: &[u32],
    next: usize,
    candidates: &impl Candidates,
) -> Option<(usize, usize)> {
    // Most often the next one is there and has room.
    if let Some(&index) = turn.get(next)
        && candidates.has_room(index as usize)
    {
        return Some((next, index as usize));
    }
    let start = next.checked_rem(turn.len())?;
    let (before, after) = turn.split_at_checked(start)?;
    let around = after.iter().chain(before).enumerate();
    around
        .map(|(step, &index)| ((start + step) % turn.len(), index as usize))
        .find(|&(_, index)| candidates.has_room(index))
}

/// Lays out one full turn: every server as often as its weight says, as evenly
/// spread as can be (each step raises all by their weight, picks the highest,
/// and lowers it by the total). Weights are divided by their common divisor.
pub(super) fn schedule(weights: &[u32]) -> Vec<u32> {
    let weights = reduced(weights);
    if weights.iter().all(|&weight| weight == 1) {
        return (0..).take(weights.len()).collect();
    }
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0_i64; weights.len()];
    let mut turn = Vec::new();
    for _ in 0..total {
        let mut best: Option<(usize, i64)> = None;
        for (index, (have, weight)) in credit.iter_mut().zip(&weights).enumerate() {
            *have += weight;
            if best.is_none_or(|(_, most)| *have > most) {
                best = Some((index, *have));
            }
        }
        let Some((chosen, _)) = best else { break };
        if let Some(have) = credit.get_mut(chosen) {
            *have -= total;
        }
        turn.push(u32::try_from(chosen).unwrap_or(0));
    }
    turn
}

/// The weights in their lowest terms and, if need be, scaled to fit a turn; a
/// weight above zero never falls to zero.
fn reduced(weights: &[u32]) -> Vec<i64> {
    let divisor = weights.iter().copied().fold(0, common_divisor).max(1);
    let total: u64 = weights
        .iter()
        .map(|weight| u64::from(weight / divisor))
        .sum();
    let scale = |weight: u32| match u64::from(weight / divisor) {
        0 => 0,
        share if total <= MAX_TURN => share,
        share => (share * MAX_TURN / total).max(1),
    };
    weights
        .iter()
        .map(|&weight| i64::try_from(scale(weight)).unwrap_or(1))
        .collect()
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::super::policy::table::Table;
    use super::*;

    fn letters(turn: &[u32]) -> String {
        turn.iter()
            .map(|&index| char::from_digit(index + 10, 36).unwrap())
            .collect()
    }

    fn picks(policy: &RoundRobin, table: &Table, count: usize) -> String {
        let chosen: Vec<u32> = (0..count)
            .map(|_| u32::try_from(policy.pick(table).unwrap()).unwrap())
            .collect();
        letters(&chosen)
    }

    #[test]
    fn turns_are_smooth_and_exact() {
        let cases: [(&[u32], &str); 8] = [
            (&[], ""),
            (&[1], "a"),
            (&[0, 1], "b"),
            (&[1, 1, 1], "abc"),
            (&[7, 7], "ab"),
            (&[5, 1, 1], "aabacaa"),
            (&[4, 2], "aba"),
            (&[1, 2, 3], "cbacbc"),
        ];
        for (weights, expected) in cases {
            assert_eq!(letters(&schedule(weights)), expected, "{weights:?}");
        }
    }

    #[test]
    fn a_turn_is_bounded_and_forgets_no_server() {
        let turn = schedule(&[1, 1_000_000, u32::MAX]);
        assert!(turn.len() <= 4100, "{}", turn.len());
        assert!((0..3).all(|index| turn.contains(&index)));
    }

    #[test]
    fn the_sequence_repeats() {
        let policy = RoundRobin::default();
        assert_eq!(picks(&policy, &Table::new(&[2, 1]), 7), "abaabaa");
    }

    #[test]
    fn a_full_server_passes_its_turn_to_nobody_in_particular() {
        let mut table = Table::new(&[1, 1, 1, 1]);
        let policy = RoundRobin::default();
        table.full = vec![1];
        assert_eq!(picks(&policy, &table, 6), "acdacd");
        table.full = vec![0, 1, 2, 3];
        assert_eq!(policy.pick(&table), None);
        table.full.clear();
        assert_eq!(picks(&policy, &table, 4), "abcd");
    }

    #[test]
    fn a_place_can_be_resumed() {
        let policy = RoundRobin::default();
        let table = Table::new(&[1, 1, 1]);
        assert_eq!(picks(&policy, &table, 4), "abca");
        assert_eq!(policy.place(3), 1);
        policy.resume(2);
        assert_eq!(picks(&policy, &table, 2), "ca");
        assert_eq!(RoundRobin::default().place(0), 0);
    }
}
