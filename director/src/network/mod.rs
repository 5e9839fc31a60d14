//! This machine's links and addresses, as rtnetlink tells of them.
//!
//! [`Links`] changes them, [`Snapshot`] says what there is, kept current by the
//! kernel's messages and read again whole when one was lost. Nobody else in the
//! director speaks rtnetlink or writes the kernel's settings (`sysctl`).

use std::net::IpAddr;

use crate::model::KernelName;
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
}
