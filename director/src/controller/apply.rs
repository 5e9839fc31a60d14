//! Makes planned changes, as many together as the order allows.
//!
//! The plan was made from a list that may have been torn or outdated. So what
//! is there already is set instead of added, what is gone already is removed,
//! and what is missing is added. And the order of the plan protects virtual
//! servers only as long as its changes succeed: once one fails, what would
//! leave a virtual server without real servers is held back.

use std::collections::BTreeSet;

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
    let mut changes = changes.into_iter().peekable();
    let mut batch = Vec::new();
    while changes.peek().is_some() {
        let (mut touched, mut is_taking) = (BTreeSet::new(), None);
        while let Some(change) = changes.next_if(|it| {
            let takes = takes(it, &table);
            // What takes is judged by the table, so that is up to date by then.
            *is_taking.get_or_insert(takes) == takes && (!takes || touched.insert(it.address()))
        }) {
            if is_taking == Some(true) && is_held_back(&change, desired, &table) {
                hold_back(change, report);
            } else {
                batch.push(change);
            }
        }
        let answers = kernel.change_all(&batch).await;
        for (change, answer) in batch.drain(..).zip(answers) {
            settle(kernel, desired, &mut table, change, answer, report).await?;
        }
    }
    Ok(())
}

/// Is there less to be had of the table after this change?
fn takes(change: &Change, table: &Table) -> bool {
    match change {
        Change::AddVirtual(..) | Change::SetVirtual(..) | Change::AddReal(..) => false,
        Change::SetReal(address, real, wanted) => {
            let server = table.get(address);
            let present = server.and_then(|it| it.real_servers.get(real));
            wanted.weight == 0 || present.is_some_and(|it| wanted.weight < it.weight)
        }
        Change::RemoveReal(..) | Change::RemoveVirtual(_) => true,
    }
}

/// Notes what became of a change; one that failed because the list was wrong is
/// made in another way.
async fn settle(
    kernel: &impl Kernel,
    desired: &Table,
    table: &mut Table,
    change: Change,
    answer: Result<(), IpvsError>,
    report: &mut Report,
) -> Result<(), IpvsError> {
    let outcome = match answer {
        Err(error) if error.is_general() => return Err(error),
        Err(_) if is_held_back(&change, desired, table) => {
            hold_back(change, report);
            return Ok(());
        }
        Err(error) => mend(kernel, &change, error, table).await,
        Ok(()) => Ok(()),
    };
    match outcome {
        Ok(()) => {
            tracing::debug!(%change, "changed the kernel's table");
            change.carry_out(table);
            report.changes.push(change);
        }
        Err(error) if error.is_general() => return Err(error),
        Err(error) => {
            tracing::debug!(%change, %error, "could not change the kernel's table");
            let error = Some(error);
            report.failures.push(Failure { change, error });
        }
    }
    Ok(())
}

fn hold_back(change: Change, report: &mut Report) {
    tracing::debug!(%change, "held back a change because another one failed");
    let error = None;
    report.failures.push(Failure { change, error });
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

/// Makes the change that comes to the same where the list was wrong.
async fn mend(
    kernel: &impl Kernel,
    change: &Change,
    error: IpvsError,
    table: &Table,
) -> Result<(), IpvsError> {
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

/// Adds a virtual server again that somebody removed meanwhile. Its other real
/// servers are found missing by the next pass.
async fn restore(kernel: &impl Kernel, change: &Change, table: &Table) -> Result<(), IpvsError> {
    let Some(held) = table.get(&change.address()) else {
        return Ok(());
    };
    match kernel.add_virtual(change.address(), &held.scheduling).await {
        // Another change of the same batch has seen to it.
        Err(error) if error.refusal() == Some(&Refusal::Exists) => Ok(()),
        other => other,
    }
}
