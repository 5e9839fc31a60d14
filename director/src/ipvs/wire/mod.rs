//! Bytes of IPVS's generic netlink family, to and from the model.
//!
//! Pure and total: whatever the bytes, there is a value or an error. Numbers
//! are in the byte order of the machine but for ports, IPv4 addresses and
//! IPv4 masks, which are in network order. The layout is that of Linux's
//! `uapi/linux/ip_vs.h`; `netlink` sends and receives.

mod constant;
mod decode;
mod encode;
mod reader;

pub(super) use constant::Command;
pub(super) use decode::{
    configuration, daemon, family_number, information, real_entry, virtual_entry,
};
pub(super) use encode::{
    Request, add_virtual, change_real, find_family, key, remove_real, set_timeouts, start_sync,
    stop_sync, whole,
};

/// The name of the family.
pub(super) const FAMILY: &str = "IPVS";

/// The number of the family that knows the others' numbers.
pub(super) const CONTROL: u16 = 16;

/// The version of the family.
const VERSION: u8 = 1;

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// It ends too early, or an attribute claims more than there is.
    #[error("the message ends within an attribute")]
    Truncated,
    /// An attribute is too short or too long for what it holds.
    #[error("{what} has {length} bytes")]
    Length {
        /// What the attribute holds.
        what: &'static str,
        /// How long it is.
        length: usize,
    },
    /// An attribute that must be there is not.
    #[error("the message lacks {0}")]
    Missing(&'static str),
    /// A number has no meaning there.
    #[error("{what} cannot be {number}")]
    Unknown {
        /// What the number is of.
        what: &'static str,
        /// The number.
        number: u32,
    },
    /// A text is no name.
    #[error("{0} is no name")]
    Name(&'static str),
}

#[cfg(test)]
mod tests;
