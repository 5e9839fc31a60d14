//! Tables, the plan, and the places of nodes in them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::Picture;
use crate::api::{types, words};
use crate::ipvs::RealEntry;
use crate::model::{self, RealServer, Scheduling, VirtualAddress};
use crate::plan::Change;
use crate::view::ActualServer;

/// A node's places by virtual server and real server.
type Places = BTreeMap<IpAddr, Vec<types::Place>>;

impl Picture {
    /// How the table fares.
    pub(super) fn control(&self) -> types::Control {
        let control = &self.control;
        let counts = control.counts;
        let replaced = control.replaced.iter();
        let sync = control.sync.iter().map(|daemon| types::Sync {
            role: daemon.role.to_string(),
            interface: daemon.interface.to_string(),
            sync_id: daemon.sync_id,
        });
        types::Control {
            serving: control.is_serving,
            desired: control.desired.len(),
            actual: control.actual.len(),
            pending: control.pending.len(),
            settled: control.settled.map(|at| self.age(at)),
            took: control.took.as_secs_f64(),
            passes: counts.passes,
            changes: counts.changes,
            repairs: counts.repairs,
            refusals: counts.refusals,
            netlink_errors: counts.netlink_errors,
            drained: control.drained.iter().copied().collect(),
            replaced: replaced
                .map(|(wanted, used)| (wanted.to_string(), used.to_string()))
                .collect(),
            sync: sync.collect(),
            alarm: control.alarm.clone(),
            trouble: control.trouble.clone(),
        }
    }

    /// What should be in the kernel.
    pub(in crate::api) fn desired(&self) -> types::Table {
        let servers = self.control.desired.iter().map(|(address, server)| {
            let reals = server.real_servers.iter();
            let reals = reals.map(|(real, it)| real_server(*real, it, None));
            self.virtual_server(*address, &server.scheduling, reals.collect())
        });
        types::Table {
            virtual_servers: servers.collect(),
        }
    }

    /// What is in the kernel.
    pub(in crate::api) fn actual(&self) -> types::Table {
        let servers = self.control.actual.iter().map(|(address, server)| {
            let reals = server.real_servers.iter();
            let reals = reals.map(|it| real_server(it.address, &it.server, Some(it)));
            let said = self.virtual_server(*address, &server.scheduling, reals.collect());
            types::VirtualServer {
                counters: Some(counters(&server.counters)),
                ..said
            }
        });
        types::Table {
            virtual_servers: servers.collect(),
        }
    }

    /// What remains to be done.
    pub(in crate::api) fn plan(&self) -> types::Plan {
        types::Plan {
            settled: self.control.pending.is_empty(),
            changes: self.control.pending.iter().map(change).collect(),
            trouble: self.control.trouble.clone(),
        }
    }

    fn is_for_checks(&self, address: VirtualAddress) -> bool {
        let VirtualAddress::FirewallMark(_, mark) = address else {
            return false;
        };
        self.control.marks.values().any(|it| *it == mark)
    }

    fn virtual_server(
        &self,
        address: VirtualAddress,
        scheduling: &Scheduling,
        real_servers: Vec<types::RealServer>,
    ) -> types::VirtualServer {
        let (protocol, socket, mark) = match address {
            VirtualAddress::Socket(protocol, socket) => {
                (Some(protocol.to_string()), Some(socket), None)
            }
            VirtualAddress::FirewallMark(_, mark) => (None, None, Some(mark.get())),
        };
        types::VirtualServer {
            name: address.to_string(),
            protocol,
            address: socket,
            mark,
            for_checks: self.is_for_checks(address),
            scheduler: scheduling.scheduler.to_string(),
            flags: scheduling.flags.bits(),
            persistence: scheduling.persistence.map(|it| it.seconds),
            counters: None,
            real_servers,
        }
    }

    /// Where each node stands, in the desired table and in the kernel's. The
    /// private virtual servers of checks are left out.
    pub(super) fn places(&self) -> Places {
        let mut places = Places::new();
        let desired = self.control.desired.keys();
        let all: BTreeSet<_> = desired.chain(self.control.actual.keys()).copied().collect();
        let marks: BTreeSet<_> = self.control.marks.values().copied().collect();
        for address in all {
            if matches!(address, VirtualAddress::FirewallMark(_, mark) if marks.contains(&mark)) {
                continue;
            }
            let wanted = self.control.desired.get(&address);
            let present = self.control.actual.get(&address);
            for (real, place) in places_behind(address, wanted, present) {
                places.entry(real.ip()).or_default().push(place);
            }
        }
        places
    }
}

fn places_behind(
    address: VirtualAddress,
    wanted: Option<&model::VirtualServer>,
    present: Option<&ActualServer>,
) -> BTreeMap<SocketAddr, types::Place> {
    let virtual_server = address.to_string();
    let empty = |real_server| types::Place {
        virtual_server: virtual_server.clone(),
        real_server,
        desired_weight: None,
        actual_weight: None,
        active: None,
        inactive: None,
    };
    let mut places = BTreeMap::new();
    for (real, server) in wanted.iter().flat_map(|it| &it.real_servers) {
        let place = places.entry(*real).or_insert_with(|| empty(*real));
        place.desired_weight = Some(server.weight);
    }
    for entry in present.iter().flat_map(|it| &*it.real_servers) {
        let real = entry.address;
        let place = places.entry(real).or_insert_with(|| empty(real));
        place.actual_weight = Some(entry.server.weight);
        place.active = Some(entry.load.active);
        place.inactive = Some(entry.load.inactive);
    }
    places
}

fn real_server(
    address: SocketAddr,
    server: &RealServer,
    entry: Option<&RealEntry>,
) -> types::RealServer {
    types::RealServer {
        address,
        forwarding: words::forwarding(server.forwarding),
        weight: server.weight,
        upper_threshold: server.upper_threshold,
        lower_threshold: server.lower_threshold,
        active: entry.map(|it| it.load.active),
        inactive: entry.map(|it| it.load.inactive),
        persistent: entry.map(|it| it.load.persistent),
        counters: entry.map(|it| counters(&it.counters)),
    }
}

fn counters(counters: &model::Counters) -> types::Counters {
    types::Counters {
        connections: counters.connections,
        incoming_packets: counters.incoming_packets,
        outgoing_packets: counters.outgoing_packets,
        incoming_bytes: counters.incoming_bytes,
        outgoing_bytes: counters.outgoing_bytes,
        connection_rate: counters.connection_rate,
        incoming_packet_rate: counters.incoming_packet_rate,
        outgoing_packet_rate: counters.outgoing_packet_rate,
        incoming_byte_rate: counters.incoming_byte_rate,
        outgoing_byte_rate: counters.outgoing_byte_rate,
    }
}

fn change(change: &Change) -> types::Change {
    let (kind, real_server, weight, scheduler) = match change {
        Change::AddVirtual(_, it) => ("add-virtual", None, None, Some(&it.scheduler)),
        Change::SetVirtual(_, it) => ("set-virtual", None, None, Some(&it.scheduler)),
        Change::AddReal(_, real, it) => ("add-real", Some(*real), Some(it.weight), None),
        Change::SetReal(_, real, it) => ("set-real", Some(*real), Some(it.weight), None),
        Change::RemoveReal(_, real) => ("remove-real", Some(*real), None, None),
        Change::RemoveVirtual(_) => ("remove-virtual", None, None, None),
    };
    types::Change {
        words: change.to_string(),
        kind: kind.to_owned(),
        virtual_server: change.address().to_string(),
        real_server,
        weight,
        scheduler: scheduler.map(ToString::to_string),
    }
}
