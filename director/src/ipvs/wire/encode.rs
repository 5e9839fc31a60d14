//! Requests, out of the model.

use std::io::Cursor;
use std::net::{IpAddr, SocketAddr};

use neli::consts::genl::{Cmd, CtrlAttr, CtrlCmd, NlAttrType};
use neli::genl::{AttrTypeBuilder, GenlmsghdrBuilder, Nlattr, NlattrBuilder};
use neli::types::{Buffer, GenlBuffer};
use neli::{Size, ToBytes};

use super::constant::{
    Attribute, Command, Daemon, Dest, PERSISTENT, Service, family, forwarding, protocol, role,
    tunnel,
};
use super::{VERSION, WireError};
use crate::model::{
    Checksum, Family, Forwarding, Persistence, Protocol, RealServer, Scheduling, SyncDaemon,
    SyncRole, Timeouts, Tunnel, VirtualAddress,
};

/// A request, from its generic netlink header on.
pub(crate) type Request = Vec<u8>;

/// All bits of the flags are meant, set or not.
const ALL_FLAGS: u32 = u32::MAX;

/// A command without attributes.
pub(crate) fn whole(command: Command) -> Request {
    message::<_, Attribute>(command, Vec::new())
}

/// Asks for the number of a family, of the family that all know.
pub(crate) fn find_family(name: &str) -> Request {
    let name = text(CtrlAttr::FamilyName, name);
    message(CtrlCmd::Getfamily, vec![name])
}

/// A command about one virtual server: get, delete, or list what is behind it.
pub(crate) fn key(command: Command, address: VirtualAddress) -> Request {
    let service = nest(Attribute::Service, &identity(address));
    message(command, vec![service])
}

/// Adds (`NewService`) or changes (`SetService`) a virtual server.
pub(crate) fn add_virtual(
    command: Command,
    address: VirtualAddress,
    scheduling: &Scheduling,
) -> Result<Request, WireError> {
    let mut attributes = identity(address);
    attributes.push(text(Service::Scheduler, scheduling.scheduler.as_str()));
    if let Some(engine) = &scheduling.persistence_engine {
        attributes.push(text(Service::Engine, engine.as_str()));
    }
    let persistent = scheduling.persistence.map_or(0, |_| PERSISTENT);
    let flags = scheduling.flags.bits() | persistent;
    let flags = [flags.to_ne_bytes(), ALL_FLAGS.to_ne_bytes()].concat();
    let seconds = scheduling.persistence.map_or(0, |it| it.seconds);
    let netmask = netmask(address.family(), scheduling.persistence)?;
    attributes.extend([
        attribute(Service::Flags, flags),
        attribute(Service::Timeout, seconds.to_ne_bytes()),
        attribute(Service::Netmask, netmask),
    ]);
    let service = nest(Attribute::Service, &attributes);
    Ok(message(command, vec![service]))
}

/// Adds (`NewDest`) or changes (`SetDest`) a real server.
pub(crate) fn change_real(
    command: Command,
    address: VirtualAddress,
    real: SocketAddr,
    server: &RealServer,
) -> Result<Request, WireError> {
    let (method, inside) = method(server.forwarding)?;
    let mut attributes = place(real);
    attributes.extend([
        attribute(Dest::Forwarding, u32::from(method).to_ne_bytes()),
        attribute(Dest::Weight, server.weight.to_ne_bytes()),
        attribute(Dest::UpperThreshold, server.upper_threshold.to_ne_bytes()),
        attribute(Dest::LowerThreshold, server.lower_threshold.to_ne_bytes()),
    ]);
    if let Some(inside) = inside {
        attributes.extend(tunnel_attributes(inside)?);
    }
    let service = nest(Attribute::Service, &identity(address));
    Ok(message(
        command,
        vec![service, nest(Attribute::Dest, &attributes)],
    ))
}

/// Removes a real server.
pub(crate) fn remove_real(address: VirtualAddress, real: SocketAddr) -> Request {
    let service = nest(Attribute::Service, &identity(address));
    let dest = nest(Attribute::Dest, &place(real));
    message(Command::DelDest, vec![service, dest])
}

