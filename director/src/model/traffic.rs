//! What the kernel counts, and when it forgets connections.

use std::time::Duration;

/// What went through a virtual or a real server. With direct routing the
/// director sees no answers: what is outgoing stays 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Connections per second, estimated over about two seconds; so are the
    /// other rates.
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

/// The connections a real server has now. With direct routing the kernel sees
/// only the client's half of them: these are estimates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Established ones.
    pub active: u32,
    /// Those that begin or end.
    pub inactive: u32,
    /// Clients that persistence keeps here.
    pub persistent: u32,
}

/// When the kernel forgets connections that are silent, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Established TCP.
    pub tcp: Duration,
    /// TCP after a FIN.
    pub tcp_fin: Duration,
    /// UDP.
    pub udp: Duration,
}

impl Default for Timeouts {
    /// What the kernel starts with.
    fn default() -> Self {
        Self {
            tcp: Duration::from_secs(900),
            tcp_fin: Duration::from_secs(120),
            udp: Duration::from_secs(300),
        }
    }
}
