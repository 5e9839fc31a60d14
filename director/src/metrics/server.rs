//! Virtual servers and real servers, as the kernel counts them. The private
//! virtual servers of checks are left out.

use std::collections::BTreeSet;

use super::exposition::{Family, Kind, Page};
use crate::ipvs::RealEntry;
use crate::model::{Counters, VirtualAddress};
use crate::view::{ActualServer, ControlState};

/// With more real servers than these the page says nothing of each: it would be
/// larger than a scraper takes, and than a small machine should hold.
const MOST: usize = 10_000;

/// A metric made of the kernel's counters: its name for a virtual server, for a
/// real server, what it says, and how to read it.
type Counted = (
    &'static str,
    &'static str,
    Kind,
    &'static str,
    fn(&Counters) -> u64,
);

const COUNTED: [Counted; 10] = [
    (
        "virtual_server_connections_total",
        "real_server_connections_total",
        Kind::Counter,
        "Connections.",
        |it| it.connections,
    ),
    (
        "virtual_server_incoming_packets_total",
        "real_server_incoming_packets_total",
        Kind::Counter,
        "Packets from clients.",
        |it| it.incoming_packets,
    ),
    (
        "virtual_server_outgoing_packets_total",
        "real_server_outgoing_packets_total",
        Kind::Counter,
        "Packets to clients; 0 with direct routing.",
        |it| it.outgoing_packets,
    ),
    (
        "virtual_server_incoming_bytes_total",
        "real_server_incoming_bytes_total",
        Kind::Counter,
        "Bytes from clients.",
        |it| it.incoming_bytes,
    ),
    (
        "virtual_server_outgoing_bytes_total",
        "real_server_outgoing_bytes_total",
        Kind::Counter,
        "Bytes to clients; 0 with direct routing.",
        |it| it.outgoing_bytes,
    ),
    (
        "virtual_server_connections_per_second",
        "real_server_connections_per_second",
        Kind::Gauge,
        "Connections per second, as the kernel estimates.",
        |it| it.connection_rate,
    ),
    (
        "virtual_server_incoming_packets_per_second",
        "real_server_incoming_packets_per_second",
        Kind::Gauge,
        "Packets per second from clients.",
        |it| it.incoming_packet_rate,
    ),
    (
        "virtual_server_outgoing_packets_per_second",
        "real_server_outgoing_packets_per_second",
        Kind::Gauge,
        "Packets per second to clients.",
        |it| it.outgoing_packet_rate,
    ),
    (
        "virtual_server_incoming_bytes_per_second",
        "real_server_incoming_bytes_per_second",
        Kind::Gauge,
        "Bytes per second from clients.",
        |it| it.incoming_byte_rate,
    ),
    (
        "virtual_server_outgoing_bytes_per_second",
        "real_server_outgoing_bytes_per_second",
        Kind::Gauge,
        "Bytes per second to clients.",
        |it| it.outgoing_byte_rate,
    ),
];

/// A metric of what a real server has now.
type Present = (&'static str, &'static str, fn(&RealEntry) -> u32);

const PRESENT: [Present; 4] = [
    (
        "real_server_weight",
        "The weight that the kernel holds.",
        |it| it.server.weight,
    ),
    (
        "real_server_active_connections",
        "Established connections, as the kernel estimates.",
        |it| it.load.active,
    ),
    (
        "real_server_inactive_connections",
        "Connections that begin or end.",
        |it| it.load.inactive,
    ),
    (
        "real_server_persistent_clients",
        "Clients that persistence keeps there.",
        |it| it.load.persistent,
    ),
];

pub(super) fn render(page: &mut Page, control: &ControlState) {
    let marks: BTreeSet<_> = control.marks.values().copied().collect();
    let is_shown = |address: &VirtualAddress| match address {
        VirtualAddress::Socket(..) => true,
        VirtualAddress::FirewallMark(_, mark) => !marks.contains(mark),
    };
    let servers = control.actual.iter().filter(|(it, _)| is_shown(it));
    let servers: Vec<_> = servers
        .map(|(it, server)| (it.to_string(), server))
        .collect();
    let count: usize = servers.iter().map(|(_, it)| it.real_servers.len()).sum();
    let help = "Real servers in the kernel; with more than 10000 there are no metrics of each.";
    page.gauge("real_servers", help, count);
    let each = if count > MOST {
        &[]
    } else {
        servers.as_slice()
    };
    for (of_virtual, of_real, kind, help, read) in COUNTED {
        let mut family = page.family(of_virtual, kind, help);
        for (name, server) in &servers {
            family.sample(&[("virtual_server", name)], read(&server.counters));
        }
        let family = page.family(of_real, kind, help);
        reals(family, each, |it| read(&it.counters));
    }
    for (name, help, read) in PRESENT {
        let family = page.family(name, Kind::Gauge, help);
        reals(family, each, |it| u64::from(read(it)));
    }
    if count <= MOST {
        render_desired(page, control, &is_shown);
    }
}

fn reals(
    mut family: Family<'_>,
    servers: &[(String, &ActualServer)],
    read: impl Fn(&RealEntry) -> u64,
) {
    for (name, server) in servers {
        for entry in &*server.real_servers {
            let real = entry.address.to_string();
            let labels = [("virtual_server", name.as_str()), ("real_server", &real)];
            family.sample(&labels, read(entry));
        }
    }
}

fn render_desired(
    page: &mut Page,
    control: &ControlState,
    is_shown: &impl Fn(&VirtualAddress) -> bool,
) {
    let help = "The weight that the real server should have.";
    let mut family = page.family("real_server_desired_weight", Kind::Gauge, help);
    let servers = control.desired.iter().filter(|(it, _)| is_shown(it));
    for (address, server) in servers {
        let name = address.to_string();
        for (real, it) in &server.real_servers {
            let real = real.to_string();
            let labels = [("virtual_server", name.as_str()), ("real_server", &real)];
            family.sample(&labels, it.weight);
        }
    }
}
