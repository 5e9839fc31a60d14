//! What the memory holds, and what the kernel checks before it takes anything.

#[cfg(test)]
use std::collections::BTreeSet;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use super::Fault;
use crate::ipvs::Operation;
use crate::ipvs::error::errno;
use crate::model::{
    Family, Forwarding, RealServer, Scheduling, SyncDaemon, SyncRole, Timeouts, Tunnel,
    VirtualAddress,
};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) virtual_servers: BTreeMap<VirtualAddress, Held>,
    pub(super) timeouts: Timeouts,
    pub(super) is_unloaded: bool,
    pub(super) daemons: BTreeMap<SyncRole, SyncDaemon>,
    pub(super) journal: VecDeque<Operation>,
    pub(super) change_faults: VecDeque<Fault>,
    pub(super) list_faults: VecDeque<Fault>,
    #[cfg(test)]
    pub(super) stranded: BTreeSet<VirtualAddress>,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) scheduling: Scheduling,
    /// Newest first, as the kernel keeps them.
    pub(super) real_servers: Vec<(SocketAddr, RealServer)>,
}

impl State {
    pub(super) fn held(&mut self, address: VirtualAddress) -> Result<&mut Held, i32> {
        self.virtual_servers.get_mut(&address).ok_or(errno::ESRCH)
    }

    /// Changes one virtual server's real servers.
    pub(super) fn among(
        &mut self,
        address: VirtualAddress,
        change: impl FnOnce(&mut Held) -> Result<(), i32>,
    ) -> Result<(), i32> {
        let held = self.held(address)?;
        let was_serving = held.is_serving();
        change(held)?;
        let is_stranded = was_serving && !held.is_serving();
        self.note(address, is_stranded);
        Ok(())
    }

    #[cfg(test)]
    fn note(&mut self, address: VirtualAddress, is_stranded: bool) {
        if is_stranded {
            self.stranded.insert(address);
        }
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "only tests take notes")]
    fn note(&mut self, _: VirtualAddress, _: bool) {}

    /// What the kernel checks of a real server.
    pub(super) fn check(
        &self,
        address: VirtualAddress,
        real: SocketAddr,
        server: &RealServer,
    ) -> Result<(), i32> {
        let largest = i32::MAX.unsigned_abs();
        let RealServer {
            upper_threshold: upper,
            lower_threshold: lower,
            ..
        } = *server;
        if server.weight > largest || lower > upper {
            return Err(errno::ERANGE);
        }
        let is_mixed = Family::of(real.ip()) != address.family();
        let is_tunnel = matches!(server.forwarding, Forwarding::Tunnel(_));
        let is_wrong_tunnel = matches!(
            server.forwarding,
            Forwarding::Tunnel(Tunnel::Gue { port: 0, .. }) | Forwarding::Unknown { .. }
        );
        if upper > largest
            || is_wrong_tunnel
            || (is_mixed && (!is_tunnel || !self.daemons.is_empty()))
            || !is_machine(real.ip())
        {
            return Err(errno::EINVAL);
        }
        Ok(())
    }
}

impl Held {
    pub(super) fn find(&mut self, real: SocketAddr) -> Option<&mut RealServer> {
        let found = self.real_servers.iter_mut().find(|(it, _)| *it == real);
        found.map(|(_, server)| server)
    }

    fn is_serving(&self) -> bool {
        self.real_servers
            .iter()
            .any(|(_, server)| server.weight > 0)
    }
}

/// Can this be the address of one machine on some link?
fn is_machine(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => !it.is_unspecified() && !it.is_multicast() && !it.is_broadcast(),
        IpAddr::V6(it) => !it.is_unspecified() && !it.is_multicast() && !it.is_unicast_link_local(),
    }
}
