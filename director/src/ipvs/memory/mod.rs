//! A kernel in memory: the semantics and the errors of the real one, without
//! its effects. It serves dry runs and tests, which can make it lack things and
//! fail on purpose.
//!
//! It holds tables, not connections: all counters are 0.

mod state;

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::errno;
use super::{Glance, Information, IpvsError, Kernel, Operation, RealEntry, VirtualEntry};
use crate::model::{
    Counters, Family, KernelName, Load, RealServer, Scheduling, SyncDaemon, SyncRole, Timeouts,
    VirtualAddress,
};
use state::{Held, State};

/// Schedulers of a kernel of 6.1, all modules there.
const SCHEDULERS: [&str; 13] = [
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh",
];

/// How many changes are remembered.
const JOURNAL: usize = 1 << 17;

/// Where sync daemons speak if nobody says where.
const SYNC_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 81);

/// Longest message of a sync daemon on an interface of 1500 bytes.
const SYNC_LENGTH: u16 = 1472;

/// IPVS in memory.
#[derive(Debug)]
pub struct Memory {
    schedulers: BTreeSet<KernelName>,
    interfaces: Option<BTreeSet<KernelName>>,
    has_ipv6: bool,
    is_permitted: bool,
    state: Mutex<State>,
}

/// What is to go wrong, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The next change is refused with this errno.
    Refuse(i32),
    /// The next change is done, but its answer is lost.
    LoseAnswer,
    /// The next list lacks its first entry, as one torn by another's change.
    Skip,
    /// The next list has its first entry twice.
    Repeat,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty table on a kernel that has everything.
    pub fn new() -> Self {
        let schedulers = SCHEDULERS
            .iter()
            .filter_map(|name| KernelName::new(name).ok());
        Self {
            schedulers: schedulers.collect(),
            interfaces: None,
            has_ipv6: true,
            is_permitted: true,
            state: Mutex::default(),
        }
    }

    /// With these schedulers and no others.
    #[must_use]
    pub fn with_schedulers(self, schedulers: impl IntoIterator<Item = KernelName>) -> Self {
        let schedulers = schedulers.into_iter().collect();
        Self { schedulers, ..self }
    }

    /// With these interfaces and no others.
    #[must_use]
    pub fn with_interfaces(self, interfaces: impl IntoIterator<Item = KernelName>) -> Self {
        let interfaces = Some(interfaces.into_iter().collect());
        Self { interfaces, ..self }
    }

    /// Built without IPv6.
    #[must_use]
    pub fn without_ipv6(self) -> Self {
        Self {
            has_ipv6: false,
            ..self
        }
    }

    /// For a process without `CAP_NET_ADMIN`.
    #[must_use]
    pub fn without_permission(self) -> Self {
        Self {
            is_permitted: false,
            ..self
        }
    }

    /// Lets something go wrong the next time it can; further faults wait.
    pub fn inject(&self, fault: Fault) {
        let mut state = self.state();
        match fault {
            Fault::Refuse(_) | Fault::LoseAnswer => state.change_faults.push_back(fault),
            Fault::Skip | Fault::Repeat => state.list_faults.push_back(fault),
        }
    }

    /// Takes the module out, with all that it held, or puts it back.
    pub fn unload(&self, is_out: bool) {
        let mut state = self.state();
        state.is_unloaded = is_out;
        if is_out {
            state.virtual_servers.clear();
            state.daemons.clear();
            state.timeouts = Timeouts::default();
        }
    }

    /// The changes that were made since the last call, oldest first: at most
    /// the last 131,072.
    pub fn take_journal(&self) -> Vec<Operation> {
        self.state().journal.drain(..).collect()
    }

    /// Virtual servers that, since the last call, lost their last real server
    /// with a weight by a change of a real server.
    #[cfg(test)]
    pub(crate) fn take_stranded(&self) -> BTreeSet<VirtualAddress> {
        std::mem::take(&mut self.state().stranded)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads, if that is permitted.
    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> Result<T, IpvsError> {
        self.permit(Operation::Read)?;
        Ok(read(&self.state()))
    }

    /// Lists, as faithfully as the faults allow.
    fn list<T: Clone>(&self, read: impl FnOnce(&State) -> Vec<T>) -> Result<Vec<T>, IpvsError> {
        self.permit(Operation::Read)?;
        let mut state = self.state();
        let mut entries = read(&state);
        match state.list_faults.pop_front() {
            Some(Fault::Skip) if !entries.is_empty() => drop(entries.remove(0)),
            Some(Fault::Repeat) => entries.extend(entries.first().cloned()),
            _ => {}
        }
        Ok(entries)
    }

    /// Makes a change, unless it may not, or a fault says otherwise.
    fn change(
        &self,
        operation: Operation,
        change: impl FnOnce(&mut State) -> Result<(), i32>,
    ) -> Result<(), IpvsError> {
        self.permit(operation.clone())?;
        let mut state = self.state();
        let fault = state.change_faults.pop_front();
        if let Some(Fault::Refuse(number)) = fault {
            return Err(operation.refused(number));
        }
        if let Err(number) = change(&mut state) {
            return Err(operation.refused(number));
        }
        if state.journal.len() == JOURNAL {
            state.journal.pop_front();
        }
        state.journal.push_back(operation.clone());
        if fault == Some(Fault::LoseAnswer) {
            let within = Duration::ZERO;
            return Err(IpvsError::Silent { operation, within });
        }
        Ok(())
    }

    fn permit(&self, operation: Operation) -> Result<(), IpvsError> {
        if self.state().is_unloaded {
            return Err(IpvsError::Absent);
        }
        if self.is_permitted {
            return Ok(());
        }
        Err(operation.refused(errno::EPERM))
    }

    fn check_family(&self, family: Family) -> Result<(), i32> {
        match family {
            Family::V6 if !self.has_ipv6 => Err(errno::EAFNOSUPPORT),
            _ => Ok(()),
        }
    }

    /// What the kernel checks of a virtual server's scheduling.
    fn check(&self, address: VirtualAddress, scheduling: &Scheduling) -> Result<(), i32> {
        self.check_family(address.family())?;
        let prefixes = match address.family() {
            Family::V4 => 0..=32,
            Family::V6 => 1..=128,
        };
        let persistence = scheduling.persistence;
        if persistence.is_some_and(|it| !prefixes.contains(&it.prefix)) {
            return Err(errno::EINVAL);
        }
        let engine = scheduling.persistence_engine.as_ref();
        if engine.is_some_and(|it| it.as_str() != "sip")
            || !self.schedulers.contains(&scheduling.scheduler)
        {
            return Err(errno::ENOENT);
        }
        Ok(())
    }
}

