//! Which addresses can be a node's, and which are this machine's own.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::{Settings, Vip};
use crate::model::Family;
use crate::network::Snapshot;

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
    /// Its addresses.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let v4 = self.v4.map(IpAddr::V4);
        v4.into_iter().chain(self.v6.map(IpAddr::V6))
    }

    /// As the settings and the links say, if there is such an interface now.
    pub(super) fn find(settings: &Settings, network: &Snapshot) -> Option<Self> {
        let first = settings.vips.first()?;
        let told = settings.interface.as_ref();
        let interface = network.for_vip(first.address, first.prefix, told).ok()?;
        let mut own = Self {
            index: interface.index,
            v4: None,
            v6: None,
        };
        let vips: Vec<IpAddr> = settings.vips.iter().map(|vip| vip.address).collect();
        let families: BTreeSet<bool> = vips.iter().map(IpAddr::is_ipv4).collect();
        for is_v4 in families {
            let family = if is_v4 { Family::V4 } else { Family::V6 };
            match interface.own_address(family, &vips) {
                Some(IpAddr::V4(address)) => own.v4 = Some(address),
                Some(IpAddr::V6(address)) => own.v6 = Some(address),
                None => {}
            }
        }
        Some(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
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
