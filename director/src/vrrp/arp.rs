//! ARP frames (RFC 826, RFC 5227): announcements, probes, and what others say.
//!
//! Owns the layout of ARP for IPv4 over Ethernet. It neither sends nor keeps
//! anything; the shell that owns the packet socket does. Frames from outside
//! are read totally.

use std::fmt;
use std::net::Ipv4Addr;

/// Ethernet's type for ARP.
pub const ETHER_TYPE: u16 = 0x0806;

/// An ARP frame: 14 bytes of Ethernet and 28 of ARP.
pub const FRAME: usize = 42;

const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HardwareAddress(pub [u8; 6]);

impl HardwareAddress {
    /// Everyone on the link.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Nobody: what is not known yet.
    pub const UNKNOWN: Self = Self([0; 6]);
}

impl fmt::Display for HardwareAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// What one ARP frame claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Whether it is a reply; else a request.
    pub reply: bool,
    /// The sender's hardware address.
    pub sender_hardware: HardwareAddress,
    /// The sender's address; unspecified in a probe.
    pub sender: Ipv4Addr,
    /// The hardware address spoken to.
    pub target_hardware: HardwareAddress,
    /// The address asked for, or spoken to.
    pub target: Ipv4Addr,
}

impl Arp {
    /// A gratuitous request: everyone who has the address in a cache corrects it.
    ///
    /// RFC 5227 section 3 prefers this form of announcement.
    pub fn announcement(hardware: HardwareAddress, address: Ipv4Addr) -> Self {
        Self {
            reply: false,
            sender_hardware: hardware,
            sender: address,
            target_hardware: HardwareAddress::UNKNOWN,
            target: address,
        }
    }

    /// A gratuitous reply, for those who take no correction from a request.
    ///
    /// RFC 5944 section 4.6: the target's hardware address is the one to store.
    pub fn announcement_reply(hardware: HardwareAddress, address: Ipv4Addr) -> Self {
        Self {
            reply: true,
            target_hardware: hardware,
            ..Self::announcement(hardware, address)
        }
    }

    /// Asks whether somebody holds the address, without touching any cache.
    pub fn probe(hardware: HardwareAddress, address: Ipv4Addr) -> Self {
        Self {
            sender: Ipv4Addr::UNSPECIFIED,
            ..Self::announcement(hardware, address)
        }
    }

    /// Asks a neighbour, as a witness, to answer to `sender`.
    pub fn question(hardware: HardwareAddress, sender: Ipv4Addr, target: Ipv4Addr) -> Self {
        Self {
            sender,
            ..Self::announcement(hardware, target)
        }
    }

    /// The frame, to everyone on the link.
    pub fn frame(&self) -> [u8; FRAME] {
        let [e1, e2] = ETHER_TYPE.to_be_bytes();
        let [o1, o2] = if self.reply { REPLY } else { REQUEST }.to_be_bytes();
        let parts: [&[u8]; 8] = [
            &HardwareAddress::BROADCAST.0,
            &self.sender_hardware.0,
            // Ethernet type; then Ethernet, IPv4, lengths 6 and 4, operation.
            &[e1, e2, 0, 1, 8, 0, 6, 4, o1, o2],
            &self.sender_hardware.0,
            &self.sender.octets(),
            &self.target_hardware.0,
            &self.target.octets(),
            &[],
        ];
        let mut frame = [0; FRAME];
        for (place, byte) in frame.iter_mut().zip(parts.into_iter().flatten()) {
            *place = *byte;
        }
        frame
    }

    /// Reads an Ethernet frame. `None` for everything that is not ARP for IPv4,
    /// or whose Ethernet sender differs from the one inside in being a group.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let bytes = frame.first_chunk::<FRAME>()?;
        let (ethernet, arp) = bytes.split_first_chunk::<14>()?;
        let (fixed, rest) = arp.split_first_chunk::<8>()?;
        let [.., t1, t2] = *ethernet;
        let [0, 1, 8, 0, 6, 4, o1, o2] = *fixed else {
            return None;
        };
        let reply = match u16::from_be_bytes([o1, o2]) {
            REQUEST => false,
            REPLY => true,
            _ => return None,
        };
        let (sender_hardware, rest) = rest.split_first_chunk::<6>()?;
        let (sender, rest) = rest.split_first_chunk::<4>()?;
        let (target_hardware, rest) = rest.split_first_chunk::<6>()?;
        let target = rest.first_chunk::<4>()?;
        let group = sender_hardware.first().is_some_and(|first| first & 1 == 1);
        let wanted = u16::from_be_bytes([t1, t2]) == ETHER_TYPE && !group;
        wanted.then_some(Self {
            reply,
            sender_hardware: HardwareAddress(*sender_hardware),
            sender: Ipv4Addr::from(*sender),
            target_hardware: HardwareAddress(*target_hardware),
            target: Ipv4Addr::from(*target),
        })
    }

    /// Whether the sender says that it holds `address`.
    ///
    /// A probe does not count: two backups that miss one master both ask, and
    /// the election between them is VRRP's.
    pub fn claims(&self, address: Ipv4Addr) -> bool {
        self.sender == address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARDWARE: HardwareAddress = HardwareAddress([0x02, 0, 0, 0, 0, 0x0a]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

    #[test]
    fn frames_have_the_golden_bytes() {
        let rows = [
            (
                Arp::announcement(HARDWARE, ADDRESS),
                "ffffffffffff02000000000a08060001080006040001\
                 02000000000ac000020a000000000000c000020a",
            ),
            (
                Arp::announcement_reply(HARDWARE, ADDRESS),
                "ffffffffffff02000000000a08060001080006040002\
                 02000000000ac000020a02000000000ac000020a",
            ),
            (
                Arp::probe(HARDWARE, ADDRESS),
                "ffffffffffff02000000000a08060001080006040001\
                 02000000000a00000000000000000000c000020a",
            ),
        ];
        for (arp, expected) in rows {
            let frame = arp.frame();
            let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected);
            assert_eq!(Arp::parse(&frame), Some(arp));
        }
    }

    #[test]
    fn every_prefix_and_every_flipped_byte_is_survived() {
        let frame = Arp::announcement(HARDWARE, ADDRESS).frame();
        for length in 0..frame.len() {
            assert_eq!(Arp::parse(&frame[..length]), None);
        }
        for at in 12..22 {
            let mut bent = frame;
            bent[at] ^= 0xff;
            assert_eq!(Arp::parse(&bent), None, "byte {at}");
        }
        let mut group = frame;
        group[22] |= 1;
        assert_eq!(Arp::parse(&group), None);
    }

    #[test]
    fn who_holds_the_address_claims_it_and_who_asks_does_not() {
        let other = Ipv4Addr::new(192, 0, 2, 77);
        assert!(Arp::announcement(HARDWARE, ADDRESS).claims(ADDRESS));
        assert!(!Arp::probe(HARDWARE, ADDRESS).claims(ADDRESS));
        assert!(!Arp::question(HARDWARE, other, ADDRESS).claims(ADDRESS));
        assert!(!Arp::announcement(HARDWARE, other).claims(ADDRESS));
    }
}
