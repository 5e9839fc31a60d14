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
use std::sync::Arc;
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

/// The same for each family: its addresses have an election of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duty {
    v4: Serving,
    v6: Serving,
}

impl Duty {
    /// The same for every family that has virtual addresses; of the others there
    /// is nothing to serve.
    pub fn new(settings: &Settings, serving: Serving) -> Self {
        let of = |family| match settings.vips_of(family).next() {
            Some(_) => serving,
            None => Serving::No,
        };
        Self {
            v4: of(Family::V4),
            v6: of(Family::V6),
        }
    }

    /// That of one family.
    pub fn of(self, family: Family) -> Serving {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Changes that of one family; says whether it was another.
    pub fn set(&mut self, family: Family, serving: Serving) -> bool {
        let place = match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        std::mem::replace(place, serving) != serving
    }

    /// Is it this for any family?
    pub fn has(self, serving: Serving) -> bool {
        self.v4 == serving || self.v6 == serving
    }

    /// Is this machine a standby for all that there is?
    pub fn is_standby(self) -> bool {
        self.v4 == Serving::No && self.v6 == Serving::No
    }
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
    pub registered: &'a Arc<Table>,
    /// What the kernel held when the director started.
    pub adopted: &'a Table,
    /// Nodes that have connections in the kernel.
    pub busy: &'a BTreeSet<IpAddr>,
    /// Where the virtual servers belong.
    pub serving: Duty,
    /// This moment.
    pub now: Instant,
}

/// What is desired, and why.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// The whole table, private virtual servers too: the same one as before, when
    /// it was made of the same.
    pub table: Arc<Table>,
    /// Where each node stands.
    pub standing: BTreeMap<IpAddr, Standing>,
    /// The mark of each node.
    pub marks: Marks,
    /// Why nodes are kept that the checks alone would take out, in words.
    pub alarm: Option<String>,
    /// What the table was made of besides. Nothing, if it was not made here.
    grounds: Option<Grounds>,
}

/// What a table is made of besides the nodes and their marks, as far as it
/// changes while the director runs.
#[derive(Clone, Debug)]
struct Grounds {
    registered: Arc<Table>,
    drained: BTreeSet<IpAddr>,
    serving: Duty,
}

impl Grounds {
    fn of(inputs: &Inputs<'_>) -> Self {
        Self {
            registered: Arc::clone(inputs.registered),
            drained: inputs.drained.clone(),
            serving: inputs.serving,
        }
    }

    /// Whoever registers makes a new table, so its place tells it.
    fn are_those_of(&self, inputs: &Inputs<'_>) -> bool {
        Arc::ptr_eq(&self.registered, inputs.registered)
            && self.drained == *inputs.drained
            && self.serving == inputs.serving
    }
}

impl Desired {
    /// What a director that starts takes for its own last word: the nodes and
    /// marks of a table that another left.
    pub fn adopt(settings: &Settings, table: &Table) -> Self {
        Self {
            standing: standing::adopted(settings, table),
            marks: adopted_marks(table),
            ..Self::default()
        }
    }
}

/// What is desired now. `last` is what was desired before, with the same settings
/// and the same table at the start: for nodes of which nothing is known, and for
/// when all look dead.
pub fn desire(inputs: &Inputs<'_>, last: &Desired) -> Desired {
    let (standing, alarm) = standing::judge(inputs, &last.standing);
    let marks = marks::allot(inputs, &last.marks);
    let grounds = last.grounds.as_ref();
    let grounds = grounds.filter(|it| it.are_those_of(inputs));
    let is_as_before = standing == last.standing && marks == last.marks;
    let (table, grounds) = match grounds.filter(|_| is_as_before) {
        Some(grounds) => (Arc::clone(&last.table), grounds.clone()),
        None => (
            Arc::new(table(inputs, &standing, &marks)),
            Grounds::of(inputs),
        ),
    };
    Desired {
        table,
        standing,
        marks,
        alarm,
        grounds: Some(grounds),
    }
}

fn table(inputs: &Inputs<'_>, standing: &BTreeMap<IpAddr, Standing>, marks: &Marks) -> Table {
    let mut table = virtual_servers(inputs, standing);
    table.extend(register(inputs));
    let private = marks.iter();
    table.extend(private.map(|(node, mark)| private_server(inputs.settings, *node, *mark)));
    table
}

/// Has every source that is used answered once? An empty roster is the one from
/// before the sources were begun with.
fn is_complete(roster: &Roster) -> bool {
    !roster.sources.is_empty() && roster.is_complete()
}

/// The virtual servers on the virtual addresses.
fn virtual_servers(inputs: &Inputs<'_>, standing: &BTreeMap<IpAddr, Standing>) -> Table {
    let settings = inputs.settings;
    let left = inputs.adopted.iter();
    let left = left.filter(|(address, _)| {
        let is_undecided = inputs.serving.of(address.family()) == Serving::Undecided;
        is_undecided && is_on_vip(settings, address)
    });
    let mut table: Table = left.map(|(address, it)| (*address, it.clone())).collect();
    let vips = settings.vips.iter();
    let served = vips.filter(|vip| is_served(inputs, Family::of(vip.address)));
    let places = served.flat_map(|vip| settings.ports.iter().map(move |port| (*vip, *port)));
    table.extend(places.map(|(vip, port)| virtual_server(settings, vip, port, standing)));
    table
}

fn is_served(inputs: &Inputs<'_>, family: Family) -> bool {
    inputs.serving.of(family) == Serving::Yes
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
        is_served(inputs, address.family()) || !is_on_vip(inputs.settings, address)
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
