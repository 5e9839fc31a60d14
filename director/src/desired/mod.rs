//! What the kernel's table should be, out of all that is configured and seen.
//!
//! Pure: [`desire`] takes what the other parts say and what it said itself the
//! last time, and gives the table with a reason for each node. `standing`
//! judges the nodes, `marks` gives each its private mark. Nothing is read from
//! the kernel here and nothing is changed: `controller` does both.

mod marks;
mod standing;
#[cfg(test)]
pub(crate) mod tests;

pub use marks::{MARKS, adopted as adopted_marks};

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Instant;

use crate::config::{Port, Settings, Vip};
use crate::health::{Health, Marks};
use crate::model::{
    Family, KernelName, Persistence, Protocol, RealServer, Scheduling, SchedulingFlags, Table,
    VirtualAddress, VirtualServer,
};
use crate::source::Roster;
use crate::view::Standing;

/// Are the virtual servers to be in the kernel?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serving {
    /// The election has not said yet: what an earlier director left stays.
    #[default]
    Undecided,
    /// This machine is, or is about to be, master.
    Yes,
    /// It is a standby: two full tables could send a packet round for ever.
    No,
}

/// All that the table is made of.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// What is configured.
    pub settings: &'a Settings,
    /// Where the nodes are.
    pub roster: &'a Roster,
    /// Whether they can be used.
    pub health: &'a Health,
    /// Nodes that the operator drains.
    pub drained: &'a BTreeSet<IpAddr>,
    /// Virtual servers by order of the API; they win over configured ones.
    pub registered: &'a Table,
    /// What the kernel held when the director started.
    pub adopted: &'a Table,
    /// Nodes that have connections in the kernel.
    pub busy: &'a BTreeSet<IpAddr>,
    /// Where the virtual servers belong.
    pub serving: Serving,
    /// This moment.
    pub now: Instant,
}

/// What is desired, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The whole table, private virtual servers too.
    pub table: Table,
    /// Where each node stands.
    pub standing: BTreeMap<IpAddr, Standing>,
    /// The mark of each node.
    pub marks: Marks,
    /// Why nodes are kept that the checks alone would take out, in words.
    pub alarm: Option<String>,
}

impl Desired {
    /// What a director that starts takes for its own last word: the nodes and
    /// marks of a table that another left.
    pub fn adopt(settings: &Settings, table: &Table) -> Self {
        Self {
            table: Table::new(),
            standing: standing::adopted(settings, table),
            marks: adopted_marks(table),
            alarm: None,
        }
    }
}

/// What is desired now. `last` is what was desired before: for nodes of which
/// nothing is known, and for when all look dead.
pub fn desire(inputs: &Inputs<'_>, last: &Desired) -> Desired {
    let (standing, alarm) = standing::judge(inputs, &last.standing);
    let marks = marks::allot(inputs, &last.marks);
    let mut table = virtual_servers(inputs, &standing);
    table.extend(register(inputs));
    let private = marks.iter();
    table.extend(private.map(|(node, mark)| private_server(inputs.settings, *node, *mark)));
    Desired {
        table,
        standing,
        marks,
        alarm,
    }
}

/// Has every source that is used answered once? An empty roster is the one from
/// before the sources were begun with.
fn is_complete(roster: &Roster) -> bool {
    !roster.sources.is_empty() && roster.is_complete()
}

/// The virtual servers on the virtual addresses.
fn virtual_servers(inputs: &Inputs<'_>, standing: &BTreeMap<IpAddr, Standing>) -> Table {
    let settings = inputs.settings;
    match inputs.serving {
        Serving::No => Table::new(),
        Serving::Undecided => {
            let left = inputs.adopted.iter();
            let ours = left.filter(|(address, _)| is_on_vip(settings, address));
            ours.map(|(address, it)| (*address, it.clone())).collect()
        }
        Serving::Yes => {
            let places = settings
                .vips
                .iter()
                .flat_map(|vip| settings.ports.iter().map(move |port| (*vip, *port)));
            let servers = places.map(|(vip, port)| virtual_server(settings, vip, port, standing));
            servers.collect()
        }
    }
}

fn is_on_vip(settings: &Settings, address: &VirtualAddress) -> bool {
    let on = address.ip();
    on.is_some_and(|ip| settings.vips.iter().any(|vip| vip.address == ip))
}

fn virtual_server(
    settings: &Settings,
    vip: Vip,
    port: Port,
    standing: &BTreeMap<IpAddr, Standing>,
) -> (VirtualAddress, VirtualServer) {
    let family = Family::of(vip.address);
    let nodes = standing.iter().filter(|(it, _)| Family::of(**it) == family);
    let weighted = nodes.filter_map(|(node, it)| Some((*node, it.weight?)));
    let reals = weighted.map(|(node, weight)| {
        let real = RealServer::new(settings.forwarding, weight);
        (SocketAddr::new(node, port.number), real)
    });
    let server = VirtualServer {
        scheduling: scheduling(&settings.scheduling, family, port.protocol),
        real_servers: reals.collect(),
    };
    let socket = SocketAddr::new(vip.address, port.number);
    (VirtualAddress::socket(port.protocol, socket), server)
}

/// The configured scheduling as it fits one virtual server: a client by itself
/// is the whole address in either family, and only datagrams can be scheduled
/// one by one.
fn scheduling(configured: &Scheduling, family: Family, protocol: Protocol) -> Scheduling {
    let own = |it: Persistence| Persistence {
        prefix: match family {
            Family::V6 if it.prefix == Family::V4.bits() => family.bits(),
            _ => it.prefix.min(family.bits()),
        },
        ..it
    };
    let mut flags = configured.flags;
    if protocol != Protocol::Udp {
        flags = flags.without(SchedulingFlags::ONE_PACKET);
    }
    Scheduling {
        flags,
        persistence: configured.persistence.map(own),
        ..configured.clone()
    }
}

/// What is registered: on a virtual address it follows the election, elsewhere
/// it is always there. What the operator drains takes nothing new.
fn register(inputs: &Inputs<'_>) -> Table {
    let wanted = inputs.registered.iter().filter(|(address, _)| {
        inputs.serving == Serving::Yes || !is_on_vip(inputs.settings, address)
    });
    let mut table: Table = wanted.map(|(key, it)| (*key, it.clone())).collect();
    let reals = table.values_mut().flat_map(|it| &mut it.real_servers);
    for (address, real) in reals {
        if inputs.drained.contains(&address.ip()) {
            real.weight = 0;
        }
    }
    table
}

/// The virtual server that leads a mark to one node, for checks.
pub(crate) fn private_server(
    settings: &Settings,
    node: IpAddr,
    mark: NonZeroU32,
) -> (VirtualAddress, VirtualServer) {
    let rr = KernelName::new("rr").expect("it is a short name");
    let real = RealServer::new(settings.forwarding, 1);
    let server = VirtualServer {
        scheduling: Scheduling::by(rr),
        real_servers: BTreeMap::from([(SocketAddr::new(node, 0), real)]),
    };
    let address = VirtualAddress::FirewallMark(Family::of(node), mark);
    (address, server)
}
