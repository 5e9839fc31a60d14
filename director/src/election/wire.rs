//! The sockets of one interface.
//!
//! Owns raw sockets for VRRP and packet sockets for ARP and neighbour discovery,
//! and turns what comes in into [`Heard`]. Messages of VRRP leave from a socket
//! that is bound to the machine's own address, since the checksum covers it; such
//! a socket would not hear the group, so another one listens. Never blocks.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSliceMut, Read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::task::Poll;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    ControlMessageOwned, LinkAddr, MsgFlags, SockaddrIn6, bind, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::filter;
use crate::network::Interface;
use crate::vrrp::link::{Claim, claim};
use crate::vrrp::packet::{Datagram, Discard, GROUP_V4, GROUP_V6, HOP_LIMIT, PROTOCOL};
use crate::vrrp::{HardwareAddress, arp, ndp};

/// Longer than the longest message: 255 addresses of IPv6.
const LONGEST: usize = 8192;

/// So many are taken from one socket before the next one has its turn.
const BATCH: usize = 64;

/// The class of network control (RFC 4594 section 3.1).
const CONTROL: u32 = 0xc0;

/// Something that came in.
#[derive(Debug)]
pub(super) enum Heard {
    /// A message of VRRP, not read yet.
    Datagram {
        source: IpAddr,
        destination: IpAddr,
        hop_limit: u8,
        message: Vec<u8>,
    },
    /// What should have been one.
    Malformed(Discard),
    /// A neighbour that says what it holds.
    Claim(Claim),
}

/// The sockets of one interface, as it was when they were opened.
#[derive(Debug)]
pub(super) struct Wire {
    index: u32,
    hardware: HardwareAddress,
    sources: Vec<IpAddr>,
    channels: Vec<Channel>,
    arp: AsyncFd<Socket>,
    neighbours: AsyncFd<Socket>,
}

/// VRRP of one family.
#[derive(Debug)]
struct Channel {
    ipv6: bool,
    listener: AsyncFd<Socket>,
    sender: Socket,
}

impl Wire {
    /// Opens what is needed to speak from these addresses, one of each family;
    /// without any, only what moves addresses.
    pub(super) fn open(
        interface: &Interface,
        hardware: HardwareAddress,
        sources: Vec<IpAddr>,
    ) -> io::Result<Self> {
        let channels = sources
            .iter()
            .map(|source| Channel::open(interface, *source));
        Ok(Self {
            index: interface.index,
            hardware,
            channels: channels.collect::<io::Result<_>>()?,
            arp: packets(interface, arp::ETHER_TYPE, None)?,
            neighbours: packets(interface, ndp::ETHER_TYPE, Some(&filter::ADVERTISEMENTS))?,
            sources,
        })
    }

    /// Whether it is still that of this interface.
    pub(super) fn fits(&self, index: u32, hardware: HardwareAddress, sources: &[IpAddr]) -> bool {
        self.index == index && self.hardware == hardware && self.sources == sources
    }

