//! Which interface the clients are on.
//!
//! Pure: looks at a snapshot. The interface is told, or it is the one whose
//! network holds the virtual address; what stands against it is said in words.

use std::net::IpAddr;

use super::{Interface, Snapshot};
use crate::model::KernelName;

/// Why there is no interface for a virtual address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChoiceError {
    /// The one that was told does not exist.
    #[error("there is no interface {0}; there are: {1}")]
    Missing(KernelName, String),
    /// It is off, or its cable is out.
    #[error("the interface {0} is not running: it is switched off or has no carrier")]
    NotRunning(KernelName),
    /// The one that was told can't reach clients.
    #[error("the interface {0} is a loopback or dummy device: clients are on none of them")]
    Unfit(KernelName),
    /// The virtual address does not belong to the link.
    #[error(
        "the virtual address {0} lies outside of the networks of interface {1} ({2}); \
         all machines need an address in its network"
    )]
    Outside(IpAddr, KernelName, String),
    /// No interface is in its network.
    #[error(
        "no interface has an address in the network of the virtual address {0}; \
         name one with --interface, or give the length of its prefix (--vip ADDRESS/24)"
    )]
    None(IpAddr),
    /// More than one is.
    #[error("the virtual address {0} fits the interfaces {1}; choose one with --interface")]
    Several(IpAddr, String),
}

impl Snapshot {
    /// The interface for a virtual address, whose network is known by `prefix`
    /// or, where that is the full length, by the interface's own addresses.
    /// `told` is the one that is configured, if one is.
    ///
    /// # Errors
    /// When none fits, or several do.
    pub fn for_vip(
        &self,
        vip: IpAddr,
        prefix: u8,
        told: Option<&KernelName>,
    ) -> Result<&Interface, ChoiceError> {
        match told {
            Some(name) => self.told(vip, prefix, name),
            None => self.found(vip, prefix),
        }
    }

    fn told(&self, vip: IpAddr, prefix: u8, name: &KernelName) -> Result<&Interface, ChoiceError> {
        let Some(interface) = self.named(name) else {
            let all = names(self.interfaces.iter());
            return Err(ChoiceError::Missing(name.clone(), all));
        };
        if !interface.is_for_clients() {
            return Err(ChoiceError::Unfit(name.clone()));
        }
        if !interface.is_running {
            return Err(ChoiceError::NotRunning(name.clone()));
        }
        if !interface.is_in_network(vip, prefix) {
            let networks = interface.networks(vip);
            return Err(ChoiceError::Outside(vip, name.clone(), networks));
        }
        Ok(interface)
    }

    fn found(&self, vip: IpAddr, prefix: u8) -> Result<&Interface, ChoiceError> {
        let fits = |it: &&Interface| it.is_for_clients() && it.is_in_network(vip, prefix);
        let fitting: Vec<_> = self.interfaces.iter().filter(fits).collect();
        let running: Vec<_> = fitting.iter().copied().filter(|it| it.is_running).collect();
        match (running.as_slice(), fitting.first()) {
            ([one], _) => Ok(one),
            ([], Some(off)) => Err(ChoiceError::NotRunning(off.name.clone())),
            ([], None) => Err(ChoiceError::None(vip)),
            (several, _) => {
                let several = names(several.iter().copied());
                Err(ChoiceError::Several(vip, several))
            }
        }
    }
}

impl Interface {
    /// Is this address in the network of one of its own?
    pub fn reaches(&self, address: IpAddr) -> bool {
        let mut own = self.addresses.iter();
        own.any(|own| share_network(own.address, address, own.prefix))
    }

    fn is_for_clients(&self) -> bool {
        !self.is_loopback && !self.is_dummy
    }

    /// Has it an address, other than the virtual one, in the same network?
    fn is_in_network(&self, vip: IpAddr, prefix: u8) -> bool {
        self.addresses.iter().any(|own| {
            own.address != vip
                && (share_network(own.address, vip, own.prefix)
                    || (prefix > 0 && share_network(own.address, vip, prefix)))
        })
    }

    fn networks(&self, vip: IpAddr) -> String {
        let same = |address: IpAddr| address.is_ipv4() == vip.is_ipv4() && address != vip;
        let networks = self.addresses.iter().filter(|it| same(it.address));
        let networks: Vec<_> = networks
            .map(|it| format!("{}/{}", it.address, it.prefix))
            .collect();
        match networks.as_slice() {
            [] => "it has no address of that kind".to_owned(),
            networks => networks.join(", "),
        }
    }
}

fn names<'a>(interfaces: impl Iterator<Item = &'a Interface>) -> String {
    let names: Vec<_> = interfaces.map(|it| it.name.as_str()).collect();
    names.join(", ")
}

