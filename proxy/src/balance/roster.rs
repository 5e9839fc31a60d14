//! What the lock of a group guards.
//!
//! Owns the members, those that left with requests still in flight, the waiting
//! lines, and the marks on the members' gates. Only `group` holds one, and every
//! method runs under its lock.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use super::ask::GroupSettings;
use super::group::Group;
use super::limit::Demand;
use super::queue::Queue;
use super::server::{ServerKey, ServerSpec, ServerState};

/// Members, lines and marks of one service.
pub(super) struct Roster<T> {
    pub(super) queue: Queue<T>,
    pub(super) members: Vec<Arc<ServerState<T>>>,
    /// Left the service but still has requests in flight: it keeps its count in
    /// case it comes back.
    retired: Vec<Weak<ServerState<T>>>,
    pub(super) settings: GroupSettings,
    /// Whether a member's limit moves with the demand. Then all members are marked
    /// at all times, so that every coming and going passes the lock, is counted
    /// there, and finds the limits that belong to it.
    pub(super) dynamic: bool,
    /// The demand at which every limit is at its most.
    full: u64,
    last_key: u64,
    /// Whether the service's line has marked all members.
    spread: bool,
}

impl<T> Roster<T> {
    pub(super) const fn new(settings: GroupSettings) -> Self {
        Self {
            queue: Queue::new(),
            members: Vec::new(),
            retired: Vec::new(),
            settings,
            dynamic: false,
            full: 0,
            last_key: 0,
            spread: false,
        }
    }

    /// Takes on a configuration. Of two servers with one identity the first counts.
    pub(super) fn adopt(
        &mut self,
        settings: GroupSettings,
        specs: &[ServerSpec<T>],
        group: &Weak<Group<T>>,
    ) {
        self.settings = settings;
        self.replace_members(specs, group);
        let limits = || self.members.iter().map(|server| server.limits());
        let sum = limits().map(|limits| u64::from(limits.most())).sum();
        self.full = match settings.full_conn {
            0 => sum,
            full => u64::from(full),
        };
        self.dynamic = limits().any(|limits| limits.is_dynamic());
        if settings.slow_start.is_zero() {
            self.members.iter().for_each(|server| server.rise.finish());
        }
        // Marks before limits, limits before the way in: nobody slips through.
        self.mark_dynamic();
        self.refresh_limits();
        let mut up: HashMap<_, _> = specs.iter().rev().map(|spec| (&spec.id, spec.up)).collect();
        for server in &self.members {
            server.join(up.remove(server.id()).unwrap_or(false));
        }
    }

    fn mark_dynamic(&self) {
        if self.dynamic {
            let gates = self.members.iter().map(|server| &server.gate);
            gates.for_each(|gate| gate.set_marked(true));
        }
    }

    /// Sets every member's limit in force to what the demand asks for.
    pub(super) fn refresh_limits(&self) {
        self.set_limits(self.demand());
    }

    /// The same with one request more, which is about to join or to be served.
    pub(super) fn refresh_limits_for_one_more(&self) {
        let mut demand = self.demand();
        demand.present += 1;
        self.set_limits(demand);
    }

    /// The same with one request less, which leaves this server.
    pub(super) fn refresh_limits_for_one_less(&self, server: &ServerState<T>) {
        let mut demand = self.demand();
        let counted = u64::from(server.is_member());
        demand.present = demand.present.saturating_sub(counted);
        self.set_limits(demand);
    }

    fn set_limits(&self, demand: Demand) {
        for server in &self.members {
            server.refresh_limit(demand);
        }
    }

    fn demand(&self) -> Demand {
        let in_flight = self.members.iter().map(|server| server.in_flight());
        Demand {
            present: in_flight.map(u64::from).sum::<u64>() + self.queue.len() as u64,
            full: self.full,
        }
    }

    fn replace_members(&mut self, specs: &[ServerSpec<T>], group: &Weak<Group<T>>) {
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
        let marked = self.dynamic || concerned && server.gate.limit() > 0;
        server.gate.set_marked(marked);
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
