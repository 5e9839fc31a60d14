//! Makes this machine take what a director sends: the virtual addresses on a
//! device of our own, and nothing said of them on the link.
//!
//! Sets it up, watches it, repairs it, and takes it down at the end. It only
//! knows this machine; the kernel's table is none of its business.

use std::net::IpAddr;
use std::time::Instant;

/// How receiving fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiverState {
    /// The device that holds the addresses.
    pub device: String,
    /// Which of the virtual addresses are in place.
    pub in_place: Vec<IpAddr>,
    /// How ARP is hushed: by the kernel's settings, by a filter, or not yet.
    pub hushed_by: Option<Hush>,
    /// How often something was repaired.
    pub repairs: u64,
    /// When that was last.
    pub repaired: Option<Instant>,
    /// Why it is not as it should be, in words.
    pub trouble: Option<String>,
}

/// How it is kept off the link whose address the virtual one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hush {
    /// `arp_ignore` and `arp_announce`.
    Settings,
    /// An nftables filter of our own in the family `arp`.
    Filter,
}
