//! Brings the kernel's table to what is desired, and keeps it there.
//!
//! [`Reconciler::reconcile`] reads what the kernel holds, has `plan` compare,
//! makes the changes one by one, and reads again until nothing differs, so
//! that whatever others do to the table is found and put right. The first call
//! adopts what an earlier director left: there is no other way to begin.
//! [`run`] is the loop around it: it has `desired` say what should be, on every
//! change and by a timer, carries out the election's orders and the operator's
//! commands, and says what it found and did.

mod apply;
mod cause;
mod crowd;
mod look;
mod pass;
mod place;
mod report;
mod run;
mod serve;
mod sync;
mod tuning;

pub use report::{Failure, Report};
pub use run::{Feeds, Outlets, run};
pub use sync::settle_sync;
pub use tuning::Tuning;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ipvs::{Glance, IpvsError, Kernel, Refusal, scheduler};
use crate::model::{KernelName, Table, VirtualAddress, VirtualServer};
use crate::plan::{Change, Ownership, plan};
use crate::view::ActualServer;

/// How often a call reads, changes and reads again. The kernel's lists may be
/// torn by others' changes, and what failed may be possible a moment later.
const PASSES: u32 = 3;

/// What the kernel holds of ours, with loads and counters.
pub type Reading = BTreeMap<VirtualAddress, ActualServer>;

/// Keeps a kernel's table at what is desired.
#[derive(Debug)]
pub struct Reconciler<K> {
    kernel: Arc<K>,
    ours: Ownership,
    /// What to use for each scheduler that was asked for.
    schedulers: BTreeMap<KernelName, KernelName>,
    /// What was read last, to be shown and to be looked through by parts;
    /// nothing is changed on its word alone.
    seen: Reading,
    /// The fingerprints of those that were read and found as desired.
    verified: Glance,
    /// The virtual server that was looked at last.
    cursor: Option<VirtualAddress>,
}

impl<K: Kernel> Reconciler<K> {
    /// For this kernel, of whose table only what is `ours` is touched.
    pub fn new(kernel: K, ours: Ownership) -> Self {
        Self::sharing(Arc::new(kernel), ours)
    }

    /// The same, for a kernel that others use too.
    pub fn sharing(kernel: Arc<K>, ours: Ownership) -> Self {
        Self {
            kernel,
            ours,
            schedulers: BTreeMap::new(),
            seen: Reading::new(),
            verified: Glance::new(),
            cursor: None,
        }
    }

    /// The kernel.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// What is ours.
    pub fn ownership(&mut self) -> &mut Ownership {
        &mut self.ours
    }

    /// Tries the schedulers again that the kernel lacked: a module may be there
    /// by now.
    pub fn try_schedulers_again(&mut self) {
        self.schedulers.retain(|wanted, used| wanted == used);
    }

    /// A scheduler whose module has gone since it was tried is tried again.
    fn forget_schedulers(&mut self, report: &Report) {
        let errors = report.failures.iter().filter_map(|it| it.error.as_ref());
        for refusal in errors.filter_map(IpvsError::refusal) {
            if let Refusal::NoScheduler(gone) = refusal {
                self.schedulers.retain(|_, used| used != gone);
            }
        }
    }

    /// What was read last.
    pub fn seen(&self) -> &Reading {
        &self.seen
    }

    /// What the kernel holds of ours, and of what is desired.
    pub async fn actual(&self, desired: &Table) -> Result<Table, IpvsError> {
        Ok(table_of(&self.read(desired, None).await?))
    }

    /// The same with loads and counters. Real servers are read of the virtual
    /// servers in `only` and of those not seen before; the others have those
    /// that were seen last.
    async fn read(
        &self,
        desired: &Table,
        only: Option<&BTreeSet<VirtualAddress>>,
    ) -> Result<Reading, IpvsError> {
        let mut reading = Reading::new();
        for entry in self.kernel.virtual_servers().await? {
            let address = entry.address;
            let is_foreign = !desired.contains_key(&address) && !self.ours.owns(&address);
            if is_foreign || reading.contains_key(&address) {
                continue;
            }
            let known = only.filter(|only| !only.contains(&address));
            let known = known.and_then(|_| self.seen.get(&address));
            let real_servers = match known {
                Some(seen) => Arc::clone(&seen.real_servers),
                None => self.kernel.real_servers(address).await?.into(),
            };
            let server = ActualServer {
                scheduling: entry.scheduling,
                counters: entry.counters,
                real_servers,
            };
            reading.insert(address, server);
        }
        Ok(reading)
    }