    /// Waits until there is something to take.
    pub(super) async fn readable(&self) {
        let listeners = self.channels.iter().map(|channel| &channel.listener);
        let all: Vec<_> = listeners.chain([&self.arp, &self.neighbours]).collect();
        poll_fn(|context| {
            let mut is_ready = false;
            for socket in &all {
                if let Poll::Ready(Ok(mut guard)) = socket.poll_read_ready(context) {
                    // What waits is taken at once, until there is no more.
                    guard.clear_ready();
                    is_ready = true;
                }
            }
            if is_ready {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Takes what waits, a batch of each socket. Says whether there may be more.
    pub(super) fn take(&self, heard: &mut Vec<Heard>) -> bool {
        let mut is_more = false;
        for channel in &self.channels {
            is_more |= batch(|buffer| channel.take(buffer), heard);
        }
        for socket in [&self.arp, &self.neighbours] {
            is_more |= batch(|buffer| self.take_frame(socket.get_ref(), buffer), heard);
        }
        is_more
    }

    fn take_frame(&self, mut socket: &Socket, buffer: &mut [u8]) -> io::Result<Option<Heard>> {
        let length = socket.read(buffer)?;
        let frame = buffer.get(..length).unwrap_or_default();
        Ok(claim(frame, self.hardware).map(Heard::Claim))
    }

    /// Sends a message of VRRP from the own address of the destination's family.
    pub(super) fn send(&self, destination: IpAddr, message: &[u8]) -> io::Result<()> {
        let mut channels = self.channels.iter();
        let channel = channels
            .find(|channel| channel.ipv6 == destination.is_ipv6())
            .ok_or(ErrorKind::AddrNotAvailable)?;
        let address = scoped(destination, self.index);
        channel.sender.send_to(message, &address.into())?;
        Ok(())
    }

    /// Sends a frame as it is, about an address of this family.
    pub(super) fn send_frame(&self, ipv6: bool, frame: &[u8]) -> io::Result<()> {
        let socket = if ipv6 { &self.neighbours } else { &self.arp };
        socket.get_ref().send(frame)?;
        Ok(())
    }
}

impl Channel {
    fn open(interface: &Interface, source: IpAddr) -> io::Result<Self> {
        let ipv6 = source.is_ipv6();
        let listener = raw(interface, ipv6)?;
        if ipv6 {
            listener.join_multicast_v6(&GROUP_V6, interface.index)?;
            listener.set_recv_hoplimit_v6(true)?;
            setsockopt(&listener, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else {
            let on = InterfaceIndexOrAddress::Index(interface.index);
            listener.join_multicast_v4_n(&GROUP_V4, &on)?;
        }
        let sender = raw(interface, ipv6)?;
        sender.attach_filter(&filter::NOTHING)?;
        sender.bind(&scoped(source, interface.index).into())?;
        let hops = u32::from(HOP_LIMIT);
        if ipv6 {
            sender.set_unicast_hops_v6(hops)?;
            sender.set_multicast_hops_v6(hops)?;
            sender.set_multicast_loop_v6(false)?;
            sender.set_multicast_if_v6(interface.index)?;
            sender.set_tclass_v6(CONTROL)?;
        } else {
            sender.set_ttl_v4(hops)?;
            sender.set_multicast_ttl_v4(hops)?;
            sender.set_multicast_loop_v4(false)?;
            sender.set_tos_v4(CONTROL)?;
        }
        Ok(Self {
            ipv6,
            listener: watched(listener)?,
            sender,
        })
    }

    fn take(&self, buffer: &mut [u8]) -> io::Result<Option<Heard>> {
        let mut socket = self.listener.get_ref();
        if self.ipv6 {
            return take_ipv6(socket, buffer);
        }
        let length = socket.read(buffer)?;
        let bytes = buffer.get(..length).unwrap_or_default();
        Ok(Some(match Datagram::from_ipv4(bytes) {
            Ok(datagram) => Heard::Datagram {
                source: datagram.source,
                destination: datagram.destination,
                hop_limit: datagram.hop_limit,
                message: datagram.message.to_vec(),
            },
            Err(reason) => Heard::Malformed(reason),
        }))
    }
}

/// IPv6 keeps its header; what matters of it comes beside the message.
fn take_ipv6(socket: &Socket, buffer: &mut [u8]) -> io::Result<Option<Heard>> {
    let mut control = nix::cmsg_space!(i32, nix::libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let descriptor = socket.as_raw_fd();
    let received = recvmsg::<SockaddrIn6>(descriptor, &mut parts, Some(&mut control), flags)?;
    let (mut hop_limit, mut destination) = (None, None);
    for message in received.cmsgs()? {
        match message {
            ControlMessageOwned::Ipv6HopLimit(limit) => hop_limit = u8::try_from(limit).ok(),
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                destination = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr));
            }
            _ => {}
        }
    }
    let (source, length) = (received.address, received.bytes);
    let (Some(source), Some(destination), Some(hop_limit)) = (source, destination, hop_limit)
    else {
        return Ok(Some(Heard::Malformed(Discard::Header)));
    };
    Ok(Some(Heard::Datagram {
        source: source.ip().into(),
        destination: destination.into(),
        hop_limit,
        message: buffer.get(..length).unwrap_or_default().to_vec(),
    }))
}

/// Takes until nothing waits, an error comes, or the batch is full.
fn batch(
    mut take: impl FnMut(&mut [u8]) -> io::Result<Option<Heard>>,
    heard: &mut Vec<Heard>,
) -> bool {
    let mut buffer = [0; LONGEST];
    for _ in 0..BATCH {
        match take(&mut buffer) {
            Ok(one) => heard.extend(one),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // An interface that goes down says so here; its state comes by
            // another way.
            Err(_) => return false,
        }
    }
    true
}

fn scoped(address: IpAddr, index: u32) -> SocketAddr {
    match address {
        IpAddr::V4(_) => SocketAddr::new(address, 0),
        IpAddr::V6(address) => SocketAddrV6::new(address, 0, 0, index).into(),
    }
}

fn raw(interface: &Interface, ipv6: bool) -> io::Result<Socket> {
    let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    let protocol = Protocol::from(i32::from(PROTOCOL));
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(interface.name.as_str().as_bytes()))?;
    Ok(socket)
}

#[expect(
    deprecated,
    reason = "the successor is unsafe to call, and a socket that is never replaced needs no more"
)]
fn watched(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    AsyncFd::new(socket)
}

/// A packet socket for one type of frames of one interface.
fn packets(
    interface: &Interface,
    ether_type: u16,
    only: Option<&[SockFilter]>,
) -> io::Result<AsyncFd<Socket>> {
    let protocol = Protocol::from(i32::from(ether_type.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    // Until it is bound it hears every interface: nothing may wait by then.
    socket.attach_filter(&filter::NOTHING)?;
    while let Ok(1..) = (&socket).read(&mut [0; 64]) {}
    bind(socket.as_raw_fd(), &link_address(interface)?)?;
    match only {
        Some(only) => socket.attach_filter(only)?,
        None => socket.attach_filter(&[filter::ALL])?,
    }
    watched(socket)
}

/// The address to bind to. Its protocol is 0, by which the socket keeps its own.
fn link_address(interface: &Interface) -> io::Result<LinkAddr> {
    let all = getifaddrs()?;
    let links = all.filter(|one| one.interface_name == interface.name.as_str());
    let mut links = links.filter_map(|one| one.address?.as_link_addr().copied());
    let index = usize::try_from(interface.index).unwrap_or(usize::MAX);
    let link = links.find(|link| link.ifindex() == index);
    link.ok_or_else(|| Errno::ENODEV.into())
}

/// Whether this machine forwards IPv6 on the interface: it says so of itself.
pub(super) fn is_router(interface: &Interface) -> bool {
    let name = interface.name.as_str();
    let path = format!("/proc/sys/net/ipv6/conf/{name}/forwarding");
    std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "1")
}
