//! Changes of links and addresses.
//!
//! What is to be added and is there, or to be removed and is not, is fine: the
//! caller says how it should be, and may say it again. Waits for the kernel's
//! word; the snapshot follows by the kernel's message, a few milliseconds later.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};
use rtnetlink::packet_route::link::{LinkFlags, LinkMessage};
use rtnetlink::{AddressMessageBuilder, LinkDummy};
use tokio::sync::watch;

use super::connection::Connection;
use super::error::{Deed, NetworkError};
use super::{Interface, Snapshot, monitor, read};
use crate::model::KernelName;

/// For ever, in an address's lifetimes.
const EVER: u32 = u32::MAX;

/// What an address is added for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressUse {
    /// A virtual address that this machine answers for on the link, as master.
    /// An IPv6 one is not checked for duplicates (the election did) and marked
    /// deprecated, so that it is never chosen as the source of something else.
    Held,
    /// A virtual address that packets are only taken for. As above; an IPv4 one
    /// has the scope of this machine, which keeps it from being chosen too.
    Received,
}

/// Changes links and addresses of the network namespace it was opened in.
#[derive(Clone, Debug)]
pub struct Links {
    connection: Connection,
}

impl Links {
    /// Opens rtnetlink, reads all there is, and keeps the snapshot current until
    /// nobody holds its receiver. Needs a tokio runtime.
    ///
    /// # Errors
    /// When there is no rtnetlink here, or it does not answer.
    pub async fn open() -> Result<(Self, watch::Receiver<Arc<Snapshot>>), NetworkError> {
        let connection = Connection::open()?;
        // Its own: a change never waits for a long reading.
        let snapshot = monitor::start(Connection::open()?).await?;
        Ok((Self { connection }, snapshot))
    }

    /// Adds an address to a device.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn add_address(
        &self,
        index: u32,
        address: IpAddr,
        prefix: u8,
        purpose: AddressUse,
    ) -> Result<(), NetworkError> {
        let mut message = address_message(index, address, prefix);
        let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
        message.attributes.push(AddressAttribute::Flags(flags));
        match (address, purpose) {
            (IpAddr::V4(_), AddressUse::Held) => {}
            (IpAddr::V4(_), AddressUse::Received) => message.header.scope = AddressScope::Host,
            (IpAddr::V6(_), _) => message.attributes.push(deprecated()),
        }
        let message = RouteNetlinkMessage::NewAddress(message);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let deed = Deed::Add(address, index);
        let added = self.connection.change(deed, message, flags).await;
        settled(added, &[Errno::EEXIST])
    }

    /// Removes an address from a device.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_address(
        &self,
        index: u32,
        address: IpAddr,
        prefix: u8,
    ) -> Result<(), NetworkError> {
        let message = RouteNetlinkMessage::DelAddress(address_message(index, address, prefix));
        let deed = Deed::Remove(address, index);
        let removed = self.connection.change(deed, message, 0).await;
        match settled(removed, &[Errno::EADDRNOTAVAIL]) {
            Err(NetworkError::Gone(_)) => Ok(()),
            end => end,
        }
    }

    /// Sees to it that there is a dummy device of this name, switched on, and
    /// says its number.
    ///
    /// # Errors
    /// When there is another device of that name, or the kernel refuses.
    pub async fn ensure_dummy(&self, name: &KernelName) -> Result<u32, NetworkError> {
        if self.dummy(name).await?.is_none() {
            let message = RouteNetlinkMessage::NewLink(LinkDummy::new(name.as_str()).build());
            let flags = NLM_F_CREATE | NLM_F_EXCL;
            let deed = Deed::Make(name.clone());
            settled(
                self.connection.change(deed, message, flags).await,
                &[Errno::EEXIST],
            )?;
        }
        match self.dummy(name).await? {
            Some((index, true)) => Ok(index),
            Some((index, false)) => self.switch_on(index).await.map(|()| index),
            None => Err(NetworkError::Gone(Deed::Make(name.clone()))),
        }
    }

    /// Switches a device on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn switch_on(&self, index: u32) -> Result<(), NetworkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        let message = RouteNetlinkMessage::SetLink(message);
        let deed = Deed::SwitchOn(index);
        self.connection.change(deed, message, 0).await
    }

    /// Removes a device, with its addresses.
    ///
    /// # Errors
    /// When the kernel refuses: most devices can't be removed, dummies can.
    pub async fn remove_link(&self, index: u32) -> Result<(), NetworkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let message = RouteNetlinkMessage::DelLink(message);
        let deed = Deed::RemoveLink(index);
        match self.connection.change(deed, message, 0).await {
            Err(NetworkError::Gone(_)) => Ok(()),
            end => end,
        }
    }

    /// The links as they are right now, asked of the kernel: for who can't wait
    /// for the snapshot to follow.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub async fn interfaces(&self) -> Result<Vec<Interface>, NetworkError> {
        read::interfaces(&self.connection).await
    }

    /// The dummy device of this name: its number, and whether it is on.
    async fn dummy(&self, name: &KernelName) -> Result<Option<(u32, bool)>, NetworkError> {
        let interfaces = self.interfaces().await?;
        let found = interfaces.into_iter().find(|it| it.name == *name);
        match found {
            Some(it) if !it.is_dummy => Err(NetworkError::NotDummy(name.clone())),
            found => Ok(found.map(|it| (it.index, it.is_up))),
        }
    }
}

fn address_message(index: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    match address {
        IpAddr::V4(address) => {
            let builder = AddressMessageBuilder::<Ipv4Addr>::new().index(index);
            builder.address(address, prefix).build()
        }
        IpAddr::V6(address) => {
            let builder = AddressMessageBuilder::<Ipv6Addr>::new().index(index);
            builder.address(address, prefix).build()
        }
    }
}

/// There for ever, and never preferred.
fn deprecated() -> AddressAttribute {
    let mut times = CacheInfo::default();
    times.ifa_preferred = 0;
    times.ifa_valid = EVER;
    AddressAttribute::CacheInfo(times)
}

/// Takes these answers for success: it is as it should be.
fn settled(end: Result<(), NetworkError>, fine: &[Errno]) -> Result<(), NetworkError> {
    match end {
        Err(NetworkError::Refused { errno, .. }) if fine.contains(&errno) => Ok(()),
        end => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_there_is_can_be_read_by_anyone() {
        let (links, snapshot) = Links::open().await.unwrap();
        let lo = KernelName::new("lo").unwrap();
        let seen = snapshot.borrow().named(&lo).cloned().unwrap();
        assert!(seen.is_loopback && !seen.is_dummy, "{seen:?}");
        let asked = links.interfaces().await.unwrap();
        assert!(asked.contains(&seen));
        let refused = links.ensure_dummy(&lo).await;
        assert!(matches!(refused, Err(NetworkError::NotDummy(_))));
    }
}
