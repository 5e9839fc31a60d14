//! The choice of a server.
//!
//! Owns the view that a policy has of the servers, and the closed set of
//! strategies behind one call; each algorithm is a file of its own. A policy
//! never takes a slot and never queues: it names a server that seemed to have
//! room, `group` tries to take it there and asks again if it lost the race.

use super::least_connections::LeastConnections;
use super::power_of_two::PowerOfTwo;
use super::round_robin::RoundRobin;

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
    /// The server with the highest hash of itself and the request's key (Traefik's `hrw`).
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
}

impl Policy {
    pub(super) fn new(strategy: Strategy, seed: u64) -> Self {
        match strategy {
            Strategy::RoundRobin
            | Strategy::Random
            | Strategy::HighestRandomWeight
            | Strategy::First
            | Strategy::LeastTime => Self::RoundRobin(RoundRobin::default()),
            Strategy::LeastConnections => Self::LeastConnections(LeastConnections::default()),
            Strategy::PowerOfTwo => Self::PowerOfTwo(PowerOfTwo::new(seed)),
        }
    }

    pub(super) const fn strategy(&self) -> Strategy {
        match self {
            Self::RoundRobin(_) => Strategy::RoundRobin,
            Self::LeastConnections(_) => Strategy::LeastConnections,
            Self::PowerOfTwo(_) => Strategy::PowerOfTwo,
        }
    }

    /// A server with room, or nothing if all are full.
    pub(super) fn pick(&self, candidates: &impl Candidates) -> Option<usize> {
        match self {
            Self::RoundRobin(policy) => policy.pick(candidates),
            Self::LeastConnections(policy) => policy.pick(candidates),
            Self::PowerOfTwo(policy) => policy.pick(candidates),
        }
    }
}

#[cfg(test)]
pub(super) mod table {
    //! A table of servers for the tests of the algorithms.

    use super::Candidates;

    #[derive(Debug, Default)]
    pub(crate) struct Table {
        pub(crate) weights: Vec<u32>,
        pub(crate) loads: Vec<u32>,
        pub(crate) full: Vec<usize>,
        pub(crate) schedule: Vec<u32>,
    }

    impl Table {
        pub(crate) fn new(weights: &[u32]) -> Self {
            Self {
                weights: weights.to_vec(),
                loads: vec![0; weights.len()],
                full: Vec::new(),
                schedule: super::super::round_robin::schedule(weights),
            }
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
    }
}
