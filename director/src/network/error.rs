//! What can go wrong with links and addresses, in words for an operator.

use std::io;
use std::net::IpAddr;

use nix::errno::Errno;

use crate::model::KernelName;

/// Why links can't be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// No rtnetlink socket can be opened.
    #[error("can't open an rtnetlink socket")]
    Open(#[source] io::Error),
    /// The socket died, or the kernel did not answer in time. The next request
    /// opens a new one.
    #[error("the kernel does not answer on the rtnetlink socket")]
    Silent,
    /// The process may not change links.
    #[error("no permission to {0}: the capability NET_ADMIN is needed (--cap-add NET_ADMIN)")]
    Denied(Deed),
    /// The kernel has no dummy devices.
    #[error(
        "the kernel can't make the device {0}: it has no module dummy; \
         load it on the host (modprobe dummy), or use lo (--receiver-device lo)"
    )]
    NoDummy(KernelName),
    /// A device of that name is something else.
    #[error(
        "the device {0} is there already and is no dummy device: \
         remove it, or choose another name (--receiver-device)"
    )]
    NotDummy(KernelName),
    /// There is no such device, or no longer.
    #[error("can't {0}: the device is gone")]
    Gone(Deed),
    /// IPv6 is switched off there.
    #[error("can't {0}: IPv6 is switched off there (net.ipv6.conf.*.disable_ipv6)")]
    Ipv6Off(Deed),
    /// Anything else.
    #[error("can't {deed}: {errno}")]
    Refused {
        /// What was asked for.
        deed: Deed,
        /// The kernel's answer.
        errno: Errno,
    },
}

impl NetworkError {
    /// Does the process lack a capability?
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::Denied(_))
    }
}

/// What the kernel was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deed {
    /// To say what there is.
    Read,
    /// To add an address to a device.
    Add(IpAddr, u32),
    /// To remove one.
    Remove(IpAddr, u32),
    /// To make a device.
    Make(KernelName),
    /// To switch a device on.
    SwitchOn(u32),
    /// To remove a device.
    RemoveLink(u32),
    /// To change the filter.
    Filter,
}

impl std::fmt::Display for Deed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read => f.write_str("read links and addresses"),
            Self::Add(address, index) => write!(f, "add {address} to device {index}"),
            Self::Remove(address, index) => write!(f, "remove {address} from device {index}"),
            Self::Make(name) => write!(f, "make the device {name}"),
            Self::SwitchOn(index) => write!(f, "switch on device {index}"),
            Self::RemoveLink(index) => write!(f, "remove device {index}"),
            Self::Filter => f.write_str("change the nftables filter"),
        }
    }
}

impl NetworkError {
    /// Puts the kernel's answer into words.
    pub(crate) fn refusal(deed: Deed, errno: Errno) -> Self {
        match (errno, deed) {
            (Errno::EPERM, deed) => Self::Denied(deed),
            (Errno::EACCES, deed @ Deed::Add(IpAddr::V6(_), _)) => Self::Ipv6Off(deed),
            (Errno::EOPNOTSUPP, Deed::Make(name)) => Self::NoDummy(name),
            (Errno::ENODEV | Errno::ENXIO, deed) => Self::Gone(deed),
            (errno, deed) => Self::Refused { deed, errno },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answers_say_what_to_do() {
        let device = || Deed::Make(KernelName::new("tidegate0").unwrap());
        let six = || Deed::Add("fd00::10".parse().unwrap(), 7);
        let four = || Deed::Add("192.0.2.10".parse().unwrap(), 7);
        let rows = [
            (Errno::EPERM, device(), "NET_ADMIN"),
            (Errno::EOPNOTSUPP, device(), "modprobe dummy"),
            (Errno::EOPNOTSUPP, device(), "--receiver-device lo"),
            (Errno::EACCES, six(), "IPv6 is switched off"),
            (Errno::EACCES, four(), "can't add 192.0.2.10 to device 7"),
            (Errno::ENODEV, four(), "the device is gone"),
            (
                Errno::EOPNOTSUPP,
                Deed::Filter,
                "can't change the nftables filter",
            ),
        ];
        for (errno, deed, expected) in rows {
            let words = NetworkError::refusal(deed, errno).to_string();
            assert!(words.contains(expected), "{words}");
        }
    }
}
