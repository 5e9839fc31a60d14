//! Which of this machine's addresses stands for "all addresses of the host".

use std::net::IpAddr;

use crate::config::{Settings, Vip};
use crate::model::{Family, KernelName};
use crate::network::{Interface, Snapshot};

/// How this machine's own address is found.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// The clients' interface, if it is configured.
    pub interface: Option<KernelName>,
    /// The virtual addresses: never this machine's own, and in its network.
    pub vips: Vec<Vip>,
}

impl Hosts {
    /// As configured.
    pub fn of(settings: &Settings) -> Self {
        Self {
            interface: settings.interface.clone(),
            vips: settings.vips.clone(),
        }
    }

    /// The first own address on the clients' interface; that is the one with an
    /// address in a virtual address's network if none is configured.
    pub(super) fn own(&self, snapshot: &Snapshot, family: Family) -> Option<IpAddr> {
        match &self.interface {
            Some(name) => self.first(snapshot.named(name)?, family),
            None => {
                let near = snapshot.interfaces.iter().filter(|it| self.is_near(it));
                near.filter_map(|it| self.first(it, family)).next()
            }
        }
    }

    fn first(&self, interface: &Interface, family: Family) -> Option<IpAddr> {
        let addresses = interface.addresses.iter().filter(|it| !it.is_tentative);
        let mut addresses = addresses.map(|it| it.address);
        addresses.find(|it| Family::of(*it) == family && self.is_own(*it))
    }

    fn is_own(&self, address: IpAddr) -> bool {
        let is_link_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        !is_link_local && !address.is_loopback() && !self.is_vip(address)
    }

    fn is_vip(&self, address: IpAddr) -> bool {
        self.vips.iter().any(|vip| vip.address == address)
    }

    fn is_near(&self, interface: &Interface) -> bool {
        let own = interface.addresses.iter();
        let mut own = own.filter(|it| !interface.is_loopback && self.is_own(it.address));
        own.any(|it| {
            let mut vips = self.vips.iter();
            vips.any(|vip| is_in(vip.address, it.address, it.prefix))
        })
    }
}

/// Do the first bits of two addresses agree?
fn is_in(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let prefix = u32::from(prefix);
    match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let differs = one.to_bits() ^ other.to_bits();
            differs
                .checked_shr(32_u32.saturating_sub(prefix))
                .unwrap_or(0)
                == 0
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let differs = one.to_bits() ^ other.to_bits();
            differs
                .checked_shr(128_u32.saturating_sub(prefix))
                .unwrap_or(0)
                == 0
        }
        _ => false,
    }
}