    /// The changes that a call of [`Reconciler::reconcile`] would make now.
    /// Schedulers that nobody uses yet are tried out; nothing else is changed.
    pub async fn preview(&mut self, desired: &Table) -> Result<Vec<Change>, IpvsError> {
        let desired = self.with_schedulers(desired).await?;
        let actual = self.actual(&desired).await?;
        Ok(plan(&desired, &actual, &self.ours))
    }

    /// Reads, compares and changes until the kernel holds what is desired.
    ///
    /// An error is one that stops everything (no IPVS, no permission, a socket
    /// that failed): call again later, nothing is lost. What fails by itself is
    /// in the report, and is tried again by the next call.
    pub async fn reconcile(&mut self, desired: &Table) -> Result<Report, IpvsError> {
        self.reconcile_only(desired, None).await
    }

    /// The same, but the real servers of virtual servers that are not in `only`
    /// are taken to be as they were seen last.
    pub async fn reconcile_only(
        &mut self,
        desired: &Table,
        only: Option<BTreeSet<VirtualAddress>>,
    ) -> Result<Report, IpvsError> {
        let desired = &self.with_schedulers(desired).await?;
        self.ours.claim(desired);
        let mut only = only;
        let mut report = Report {
            replaced: self.replaced(),
            ..Report::default()
        };
        for _ in 0..PASSES {
            self.seen = self.read(desired, only.as_ref()).await?;
            let actual = table_of(&self.seen);
            let changes = plan(desired, &actual, &self.ours);
            report.passes += 1;
            report.failures.clear();
            report.is_settled = changes.is_empty();
            if report.is_settled {
                self.ours.release(desired);
                break;
            }
            let before = report.changes.len();
            only = Some(changes.iter().map(Change::address).collect());
            let made = apply::all(&*self.kernel, desired, actual, changes, &mut report);
            made.await?;
            self.forget_schedulers(&report);
            if report.changes.len() == before {
                break;
            }
        }
        Ok(report)
    }

    /// The desired table, with a scheduler that the kernel has for each that it
    /// lacks. Flags that only the missing one understood are left out.
    async fn with_schedulers<'a>(
        &mut self,
        desired: &'a Table,
    ) -> Result<Cow<'a, Table>, IpvsError> {
        self.choose_schedulers(desired).await?;
        if self.schedulers.iter().all(|(wanted, used)| wanted == used) {
            return Ok(Cow::Borrowed(desired));
        }
        let mut table = desired.clone();
        for server in table.values_mut() {
            let scheduling = &mut server.scheduling;
            let used = self.schedulers.get(&scheduling.scheduler);
            if let Some(used) = used.filter(|used| **used != scheduling.scheduler) {
                scheduling.scheduler = used.clone();
                scheduling.flags = scheduling.flags.without_scheduler();
            }
        }
        Ok(Cow::Owned(table))
    }

    /// Finds out about the schedulers that were not asked for before.
    async fn choose_schedulers(&mut self, desired: &Table) -> Result<(), IpvsError> {
        let wanted = desired.values().map(|server| &server.scheduling.scheduler);
        let fresh = wanted.filter(|wanted| !self.schedulers.contains_key(*wanted));
        let fresh: BTreeSet<_> = fresh.cloned().collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let present = self.kernel.virtual_servers().await?;
        let present = present.into_iter();
        let in_use = present.map(|it| it.scheduling.scheduler).collect();
        for wanted in fresh {
            let choice = scheduler::choose(&*self.kernel, &wanted, &in_use).await?;
            if choice.used != wanted {
                tracing::warn!(%wanted, used = %choice.used, "the kernel lacks a scheduler");
            }
            self.schedulers.insert(wanted, choice.used);
        }
        Ok(())
    }

    fn replaced(&self) -> BTreeMap<KernelName, KernelName> {
        let pairs = self.schedulers.iter();
        let replaced = pairs.filter(|(wanted, used)| wanted != used);
        let owned = |(wanted, used): (&KernelName, &KernelName)| (wanted.clone(), used.clone());
        replaced.map(owned).collect()
    }
}

/// What is held, without what flows.
pub(crate) fn table_of(reading: &Reading) -> Table {
    let servers = reading.iter().map(|(address, seen)| {
        let reals = seen.real_servers.iter();
        let server = VirtualServer {
            scheduling: seen.scheduling.clone(),
            real_servers: reals.map(|it| (it.address, it.server)).collect(),
        };
        (*address, server)
    });
    servers.collect()
}

#[cfg(test)]
mod loop_tests;
#[cfg(test)]
mod tests;
