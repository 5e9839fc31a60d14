//! What to change so that the kernel's table becomes the desired one.
//!
//! Pure: two tables in, changes out, as few as will do. Real servers are added
//! before others are removed, so that a virtual server is never without one in
//! between. Virtual servers that are not ours are not touched.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::model::{RealServer, Table, VirtualAddress, VirtualServer};

/// One change of the kernel's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A virtual server, still without real servers, with this scheduler.
    AddVirtual(VirtualAddress, String),
    /// Another scheduler for a virtual server; connections stay.
    SetScheduler(VirtualAddress, String),
    /// A real server more.
    AddReal(VirtualAddress, SocketAddr, RealServer),
    /// Another weight or forwarding method for a real server.
    SetReal(VirtualAddress, SocketAddr, RealServer),
    /// A real server less.
    RemoveReal(VirtualAddress, SocketAddr),
    /// A virtual server less, with all that is behind it.
    RemoveVirtual(VirtualAddress),
}

/// The changes that lead from `actual` to `desired`. Of `actual`, only what is in
/// `ours` may be removed.
pub fn plan(desired: &Table, actual: &Table, ours: &BTreeSet<VirtualAddress>) -> Vec<Change> {
    let mut changes = Vec::new();
    for (address, server) in desired {
        match actual.get(address) {
            Some(present) => adjust(*address, server, present, &mut changes),
            None => {
                let scheduler = server.scheduler.clone();
                changes.push(Change::AddVirtual(*address, scheduler));
                let reals = server.real_servers.iter();
                changes.extend(reals.map(|(real, it)| Change::AddReal(*address, *real, *it)));
            }
        }
    }
    let gone = actual
        .keys()
        .filter(|address| ours.contains(address) && !desired.contains_key(address));
    changes.extend(gone.map(|address| Change::RemoveVirtual(*address)));
    changes
}

fn adjust(
    address: VirtualAddress,
    desired: &VirtualServer,
    actual: &VirtualServer,
    changes: &mut Vec<Change>,
) {
    if desired.scheduler != actual.scheduler {
        changes.push(Change::SetScheduler(address, desired.scheduler.clone()));
    }
    for (real, wanted) in &desired.real_servers {
        match actual.real_servers.get(real) {
            None => changes.push(Change::AddReal(address, *real, *wanted)),
            Some(present) if present != wanted => {
                changes.push(Change::SetReal(address, *real, *wanted));
            }
            Some(_) => {}
        }
    }
    let gone = actual
        .real_servers
        .keys()
        .filter(|real| !desired.real_servers.contains_key(real));
    changes.extend(gone.map(|real| Change::RemoveReal(address, *real)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Forwarding, Protocol};

    fn address(port: u16) -> VirtualAddress {
        VirtualAddress::Socket(Protocol::Tcp, ([192, 0, 2, 1], port).into())
    }

    fn server(reals: &[(u8, u32)]) -> VirtualServer {
        let real = |(host, weight): &(u8, u32)| {
            let real = RealServer {
                forwarding: Forwarding::DirectRouting,
                weight: *weight,
            };
            (([10, 0, 0, *host], 80).into(), real)
        };
        VirtualServer {
            scheduler: "wlc".to_owned(),
            real_servers: reals.iter().map(real).collect(),
        }
    }

    /// What the kernel would hold after `changes`.
    fn apply(mut table: Table, changes: &[Change]) -> Table {
        for change in changes.iter().cloned() {
            match change {
                Change::AddVirtual(address, scheduler) => {
                    let empty = VirtualServer {
                        scheduler,
                        ..server(&[])
                    };
                    assert!(table.insert(address, empty).is_none());
                }
                Change::SetScheduler(address, scheduler) => {
                    table.get_mut(&address).unwrap().scheduler = scheduler;
                }
                Change::AddReal(address, real, it) | Change::SetReal(address, real, it) => {
                    let reals = &mut table.get_mut(&address).unwrap().real_servers;
                    reals.insert(real, it);
                }
                Change::RemoveReal(address, real) => {
                    let reals = &mut table.get_mut(&address).unwrap().real_servers;
                    assert!(reals.remove(&real).is_some() && !reals.is_empty());
                }
                Change::RemoveVirtual(address) => assert!(table.remove(&address).is_some()),
            }
        }
        table
    }

    #[test]
    fn a_plan_leads_to_what_is_desired_and_then_rests() {
        let actual = Table::from([
            (address(80), server(&[(1, 1), (2, 1)])),
            (address(81), server(&[(1, 1)])),
        ]);
        let desired = Table::from([
            (address(80), server(&[(2, 0), (3, 1)])),
            (address(443), server(&[(1, 1)])),
        ]);
        let ours = BTreeSet::from([address(80), address(81), address(443)]);
        let changes = plan(&desired, &actual, &ours);
        assert_eq!(changes.len(), 6);
        let after = apply(actual, &changes);
        assert_eq!(after, desired);
        assert!(plan(&desired, &after, &ours).is_empty());
    }

    #[test]
    fn what_is_not_ours_stays() {
        let actual = Table::from([(address(25), server(&[(9, 1)]))]);
        assert!(plan(&Table::new(), &actual, &BTreeSet::new()).is_empty());
    }
}
