//! Answers, into the model. Each function takes a message from its generic
//! netlink header on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use super::WireError;
use super::constant::{
    Attribute, Daemon, Dest, PERSISTENT, Service, family, forwarding, info, protocol, role, tunnel,
};
use super::reader::{Attributes, Index, Payload};
use crate::ipvs::{Information, RealEntry, VirtualEntry};
use crate::model::{
    Checksum, Counters, Family, Forwarding, Load, Persistence, Protocol, RealServer, Scheduling,
    SchedulingFlags, SyncDaemon, SyncRole, Timeouts, Tunnel, VirtualAddress,
};

/// One more than the greatest kind of an attribute of a real server.
const DEST_KINDS: usize = 16;

/// The attribute of a family's number (`CTRL_ATTR_FAMILY_ID`).
const FAMILY_ID: u16 = 1;

/// A virtual server.
pub(crate) fn virtual_entry(message: &[u8]) -> Result<VirtualEntry, WireError> {
    let service = nest(message, Attribute::Service, "a virtual server")?;
    let address = identity(service)?;
    let flags = need(service, Service::Flags, "flags")?.first("flags")?;
    let flags = u32::from_ne_bytes(flags);
    let persistence = if flags & PERSISTENT == 0 {
        None
    } else {
        Some(persistence(service, address.family())?)
    };
    let engine = service.find(Service::Engine.into())?;
    let stats = match service.find(Service::Stats64.into())? {
        Some(wide) => Some(wide),
        None => service.find(Service::Stats.into())?,
    };
    Ok(VirtualEntry {
        address,
        scheduling: Scheduling {
            scheduler: need(service, Service::Scheduler, "a scheduler")?.name("a scheduler")?,
            flags: SchedulingFlags::from_bits(flags),
            persistence,
            persistence_engine: engine.map(|it| it.name("an engine")).transpose()?,
        },
        counters: counters(stats)?,
    })
}

/// A real server behind a virtual server of this family.
pub(crate) fn real_entry(message: &[u8], of: Family) -> Result<RealEntry, WireError> {
    let dest = nest(message, Attribute::Dest, "a real server")?.index::<DEST_KINDS>()?;
    let of = match dest.find(Dest::Family) {
        Some(number) => family(number)?,
        None => of,
    };
    let number = |kind, what| dest.need(kind, what)?.u32(what);
    let ip = ip(dest.need(Dest::Address, "an address")?, of)?;
    let port = dest.need(Dest::Port, "a port")?.port("a port")?;
    let load = |kind: Dest| match dest.find(kind) {
        Some(connections) => connections.u32("connections"),
        None => Ok(0),
    };
    let stats = dest.find(Dest::Stats64).or_else(|| dest.find(Dest::Stats));
    Ok(RealEntry {
        address: SocketAddr::new(ip, port),
        server: RealServer {
            forwarding: method(&dest, number(Dest::Forwarding, "a forwarding method")?)?,
            weight: number(Dest::Weight, "a weight")?,
            upper_threshold: number(Dest::UpperThreshold, "a threshold")?,
            lower_threshold: number(Dest::LowerThreshold, "a threshold")?,
        },
        load: Load {
            active: load(Dest::Active)?,
            inactive: load(Dest::Inactive)?,
            persistent: load(Dest::Persistent)?,
        },
        counters: counters(stats)?,
    })
}

