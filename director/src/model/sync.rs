//! The kernel's daemons that tell a standby director of the connections.

use std::fmt;
use std::net::IpAddr;

use super::KernelName;

/// What a sync daemon does. A director may run both at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SyncRole {
    /// Tells of this director's connections.
    Master,
    /// Takes in those of another.
    Backup,
}

/// A sync daemon. What is `None` is the kernel's own choice; what the kernel
/// says of a running one always says it, on kernels since 4.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncDaemon {
    /// What it does.
    pub role: SyncRole,
    /// The interface it sends or listens on.
    pub interface: KernelName,
    /// Directors that share connections share this number.
    pub sync_id: u8,
    /// The multicast group: 224.0.0.81 if not chosen.
    pub group: Option<IpAddr>,
    /// The UDP port: 8848 if not chosen.
    pub port: Option<u16>,
    /// Time to live of the messages: 1 if not chosen.
    pub ttl: Option<u8>,
    /// The longest message in bytes: what fits the interface if not chosen.
    pub max_length: Option<u16>,
}

impl SyncDaemon {
    /// A daemon that leaves the rest to the kernel.
    pub fn new(role: SyncRole, interface: KernelName, sync_id: u8) -> Self {
        Self {
            role,
            interface,
            sync_id,
            group: None,
            port: None,
            ttl: None,
            max_length: None,
        }
    }

    /// Does a running daemon do what this one asks for? The length of messages
    /// is not compared: the kernel moves it to what it can use.
    pub fn is_met_by(&self, running: &Self) -> bool {
        fn met<T: PartialEq + Copy>(wanted: Option<T>, running: Option<T>) -> bool {
            wanted.is_none() || wanted == running
        }
        self.role == running.role
            && self.interface == running.interface
            && self.sync_id == running.sync_id
            && met(self.group, running.group)
            && met(self.port, running.port)
            && met(self.ttl, running.ttl)
    }
}

impl fmt::Display for SyncRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Backup => "backup",
        })
    }
}
