//! The choice of a server.
//!
//! Owns the view that a policy has of the servers, and the closed set of
//! strategies behind one call; each algorithm is a file of its own. A policy
//! never takes a slot and never queues: it names a server that seemed to have
//! room, `group` tries to take it there and asks again if it lost the race.

use super::least_connections::LeastConnections;
use super::least_time::LeastTime;
use super::power_of_two::PowerOfTwo;
use super::random::Random;
use super::round_robin::RoundRobin;
use super::{first, rendezvous};

/// How the servers of a service share its requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Smooth weighted round robin (Traefik's `wrr`), the default.
    #[default]
    RoundRobin,
    /// The fewest requests in flight and waiting, per unit of weight.
    LeastConnections,
    /// The less loaded of two servers drawn at random (Traefik's `p2c`).
    PowerOfTwo,
    /// Any server, by chance and weight (HAProxy's `random(1)`).
    Random,
    /// The server with the highest hash of itself and the request's key (Traefik's
    /// `hrw`), or the next by that order that has room.
    HighestRandomWeight,
    /// The first server, in their order, that has room (HAProxy's `first`).
    First,
    /// The lowest product of mean answer time and requests in flight, per unit of
    /// weight (Traefik's `leasttime`).
    LeastTime,
}

/// What a policy sees: servers that are up and have a weight, by index.
pub(super) trait Candidates {
    /// How many there are.
    fn len(&self) -> usize;
    /// The weight of one, at least 1.
    fn weight(&self, index: usize) -> u32;
    /// Requests in flight at one, and waiting for just that one.
    fn load(&self, index: usize) -> u32;
    /// Whether this request could take a slot there now.
    fn has_room(&self, index: usize) -> bool;
    /// The round-robin sequence of indices, see [`super::round_robin::schedule`].
    fn schedule(&self) -> &[u32];
    /// What stands for the client.
    fn key(&self) -> u64;
    /// The hash of one's name, the same in all runs.
    fn identity(&self, index: usize) -> u64;
    /// Mean time to the first byte, below 2^40 ns; 0 is unknown.
    fn mean_time(&self, index: usize) -> u64;
    /// Whether one never had a request.
    fn is_untried(&self, index: usize) -> bool;
    /// Lowers the mean time of one by a small part.
    fn fade(&self, index: usize);

    /// Whether one more request weighs less on `a` than on `b`.
    fn is_lighter(&self, a: usize, b: usize) -> bool {
        let cost = |index, other| (u64::from(self.load(index)) + 1) * u64::from(self.weight(other));
        cost(a, b) < cost(b, a)
    }
}

/// One strategy with its running state, shared by all worker threads.
#[derive(Debug)]
pub(super) enum Policy {
    RoundRobin(RoundRobin),
    LeastConnections(LeastConnections),
    PowerOfTwo(PowerOfTwo),
    Random(Random),
    HighestRandomWeight,
    First,
    LeastTime(LeastTime),
}

impl Policy {
    pub(super) fn new(strategy: Strategy, seed: u64) -> Self {
        match strategy {
            Strategy::RoundRobin => Self::RoundRobin(RoundRobin::default()),
            Strategy::LeastConnections => Self::LeastConnections(LeastConnections::default()),
            Strategy::PowerOfTwo => Self::PowerOfTwo(PowerOfTwo::new(seed)),
            Strategy::Random => Self::Random(Random::new(seed)),
            Strategy::HighestRandomWeight => Self::HighestRandomWeight,
            Strategy::First => Self::First,
            Strategy::LeastTime => Self::LeastTime(LeastTime::default()),
        }
    }

    pub(super) const fn strategy(&self) -> Strategy {
        match self {
            Self::RoundRobin(_) => Strategy::RoundRobin,
            Self::LeastConnections(_) => Strategy::LeastConnections,
            Self::PowerOfTwo(_) => Strategy::PowerOfTwo,
            Self::Random(_) => Strategy::Random,
            Self::HighestRandomWeight => Strategy::HighestRandomWeight,
            Self::First => Strategy::First,
            Self::LeastTime(_) => Strategy::LeastTime,
        }
    }

    /// A server with room, or nothing if all are full.
    pub(super) fn pick(&self, candidates: &impl Candidates) -> Option<usize> {
        match self {
            Self::RoundRobin(policy) => policy.pick(candidates),
            Self::LeastConnections(policy) => policy.pick(candidates),
            Self::PowerOfTwo(policy) => policy.pick(candidates),
            Self::Random(policy) => policy.pick(candidates),
            Self::HighestRandomWeight => rendezvous::pick(candidates),
            Self::First => first::pick(candidates),
            Self::LeastTime(policy) => policy.pick(candidates),
        }
    }
}

#[cfg(test)]
pub(super) mod table {
    //! A table of servers for the tests of the algorithms.

    use std::cell::RefCell;

    use super::Candidates;

    #[derive(Debug, Default)]
    pub(crate) struct Table {
        pub(crate) weights: Vec<u32>,
        pub(crate) loads: Vec<u32>,
        pub(crate) full: Vec<usize>,
        pub(crate) schedule: Vec<u32>,
        pub(crate) key: u64,
        pub(crate) identities: Vec<u64>,
        pub(crate) tried: Vec<bool>,
        means: RefCell<Vec<u64>>,
    }

    impl Table {
        pub(crate) fn new(weights: &[u32]) -> Self {
            Self {
                weights: weights.to_vec(),
                loads: vec![0; weights.len()],
                full: Vec::new(),
                schedule: super::super::round_robin::schedule(weights),
                identities: (0..weights.len() as u64).collect(),
                tried: vec![false; weights.len()],
                means: RefCell::new(vec![0; weights.len()]),
                ..Self::default()
            }
        }

        pub(crate) fn set_means(&self, means: &[u64]) {
            *self.means.borrow_mut() = means.to_vec();
        }
    }

    impl Candidates for Table {
        fn len(&self) -> usize {
            self.weights.len()
        }
        fn weight(&self, index: usize) -> u32 {
            self.weights[index]
        }
        fn load(&self, index: usize) -> u32 {
            self.loads[index]
        }
        fn has_room(&self, index: usize) -> bool {
            !self.full.contains(&index)
        }
        fn schedule(&self) -> &[u32] {
            &self.schedule
        }
        fn key(&self) -> u64 {
            self.key
        }
        fn identity(&self, index: usize) -> u64 {
            self.identities[index]
        }
        fn mean_time(&self, index: usize) -> u64 {
            self.means.borrow()[index]
        }
        fn is_untried(&self, index: usize) -> bool {
            !self.tried[index]
        }
        fn fade(&self, index: usize) {
            let mean = &mut self.means.borrow_mut()[index];
            *mean -= *mean / 64;
        }
    }
}
