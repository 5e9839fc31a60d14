//! Classic BPF programs: what a packet socket hands over.
//!
//! Owns the few instructions by which the kernel drops, before they cost
//! anything, the frames that are not for the election. `wire` attaches them.

use socket2::SockFilter;

const LOAD_BYTE: u16 = 0x30;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Behind 14 bytes of Ethernet: what follows IPv6's header.
const NEXT_HEADER: u32 = 20;
/// Behind IPv6's 40: the type of the ICMP message.
const TYPE: u32 = 54;
const ICMP: u32 = 58;
const NEIGHBOUR_ADVERTISEMENT: u32 = 136;

/// Neighbour advertisements, among frames that are IPv6.
pub(super) const ADVERTISEMENTS: [SockFilter; 6] = [
    SockFilter::new(LOAD_BYTE, 0, 0, NEXT_HEADER),
    SockFilter::new(JUMP_IF_EQUAL, 0, 3, ICMP),
    SockFilter::new(LOAD_BYTE, 0, 0, TYPE),
    SockFilter::new(JUMP_IF_EQUAL, 0, 1, NEIGHBOUR_ADVERTISEMENT),
    SockFilter::new(RETURN, 0, 0, 0xffff),
    SockFilter::new(RETURN, 0, 0, 0),
];

/// Nothing: for a socket that only sends.
pub(super) const NOTHING: [SockFilter; 1] = [SockFilter::new(RETURN, 0, 0, 0)];

/// Everything that the socket's protocol lets through.
pub(super) const ALL: SockFilter = SockFilter::new(RETURN, 0, 0, 0xffff);
