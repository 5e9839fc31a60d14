//! Makes planned changes, one by one.
//!
//! The plan was made from a list that may have been torn or outdated. So what
//! is there already is set instead of added, what is gone already is removed,
//! and what is missing is added. And the order of the plan protects virtual
//! servers only as long as its changes succeed: once one fails, what would
//! leave a virtual server without real servers is held back.

use super::{Failure, Report};
use crate::ipvs::{IpvsError, Kernel, Refusal};
use crate::model::{Table, VirtualServer};
use crate::plan::Change;

/// Makes all changes that can be made. `table` is what the kernel held.
pub(super) async fn all(
    kernel: &impl Kernel,
    desired: &Table,
    mut table: Table,
    changes: Vec<Change>,
    report: &mut Report,
) -> Result<(), IpvsError> {
    for change in changes {
        if is_held_back(&change, desired, &table) {
            tracing::debug!(%change, "held back a change because another one failed");
            let error = None;
            report.failures.push(Failure { change, error });
            continue;
        }
        match make(kernel, &change, &table).await {
            Ok(()) => {
                tracing::debug!(%change, "changed the kernel's table");
                change.carry_out(&mut table);
                report.changes.push(change);
            }
            Err(error) if error.is_general() => return Err(error),
            Err(error) => {
                tracing::debug!(%change, %error, "could not change the kernel's table");
                let error = Some(error);
                report.failures.push(Failure { change, error });
            }
        }
    }
    Ok(())
}

/// After a failure: would the change leave a virtual server without real
/// servers that shall have some, or is there no virtual server to make it in?
fn is_held_back(change: &Change, desired: &Table, table: &Table) -> bool {
    let address = change.address();
    match change {
        Change::AddReal(..) => !table.contains_key(&address),
        _ => {
            let goal = desired.get(&address);
            goal.is_some_and(VirtualServer::is_serving) && change.strands(table)
        }
    }
}

/// Makes a change, or the one that comes to the same where the list was wrong.
async fn make(kernel: &impl Kernel, change: &Change, table: &Table) -> Result<(), IpvsError> {
    let Err(error) = try_once(kernel, change).await else {
        return Ok(());
    };
    let refusal = error.refusal();
    let is_missing = refusal.is_some_and(Refusal::is_missing);
    match change {
        Change::RemoveVirtual(_) | Change::RemoveReal(..) if is_missing => Ok(()),
        Change::AddVirtual(address, scheduling) if refusal == Some(&Refusal::Exists) => {
            kernel.set_virtual(*address, scheduling).await
        }
        Change::AddReal(address, real, server) if refusal == Some(&Refusal::Exists) => {
            kernel.set_real(*address, *real, server).await
        }
        Change::SetVirtual(address, scheduling) if is_missing => {
            kernel.add_virtual(*address, scheduling).await
        }
        Change::AddReal(address, real, server) | Change::SetReal(address, real, server)
            if is_missing =>
        {
            if refusal == Some(&Refusal::NoVirtual) {
                restore(kernel, change, table).await?;
            }
            kernel.add_real(*address, *real, server).await
        }
        _ => Err(error),
    }
}

async fn try_once(kernel: &impl Kernel, change: &Change) -> Result<(), IpvsError> {
    match change {
        Change::AddVirtual(address, scheduling) => kernel.add_virtual(*address, scheduling).await,
        Change::SetVirtual(address, scheduling) => kernel.set_virtual(*address, scheduling).await,
        Change::AddReal(address, real, it) => kernel.add_real(*address, *real, it).await,
        Change::SetReal(address, real, it) => kernel.set_real(*address, *real, it).await,
        Change::RemoveReal(address, real) => kernel.remove_real(*address, *real).await,
        Change::RemoveVirtual(address) => kernel.remove_virtual(*address).await,
    }
}

/// Adds a virtual server again that somebody removed meanwhile. Its other real
/// servers are found missing by the next pass.
async fn restore(kernel: &impl Kernel, change: &Change, table: &Table) -> Result<(), IpvsError> {
    match table.get(&change.address()) {
        Some(held) => kernel.add_virtual(change.address(), &held.scheduling).await,
        None => Ok(()),
    }
}
