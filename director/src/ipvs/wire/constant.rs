//! The numbers of commands and attributes.

use neli::consts::genl::{Cmd, NlAttrType};

/// Commands. Answers come as the command that would set what they tell.
#[neli::neli_enum(serialized_type = "u8")]
pub(crate) enum Command {
    NewService = 1,
    SetService = 2,
    DelService = 3,
    GetService = 4,
    NewDest = 5,
    SetDest = 6,
    DelDest = 7,
    GetDest = 8,
    NewDaemon = 9,
    DelDaemon = 10,
    GetDaemon = 11,
    SetConfig = 12,
    GetConfig = 13,
    GetInfo = 15,
}

impl Cmd for Command {}

/// The outermost attributes.
#[neli::neli_enum(serialized_type = "u16")]
pub(crate) enum Attribute {
    Service = 1,
    Dest = 2,
    Daemon = 3,
    TimeoutTcp = 4,
    TimeoutTcpFin = 5,
    TimeoutUdp = 6,
}

impl NlAttrType for Attribute {}

/// The outermost attributes of the answer to `GetInfo`: another numbering.
pub(super) mod info {
    pub(crate) const VERSION: u16 = 1;
    pub(crate) const CONNECTION_BUCKETS: u16 = 2;
}

/// What is in `Attribute::Service`.
#[neli::neli_enum(serialized_type = "u16")]
pub(crate) enum Service {
    Family = 1,
    Protocol = 2,
    Address = 3,
    Port = 4,
    Mark = 5,
    Scheduler = 6,
    Flags = 7,
    Timeout = 8,
    Netmask = 9,
    Stats = 10,
    Engine = 11,
    Stats64 = 12,
}

impl NlAttrType for Service {}

/// What is in `Attribute::Dest`.
#[neli::neli_enum(serialized_type = "u16")]
pub(crate) enum Dest {
    Address = 1,
    Port = 2,
    Forwarding = 3,
    Weight = 4,
    UpperThreshold = 5,
    LowerThreshold = 6,
    Active = 7,
    Inactive = 8,
    Persistent = 9,
    Stats = 10,
    Family = 11,
    Stats64 = 12,
    TunnelKind = 13,
    TunnelPort = 14,
    TunnelFlags = 15,
}

impl NlAttrType for Dest {}

/// What is in `Attribute::Daemon`.
#[neli::neli_enum(serialized_type = "u16")]
pub(crate) enum Daemon {
    State = 1,
    Interface = 2,
    SyncId = 3,
    MaxLength = 4,
    Group = 5,
    Group6 = 6,
    Port = 7,
    Ttl = 8,
}

impl NlAttrType for Daemon {}

/// Flag of a virtual server with persistence.
pub(super) const PERSISTENT: u32 = 0x1;

/// Address families, as Linux numbers them.
pub(super) mod family {
    pub(crate) const V4: u16 = 2;
    pub(crate) const V6: u16 = 10;
}

/// Protocols, as IANA numbers them.
pub(super) mod protocol {
    pub(crate) const TCP: u16 = 6;
    pub(crate) const UDP: u16 = 17;
    pub(crate) const SCTP: u16 = 132;
}

/// Forwarding methods.
pub(super) mod forwarding {
    pub(crate) const MASQUERADE: u8 = 0;
    pub(crate) const LOCAL_NODE: u8 = 1;
    pub(crate) const TUNNEL: u8 = 2;
    pub(crate) const DIRECT_ROUTING: u8 = 3;
    pub(crate) const BYPASS: u8 = 4;
    /// The bits of the number that say the method.
    pub(crate) const MASK: u32 = 7;
}

/// Kinds of tunnels and their flags.
pub(super) mod tunnel {
    pub(crate) const IPIP: u8 = 0;
    pub(crate) const GUE: u8 = 1;
    pub(crate) const GRE: u8 = 2;
    pub(crate) const CHECKSUM: u16 = 1;
    pub(crate) const REMOTE_CHECKSUM: u16 = 2;
}

/// Roles of sync daemons.
pub(super) mod role {
    pub(crate) const MASTER: u32 = 1;
    pub(crate) const BACKUP: u32 = 2;
}
