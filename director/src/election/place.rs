//! What this machine's links mean for the election. Pure.
//!
//! Owns which interface is the clients', which address a virtual router speaks
//! from, who can be a witness, and whether the virtual addresses are there. It
//! looks at values only; `arrange` draws the conclusions.

use std::net::IpAddr;

use crate::config::{Settings, Vip};
use crate::model::Family;
use crate::network::{Interface, Snapshot};
use crate::source::Roster;
use crate::vrrp::{self, HardwareAddress, OWNER, Preempt};

/// More witnesses than these are not remembered.
const WITNESSES: usize = 64;

/// The clients' interface: as configured, or the one whose network holds the
/// first virtual address.
pub(super) fn interface<'a>(settings: &Settings, snapshot: &'a Snapshot) -> Option<&'a Interface> {
    if let Some(name) = &settings.interface {
        return snapshot.named(name);
    }
    let first = settings.vips.first()?;
    let mut all = snapshot.interfaces.iter();
    all.find(|one| !one.is_loopback && !one.is_dummy && holds_network_of(settings, one, first))
}

fn holds_network_of(settings: &Settings, interface: &Interface, vip: &Vip) -> bool {
    let own = interface
        .addresses
        .iter()
        .filter(|one| !is_virtual(settings, one.address));
    let mut networks = own.map(|one| (one.address, one.prefix));
    networks.any(|(address, prefix)| is_in(vip.address, address, prefix))
}

fn is_virtual(settings: &Settings, address: IpAddr) -> bool {
    settings.vips.iter().any(|vip| vip.address == address)
}

/// Whether an address lies in the network of another one.
fn is_in(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let (bits, other, width) = match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(two)) => {
            (u128::from(one.to_bits()), u128::from(two.to_bits()), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(two)) => (one.to_bits(), two.to_bits(), 128),
        _ => return false,
    };
    let host = 32u32.max(width) - u32::from(prefix).min(width);
    let differing = bits ^ other;
    host >= 128 || differing >> host == 0
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// The address that a virtual router of this family speaks from: for IPv6 the
/// link-local one (RFC 9568 section 5.2.2), unless its peers are named otherwise.
pub(super) fn source(settings: &Settings, interface: &Interface, family: Family) -> Option<IpAddr> {
    let own = interface.addresses.iter().filter(|one| {
        Family::of(one.address) == family && !one.is_tentative && !is_virtual(settings, one.address)
    });
    let own: Vec<_> = own.collect();
    if family == Family::V4 {
        let vip = settings.vips_of(family).next();
        let near = |one: &&crate::network::InterfaceAddress| {
            vip.is_some_and(|vip| is_in(vip.address, one.address, one.prefix))
        };
        let found = own.iter().copied().find(near).or(own.first().copied());
        return found.map(|one| one.address);
    }
    let mut peers = settings.vrrp.peers.iter().filter(|peer| peer.is_ipv6());
    let local = peers.next().is_none_or(|peer| is_link_local(*peer));
    let mut found = own.iter().filter(|one| is_link_local(one.address) == local);
    found.next().map(|one| one.address)
}

/// Who can say that this machine is not alone: as configured, or the gateways,
/// the peers and the nodes that are neighbours on this interface.
pub(super) fn witnesses(
    settings: &Settings,
    interface: &Interface,
    snapshot: &Snapshot,
    roster: &Roster,
) -> Vec<IpAddr> {
    let named = settings.vrrp.witnesses.iter();
    let found = snapshot.gateways.iter();
    let found = found.chain(&settings.vrrp.peers).chain(roster.nodes.keys());
    let all: Vec<_> = if settings.vrrp.witnesses.is_empty() {
        found.copied().collect()
    } else {
        named.copied().collect()
    };
    let mut witnesses = Vec::new();
    for address in all {
        let is_new = !witnesses.contains(&address);
        if is_new && witnesses.len() < WITNESSES && is_neighbour(settings, interface, address) {
            witnesses.push(address);
        }
    }
    witnesses
}

fn is_neighbour(settings: &Settings, interface: &Interface, address: IpAddr) -> bool {
    let own = &interface.addresses;
    let is_own = own.iter().any(|one| one.address == address);
    let mut networks = own.iter().filter(|one| !is_virtual(settings, one.address));
    let near = networks.any(|one| is_in(address, one.address, one.prefix));
    near && !is_own && !is_virtual(settings, address)
}

/// How many of the addresses are on the interface as this program sets them.
pub(super) fn held(interface: &Interface, addresses: &[IpAddr]) -> usize {
    let is_there = |address: &&IpAddr| {
        let full = Family::of(**address).bits();
        let mut all = interface.addresses.iter();
        all.any(|one| one.address == **address && one.prefix == full)
    };
    addresses.iter().filter(is_there).count()
}

/// A virtual router's settings.
///
/// Without an election it is an owner's, which waits for nobody and yields to
/// nobody; its messages are not sent.
pub(super) fn router(
    settings: &Settings,
    hardware: HardwareAddress,
    source: IpAddr,
    witnesses: &[IpAddr],
) -> vrrp::Settings {
    let configured = &settings.vrrp;
    let family = Family::of(source);
    let addresses = settings.vips_of(family).map(|vip| vip.address);
    let mut router = vrrp::Settings::new(configured.vrid, source, hardware, addresses.collect());
    router.duplicate_check = configured.duplicate_check;
    router.refresh = configured.refresh;
    router.witness = false;
    if !configured.enabled {
        router.priority = OWNER;
        router.preempt = Preempt::Never;
        return router;
    }
    router.priority = configured.priority;
    router.interval = configured.interval;
    router.preempt = configured.preempt;
    router.version = configured.version;
    router.checksum = configured.checksum;
    let peers = configured.peers.iter();
    // One list can be given to all machines: a machine is no peer of its own.
    let is_peer = |peer: &&IpAddr| Family::of(**peer) == family && **peer != source;
    let peers = peers.filter(is_peer);
    router.peers = peers.copied().collect();
    // Where nobody could answer, silence would mean nothing.
    router.witness = configured.needs_witness && !witnesses.is_empty();
    router
}
