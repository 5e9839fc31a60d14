//! Why a change was made, for the journal.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::desired::{Desired, Duty, Serving};
use crate::journal::Journal;
use crate::model::VirtualAddress;
use crate::plan::Change;

/// With more changes at once than this, there is one entry for each virtual
/// server in the place of one for each change.
const SINGLY: usize = 64;

/// How many virtual servers have an entry of their own even then.
const SERVERS: usize = 32;

/// What is needed to say why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Causes<'a> {
    pub(super) desired: &'a Desired,
    pub(super) serving: Duty,
    /// Nothing else was desired than before: somebody changed the table.
    pub(super) is_drift: bool,
    pub(super) is_teardown: bool,
}

impl Causes<'_> {
    /// Writes down what was changed, and why.
    pub(super) fn record(&self, journal: &Journal, changes: &[Change]) {
        if changes.len() <= SINGLY {
            for change in changes {
                journal.record(
                    "table",
                    &change.address(),
                    change.to_string(),
                    self.of(change),
                );
            }
            return;
        }
        let mut counts = BTreeMap::<VirtualAddress, (usize, String)>::new();
        for change in changes {
            let count = counts.entry(change.address());
            count.or_insert_with(|| (0, self.of(change))).0 += 1;
        }
        for (address, (count, why)) in counts.iter().take(SERVERS) {
            journal.record("table", address, format!("{count} changes"), why.as_str());
        }
        if let Some(rest) = counts.len().checked_sub(SERVERS).filter(|it| *it > 0) {
            let decision = format!("{} changes in all", changes.len());
            journal.record("table", &format!("{rest} more"), decision, "as before");
        }
    }

    fn of(&self, change: &Change) -> String {
        if self.is_teardown {
            return "the operator takes everything out".to_owned();
        }
        if self.is_drift {
            return "somebody changed the table".to_owned();
        }
        let address = change.address();
        match change {
            Change::AddReal(_, real, _)
            | Change::SetReal(_, real, _)
            | Change::RemoveReal(_, real)
                if address.ip().is_some() =>
            {
                self.of_node(real.ip(), matches!(change, Change::RemoveReal(..)))
            }
            _ if address.ip().is_none() => Self::of_private(change),
            Change::RemoveVirtual(_) if self.serving.of(address.family()) == Serving::No => {
                "this director is a standby".to_owned()
            }
            Change::RemoveVirtual(_) => "it is not configured, and not registered".to_owned(),
            Change::AddVirtual(..) if self.serving.of(address.family()) == Serving::Yes => {
                "this director is to serve it".to_owned()
            }
            _ => "it is configured so".to_owned(),
        }
    }

    fn of_node(&self, node: IpAddr, is_removal: bool) -> String {
        match self.desired.standing.get(&node) {
            Some(standing) => standing.why.clone(),
            None if is_removal => "nobody names it any more".to_owned(),
            None => "it is registered".to_owned(),
        }
    }

    fn of_private(change: &Change) -> String {
        match change {
            Change::RemoveVirtual(_) | Change::RemoveReal(..) => {
                "the node that was checked by it is gone".to_owned()
            }
            _ => "a node is checked by it".to_owned(),
        }
    }
}
