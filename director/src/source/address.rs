//! Which addresses can be a node's, and which are this machine's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::{Settings, Vip};
use crate::model::Family;
use crate::network::{Interface, Snapshot};

/// Why this can't be a node's address, if it can't.
pub(super) fn refusal(address: IpAddr, vips: &[Vip]) -> Option<&'static str> {
    let is_broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if vips.iter().any(|vip| vip.address == address) {
        Some("is a virtual address")
    } else if address.is_unspecified() || address.is_multicast() || is_broadcast {
        Some("is not one machine's")
    } else if address.is_loopback() {
        Some("leads to the machine itself")
    } else if is_link_local(address) {
        Some("is link-local, which the kernel's table does not take")
    } else {
        None
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// This machine on the clients' network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Own {
    /// The interface's number.
    pub(super) index: u32,
    /// Its address, if there are virtual addresses of the family.
    pub(super) v4: Option<Ipv4Addr>,
    /// The same.
    pub(super) v6: Option<Ipv6Addr>,
}

impl Own {
    /// As the settings and the links say, if there is such an interface.
    pub(super) fn find(settings: &Settings, network: &Snapshot) -> Option<Self> {
        let interface = match &settings.interface {
            Some(name) => network.named(name)?,
            None => {
                let first = settings.vips.first()?;
                let mut all = network.interfaces.iter();
                all.find(|it| !it.is_loopback && !it.is_dummy && reaches(it, first.address))?
            }
        };
        let address = |family| address_of(interface, settings, family);
        Some(Self {
            index: interface.index,
            v4: match address(Family::V4) {
                Some(IpAddr::V4(address)) => Some(address),
                _ => None,
            },
            v6: match address(Family::V6) {
                Some(IpAddr::V6(address)) => Some(address),
                _ => None,
            },
        })
    }
}

/// Is the address in a network of the interface's? Having the address itself
/// is not enough.
fn reaches(interface: &Interface, address: IpAddr) -> bool {
    let mut own = interface.addresses.iter();
    own.any(|it| it.address != address && shares(it.address, it.prefix, address))
}

/// The node's address: one that shares a virtual address's network, or else
/// the first one.
fn address_of(interface: &Interface, settings: &Settings, family: Family) -> Option<IpAddr> {
    let mut vips = settings.vips_of(family).peekable();
    vips.peek()?;
    let vips: Vec<IpAddr> = vips.map(|vip| vip.address).collect();
    let mut usable = interface.addresses.iter().filter(|it| {
        let is_node = refusal(it.address, &settings.vips).is_none();
        is_node && !it.is_tentative && Family::of(it.address) == family
    });
    let first = usable.clone().next();
    let near = usable.find(|it| {
        let mut vips = vips.iter();
        vips.any(|vip| shares(it.address, it.prefix, *vip))
    });
    near.or(first).map(|it| it.address)
}

/// Are the first `prefix` bits of both the same?
fn shares(one: IpAddr, prefix: u8, other: IpAddr) -> bool {
    let (differing, width) = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => ((one.to_bits() ^ other.to_bits()).into(), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits(), 128),
        _ => return false,
    };
    let host = u32::from(u8::saturating_sub(width, prefix));
    u128::checked_shr(differing, host).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_are_compared_by_their_prefix() {
        for (one, prefix, other, expected) in [
            ("192.0.2.1", 24, "192.0.2.200", true),
            ("192.0.2.1", 25, "192.0.2.200", false),
            ("192.0.2.1", 32, "192.0.2.1", true),
            ("192.0.2.1", 0, "10.0.0.1", true),
            ("192.0.2.1", 99, "192.0.2.0", false),
            ("2001:db8::1", 64, "2001:db8::ffff", true),
            ("2001:db8::1", 64, "2001:db8:0:1::1", false),
            ("2001:db8::1", 0, "fd00::1", true),
            ("192.0.2.1", 0, "2001:db8::1", false),
        ] {
            assert_eq!(
                shares(ip(one), prefix, ip(other)),
                expected,
                "{one}/{prefix} {other}"
            );
        }
    }

    #[test]
    fn nodes_have_addresses_of_one_machine() {
        let vips = [Vip {
            address: ip("192.0.2.10"),
            prefix: 24,
        }];
        for (address, is_usable) in [
            ("192.0.2.11", true),
            ("192.0.2.10", false),
            ("0.0.0.0", false),
            ("127.0.1.1", false),
            ("224.0.0.18", false),
            ("255.255.255.255", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("::1", false),
            ("fd00::1", true),
        ] {
            assert_eq!(
                refusal(ip(address), &vips).is_none(),
                is_usable,
                "{address}"
            );
        }
    }
}