/// Sets the time-outs.
pub(crate) fn set_timeouts(timeouts: Timeouts) -> Result<Request, WireError> {
    let times = [
        (Attribute::TimeoutTcp, timeouts.tcp),
        (Attribute::TimeoutTcpFin, timeouts.tcp_fin),
        (Attribute::TimeoutUdp, timeouts.udp),
    ];
    let seconds = times.into_iter().map(|(kind, time)| {
        let number = u32::try_from(time.as_secs()).map_err(|_| WireError::Unknown {
            what: "a time-out in seconds",
            number: u32::MAX,
        })?;
        Ok(attribute(kind, number.to_ne_bytes()))
    });
    let attributes = seconds.collect::<Result<Vec<_>, _>>()?;
    Ok(message(Command::SetConfig, attributes))
}

/// Starts a sync daemon.
pub(crate) fn start_sync(daemon: &SyncDaemon) -> Request {
    let mut attributes = vec![
        attribute(Daemon::State, state(daemon.role).to_ne_bytes()),
        text(Daemon::Interface, daemon.interface.as_str()),
        attribute(Daemon::SyncId, u32::from(daemon.sync_id).to_ne_bytes()),
    ];
    let length = daemon.max_length;
    attributes.extend(length.map(|it| attribute(Daemon::MaxLength, it.to_ne_bytes())));
    attributes.extend(daemon.group.map(|group| match group {
        IpAddr::V4(group) => attribute(Daemon::Group, group.octets()),
        IpAddr::V6(group) => attribute(Daemon::Group6, group.octets()),
    }));
    let port = daemon.port;
    attributes.extend(port.map(|it| attribute(Daemon::Port, it.to_ne_bytes())));
    attributes.extend(daemon.ttl.map(|it| attribute(Daemon::Ttl, [it])));
    let daemon = nest(Attribute::Daemon, &attributes);
    message(Command::NewDaemon, vec![daemon])
}

/// Stops the sync daemon of this role.
pub(crate) fn stop_sync(role: SyncRole) -> Request {
    let state = attribute(Daemon::State, state(role).to_ne_bytes());
    let daemon = nest(Attribute::Daemon, &[state]);
    message(Command::DelDaemon, vec![daemon])
}

/// What tells a virtual server from others.
fn identity(address: VirtualAddress) -> Vec<Nlattr<Service, Buffer>> {
    let family = attribute(Service::Family, number(address.family()).to_ne_bytes());
    match address {
        VirtualAddress::FirewallMark(_, mark) => {
            vec![family, attribute(Service::Mark, mark.get().to_ne_bytes())]
        }
        VirtualAddress::Socket(protocol, socket) => {
            let protocol = match protocol {
                Protocol::Tcp => protocol::TCP,
                Protocol::Udp => protocol::UDP,
                Protocol::Sctp => protocol::SCTP,
            };
            vec![
                family,
                attribute(Service::Protocol, protocol.to_ne_bytes()),
                attribute(Service::Address, sixteen(socket.ip())),
                attribute(Service::Port, socket.port().to_be_bytes()),
            ]
        }
    }
}

/// What tells a real server from others behind the same virtual server.
fn place(real: SocketAddr) -> Vec<Nlattr<Dest, Buffer>> {
    let family = number(Family::of(real.ip()));
    vec![
        attribute(Dest::Address, sixteen(real.ip())),
        attribute(Dest::Port, real.port().to_be_bytes()),
        attribute(Dest::Family, family.to_ne_bytes()),
    ]
}

/// The number of a forwarding method, and the tunnel if it is one.
fn method(forwarding: Forwarding) -> Result<(u8, Option<Tunnel>), WireError> {
    match forwarding {
        Forwarding::Masquerade => Ok((forwarding::MASQUERADE, None)),
        Forwarding::LocalNode => Ok((forwarding::LOCAL_NODE, None)),
        Forwarding::Tunnel(inside) => Ok((forwarding::TUNNEL, Some(inside))),
        Forwarding::DirectRouting => Ok((forwarding::DIRECT_ROUTING, None)),
        Forwarding::Bypass => Ok((forwarding::BYPASS, None)),
        Forwarding::Unknown { method, .. } => Err(WireError::Unknown {
            what: "a forwarding method",
            number: u32::from(method),
        }),
    }
}

