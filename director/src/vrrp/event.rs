//! What a virtual router is told and what it asks for.
//!
//! Values only. The shell turns packets, timers and kernel messages into
//! [`Event`]s and carries out [`Effect`]s in the order in which they are given.

use std::net::IpAddr;
use std::time::Duration;

use super::arp::HardwareAddress;
use super::packet::{Advertisement, Checksum};

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Begin. `holding` says that the addresses are already on the interface,
    /// left by a process that died: they are adopted and not taken down.
    Start {
        /// Whether all of the addresses were found.
        holding: bool,
    },
    /// An advertisement that was read and may be for this virtual router.
    Received {
        /// Who sent it.
        source: IpAddr,
        /// What it says.
        advertisement: Advertisement,
        /// How it was summed.
        checksum: Checksum,
    },
    /// The moment that was asked for has come. Packets that wait in the socket
    /// must be handed over first.
    Timer,
    /// The interface got or lost its carrier.
    Link(bool),
    /// This machine can or cannot serve: the kernel refused the services or
    /// the addresses.
    Fit(bool),
    /// The priority changed: 1 to 254, cut to that. An owner keeps its own.
    Priority(u8),
    /// Something else on the link was heard: gateway, node or peer.
    Witness,
    /// A neighbour says that it holds one of the addresses.
    Claimed {
        /// The address.
        address: IpAddr,
        /// Who says so. Our own frames must not be handed over.
        hardware: HardwareAddress,
    },
    /// What the kernel says about the addresses, on every change of them and
    /// now and then: all are on the interface, or not.
    Holding(bool),
    /// The operator wants another machine to be master.
    Yield,
    /// A clean stop.
    Stop,
}

/// Something to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Put the services into the kernel; those that are there already stay.
    Program,
    /// Take the services out of the kernel and be a standby.
    Withdraw,
    /// Put the virtual addresses on the interface; those that are there stay.
    AddAddresses,
    /// Take the virtual addresses off the interface.
    RemoveAddresses,
    /// Take these off the interface: they are no longer configured.
    DropAddresses(Vec<IpAddr>),
    /// Send a message from the machine's own address, hop limit 255.
    Send {
        /// To a peer or the group.
        destination: IpAddr,
        /// The VRRP message.
        message: Vec<u8>,
    },
    /// Tell the link where the addresses are, in every form there is.
    Announce,
    /// Ask the link who holds the addresses; answers come as [`Event::Claimed`].
    ProbeAddresses,
    /// Ask the witnesses for a sign of life; it comes as [`Event::Witness`].
    ProbeWitness,
    /// An operator should know.
    Alarm(Alarm),
    /// The state changed; everything that belongs to it is above.
    Entered {
        /// The new state.
        state: State,
        /// What led to it.
        cause: Cause,
    },
}

/// The states of RFC 9568 section 6.4, and the time of leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not started, stopped, without a link, or unfit.
    Initialize,
    /// Watches a master.
    Backup,
    /// Holds the addresses and advertises.
    Master,
    /// Has said that it leaves, and serves until another has taken over.
    Leaving,
}

/// Why a state was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// It was told to start, or the link came up, or it is fit again.
    Started,
    /// It found the addresses in place and heard no other master.
    Adopted,
    /// No advertisement came for the master down interval.
    MasterSilent,
    /// The master said that it leaves.
    MasterLeft,
    /// The master's priority is lower.
    Preempted,
    /// Another master has a higher priority, or the same and a higher address.
    Outranked(IpAddr),
    /// Another one became master while this process did not run.
    Replaced(IpAddr),
    /// Another one took over what was given away.
    HandedOver(IpAddr),
    /// Nobody took over in time.
    NobodyTookOver,
    /// The interface lost its carrier.
    LinkDown,
    /// The kernel refuses.
    Unfit,
    /// The operator asked.
    Asked,
    /// A clean stop.
    Stopped,
}

/// What an operator should know; each kind is repeated once a minute at most.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alarm {
    /// Another machine uses this number with another list of addresses.
    AddressesDiffer {
        /// Who.
        source: IpAddr,
        /// Its list.
        addresses: Vec<IpAddr>,
    },
    /// Another machine advertises at another interval.
    IntervalDiffers {
        /// Who.
        source: IpAddr,
        /// Its interval.
        interval: Duration,
    },
    /// Another machine holds an address and does not advertise it.
    DuplicateAddress {
        /// The address.
        address: IpAddr,
        /// The other machine.
        hardware: HardwareAddress,
    },
    /// A second master, which is to give way.
    SecondMaster {
        /// Who.
        source: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// Neither a peer nor a witness is heard.
    Isolated,
    /// This process did not run for a while.
    LostTime {
        /// How long it was silent, as a master, or late, as a backup.
        late: Duration,
    },
    /// The addresses were to be given away, and nobody took them.
    NobodyTookOver,
}

impl Alarm {
    /// A place per kind, for the pause between repeats.
    pub(super) fn kind(&self) -> usize {
        match self {
            Self::AddressesDiffer { .. } => 0,
            Self::IntervalDiffers { .. } => 1,
            Self::DuplicateAddress { .. } => 2,
            Self::SecondMaster { .. } => 3,
            Self::Isolated => 4,
            Self::LostTime { .. } => 5,
            Self::NobodyTookOver => 6,
        }
    }

    /// How many kinds there are.
    pub(super) const KINDS: usize = 7;
}
