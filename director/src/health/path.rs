//! From where this machine asks: its own addresses and the clients' interface.
//!
//! Pure. A probe must leave by one of our own addresses that is not a virtual
//! one: answers to the virtual address go to whoever holds it.

use std::net::IpAddr;

use crate::config::Vip;
use crate::model::{Family, KernelName};
use crate::network::{Interface, InterfaceAddress, Snapshot};

/// Is `address` in the network of `of` with this prefix?
fn contains(of: IpAddr, prefix: u8, address: IpAddr) -> bool {
    let bits = |address| match address {
        IpAddr::V4(it) => u128::from(it.to_bits()) << 96,
        IpAddr::V6(it) => it.to_bits(),
    };
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128)));
    Family::of(of) == Family::of(address) && (bits(of) ^ bits(address)) & mask.unwrap_or(0) == 0
}

/// Addresses that can be asked from.
fn usable<'a>(
    interface: &'a Interface,
    vips: &'a [Vip],
) -> impl Iterator<Item = &'a InterfaceAddress> {
    let is_virtual = |address| vips.iter().any(|vip| vip.address == address);
    let addresses = interface.addresses.iter();
    addresses.filter(move |it| !it.is_tentative && !is_virtual(it.address))
}

/// The interface whose network holds the first virtual address that any does.
pub(super) fn clients_interface(network: &Snapshot, vips: &[Vip]) -> Option<KernelName> {
    let holds = |interface: &&Interface, vip: &Vip| {
        let mut addresses = usable(interface, vips);
        !interface.is_dummy && addresses.any(|it| contains(it.address, it.prefix, vip.address))
    };
    let mut found = vips.iter().filter_map(|vip| {
        let mut interfaces = network.interfaces.iter();
        interfaces.find(|interface| holds(interface, vip))
    });
    found.next().map(|interface| interface.name.clone())
}

/// The own address to ask a node from: the node's own if it is this machine,
/// one in its network, or the clients' interface's.
pub(super) fn source(
    network: &Snapshot,
    vips: &[Vip],
    clients: Option<&KernelName>,
    node: IpAddr,
) -> Option<IpAddr> {
    let all = || {
        let interfaces = network.interfaces.iter();
        interfaces.flat_map(|it| usable(it, vips).map(move |address| (it, address)))
    };
    let rank = |(interface, own): &(&Interface, &InterfaceAddress)| {
        let is_clients = clients == Some(&interface.name);
        if own.address == node {
            (3, is_clients, own.prefix)
        } else if contains(own.address, own.prefix, node) {
            (2, is_clients, own.prefix)
        } else if is_clients
            && Family::of(own.address) == Family::of(node)
            && !is_link_local(own.address)
        {
            (1, true, 0)
        } else {
            (0, false, 0)
        }
    };
    let ranked = all().map(|it| (rank(&it), it.1.address));
    // Of equals the first: the kernel's order begins with the primary one.
    let best = ranked.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.filter(|(rank, _)| rank.0 > 0)
        .map(|(_, address)| address)
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(it) if it.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str, prefix: u8) -> InterfaceAddress {
        InterfaceAddress {
            address: text.parse().unwrap(),
            prefix,
            is_tentative: false,
        }
    }

    fn interface(name: &str, addresses: Vec<InterfaceAddress>) -> Interface {
        Interface {
            index: 1,
            name: KernelName::new(name).unwrap(),
            hardware: None,
            is_running: true,
            is_up: true,
            mtu: 1500,
            is_loopback: name == "lo",
            is_dummy: name == "tidegate0",
            addresses,
        }
    }

    fn network() -> Snapshot {
        let tentative = InterfaceAddress {
            is_tentative: true,
            ..address("2001:db8::66", 64)
        };
        Snapshot {
            interfaces: vec![
                interface("lo", vec![address("127.0.0.1", 8), address("::1", 128)]),
                interface("tidegate0", vec![address("192.0.2.10", 32)]),
                interface("wlan0", vec![address("198.51.100.7", 24)]),
                interface(
                    "eth0",
                    vec![
                        address("192.0.2.10", 24),
                        address("192.0.2.2", 24),
                        address("192.0.2.3", 24),
                        address("fe80::1", 64),
                        tentative,
                        address("2001:db8::2", 64),
                        address("2001:db8::10", 128),
                    ],
                ),
            ],
            gateways: Vec::new(),
        }
    }

    fn vips() -> Vec<Vip> {
        let vip = |text: &str, prefix| Vip {
            address: text.parse().unwrap(),
            prefix,
        };
        vec![vip("192.0.2.10", 32), vip("2001:db8::10", 128)]
    }

    #[test]
    fn it_asks_from_an_own_address_that_is_not_virtual() {
        let clients = clients_interface(&network(), &vips());
        assert_eq!(clients, KernelName::new("eth0").ok());
        let rows = [
            ("192.0.2.77", Some("192.0.2.2")),
            ("192.0.2.3", Some("192.0.2.3")),
            ("198.51.100.9", Some("198.51.100.7")),
            ("203.0.113.9", Some("192.0.2.2")),
            ("2001:db8::77", Some("2001:db8::2")),
            ("2001:db8:1::77", Some("2001:db8::2")),
            ("127.0.0.5", Some("127.0.0.1")),
        ];
        for (node, expected) in rows {
            let found = source(&network(), &vips(), clients.as_ref(), node.parse().unwrap());
            assert_eq!(found, expected.map(|it| it.parse().unwrap()), "{node}");
        }
        let none = source(&Snapshot::default(), &vips(), None, [192, 0, 2, 77].into());
        assert_eq!(none, None);
    }

    #[test]
    fn networks_have_edges() {
        let cases = [
            ("10.0.0.1", 8, "10.255.0.1", true),
            ("10.0.0.1", 8, "11.0.0.1", false),
            ("10.0.0.1", 32, "10.0.0.1", true),
            ("10.0.0.1", 32, "10.0.0.2", false),
            ("10.0.0.1", 0, "192.0.2.1", true),
            ("10.0.0.1", 0, "::1", false),
            ("::1", 0, "2001:db8::1", true),
            ("2001:db8::1", 128, "2001:db8::2", false),
        ];
        for (of, prefix, other, expected) in cases {
            let found = contains(of.parse().unwrap(), prefix, other.parse().unwrap());
            assert_eq!(found, expected, "{of}/{prefix} {other}");
        }
    }
}
