//! Virtual servers and the real servers behind them, in the words of LVS.
//!
//! Values only: nothing in here does anything. `desired` (to come) makes them
//! out of what is configured and seen, `plan` compares them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// What the kernel tells virtual servers apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VirtualAddress {
    /// A protocol, an address and a port.
    Socket(Protocol, SocketAddr),
    /// A mark that the firewall puts on packets.
    FirewallMark(u32),
}

/// What travels to a virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// How a virtual server spreads connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualServer {
    /// The kernel's name of the scheduler, such as `wlc`.
    pub scheduler: String,
    /// The real servers, by address.
    pub real_servers: BTreeMap<SocketAddr, RealServer>,
}

/// One machine behind a virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealServer {
    /// How packets get there.
    pub forwarding: Forwarding,
    /// Its share; 0 is quiesced: nothing new, what runs goes on.
    pub weight: u32,
}

/// How packets get to a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarding {
    /// The frame gets another hardware address; answers bypass the director.
    #[default]
    DirectRouting,
    /// Addresses are rewritten in both directions.
    Masquerade,
    /// The packet travels inside another one.
    Tunnel,
}

/// All virtual servers: what should be there, or what is.
pub type Table = BTreeMap<VirtualAddress, VirtualServer>;

impl VirtualAddress {
    /// The address that clients connect to, if there is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Socket(_, address) => Some(address.ip()),
            Self::FirewallMark(_) => None,
        }
    }
}
