//! What the lock of a group guards.
//!
//! Owns the members, those that left with requests still in flight, the waiting
//! lines, and the marks on the members' gates. Only `group` holds one, and every
//! method runs under its lock.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use super::group::Group;
use super::queue::Queue;
use super::server::{ServerKey, ServerSpec, ServerState};

/// Members, lines and marks of one service.
pub(super) struct Roster<T> {
    pub(super) queue: Queue<T>,
    pub(super) members: Vec<Arc<ServerState<T>>>,
    /// Left the service but still has requests in flight: it keeps its count in
    /// case it comes back.
    retired: Vec<Weak<ServerState<T>>>,
    pub(super) max_length: u32,
    last_key: u64,
    /// Whether the service's line has marked all members.
    spread: bool,
}

impl<T> Roster<T> {
    pub(super) const fn new(max_length: u32) -> Self {
        Self {
            queue: Queue::new(),
            members: Vec::new(),
            retired: Vec::new(),
            max_length,
            last_key: 0,
            spread: false,
        }
    }

    pub(super) fn replace_members(&mut self, specs: &[ServerSpec<T>], group: &Weak<Group<T>>) {
        self.retired.retain(|server| server.strong_count() > 0);
        let retired = self.retired.iter().filter_map(Weak::upgrade);
        let known = retired.chain(self.members.drain(..));
        let mut known: HashMap<_, _> = known
            .map(|server| (Arc::clone(server.id()), server))
            .collect();
        let mut members: Vec<Arc<ServerState<T>>> = Vec::with_capacity(specs.len());
        let mut taken = HashSet::with_capacity(specs.len());
        for spec in specs
            .iter()
            .filter(|spec| taken.insert(Arc::clone(&spec.id)))
        {
            let server = known.remove(&spec.id).unwrap_or_else(|| {
                self.last_key += 1;
                Arc::new(ServerState::new(
                    ServerKey(self.last_key),
                    spec,
                    Weak::clone(group),
                ))
            });
            server.adopt(spec);
            members.push(server);
        }
        self.members = members;
        known.values().for_each(|server| server.leave());
        self.retired = known.values().map(Arc::downgrade).collect();
    }

    /// Marks a server if it has a limit; one without never needs a mark.
    pub(super) fn mark(server: &ServerState<T>) {
        if server.gate.limit() > 0 {
            server.gate.set_marked(true);
        }
    }

    pub(super) fn mark_all(&mut self) {
        if !self.spread {
            self.members.iter().for_each(|server| Self::mark(server));
            self.spread = true;
        }
    }

    /// Sets one server's mark to what invariant 3 asks for.
    pub(super) fn refresh_mark(&self, server: &ServerState<T>) {
        let concerned = !server.is_closed() && self.queue.concerns(server);
        server.gate.set_marked(concerned && server.gate.limit() > 0);
    }

    pub(super) fn refresh_marks(&mut self) {
        self.members
            .iter()
            .for_each(|server| self.refresh_mark(server));
        self.spread = self.queue.has_free_waiters();
    }

    /// Takes the marks of the service's line back once that is empty.
    pub(super) fn refresh_spread(&mut self) {
        if self.spread && !self.queue.has_free_waiters() {
            self.refresh_marks();
        }
    }

    /// After a waiter left a line that this server serves.
    pub(super) fn refresh_after_leaving(&mut self, server: &ServerState<T>) {
        self.refresh_mark(server);
        self.refresh_spread();
    }
}
