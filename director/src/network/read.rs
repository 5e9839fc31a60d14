//! Reads links, addresses and default routes whole.
//!
//! Owns the way from rtnetlink's messages to [`Interface`]; what a message does
//! not say, or says in a way nobody here knows, is left out.

use std::net::IpAddr;

use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::connection::Connection;
use super::error::NetworkError;
use super::{Interface, InterfaceAddress};
use crate::model::KernelName;
use crate::vrrp::HardwareAddress;

/// All links with their addresses.
pub(super) async fn interfaces(connection: &Connection) -> Result<Vec<Interface>, NetworkError> {
    let mut request = LinkMessage::default();
    let brief = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    request.attributes.push(brief);
    let links = connection
        .read(RouteNetlinkMessage::GetLink(request))
        .await?;
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let addresses = connection.read(request).await?;
    Ok(joined(&links, &addresses))
}

/// The gateways of the default routes, each once.
pub(super) async fn gateways(connection: &Connection) -> Result<Vec<IpAddr>, NetworkError> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        let routes = connection
            .read(RouteNetlinkMessage::GetRoute(request))
            .await?;
        for gateway in routes.iter().filter_map(default_route).flat_map(hops) {
            if !found.contains(&gateway) {
                found.push(gateway);
            }
        }
    }
    Ok(found)
}

fn joined(links: &[RouteNetlinkMessage], addresses: &[RouteNetlinkMessage]) -> Vec<Interface> {
    let mut interfaces: Vec<_> = links.iter().filter_map(interface).collect();
    for message in addresses {
        let RouteNetlinkMessage::NewAddress(message) = message else {
            continue;
        };
        let holder = interfaces
            .iter_mut()
            .find(|it| it.index == message.header.index);
        if let (Some(holder), Some(address)) = (holder, address(message)) {
            // A reading that was disturbed may say one twice.
            if !holder.addresses.contains(&address) {
                holder.addresses.push(address);
            }
        }
    }
    interfaces
}

fn interface(message: &RouteNetlinkMessage) -> Option<Interface> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let flags = message.header.flags;
    let mut name = None;
    let mut hardware = None;
    let mut mtu = 0;
    let mut is_dummy = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = KernelName::new(text).ok(),
            LinkAttribute::Address(bytes) => hardware = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            LinkAttribute::Mtu(bytes) => mtu = *bytes,
            LinkAttribute::LinkInfo(infos) => {
                is_dummy = infos.contains(&LinkInfo::Kind(InfoKind::Dummy));
            }
            _ => {}
        }
    }
    let is_ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    Some(Interface {
        index: message.header.index,
        name: name?,
        hardware: hardware.filter(|_| is_ethernet).map(HardwareAddress),
        is_running: flags.contains(LinkFlags::Up | LinkFlags::Running),
        is_up: flags.contains(LinkFlags::Up),
        mtu,
        is_loopback: flags.contains(LinkFlags::Loopback),
        is_dummy,
        addresses: Vec::new(),
    })
}

fn address(message: &AddressMessage) -> Option<InterfaceAddress> {
    let mut local = None;
    let mut peer = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            _ => {}
        }
    }
    let unusable = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
    Some(InterfaceAddress {
        address: local.or(peer)?,
        prefix: message.header.prefix_len,
        is_tentative: message.header.flags.intersects(unusable),
    })
}

fn default_route(message: &RouteNetlinkMessage) -> Option<&RouteMessage> {
    let RouteNetlinkMessage::NewRoute(route) = message else {
        return None;
    };
    let header = &route.header;
    let is_default =
        header.destination_prefix_length == 0 && header.table == RouteHeader::RT_TABLE_MAIN;
    is_default.then_some(route)
}

/// The gateways of a route, one way or many.
fn hops(route: &RouteMessage) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::MultiPath(ways) => {
                let ways = ways.iter().flat_map(|way| &way.attributes);
                found.extend(ways.filter_map(gateway));
            }
            attribute => found.extend(gateway(attribute)),
        }
    }
    found
}

fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(address))
        | RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Gateway(RouteAddress::Inet6(address))
        | RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}
