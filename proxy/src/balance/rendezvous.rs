//! Highest random weight (rendezvous hashing).
//!
//! Owns no state: a request's key and a server's name hash to the same score in
//! every process and after every restart, so a client keeps its server, and a
//! server that comes or goes moves its own clients only. A client whose server is
//! full, closed or excluded goes to the next in the order of its scores that has
//! room; with none, it waits in the service's line for whichever is free first.
//! Traefik's `hrw` knows no limits; this is HAProxy's consistent hash with
//! `hash-preserve-affinity maxconn`.

use super::policy::Candidates;
use super::stream::mixed;

/// The server with room on which this request's key scores highest.
pub(super) fn pick(candidates: &impl Candidates) -> Option<usize> {
    let with_room = (0..candidates.len()).filter(|&index| candidates.has_room(index));
    let scored = with_room.map(|index| (index, score(candidates, index)));
    // Of two equal scores the first in the servers' order, which is stable.
    let best = scored.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map(|(index, _)| index)
}

/// A number that exceeds those of the others as often as the weight's share says:
/// the weight over an exponentially distributed one.
fn score(candidates: &impl Candidates, index: usize) -> f64 {
    let hash = mixed(candidates.key() ^ candidates.identity(index));
    // The upper 53 bits as a fraction strictly between 0 and 1.
    let fraction = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(candidates.weight(index)) / -fraction.ln()
}

/// The hash of a server's name (FNV-1a, mixed).
pub(super) fn identity(name: &str) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
    mixed(name.bytes().fold(0xCBF2_9CE4_8422_2325, fold))
}

#[cfg(test)]
mod tests {
    use super::super::policy::table::Table;
    use super::*;

    const CLIENTS: u64 = 20_000;

    fn table(weights: &[u32]) -> Table {
        let mut table = Table::new(weights);
        table.identities = (0..weights.len())
            .map(|index| identity(&format!("http://10.0.0.{index}:80")))
            .collect();
        table
    }

    fn picks(table: &mut Table) -> Vec<usize> {
        let mut chosen = Vec::new();
        for client in 0..CLIENTS {
            table.key = mixed(client);
            chosen.extend(pick(table));
        }
        chosen
    }

    #[test]
    fn shares_are_as_the_weights() {
        let chosen = picks(&mut table(&[1, 1, 2]));
        for (index, expected) in [5000, 5000, 10_000].into_iter().enumerate() {
            let count = chosen.iter().filter(|&&pick| pick == index).count();
            assert!(count.abs_diff(expected) < expected / 20, "{index}: {count}");
        }
    }

    #[test]
    fn only_the_clients_of_a_full_server_move_and_they_spread() {
        let mut table = table(&[1, 1, 1]);
        let before = picks(&mut table);
        table.full = vec![1];
        let after = picks(&mut table);
        let mut moved = [0; 3];
        for (old, new) in before.iter().zip(&after) {
            assert!(old == new || *old == 1);
            moved[*new] += usize::from(old != new);
        }
        assert!(moved[0].abs_diff(moved[2]) < moved[0] / 10, "{moved:?}");
        table.full = vec![0, 1, 2];
        assert_eq!(pick(&table), None);
    }

    #[test]
    fn the_order_of_the_servers_does_not_matter_nor_does_the_run() {
        let mut table = table(&[1, 2, 3]);
        let before = picks(&mut table);
        table.identities.reverse();
        table.weights.reverse();
        let after = picks(&mut table);
        assert!(before.iter().zip(&after).all(|(old, new)| *old == 2 - new));
        assert_eq!(identity("a"), 0x02C0_BDBF_4814_20F8);
    }
}