/// A sync daemon.
pub(crate) fn daemon(message: &[u8]) -> Result<SyncDaemon, WireError> {
    let daemon = nest(message, Attribute::Daemon, "a sync daemon")?;
    let role = match need(daemon, Daemon::State, "a role")?.u32("a role")? {
        role::MASTER => SyncRole::Master,
        role::BACKUP => SyncRole::Backup,
        number => return Err(unknown("a role", number)),
    };
    let id = need(daemon, Daemon::SyncId, "a sync id")?.u32("a sync id")?;
    let find = |kind: Daemon| daemon.find(kind.into());
    let group = match (find(Daemon::Group)?, find(Daemon::Group6)?) {
        (Some(group), _) => Some(ip(group, Family::V4)?),
        (None, Some(group)) => Some(ip(group, Family::V6)?),
        (None, None) => None,
    };
    let port = find(Daemon::Port)?;
    let ttl = find(Daemon::Ttl)?;
    let length = find(Daemon::MaxLength)?;
    Ok(SyncDaemon {
        role,
        interface: need(daemon, Daemon::Interface, "an interface")?.name("an interface")?,
        sync_id: u8::try_from(id).map_err(|_| unknown("a sync id", id))?,
        group,
        port: port.map(|it| it.u16("a port")).transpose()?,
        ttl: ttl
            .map(|it| it.bytes("a time to live"))
            .transpose()?
            .map(u8::from_ne_bytes),
        max_length: length.map(|it| it.u16("a length")).transpose()?,
    })
}

/// The time-outs.
pub(crate) fn configuration(message: &[u8]) -> Result<Timeouts, WireError> {
    let attributes = Attributes::of_message(message)?;
    let time = |kind| {
        let seconds = need(attributes, kind, "a time-out")?.u32("a time-out")?;
        Ok::<_, WireError>(Duration::from_secs(u64::from(seconds)))
    };
    Ok(Timeouts {
        tcp: time(Attribute::TimeoutTcp)?,
        tcp_fin: time(Attribute::TimeoutTcpFin)?,
        udp: time(Attribute::TimeoutUdp)?,
    })
}

/// The number of a family.
pub(crate) fn family_number(message: &[u8]) -> Result<u16, WireError> {
    let attributes = Attributes::of_message(message)?;
    need(attributes, FAMILY_ID, "a number")?.u16("a number")
}

/// Version and size.
pub(crate) fn information(message: &[u8]) -> Result<Information, WireError> {
    let attributes = Attributes::of_message(message)?;
    let number = |kind, what| {
        let found = attributes.find(kind)?;
        found.ok_or(WireError::Missing(what))?.u32(what)
    };
    let [_, major, minor, patch] = number(info::VERSION, "a version")?.to_be_bytes();
    Ok(Information {
        version: (major, minor, patch),
        connection_buckets: number(info::CONNECTION_BUCKETS, "a size")?,
    })
}

fn nest<'a>(
    message: &'a [u8],
    kind: Attribute,
    what: &'static str,
) -> Result<Attributes<'a>, WireError> {
    Ok(need(Attributes::of_message(message)?, kind, what)?.nested())
}

fn need<'a>(
    attributes: Attributes<'a>,
    kind: impl Into<u16>,
    what: &'static str,
) -> Result<Payload<'a>, WireError> {
    let found = attributes.find(kind.into())?;
    found.ok_or(WireError::Missing(what))
}

fn unknown(what: &'static str, number: u32) -> WireError {
    WireError::Unknown { what, number }
}

fn identity(service: Attributes<'_>) -> Result<VirtualAddress, WireError> {
    let of = family(need(service, Service::Family, "a family")?)?;
    if let Some(mark) = service.find(Service::Mark.into())? {
        let mark = mark.u32("a mark")?;
        let mark = NonZeroU32::new(mark).ok_or_else(|| unknown("a mark", mark))?;
        return Ok(VirtualAddress::FirewallMark(of, mark));
    }
    let protocol = match need(service, Service::Protocol, "a protocol")?.u16("a protocol")? {
        protocol::TCP => Protocol::Tcp,
        protocol::UDP => Protocol::Udp,
        protocol::SCTP => Protocol::Sctp,
        number => return Err(unknown("a protocol", u32::from(number))),
    };
    let ip = ip(need(service, Service::Address, "an address")?, of)?;
    let port = need(service, Service::Port, "a port")?.port("a port")?;
    Ok(VirtualAddress::Socket(protocol, SocketAddr::new(ip, port)))
}

fn family(number: Payload<'_>) -> Result<Family, WireError> {
    match number.u16("a family")? {
        family::V4 => Ok(Family::V4),
        family::V6 => Ok(Family::V6),
        number => Err(unknown("a family", u32::from(number))),
    }
}

