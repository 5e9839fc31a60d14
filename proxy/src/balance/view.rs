//! What requests see of a service's servers.
//!
//! Owns one immutable value, swapped whole by the control plane and read without
//! a lock: the members, those of them that new requests may go to, the
//! round-robin turn over these, and the policy.

use std::sync::Arc;

use super::ask::Ask;
use super::gate::Entry;
use super::policy::{Candidates, Policy};
use super::round_robin;
use super::server::{ServerKey, ServerState};

/// How much finer weights are while a server is in its slow start: it begins at
/// a twentieth.
const FINER: u32 = 20;

/// The servers of one service at one moment.
pub(super) struct View<T> {
    pub(super) members: Vec<Arc<ServerState<T>>>,
    /// Up, not draining, with a weight; the weight in force beside each, on a
    /// scale that a slow start makes finer.
    eligible: Vec<(Arc<ServerState<T>>, u32)>,
    turn: Vec<u32>,
    pub(super) policy: Arc<Policy>,
}

impl<T> View<T> {
    pub(super) fn new(members: Vec<Arc<ServerState<T>>>, policy: Arc<Policy>) -> Self {
        let open = members.iter().filter(|server| !server.is_closed());
        let eligible: Vec<_> = open.filter(|server| server.weight() > 0).collect();
        let rising = eligible.iter().any(|server| server.rise.is_on());
        let scale = if rising { FINER } else { 1 };
        let eligible: Vec<_> = eligible
            .into_iter()
            .map(|server| (Arc::clone(server), weight_in_force(server, scale)))
            .collect();
        let weights: Vec<u32> = eligible.iter().map(|&(_, weight)| weight).collect();
        Self {
            members,
            eligible,
            turn: round_robin::schedule(&weights),
            policy,
        }
    }

    /// Takes a slot at the server that the policy names, if any has room. A lost
    /// race means that another request won it, so this ends.
    pub(super) fn take(&self, ask: &Ask<'_, T>, entry: Entry) -> Option<Arc<ServerState<T>>> {
        let field = Field {
            view: self,
            excluded: ask.excluded,
            key: ask.key,
            entry,
        };
        loop {
            let (server, _) = self.eligible.get(self.policy.pick(&field)?)?;
            if server.gate.take(entry) {
                return Some(Arc::clone(server));
            }
        }
    }

    /// Whether there is any server to wait for.
    pub(super) const fn has_server(&self) -> bool {
        !self.eligible.is_empty()
    }

    /// Whether a request with these exclusions has any server to wait for.
    pub(super) fn has_candidate(&self, excluded: &[ServerKey]) -> bool {
        self.eligible
            .iter()
            .any(|(server, _)| !excluded.contains(&server.key()))
    }

    /// Lets round robin go on, in this view, with the server that was next in `old`.
    pub(super) fn resume(&self, old: &Self) {
        let Policy::RoundRobin(policy) = &*self.policy else {
            return;
        };
        if self.turn_keys().eq(old.turn_keys()) {
            return;
        }
        let next = old.turn_keys().nth(policy.place(old.turn.len()));
        let place = self.turn_keys().position(|key| Some(key) == next);
        policy.resume(place.unwrap_or_else(|| policy.place(self.turn.len())));
    }

    fn turn_keys(&self) -> impl Iterator<Item = ServerKey> {
        let server = |&index: &u32| self.eligible.get(index as usize);
        self.turn
            .iter()
            .filter_map(server)
            .map(|(server, _)| server.key())
    }
}

fn weight_in_force<T>(server: &ServerState<T>, scale: u32) -> u32 {
    let weight = server.weight().saturating_mul(scale);
    server.rise.share().of(weight)
}

/// A view through the eyes of one request.
struct Field<'a, T> {
    view: &'a View<T>,
    excluded: &'a [ServerKey],
    key: u64,
    entry: Entry,
}

impl<T> Field<'_, T> {
    fn server(&self, index: usize) -> Option<&(Arc<ServerState<T>>, u32)> {
        self.view.eligible.get(index)
    }
}

impl<T> Candidates for Field<'_, T> {
    fn len(&self) -> usize {
        self.view.eligible.len()
    }

    fn weight(&self, index: usize) -> u32 {
        self.server(index).map_or(1, |&(_, weight)| weight)
    }

    fn load(&self, index: usize) -> u32 {
        self.server(index).map_or(0, |(server, _)| {
            server.in_flight().saturating_add(server.queued())
        })
    }

    fn has_room(&self, index: usize) -> bool {
        self.server(index).is_some_and(|(server, _)| {
            !self.excluded.contains(&server.key()) && server.gate.has_room(self.entry)
        })
    }

    fn schedule(&self) -> &[u32] {
        &self.view.turn
    }

    fn key(&self) -> u64 {
        self.key
    }

    fn identity(&self, index: usize) -> u64 {
        self.server(index)
            .map_or(0, |(server, _)| server.identity())
    }

    fn mean_time(&self, index: usize) -> u64 {
        let mean = |(server, _): &(Arc<ServerState<T>>, u32)| server.mean_nanos();
        self.server(index).map_or(0, mean)
    }

    fn is_untried(&self, index: usize) -> bool {
        self.server(index)
            .is_some_and(|(server, _)| server.served_total() == 0)
    }

    fn fade(&self, index: usize) {
        if let Some((server, _)) = self.server(index) {
            server.fade();
        }
    }
}