fn entry(address: VirtualAddress, held: &Held) -> VirtualEntry {
    VirtualEntry {
        address,
        scheduling: held.scheduling.clone(),
        counters: Counters::default(),
    }
}

impl Kernel for Memory {
    async fn information(&self) -> Result<Information, IpvsError> {
        self.read(|_| Information {
            version: (1, 2, 1),
            connection_buckets: 4096,
        })
    }

    async fn virtual_servers(&self) -> Result<Vec<VirtualEntry>, IpvsError> {
        self.list(|state| {
            let all = state.virtual_servers.iter();
            all.map(|(address, held)| entry(*address, held)).collect()
        })
    }

    async fn virtual_server(&self, address: VirtualAddress) -> Result<VirtualEntry, IpvsError> {
        let found = self.read(|state| {
            let held = state.virtual_servers.get(&address)?;
            Some(entry(address, held))
        })?;
        let missing = || Operation::ReadVirtual(address).refused(errno::ESRCH);
        found.ok_or_else(missing)
    }

    async fn real_servers(&self, address: VirtualAddress) -> Result<Vec<RealEntry>, IpvsError> {
        self.list(|state| {
            let held = state.virtual_servers.get(&address);
            let all = held.iter().flat_map(|held| &held.real_servers);
            all.map(|(address, server)| RealEntry {
                address: *address,
                server: *server,
                load: Load::default(),
                counters: Counters::default(),
            })
            .collect()
        })
    }

    async fn glance(&self, _pieces: usize) -> Option<Glance> {
        let state = self.state();
        let print = |held: &Held| {
            let mut hasher = DefaultHasher::new();
            held.scheduling.scheduler.hash(&mut hasher);
            for (address, server) in &held.real_servers {
                (address, server.weight).hash(&mut hasher);
            }
            hasher.finish()
        };
        let all = state.virtual_servers.iter();
        Some(all.map(|(address, held)| (*address, print(held))).collect())
    }

    async fn add_virtual(
        &self,
        address: VirtualAddress,
        scheduling: &Scheduling,
    ) -> Result<(), IpvsError> {
        let operation = Operation::AddVirtual(address, scheduling.scheduler.clone());
        self.change(operation, |state| {
            if state.virtual_servers.contains_key(&address) {
                return Err(errno::EEXIST);
            }
            self.check(address, scheduling)?;
            let held = Held {
                scheduling: scheduling.clone(),
                real_servers: Vec::new(),
            };
            state.virtual_servers.insert(address, held);
            Ok(())
        })
    }

