//! This machine's links and addresses, as rtnetlink tells of them.
//!
//! [`Links`] changes them, [`Snapshot`] says what there is, kept current by the
//! kernel's messages and read again whole when one was lost. Nobody else in the
//! director speaks rtnetlink or writes the kernel's settings (`sysctl`).

mod choose;
mod connection;
mod error;
mod links;
mod monitor;
mod read;
pub mod sysctl;

pub use choose::ChoiceError;
pub use error::{Deed, NetworkError};
pub use links::{AddressUse, Links};

use std::net::{IpAddr, Ipv6Addr};

use crate::model::{Family, KernelName};
use crate::vrrp::HardwareAddress;

/// All links, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// In the kernel's order.
    pub interfaces: Vec<Interface>,
    /// The gateways of the default routes.
    pub gateways: Vec<IpAddr>,
}

/// A link and its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name.
    pub name: KernelName,
    /// Its hardware address, if it is an Ethernet one.
    pub hardware: Option<HardwareAddress>,
    /// Is it up, with a carrier?
    pub is_running: bool,
    /// Is it switched on?
    pub is_up: bool,
    /// The largest packet.
    pub mtu: u32,
    /// Is it `lo`?
    pub is_loopback: bool,
    /// Is it a dummy device?
    pub is_dummy: bool,
    /// Its addresses with the lengths of their prefixes, in the kernel's order.
    pub addresses: Vec<InterfaceAddress>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address.
    pub address: IpAddr,
    /// The length of the prefix.
    pub prefix: u8,
    /// Is it not yet to be used, or found to be somebody else's (IPv6)?
    pub is_tentative: bool,
}

impl Snapshot {
    /// The interface of this name.
    pub fn named(&self, name: &KernelName) -> Option<&Interface> {
        self.interfaces.iter().find(|it| it.name == *name)
    }

    /// The interface of this number.
    pub fn numbered(&self, index: u32) -> Option<&Interface> {
        self.interfaces.iter().find(|it| it.index == index)
    }
}

impl Interface {
    /// Does it hold this address, whatever the prefix?
    pub fn holds(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|it| it.address == address)
    }

    /// This machine's own address on it: the first of the family that is none of
    /// the virtual ones and, of IPv6, none that only this link knows.
    pub fn own_address(&self, family: Family, virtual_ones: &[IpAddr]) -> Option<IpAddr> {
        let own = |it: &&InterfaceAddress| {
            !it.is_tentative
                && Family::of(it.address) == family
                && !is_link_local(it.address)
                && !virtual_ones.contains(&it.address)
        };
        self.addresses.iter().find(own).map(|it| it.address)
    }

    /// The address that only this link knows, which VRRP for IPv6 speaks from
    /// (RFC 9568, 5.1.2.1).
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        self.addresses.iter().find_map(|it| match it.address {
            IpAddr::V6(address) if address.is_unicast_link_local() && !it.is_tentative => {
                Some(address)
            }
            _ => None,
        })
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
