//! The director's hand on the kernel's IPVS.
//!
//! [`Kernel`] is all that the rest of the director knows of it. Two things are
//! one: [`Netlink`], the real kernel, and [`Memory`], which behaves like it in
//! memory, for dry runs and tests. Neither decides anything: `plan` says what
//! to change and `controller` asks for it. There is no flush in here, on
//! purpose: a table that serves is changed in place or not at all.

mod error;
mod glance;
mod listing;
mod memory;
mod netlink;
pub mod scheduler;
mod socket;
mod wire;

pub use error::{IpvsError, Operation, Refusal};
pub use glance::Glance;
pub use memory::{Fault, Memory};
pub use netlink::Netlink;
pub use wire::WireError;

use std::future::Future;
use std::net::SocketAddr;

use crate::model::{
    Change, Counters, Load, RealServer, Scheduling, SyncDaemon, SyncRole, Timeouts, VirtualAddress,
};

/// A virtual server as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualEntry {
    /// Which one.
    pub address: VirtualAddress,
    /// How it spreads connections.
    pub scheduling: Scheduling,
    /// What went through it.
    pub counters: Counters,
}

/// A real server as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealEntry {
    /// Which one.
    pub address: SocketAddr,
    /// How it is used.
    pub server: RealServer,
    /// What it has now.
    pub load: Load,
    /// What went through it.
    pub counters: Counters,
}

/// What the kernel says of its IPVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Information {
    /// Its version: 1.2.1 for many years.
    pub version: (u8, u8, u8),
    /// Buckets of its table of connections.
    pub connection_buckets: u32,
}

/// An IPVS that can be read and changed.
///
/// The kernel's dumps are no snapshots: what changes meanwhile may be missing
/// or twice in them, and nothing says so. Take them for hints, and be ready for
/// [`Refusal::Exists`] and [`Refusal::is_missing`] when acting on them.
pub trait Kernel: Send + Sync {
    /// Version and size.
    fn information(&self) -> impl Future<Output = Result<Information, IpvsError>> + Send;

    /// All virtual servers, those of others too, in the kernel's order.
    fn virtual_servers(&self) -> impl Future<Output = Result<Vec<VirtualEntry>, IpvsError>> + Send;

    /// One virtual server.
    fn virtual_server(
        &self,
        address: VirtualAddress,
    ) -> impl Future<Output = Result<VirtualEntry, IpvsError>> + Send;

    /// The real servers behind one virtual server, newest first. None, and no
    /// error, if there is no such virtual server: the kernel is like that.
    fn real_servers(
        &self,
        address: VirtualAddress,
    ) -> impl Future<Output = Result<Vec<RealEntry>, IpvsError>> + Send;

    /// Fingerprints of the next virtual servers in turn, much cheaper than to
    /// read them: of all within `pieces` calls, and a few more when the table
    /// has grown. Nothing, where there is no such thing.
    fn glance(&self, _pieces: usize) -> impl Future<Output = Option<Glance>> + Send {
        std::future::ready(None)
    }

    /// Adds a virtual server, without real servers.
    fn add_virtual(
        &self,
        address: VirtualAddress,
        scheduling: &Scheduling,
    ) -> impl Future<Output = Result<(), IpvsError>> + Send;

    /// Changes how a virtual server schedules. Its connections stay.
    fn set_virtual(
        &self,
        address: VirtualAddress,
        scheduling: &Scheduling,
    ) -> impl Future<Output = Result<(), IpvsError>> + Send;

    /// Removes a virtual server and all behind it.
    fn remove_virtual(
        &self,
        address: VirtualAddress,
    ) -> impl Future<Output = Result<(), IpvsError>> + Send;

    /// Adds a real server.
    fn add_real(
        &self,
        address: VirtualAddress,
        real: SocketAddr,
        server: &RealServer,
    ) -> impl Future<Output = Result<(), IpvsError>> + Send;

    /// Changes how a real server is used. Its connections stay.
    fn set_real(
        &self,
        address: VirtualAddress,
        real: SocketAddr,
        server: &RealServer,
    ) -> impl Future<Output = Result<(), IpvsError>> + Send;

    /// Removes a real server. What becomes of its connections is up to
    /// `net.ipv4.vs.expire_nodest_conn`.
    fn remove_real(
        &self,
        address: VirtualAddress,
        real: SocketAddr,
    ) -> impl Future<Output = Result<(), IpvsError>> + Send;

    /// Makes changes in this order, whatever becomes of those before, and
    /// answers each: much faster than one call for each. After an error that
    /// stops everything the rest has the same answer.
    fn change_all(
        &self,
        changes: &[Change],
    ) -> impl Future<Output = Vec<Result<(), IpvsError>>> + Send {
        one_by_one(self, changes)
    }

    /// When connections are forgotten.
    fn timeouts(&self) -> impl Future<Output = Result<Timeouts, IpvsError>> + Send;

    /// Sets when connections are forgotten. A time of 0 leaves what is there.
    fn set_timeouts(
        &self,
        timeouts: Timeouts,
    ) -> impl Future<Output = Result<(), IpvsError>> + Send;

    /// The sync daemons that run.
    fn sync_daemons(&self) -> impl Future<Output = Result<Vec<SyncDaemon>, IpvsError>> + Send;

    /// Starts a sync daemon.
    fn start_sync(&self, daemon: &SyncDaemon)
    -> impl Future<Output = Result<(), IpvsError>> + Send;

    /// Stops the sync daemon of this role.
    fn stop_sync(&self, role: SyncRole) -> impl Future<Output = Result<(), IpvsError>> + Send;
}

/// Makes one change.
pub(crate) async fn change<K: Kernel + ?Sized>(
    kernel: &K,
    change: &Change,
) -> Result<(), IpvsError> {
    match change {
        Change::AddVirtual(address, scheduling) => kernel.add_virtual(*address, scheduling).await,
        Change::SetVirtual(address, scheduling) => kernel.set_virtual(*address, scheduling).await,
        Change::AddReal(address, real, it) => kernel.add_real(*address, *real, it).await,
        Change::SetReal(address, real, it) => kernel.set_real(*address, *real, it).await,
        Change::RemoveReal(address, real) => kernel.remove_real(*address, *real).await,
        Change::RemoveVirtual(address) => kernel.remove_virtual(*address).await,
    }
}

async fn one_by_one<K: Kernel + ?Sized>(
    kernel: &K,
    changes: &[Change],
) -> Vec<Result<(), IpvsError>> {
    let mut answers = Vec::with_capacity(changes.len());
    for it in changes {
        let stopped = answers.last().and_then(|last: &Result<(), IpvsError>| {
            let error = last.as_ref().err();
            error.filter(|error| error.is_general()).cloned()
        });
        answers.push(match stopped {
            Some(error) => Err(error),
            None => change(kernel, it).await,
        });
    }
    answers
}
