//! What to change so that the kernel's table becomes the desired one.
//!
//! Pure: two tables in, changes out, as few as will do, each in place. Nothing
//! is ever flushed, and nothing is removed because a list lacks it. What gives
//! comes before what takes, so that a virtual server that has and shall have
//! real servers is never without one in between. What is not ours is not
//! touched: [`Ownership`] says what is. Called by `controller`.

mod ownership;

pub use crate::model::Change;
pub use ownership::Ownership;

use crate::model::{RealServer, Table, VirtualAddress, VirtualServer};

/// The changes that lead from `actual` to `desired`, in the order to make them:
/// new virtual servers, changes of those that stay, removals. Whatever is
/// desired is ours; of the rest, only what `ours` owns is removed.
pub fn plan(desired: &Table, actual: &Table, ours: &Ownership) -> Vec<Change> {
    let mut changes = Vec::new();
    for (address, server) in desired {
        if !actual.contains_key(address) {
            add(*address, server, &mut changes);
        }
    }
    for (address, server) in desired {
        if let Some(present) = actual.get(address) {
            adjust(*address, server, present, &mut changes);
        }
    }
    let gone = actual
        .keys()
        .filter(|address| ours.owns(address) && !desired.contains_key(address));
    changes.extend(gone.map(|address| Change::RemoveVirtual(*address)));
    changes
}

/// Real servers are added by address: schedulers that hash depend on the order,
/// and two directors shall come to the same.
fn add(address: VirtualAddress, server: &VirtualServer, changes: &mut Vec<Change>) {
    let scheduling = server.scheduling.clone();
    changes.push(Change::AddVirtual(address, scheduling));
    let reals = server.real_servers.iter();
    changes.extend(reals.map(|(real, it)| Change::AddReal(address, *real, *it)));
}

fn adjust(
    address: VirtualAddress,
    desired: &VirtualServer,
    actual: &VirtualServer,
    changes: &mut Vec<Change>,
) {
    if desired.scheduling != actual.scheduling {
        let scheduling = desired.scheduling.clone();
        changes.push(Change::SetVirtual(address, scheduling));
    }
    let mut lowered = Vec::new();
    for (real, wanted) in &desired.real_servers {
        match actual.real_servers.get(real) {
            None => changes.push(Change::AddReal(address, *real, *wanted)),
            Some(present) if present == wanted => {}
            Some(present) => {
                let change = Change::SetReal(address, *real, *wanted);
                let all = if takes(present, wanted) {
                    &mut lowered
                } else {
                    &mut *changes
                };
                all.push(change);
            }
        }
    }
    changes.extend(lowered);
    let gone = actual
        .real_servers
        .keys()
        .filter(|real| !desired.real_servers.contains_key(real));
    changes.extend(gone.map(|real| Change::RemoveReal(address, *real)));
}

/// Is there less to be had of a real server after this change?
fn takes(present: &RealServer, wanted: &RealServer) -> bool {
    wanted.weight < present.weight
}

#[cfg(test)]
mod tests;
