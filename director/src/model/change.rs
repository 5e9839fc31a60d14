//! One change of the kernel's table.

use std::fmt;
use std::net::SocketAddr;

use super::{RealServer, Scheduling, Table, VirtualAddress, VirtualServer};

/// One change of the kernel's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A virtual server more, still without real servers.
    AddVirtual(VirtualAddress, Scheduling),
    /// A virtual server schedules in another way; its connections stay.
    SetVirtual(VirtualAddress, Scheduling),
    /// A real server more.
    AddReal(VirtualAddress, SocketAddr, RealServer),
    /// A real server is used in another way; its connections stay.
    SetReal(VirtualAddress, SocketAddr, RealServer),
    /// A real server less.
    RemoveReal(VirtualAddress, SocketAddr),
    /// A virtual server less, with all that is behind it.
    RemoveVirtual(VirtualAddress),
}

impl Change {
    /// The virtual server that it changes.
    pub fn address(&self) -> VirtualAddress {
        match self {
            Self::AddVirtual(address, _)
            | Self::SetVirtual(address, _)
            | Self::AddReal(address, ..)
            | Self::SetReal(address, ..)
            | Self::RemoveReal(address, _)
            | Self::RemoveVirtual(address) => *address,
        }
    }

    /// Does it leave a virtual server of `table` that serves without a real
    /// server for new connections? Removing the virtual server itself is not
    /// meant: then there is nothing to serve.
    pub fn strands(&self, table: &Table) -> bool {
        let (address, real) = match self {
            Self::SetReal(address, real, server) if server.weight == 0 => (address, real),
            Self::RemoveReal(address, real) => (address, real),
            _ => return false,
        };
        let Some(virtual_server) = table.get(address) else {
            return false;
        };
        let mut serving = virtual_server.real_servers.iter();
        let others = serving.any(|(other, server)| other != real && server.weight > 0);
        virtual_server.is_serving() && !others
    }

    /// Makes the change in a table in memory. What is missing there stays so.
    pub fn carry_out(&self, table: &mut Table) {
        match self {
            Self::AddVirtual(address, scheduling) => {
                let server = || VirtualServer::new(scheduling.clone());
                table.entry(*address).or_insert_with(server);
            }
            Self::SetVirtual(address, scheduling) => {
                if let Some(server) = table.get_mut(address) {
                    server.scheduling = scheduling.clone();
                }
            }
            Self::AddReal(address, real, it) | Self::SetReal(address, real, it) => {
                if let Some(server) = table.get_mut(address) {
                    server.real_servers.insert(*real, *it);
                }
            }
            Self::RemoveReal(address, real) => {
                if let Some(server) = table.get_mut(address) {
                    server.real_servers.remove(real);
                }
            }
            Self::RemoveVirtual(address) => {
                table.remove(address);
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddVirtual(address, it) => {
                write!(f, "add virtual server {address} by {}", it.scheduler)
            }
            Self::SetVirtual(address, it) => {
                write!(f, "schedule virtual server {address} by {}", it.scheduler)
            }
            Self::AddReal(address, real, it) => {
                write!(
                    f,
                    "add real server {real} to {address}, weight {}",
                    it.weight
                )
            }
            Self::SetReal(address, real, it) => {
                write!(
                    f,
                    "set real server {real} of {address}, weight {}",
                    it.weight
                )
            }
            Self::RemoveReal(address, real) => {
                write!(f, "remove real server {real} from {address}")
            }
            Self::RemoveVirtual(address) => write!(f, "remove virtual server {address}"),
        }
    }
}
