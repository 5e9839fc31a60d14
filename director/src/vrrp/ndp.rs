//! Neighbour discovery frames (RFC 4861, RFC 4862): the IPv6 twin of `arp`.
//!
//! Owns the bytes of unsolicited neighbour advertisements and of solicitations
//! that ask whether an address is in use. It neither sends nor keeps anything.
//! Frames from outside are read totally, checksum included.

use std::net::{IpAddr, Ipv6Addr};

use super::arp::HardwareAddress;
use super::checksum::Sum;

/// Ethernet's type for IPv6.
pub const ETHER_TYPE: u16 = 0x86dd;

const ICMP: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const HOP_LIMIT: u8 = 255;
const ETHERNET: usize = 14;
const IP: usize = 40;
/// Type, code, checksum, flags, target address.
const FIXED: usize = 24;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The sender is a router.
const ROUTER: u8 = 0x80;
/// It answers a solicitation.
const SOLICITED: u8 = 0x40;
/// Caches shall take the new hardware address.
const OVERRIDE: u8 = 0x20;

/// What a neighbour said about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Who sent the frame.
    pub hardware: HardwareAddress,
    /// The sender's address; unspecified when it probes.
    pub source: Ipv6Addr,
    /// The address it is about.
    pub target: Ipv6Addr,
    /// Whether it is an advertisement; else a solicitation.
    pub advertisement: bool,
}

/// An unsolicited advertisement to all nodes: caches correct the address.
///
/// `router` is the R flag: whether this machine forwards IPv6.
pub fn announcement(hardware: HardwareAddress, address: Ipv6Addr, router: bool) -> Vec<u8> {
    let flags = OVERRIDE | if router { ROUTER } else { 0 };
    let mut body = message(ADVERTISEMENT, flags, address);
    // Option 2, one unit of eight bytes: the target's link-layer address.
    body.extend([2, 1]);
    body.extend(hardware.0);
    frame(hardware, address, ALL_NODES, body)
}

/// Asks whether somebody holds the address (RFC 4862 section 5.4.2).
pub fn probe(hardware: HardwareAddress, address: Ipv6Addr) -> Vec<u8> {
    let body = message(SOLICITATION, 0, address);
    frame(
        hardware,
        Ipv6Addr::UNSPECIFIED,
        solicited_node(address),
        body,
    )
}

/// Asks a neighbour, as a witness, to answer to `source`.
pub fn question(hardware: HardwareAddress, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let mut body = message(SOLICITATION, 0, target);
    // Option 1: the source's link-layer address, for the answer.
    body.extend([1, 1]);
    body.extend(hardware.0);
    frame(hardware, source, solicited_node(target), body)
}

/// The group that the holder of an address listens to (RFC 4291 section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let last = u16::from_be_bytes([b, c]);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), last)
}

impl Neighbour {
    /// Reads an Ethernet frame. `None` for everything that is not a valid
    /// neighbour solicitation or advertisement (RFC 4861 sections 7.1.1 and 7.1.2).
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (ethernet, packet) = frame.split_first_chunk::<ETHERNET>()?;
        let (header, payload) = packet.split_first_chunk::<IP>()?;
        let [_, _, _, _, _, _, h1, h2, h3, h4, h5, h6, t1, t2] = *ethernet;
        let [first, _, _, _, l1, l2, next, hop_limit, addresses @ ..] = *header;
        let body = payload.get(..usize::from(u16::from_be_bytes([l1, l2])))?;
        let (source, destination) = addresses.split_first_chunk::<16>()?;
        let source = Ipv6Addr::from(*source);
        let destination = Ipv6Addr::from(*destination.first_chunk::<16>()?);
        let ours = u16::from_be_bytes([t1, t2]) == ETHER_TYPE && first >> 4 == 6 && next == ICMP;
        if !ours || hop_limit != HOP_LIMIT || !sum(source, destination, body).is_whole() {
            return None;
        }
        let (fixed, options) = body.split_first_chunk::<FIXED>()?;
        let [kind, code, _, _, flags, _, _, _, target @ ..] = *fixed;
        let target = Ipv6Addr::from(target);
        let advertisement = kind == ADVERTISEMENT;
        let group = target.is_multicast() || h1 & 1 == 1;
        let solicits_group = flags & SOLICITED != 0 && destination.is_multicast();
        let valid = (advertisement && !solicits_group) || kind == SOLICITATION;
        (valid && code == 0 && !group && well_formed(options)).then_some(Self {
            hardware: HardwareAddress([h1, h2, h3, h4, h5, h6]),
            source,
            target,
            advertisement,
        })
    }

    /// Whether the sender says that it holds `address`.
    ///
    /// A probe does not count: two backups that miss one master both ask, and
    /// the election between them is VRRP's.
    pub fn claims(&self, address: Ipv6Addr) -> bool {
        self.advertisement && self.target == address
    }
}

