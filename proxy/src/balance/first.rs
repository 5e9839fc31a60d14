//! The first server that has room.
//!
//! Owns no state. Requests fill one server up to its limit before the next one
//! sees any, so that the last ones can be switched off (HAProxy's `first`; its
//! order is the servers' ids, ours that of the configuration). Weights say
//! nothing here, but a weight of 0 still takes a server out.

use super::policy::Candidates;

/// The first with room.
pub(super) fn pick(candidates: &impl Candidates) -> Option<usize> {
    (0..candidates.len()).find(|&index| candidates.has_room(index))
}

#[cfg(test)]
mod tests {
    use super::super::policy::table::Table;
    use super::*;

    #[test]
    fn fills_in_order() {
        let mut table = Table::new(&[1, 9, 1]);
        for expected in [Some(0), Some(1), Some(2), None] {
            assert_eq!(pick(&table), expected);
            table.full.extend(expected);
        }
        table.full = vec![1];
        assert_eq!(pick(&table), Some(0));
    }
}
