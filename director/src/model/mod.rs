//! Virtual servers and the real servers behind them, in the words of LVS.
//!
//! Values only: nothing in here does anything. They say all that the kernel's
//! IPVS can be told, and nothing it cannot. `desired` makes tables of them out
//! of what is configured and seen, `plan` compares them, `ipvs` carries them to
//! the kernel and back.

#[cfg(test)]
pub(crate) mod chance;
mod change;
mod name;
mod sync;
mod traffic;

pub use change::Change;
pub use name::{KernelName, NameError};
pub use sync::{SyncDaemon, SyncRole};
pub use traffic::{Counters, Load, Timeouts};

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

/// What the kernel tells virtual servers apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VirtualAddress {
    /// A protocol, an address and a port. The kernel knows no scope and no flow
    /// label: [`VirtualAddress::socket`] leaves them out.
    Socket(Protocol, SocketAddr),
    /// A mark that the firewall or a socket option puts on packets; marks of
    /// the two address families are apart.
    FirewallMark(Family, NonZeroU32),
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
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

/// A virtual server: how it spreads connections, and over whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualServer {
    /// How it spreads connections.
    pub scheduling: Scheduling,
    /// The real servers, by address (without scope and flow label, as above).
    pub real_servers: BTreeMap<SocketAddr, RealServer>,
}

/// How a virtual server spreads connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduling {
    /// The kernel's name of the scheduler, such as `wlc`.
    pub scheduler: KernelName,
    /// What the scheduler is told besides.
    pub flags: SchedulingFlags,
    /// Keeps a client at its real server beyond one connection.
    pub persistence: Option<Persistence>,
    /// The kernel's name of what recognises a client, for one that is not
    /// recognised by its address (`sip` is the only one there is).
    pub persistence_engine: Option<KernelName>,
}

/// For how long, and how coarsely, clients are kept at their real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// Seconds since the last connection.
    pub seconds: u32,
    /// Clients whose addresses agree in this many leading bits are one client:
    /// 32 or 128 is each for itself.
    pub prefix: u8,
}

impl Persistence {
    /// The prefix of a kernel's mask that is none (255.0.255.0): never desired,
    /// only seen, so that it can be put right.
    pub const NO_PREFIX: u8 = u8::MAX;
}

/// Flags of a virtual server, as the kernel numbers them.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedulingFlags(u32);

/// One machine behind a virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealServer {
    /// How packets get there.
    pub forwarding: Forwarding,
    /// Its share; 0 is quiesced: nothing new, what runs goes on. The kernel
    /// refuses more than `i32::MAX`.
    pub weight: u32,
    /// When connections reach this number, nothing new; 0 is no limit.
    pub upper_threshold: u32,
    /// New ones again below this number; 0 is three quarters of the upper one.
    pub lower_threshold: u32,
}

/// How packets get to a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarding {
    /// The frame gets another hardware address; answers bypass the director.
    #[default]
    DirectRouting,
    /// Addresses are rewritten in both directions.
    Masquerade,
    /// The director itself is the real server.
    LocalNode,
    /// The packet travels inside another one.
    Tunnel(Tunnel),
    /// The packet goes on to its original destination (transparent caches).
    Bypass,
    /// Something the kernel holds that has no name here: never desired, only
    /// seen, so that it can be put right.
    Unknown {
        /// The number of the method.
        method: u8,
        /// The number of the kind of tunnel.
        tunnel: u8,
    },
}

/// What a packet travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// IP in IP.
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// The UDP port at the real server; the kernel refuses 0.
        port: u16,
        /// How the outer packet is protected.
        checksum: Checksum,
    },
    /// Generic routing encapsulation.
    Gre {
        /// Whether the header carries a checksum; there is no remote one here.
        checksum: Checksum,
    },
}

/// How the outer packet of a tunnel is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Not at all.
    #[default]
    None,
    /// By a checksum.
    Full,
    /// By remote checksum offload (generic UDP encapsulation only).
    Remote,
}

/// All virtual servers: what should be there, or what is.
pub type Table = BTreeMap<VirtualAddress, VirtualServer>;

impl VirtualAddress {
    /// A virtual server by protocol, address and port.
    pub fn socket(protocol: Protocol, address: SocketAddr) -> Self {
        Self::Socket(protocol, SocketAddr::new(address.ip(), address.port()))
    }

    /// The address that clients connect to, if there is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Socket(_, address) => Some(address.ip()),
            Self::FirewallMark(..) => None,
        }
    }

    /// The family of its addresses.
    pub fn family(&self) -> Family {
        match self {
            Self::Socket(_, address) => Family::of(address.ip()),
            Self::FirewallMark(family, _) => *family,
        }
    }
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The bits of an address.
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl VirtualServer {
    /// A virtual server without real servers.
    pub fn new(scheduling: Scheduling) -> Self {
        Self {
            scheduling,
            real_servers: BTreeMap::new(),
        }
    }

    /// Are there real servers that new connections may go to?
    pub fn is_serving(&self) -> bool {
        self.real_servers.values().any(|real| real.weight > 0)
    }
}

impl Scheduling {
    /// Plain scheduling: no flags, no persistence.
    pub fn by(scheduler: KernelName) -> Self {
        Self {
            scheduler,
            flags: SchedulingFlags::default(),
            persistence: None,
            persistence_engine: None,
        }
    }
}

impl SchedulingFlags {
    /// Each datagram is scheduled for itself (UDP).
    pub const ONE_PACKET: Self = Self(0x4);
    /// `sh`: a client whose real server is quiesced or overloaded gets another.
    pub const SH_FALLBACK: Self = Self(0x8);
    /// `sh`: the source port counts too.
    pub const SH_PORT: Self = Self(0x10);
    /// `mh`: as [`Self::SH_FALLBACK`].
    pub const MH_FALLBACK: Self = Self(0x8);
    /// `mh`: as [`Self::SH_PORT`].
    pub const MH_PORT: Self = Self(0x10);
    /// The third flag that a scheduler may give a meaning; none does so far.
    pub const SCHEDULER_3: Self = Self(0x20);

    /// Those that belong to the scheduler, not to the virtual server.
    const OF_SCHEDULER: u32 = 0x38;
    const ALL: u32 = Self::ONE_PACKET.0 | Self::OF_SCHEDULER;

    /// These flags out of the kernel's number; bits that are not a choice of
    /// the user's (persistent, hashed) are left out.
    pub fn from_bits(bits: u32) -> Self {
        Self(bits & Self::ALL)
    }

    /// The kernel's number.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Without those of `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Without what only the scheduler understands that they were meant for.
    #[must_use]
    pub fn without_scheduler(self) -> Self {
        Self(self.0 & !Self::OF_SCHEDULER)
    }

    /// Are all of `other` set?
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl RealServer {
    /// A real server without limits.
    pub fn new(forwarding: Forwarding, weight: u32) -> Self {
        Self {
            forwarding,
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }
}

impl fmt::Debug for SchedulingFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SchedulingFlags({:#x})", self.0)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl fmt::Display for VirtualAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(protocol, address) => write!(f, "{protocol} {address}"),
            Self::FirewallMark(family, mark) => write!(f, "mark {mark} ({family})"),
        }
    }
}
