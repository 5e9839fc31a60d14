//! Which mark leads to which node.
//!
//! A node's mark comes out of its address, so that it is the same after a
//! restart; where two addresses come to the same one, the later takes the next
//! that is free. A mark stays its node's as long as the node stays.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use super::{Inputs, is_complete};
use crate::health::Marks;
use crate::model::{Family, Forwarding, Table, VirtualAddress};

/// The marks for nodes. Those above, up to 0x7d1effff, are for trials.
pub const MARKS: RangeInclusive<u32> = 0x7d1e_0000..=0x7d1e_ffef;

/// The mark of each node that can be asked through a virtual address. Nodes of
/// before stay until every source has answered.
pub(super) fn allot(inputs: &Inputs<'_>, last: &Marks) -> Marks {
    let settings = inputs.settings;
    let check = &settings.check;
    // Otherwise a node need not have the virtual address.
    let is_direct = settings.forwarding == Forwarding::DirectRouting;
    if check.kind.is_none() || !check.through_vip || !is_direct {
        return Marks::new();
    }
    let is_wanted = |node: &IpAddr| {
        let is_there = inputs.roster.nodes.contains_key(node) || !is_complete(inputs.roster);
        is_there && can_be_asked(inputs, *node)
    };
    let kept = last.iter().filter(|(node, _)| is_wanted(node));
    let mut marks: Marks = kept.map(|(node, mark)| (*node, *mark)).collect();
    let mut taken: BTreeSet<_> = marks.values().copied().collect();
    for node in inputs.roster.nodes.keys().filter(|it| is_wanted(it)) {
        if marks.contains_key(node) {
            continue;
        }
        // More nodes than marks: those without are asked at their own address only.
        if let Some(mark) = free(*node, &taken) {
            taken.insert(mark);
            marks.insert(*node, mark);
        }
    }
    marks
}

/// Is there a virtual address of its family, and is it not one itself?
fn can_be_asked(inputs: &Inputs<'_>, node: IpAddr) -> bool {
    let vips = &inputs.settings.vips;
    let family = Family::of(node);
    vips.iter().any(|vip| Family::of(vip.address) == family)
        && !vips.iter().any(|vip| vip.address == node)
}

/// The first mark from the address's own on that nobody has.
fn free(node: IpAddr, taken: &BTreeSet<NonZeroU32>) -> Option<NonZeroU32> {
    let count = MARKS.end() - MARKS.start() + 1;
    let first = hash(node) % count;
    let numbers = (0..count).map(|step| MARKS.start() + (first + step) % count);
    let mut marks = numbers.filter_map(NonZeroU32::new);
    marks.find(|mark| !taken.contains(mark))
}

/// FNV-1a: the same on every machine and in every version.
fn hash(node: IpAddr) -> u32 {
    let mix = |sum: u32, byte: &u8| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let start = 0x811c_9dc5;
    match node {
        IpAddr::V4(it) => it.octets().iter().fold(start, mix),
        IpAddr::V6(it) => it.octets().iter().fold(start, mix),
    }
}

/// The marks of a table that another director left.
pub fn adopted(table: &Table) -> Marks {
    let private = table.iter().filter_map(|(address, server)| {
        let VirtualAddress::FirewallMark(_, mark) = address else {
            return None;
        };
        let mut reals = server.real_servers.keys();
        let node = reals.next()?.ip();
        let is_ours = MARKS.contains(&mark.get()) && reals.next().is_none();
        is_ours.then_some((node, *mark))
    });
    private.collect()
}