    async fn set_virtual(
        &self,
        address: VirtualAddress,
        scheduling: &Scheduling,
    ) -> Result<(), IpvsError> {
        let operation = Operation::SetVirtual(address, scheduling.scheduler.clone());
        self.change(operation, |state| {
            let held = state.held(address)?;
            self.check(address, scheduling)?;
            held.scheduling = scheduling.clone();
            Ok(())
        })
    }

    async fn remove_virtual(&self, address: VirtualAddress) -> Result<(), IpvsError> {
        self.change(Operation::RemoveVirtual(address), |state| {
            let removed = state.virtual_servers.remove(&address);
            removed.map(drop).ok_or(errno::ESRCH)
        })
    }

    async fn add_real(
        &self,
        address: VirtualAddress,
        real: SocketAddr,
        server: &RealServer,
    ) -> Result<(), IpvsError> {
        self.change(Operation::AddReal(address, real), |state| {
            let held = state.held(address)?;
            let is_there = held.find(real).is_some();
            self.check_family(Family::of(real.ip()))?;
            state.check(address, real, server)?;
            if is_there {
                return Err(errno::EEXIST);
            }
            state.among(address, |held| {
                held.real_servers.insert(0, (real, *server));
                Ok(())
            })
        })
    }

    async fn set_real(
        &self,
        address: VirtualAddress,
        real: SocketAddr,
        server: &RealServer,
    ) -> Result<(), IpvsError> {
        self.change(Operation::SetReal(address, real), |state| {
            state.held(address)?;
            state.check(address, real, server)?;
            state.among(address, |held| {
                *held.find(real).ok_or(errno::ENOENT)? = *server;
                Ok(())
            })
        })
    }

    async fn remove_real(
        &self,
        address: VirtualAddress,
        real: SocketAddr,
    ) -> Result<(), IpvsError> {
        self.change(Operation::RemoveReal(address, real), |state| {
            state.among(address, |held| {
                let before = held.real_servers.len();
                held.real_servers.retain(|(it, _)| *it != real);
                let is_gone = held.real_servers.len() < before;
                if is_gone { Ok(()) } else { Err(errno::ENOENT) }
            })
        })
    }

    async fn timeouts(&self) -> Result<Timeouts, IpvsError> {
        self.read(|state| state.timeouts)
    }

    async fn set_timeouts(&self, timeouts: Timeouts) -> Result<(), IpvsError> {
        self.change(Operation::SetTimeouts, |state| {
            let held = &mut state.timeouts;
            let pairs = [
                (&mut held.tcp, timeouts.tcp),
                (&mut held.tcp_fin, timeouts.tcp_fin),
                (&mut held.udp, timeouts.udp),
            ];
            for (held, new) in pairs {
                if new.as_secs() > 0 {
                    *held = Duration::from_secs(new.as_secs());
                }
            }
            Ok(())
        })
    }

    async fn sync_daemons(&self) -> Result<Vec<SyncDaemon>, IpvsError> {
        self.list(|state| state.daemons.values().cloned().collect())
    }

    async fn start_sync(&self, daemon: &SyncDaemon) -> Result<(), IpvsError> {
        let operation = Operation::StartSync(daemon.role, daemon.interface.clone());
        let interfaces = self.interfaces.as_ref();
        self.change(operation, |state| {
            if state.daemons.contains_key(&daemon.role) {
                return Err(errno::EEXIST);
            }
            if interfaces.is_some_and(|all| !all.contains(&daemon.interface)) {
                return Err(errno::ENODEV);
            }
            let group = daemon.group.unwrap_or(IpAddr::V4(SYNC_GROUP));
            let running = SyncDaemon {
                group: Some(group),
                port: daemon.port.or(Some(8848)),
                ttl: daemon.ttl.or(Some(1)),
                max_length: daemon.max_length.or(Some(SYNC_LENGTH)),
                ..daemon.clone()
            };
            state.daemons.insert(daemon.role, running);
            Ok(())
        })
    }

    async fn stop_sync(&self, role: SyncRole) -> Result<(), IpvsError> {
        self.change(Operation::StopSync(role), |state| {
            let stopped = state.daemons.remove(&role);
            stopped.map(drop).ok_or(errno::ESRCH)
        })
    }
}

#[cfg(test)]
mod tests;
