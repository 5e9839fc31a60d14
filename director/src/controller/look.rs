//! A cheap look whether somebody changed the table.
//!
//! The kernel has one list of all virtual servers, and one list of real servers
//! for each: a large table takes a request per virtual server to read. So a look
//! reads the first list whole, and the second ones in turn, some each time.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::Reconciler;
use crate::ipvs::{IpvsError, Kernel};
use crate::model::{Table, VirtualAddress, VirtualServer};
use crate::view::ActualServer;

impl<K: Kernel> Reconciler<K> {
    /// The virtual servers that are not as desired, as far as can be told with
    /// reading the real servers of `limit` of them. What was read is in
    /// [`Reconciler::seen`].
    pub async fn look(
        &mut self,
        desired: &Table,
        limit: usize,
    ) -> Result<BTreeSet<VirtualAddress>, IpvsError> {
        let desired = self.with_schedulers(desired).await?.into_owned();
        let part = self.next_part(limit);
        self.seen = self.read(&desired, Some(&part)).await?;
        let mut wrong: BTreeSet<_> = desired
            .keys()
            .filter(|address| !self.seen.contains_key(*address))
            .copied()
            .collect();
        let differing = self.seen.iter().filter(|(address, seen)| {
            let wanted = desired.get(*address);
            wanted.is_none_or(|wanted| !is_as(wanted, seen))
        });
        wrong.extend(differing.map(|(address, _)| *address));
        Ok(wrong)
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

fn is_as(wanted: &VirtualServer, seen: &ActualServer) -> bool {
    let is_wanted = |real: &crate::ipvs::RealEntry| {
        wanted.real_servers.get(&real.address) == Some(&real.server)
    };
    wanted.scheduling == seen.scheduling
        && wanted.real_servers.len() == seen.real_servers.len()
        && seen.real_servers.iter().all(is_wanted)
}