/// An address; the kernel gives sixteen bytes for either family.
fn ip(address: Payload<'_>, of: Family) -> Result<IpAddr, WireError> {
    Ok(match of {
        Family::V4 => Ipv4Addr::from(address.first::<4>("an address")?).into(),
        Family::V6 => Ipv6Addr::from(address.bytes::<16>("an address")?).into(),
    })
}

fn persistence(service: Attributes<'_>, of: Family) -> Result<Persistence, WireError> {
    let seconds = need(service, Service::Timeout, "a time-out")?.u32("a time-out")?;
    let mask = need(service, Service::Netmask, "a mask")?.bytes::<4>("a mask")?;
    let prefix = match of {
        Family::V4 => prefix(u32::from_be_bytes(mask)),
        Family::V6 => u8::try_from(u32::from_ne_bytes(mask)).unwrap_or(Persistence::NO_PREFIX),
    };
    Ok(Persistence { seconds, prefix })
}

fn prefix(mask: u32) -> u8 {
    if mask.leading_ones() + mask.trailing_zeros() < u32::BITS {
        return Persistence::NO_PREFIX;
    }
    u8::try_from(mask.leading_ones()).unwrap_or(Persistence::NO_PREFIX)
}

fn method(dest: &Index<'_, DEST_KINDS>, number: u32) -> Result<Forwarding, WireError> {
    let method = u8::try_from(number & forwarding::MASK).unwrap_or(u8::MAX);
    Ok(match method {
        forwarding::MASQUERADE => Forwarding::Masquerade,
        forwarding::LOCAL_NODE => Forwarding::LocalNode,
        forwarding::DIRECT_ROUTING => Forwarding::DirectRouting,
        forwarding::BYPASS => Forwarding::Bypass,
        forwarding::TUNNEL => return inside(dest),
        method => Forwarding::Unknown { method, tunnel: 0 },
    })
}

fn inside(dest: &Index<'_, DEST_KINDS>) -> Result<Forwarding, WireError> {
    let kind = match dest.find(Dest::TunnelKind) {
        Some(kind) => u8::from_ne_bytes(kind.bytes("a kind of tunnel")?),
        None => tunnel::IPIP,
    };
    let flags = match dest.find(Dest::TunnelFlags) {
        Some(flags) => flags.u16("flags of a tunnel")?,
        None => 0,
    };
    let port = match dest.find(Dest::TunnelPort) {
        Some(port) => port.port("the port of a tunnel")?,
        None => 0,
    };
    let strange = Forwarding::Unknown {
        method: forwarding::TUNNEL,
        tunnel: kind,
    };
    let checksum = match flags {
        0 => Checksum::None,
        tunnel::CHECKSUM => Checksum::Full,
        tunnel::REMOTE_CHECKSUM => Checksum::Remote,
        _ => return Ok(strange),
    };
    Ok(match kind {
        tunnel::IPIP => Forwarding::Tunnel(Tunnel::Ipip),
        tunnel::GUE => Forwarding::Tunnel(Tunnel::Gue { port, checksum }),
        tunnel::GRE => Forwarding::Tunnel(Tunnel::Gre { checksum }),
        _ => strange,
    })
}

/// The wide counters; the narrow ones where a kernel has no others.
fn counters(found: Option<Payload<'_>>) -> Result<Counters, WireError> {
    let mut counters = Counters::default();
    for counter in found.iter().flat_map(|stats| stats.nested()) {
        let (kind, value) = counter?;
        let field = match kind {
            1 => &mut counters.connections,
            2 => &mut counters.incoming_packets,
            3 => &mut counters.outgoing_packets,
            4 => &mut counters.incoming_bytes,
            5 => &mut counters.outgoing_bytes,
            6 => &mut counters.connection_rate,
            7 => &mut counters.incoming_packet_rate,
            8 => &mut counters.outgoing_packet_rate,
            9 => &mut counters.incoming_byte_rate,
            10 => &mut counters.outgoing_byte_rate,
            _ => continue,
        };
        *field = value.count("a counter")?;
    }
    Ok(counters)
}
