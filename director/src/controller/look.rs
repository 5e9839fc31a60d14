//! A cheap look whether somebody changed the table.
//!
//! The kernel has one list of all virtual servers, and one list of real servers
//! for each: a large table takes a request per virtual server to read. So a look
//! reads the first list whole, and the second ones in turn, some each time. What
//! changed meanwhile in the others, glances tell, one piece of the table each
//! time: those are read at once.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use super::Reconciler;
use crate::ipvs::{Glance, IpvsError, Kernel, RealEntry};
use crate::model::{Table, VirtualAddress, VirtualServer};
use crate::view::ActualServer;

/// In how many pieces the table is glanced at.
pub(super) const PIECES: usize = 8;

impl<K: Kernel> Reconciler<K> {
    /// The virtual servers that are not as desired, as far as can be told with
    /// reading the real servers of `limit` of them; those of the others are taken
    /// to be as desired still. For a table that [`Reconciler::reconcile`] has
    /// settled. What was read is in [`Reconciler::seen`].
    pub async fn look(
        &mut self,
        desired: &Table,
        limit: usize,
    ) -> Result<BTreeSet<VirtualAddress>, IpvsError> {
        let desired = &self.with_schedulers(desired).await?;
        let mut part = self.next_part(limit);
        // Taken before anything is read: what changes after it is seen by the next.
        let glance = match part.len() < self.seen.len() {
            true => self.kernel.glance(PIECES).await,
            false => None,
        };
        part.extend(self.suspects(glance.as_ref()));
        let read = self.read(desired, Some(&part)).await?;
        let before = std::mem::replace(&mut self.seen, read);
        let mut wrong: BTreeSet<_> = desired
            .keys()
            .filter(|address| !self.seen.contains_key(*address))
            .copied()
            .collect();
        let differing = self.seen.iter().filter(|(address, seen)| {
            let before = before.get(*address);
            let wanted = desired.get(*address);
            wanted.is_none_or(|wanted| !is_as(wanted, seen, before))
        });
        wrong.extend(differing.map(|(address, _)| *address));
        self.verify(&part, &wrong, glance.as_ref());
        Ok(wrong)
    }

    /// The virtual servers that may not be as they were when they were read. A
    /// kernel without glances has none: all are looked at in turn.
    fn suspects(&self, glance: Option<&Glance>) -> Vec<VirtualAddress> {
        let Some(glance) = glance else {
            return Vec::new();
        };
        let present = glance.iter().filter(|(it, _)| self.seen.contains_key(*it));
        let changed = present.filter(|(it, print)| self.verified.get(*it) != Some(*print));
        changed.map(|(it, _)| *it).collect()
    }

    /// Remembers how those look that were read and are as desired.
    fn verify(
        &mut self,
        part: &BTreeSet<VirtualAddress>,
        wrong: &BTreeSet<VirtualAddress>,
        glance: Option<&Glance>,
    ) {
        let Some(glance) = glance else {
            self.verified.clear();
            return;
        };
        self.verified
            .retain(|address, _| self.seen.contains_key(address));
        for address in part {
            match glance.get(address) {
                _ if wrong.contains(address) => {
                    self.verified.remove(address);
                }
                Some(print) => {
                    self.verified.insert(*address, *print);
                }
                // Not in this piece: as it looked before.
                None => {}
            }
        }
    }

    /// Are changes seen at a glance? Then the turn may be a slow one.
    pub(super) fn has_glances(&self) -> bool {
        !self.verified.is_empty()
    }

    /// The next virtual servers in turn.
    fn next_part(&mut self, limit: usize) -> BTreeSet<VirtualAddress> {
        let after = self.cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.seen.range((after, Bound::Unbounded));
        let first = self.seen.iter();
        let turn = rest.chain(first).map(|(address, _)| *address);
        let mut last = self.cursor;
        let part = turn.take(limit.min(self.seen.len()));
        let part = part.inspect(|it| last = Some(*it)).collect();
        self.cursor = last;
        part
    }
}

/// Real servers that were not read again are as they were: that was settled.
fn is_as(wanted: &VirtualServer, seen: &ActualServer, before: Option<&ActualServer>) -> bool {
    let is_wanted = |real: &RealEntry| wanted.real_servers.get(&real.address) == Some(&real.server);
    let is_old = before.is_some_and(|it| Arc::ptr_eq(&it.real_servers, &seen.real_servers));
    wanted.scheduling == seen.scheduling
        && wanted.real_servers.len() == seen.real_servers.len()
        && (is_old || seen.real_servers.iter().all(is_wanted))
}