/// Options come in units of eight bytes, and a length of zero is an error.
fn well_formed(mut options: &[u8]) -> bool {
    while let [_, units, ..] = *options {
        let rest = options.get(usize::from(units) * 8..);
        match rest {
            Some(rest) if units > 0 => options = rest,
            _ => return false,
        }
    }
    options.is_empty()
}

fn message(kind: u8, flags: u8, target: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    body.extend(target.octets());
    body
}

fn sum(source: Ipv6Addr, destination: Ipv6Addr, body: &[u8]) -> Sum {
    let (source, destination) = (IpAddr::V6(source), IpAddr::V6(destination));
    Sum::pseudo_header(source, destination, body.len(), ICMP).bytes(body)
}

/// The whole frame to a group, whose hardware address ends like the group's.
fn frame(
    hardware: HardwareAddress,
    source: Ipv6Addr,
    group: Ipv6Addr,
    mut body: Vec<u8>,
) -> Vec<u8> {
    let checksum = sum(source, group, &body).finish().to_be_bytes();
    if let Some(field) = body.get_mut(2..4) {
        field.copy_from_slice(&checksum);
    }
    let [.., a, b, c, d] = group.octets();
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut frame = Vec::with_capacity(ETHERNET + IP + body.len());
    frame.extend([0x33, 0x33, a, b, c, d]);
    frame.extend(hardware.0);
    frame.extend(ETHER_TYPE.to_be_bytes());
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length);
    frame.extend([ICMP, HOP_LIMIT]);
    frame.extend(source.octets());
    frame.extend(group.octets());
    frame.extend(body);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARDWARE: HardwareAddress = HardwareAddress([0x02, 0, 0, 0, 0, 0x0a]);

    fn address() -> Ipv6Addr {
        "fd00::1:10".parse().unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_announcement_has_the_golden_bytes() {
        let frame = announcement(HARDWARE, address(), false);
        assert_eq!(
            hex(&frame),
            "33330000000102000000000a86dd6000000000203aff\
             fd000000000000000000000000010010ff020000000000000000000000000001\
             88005a7220000000fd000000000000000000000000010010020102000000000a"
        );
    }

    #[test]
    fn the_probe_has_the_golden_bytes() {
        let frame = probe(HARDWARE, address());
        assert_eq!(
            hex(&frame),
            "3333ff01001002000000000a86dd6000000000183aff\
             00000000000000000000000000000000ff0200000000000000000001ff010010\
             87007d8500000000fd000000000000000000000000010010"
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let said = Neighbour::parse(&announcement(HARDWARE, address(), true)).unwrap();
        assert_eq!((said.hardware, said.target), (HARDWARE, address()));
        assert!(said.advertisement && said.claims(address()));
        let asks = Neighbour::parse(&probe(HARDWARE, address())).unwrap();
        assert!(!asks.advertisement && !asks.claims(address()));
        let source = "fd00::77".parse().unwrap();
        let question = Neighbour::parse(&question(HARDWARE, source, address())).unwrap();
        assert!(!question.claims(address()), "asking is not holding");
    }

    #[test]
    fn every_prefix_and_every_flipped_byte_is_survived() {
        let frame = announcement(HARDWARE, address(), false);
        for length in 0..frame.len() {
            assert_eq!(Neighbour::parse(&frame[..length]), None);
        }
        // Behind the Ethernet header only the traffic class, the flow label and
        // nothing else may change without notice.
        for at in (12..frame.len()).filter(|at| !(14..18).contains(at)) {
            let mut bent = frame.clone();
            bent[at] ^= 0x55;
            assert_eq!(Neighbour::parse(&bent), None, "byte {at}");
        }
    }

    #[test]
    fn options_without_a_length_are_refused() {
        assert!(well_formed(&[]));
        assert!(well_formed(&[2, 1, 0, 0, 0, 0, 0, 0]));
        for options in [
            &[2, 0, 0, 0, 0, 0, 0, 0][..],
            &[2, 1, 0],
            &[2],
            &[2, 255, 1],
        ] {
            assert!(!well_formed(options));
        }
    }
}
