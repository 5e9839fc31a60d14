//! Virtual servers, real servers, and what remains to be changed.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Virtual servers: `GET /v1/desired` and `GET /v1/actual`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// In order.
    pub virtual_servers: Vec<VirtualServer>,
}

/// A virtual server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VirtualServer {
    /// Its name in every answer: `tcp 192.0.2.10:443`.
    pub name: String,
    /// `tcp`, `udp`, `sctp`; nothing for a mark.
    pub protocol: Option<String>,
    /// The address and port; nothing for a mark.
    pub address: Option<SocketAddr>,
    /// The firewall mark.
    pub mark: Option<u32>,
    /// Is it a private one, for checks of one node?
    pub for_checks: bool,
    /// The scheduler.
    pub scheduler: String,
    /// Its flags, as the kernel numbers them.
    pub flags: u32,
    /// For how many seconds clients are kept at their real server.
    pub persistence: Option<u32>,
    /// What went through it; nothing for what is only desired.
    pub counters: Option<Counters>,
    /// What is behind it.
    pub real_servers: Vec<RealServer>,
}

/// A real server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RealServer {
    /// Where.
    pub address: SocketAddr,
    /// How packets get there.
    pub forwarding: String,
    /// Its share.
    pub weight: u32,
    /// Nothing new at this number of connections; 0 is no limit.
    pub upper_threshold: u32,
    /// New ones again below this number.
    pub lower_threshold: u32,
    /// Established connections, as the kernel estimates.
    pub active: Option<u32>,
    /// Connections that begin or end.
    pub inactive: Option<u32>,
    /// Clients that persistence keeps there.
    pub persistent: Option<u32>,
    /// What went through it.
    pub counters: Option<Counters>,
}

/// What went through a virtual or a real server. What goes to clients is not
/// seen with direct routing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Connections, ever.
    pub connections: u64,
    /// Packets from clients, ever.
    pub incoming_packets: u64,
    /// Packets to clients, ever.
    pub outgoing_packets: u64,
    /// Bytes from clients, ever.
    pub incoming_bytes: u64,
    /// Bytes to clients, ever.
    pub outgoing_bytes: u64,
    /// Connections per second.
    pub connection_rate: u64,
    /// Packets per second from clients.
    pub incoming_packet_rate: u64,
    /// Packets per second to clients.
    pub outgoing_packet_rate: u64,
    /// Bytes per second from clients.
    pub incoming_byte_rate: u64,
    /// Bytes per second to clients.
    pub outgoing_byte_rate: u64,
}

/// What remains to be done: `GET /v1/plan`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Is there nothing?
    pub settled: bool,
    /// In the order in which it will be done.
    pub changes: Vec<Change>,
    /// Why it is not done, in words, if something stands in the way.
    pub trouble: Option<String>,
}

/// A change of the kernel's table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// In words.
    pub words: String,
    /// `add-virtual`, `set-virtual`, `add-real`, `set-real`, `remove-real`, `remove-virtual`.
    pub kind: String,
    /// Of which virtual server.
    pub virtual_server: String,
    /// Which real server.
    pub real_server: Option<SocketAddr>,
    /// With which weight.
    pub weight: Option<u32>,
    /// With which scheduler.
    pub scheduler: Option<String>,
}