/// Do the first `prefix` bits of both agree?
fn share_network(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    let prefix = u32::from(prefix);
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let differing = u32::from(one) ^ u32::from(other);
            differing.leading_zeros() >= prefix
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let differing = u128::from(one) ^ u128::from(other);
            differing.leading_zeros() >= prefix
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::InterfaceAddress;
    use super::*;
    use crate::model::Family;

    fn name(text: &str) -> KernelName {
        KernelName::new(text).unwrap()
    }

    fn interface(index: u32, text: &str, addresses: &[&str]) -> Interface {
        let addresses = addresses.iter().map(|text| {
            let (address, prefix) = text.split_once('/').unwrap();
            InterfaceAddress {
                address: address.parse().unwrap(),
                prefix: prefix.parse().unwrap(),
                is_tentative: false,
            }
        });
        Interface {
            index,
            name: name(text),
            hardware: None,
            is_running: true,
            is_up: true,
            mtu: 1500,
            is_loopback: text == "lo",
            is_dummy: text == "tidegate0",
            addresses: addresses.collect(),
        }
    }

    fn snapshot() -> Snapshot {
        let mut off = interface(6, "eth2", &["10.2.0.1/16"]);
        off.is_running = false;
        Snapshot {
            interfaces: vec![
                interface(1, "lo", &["127.0.0.1/8", "::1/128"]),
                interface(2, "eth0", &["192.0.2.10/32", "192.0.2.7/24", "fd00::7/64"]),
                interface(3, "eth1", &["198.51.100.7/24"]),
                interface(4, "wlan0", &["198.51.100.8/24", "fe80::8/64"]),
                interface(5, "tidegate0", &["192.0.2.10/32", "203.0.113.1/32"]),
                off,
                interface(7, "cloud", &["172.31.0.5/32"]),
            ],
            gateways: Vec::new(),
        }
    }

    /// The virtual address with its prefix, the interface that is told, what comes.
    type Row = (
        &'static str,
        u8,
        Option<&'static str>,
        Result<&'static str, &'static str>,
    );

    const ROWS: &[Row] = &[
        ("192.0.2.10", 24, None, Ok("eth0")),
        ("192.0.2.10", 32, None, Ok("eth0")),
        ("fd00::10", 128, None, Ok("eth0")),
        ("172.31.0.9", 20, None, Ok("cloud")),
        (
            "172.31.0.9",
            32,
            None,
            Err("no interface has an address in"),
        ),
        (
            "203.0.113.1",
            32,
            None,
            Err("no interface has an address in"),
        ),
        ("fd01::10", 64, None, Err("no interface has an address in")),
        ("127.0.0.9", 8, None, Err("no interface has an address in")),
        (
            "198.51.100.10",
            24,
            None,
            Err("fits the interfaces eth1, wlan0"),
        ),
        ("198.51.100.10", 24, Some("wlan0"), Ok("wlan0")),
        ("10.2.0.10", 16, None, Err("eth2 is not running")),
        ("10.2.0.10", 16, Some("eth2"), Err("eth2 is not running")),
        (
            "192.0.2.10",
            24,
            Some("eth9"),
            Err("no interface eth9; there are: lo, eth0"),
        ),
        (
            "192.0.2.10",
            24,
            Some("lo"),
            Err("lo is a loopback or dummy"),
        ),
        (
            "192.0.2.10",
            24,
            Some("eth1"),
            Err("outside of the networks of interface eth1 (198.51.100.7/24)"),
        ),
        (
            "fd00::10",
            64,
            Some("eth1"),
            Err("it has no address of that kind"),
        ),
    ];

    #[test]
    fn the_interface_is_found_or_the_reason_said() {
        let snapshot = snapshot();
        for (vip, prefix, told, expected) in ROWS.iter().copied() {
            let told = told.map(name);
            let chosen = snapshot.for_vip(vip.parse().unwrap(), prefix, told.as_ref());
            match (chosen, expected) {
                (Ok(chosen), Ok(expected)) => assert_eq!(chosen.name.as_str(), expected, "{vip}"),
                (Err(error), Err(expected)) => {
                    let words = error.to_string();
                    assert!(words.contains(expected), "{vip}/{prefix}: {words}");
                }
                (chosen, _) => panic!("{vip}/{prefix}: {chosen:?}"),
            }
        }
    }

    #[test]
    fn own_addresses_are_none_of_the_virtual_ones() {
        let snapshot = snapshot();
        let eth0 = snapshot.named(&name("eth0")).unwrap();
        let vips = ["192.0.2.10".parse().unwrap()];
        let own = |family| eth0.own_address(family, &vips);
        assert_eq!(own(Family::V4), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(own(Family::V6), Some("fd00::7".parse().unwrap()));
        assert!(eth0.holds(vips[0]));
        let wlan0 = snapshot.numbered(4).unwrap();
        assert_eq!(wlan0.own_address(Family::V6, &[]), None);
        assert_eq!(wlan0.link_local(), Some("fe80::8".parse().unwrap()));
        assert_eq!(eth0.link_local(), None);
    }
}