fn tunnel_attributes(inside: Tunnel) -> Result<Vec<Nlattr<Dest, Buffer>>, WireError> {
    let (kind, port, checksum) = match inside {
        // No further attributes: kernels before 5.2 know this kind alone.
        Tunnel::Ipip => return Ok(Vec::new()),
        Tunnel::Gue { port, checksum } => (tunnel::GUE, port, checksum),
        Tunnel::Gre { checksum } => (tunnel::GRE, 0, checksum),
    };
    let flags = match checksum {
        Checksum::None => 0,
        Checksum::Full => tunnel::CHECKSUM,
        Checksum::Remote if kind == tunnel::GUE => tunnel::REMOTE_CHECKSUM,
        Checksum::Remote => {
            return Err(WireError::Unknown {
                what: "the checksum of a tunnel by GRE",
                number: u32::from(tunnel::REMOTE_CHECKSUM),
            });
        }
    };
    Ok(vec![
        attribute(Dest::TunnelKind, [kind]),
        attribute(Dest::TunnelPort, port.to_be_bytes()),
        attribute(Dest::TunnelFlags, flags.to_ne_bytes()),
    ])
}

/// IPv4: a mask in network order. IPv6: the length of the prefix.
fn netmask(family: Family, persistence: Option<Persistence>) -> Result<[u8; 4], WireError> {
    let prefix = persistence.map_or_else(|| family.bits(), |it| it.prefix);
    if prefix > family.bits() {
        return Err(WireError::Unknown {
            what: "the prefix of a persistence",
            number: u32::from(prefix),
        });
    }
    let rest = u32::from(family.bits() - prefix);
    Ok(match family {
        Family::V4 => u32::MAX.checked_shl(rest).unwrap_or(0).to_be_bytes(),
        Family::V6 => u32::from(prefix).to_ne_bytes(),
    })
}

fn number(family: Family) -> u16 {
    match family {
        Family::V4 => family::V4,
        Family::V6 => family::V6,
    }
}

fn state(role: SyncRole) -> u32 {
    match role {
        SyncRole::Master => role::MASTER,
        SyncRole::Backup => role::BACKUP,
    }
}

/// An address as the kernel's union of both families.
fn sixteen(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

fn text<T: NlAttrType + Size>(kind: T, text: &str) -> Nlattr<T, Buffer> {
    attribute(kind, [text.as_bytes(), &[0]].concat())
}

fn attribute<T: NlAttrType + Size>(kind: T, payload: impl Into<Vec<u8>>) -> Nlattr<T, Buffer> {
    let kind = AttrTypeBuilder::default().nla_type(kind).build();
    NlattrBuilder::default()
        .nla_type(kind.expect("the kind is given"))
        .nla_payload(Buffer::from(payload.into()))
        .build()
        .expect("kind and payload are given, and bytes write as they are")
}

fn nest<T: NlAttrType + Size>(
    kind: Attribute,
    attributes: &[Nlattr<T, Buffer>],
) -> Nlattr<Attribute, Buffer> {
    attributes.iter().fold(attribute(kind, []), |nest, inner| {
        nest.nest(inner).expect("bytes write as they are")
    })
}

fn message<C: Cmd + Size + ToBytes, T: NlAttrType + Size + ToBytes>(
    command: C,
    attributes: Vec<Nlattr<T, Buffer>>,
) -> Request {
    let message = GenlmsghdrBuilder::default()
        .cmd(command)
        .version(VERSION)
        .attrs(attributes.into_iter().collect::<GenlBuffer<_, _>>())
        .build()
        .expect("command, version and attributes are given");
    let mut bytes = Cursor::new(Vec::with_capacity(message.padded_size()));
    message
        .to_bytes(&mut bytes)
        .expect("bytes write as they are");
    bytes.into_inner()
}
