//! What goes wrong with the kernel, and what the number it answers with means
//! in that place: the same errno says three things in IPVS.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::wire::WireError;
use crate::model::{Family, KernelName, SyncRole, VirtualAddress};

/// What was asked of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Version and size, or the time-outs, or anything else that only reads.
    Read,
    /// Reading one virtual server.
    ReadVirtual(VirtualAddress),
    /// Adding a virtual server, with this scheduler.
    AddVirtual(VirtualAddress, KernelName),
    /// Changing one, to this scheduler.
    SetVirtual(VirtualAddress, KernelName),
    /// Removing one.
    RemoveVirtual(VirtualAddress),
    /// Adding a real server.
    AddReal(VirtualAddress, SocketAddr),
    /// Changing one.
    SetReal(VirtualAddress, SocketAddr),
    /// Removing one.
    RemoveReal(VirtualAddress, SocketAddr),
    /// Setting the time-outs.
    SetTimeouts,
    /// Starting a sync daemon on this interface.
    StartSync(SyncRole, KernelName),
    /// Stopping one.
    StopSync(SyncRole),
}

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IpvsError {
    /// The kernel knows no IPVS.
    #[error(
        "this kernel has no IPVS: run `modprobe ip_vs` on the host, and name ip_vs in \
         /etc/modules-load.d/ to have it after a restart"
    )]
    Absent,
    /// The kernel understood and refused.
    #[error("cannot {operation}: {refusal}")]
    Refused {
        /// What was asked.
        operation: Operation,
        /// Why not.
        refusal: Refusal,
    },
    /// There is no talking to the kernel. It is unknown whether what was asked
    /// has happened; the next call opens a new socket.
    #[error("cannot {operation}: the netlink socket failed: {cause}")]
    Socket {
        /// What was asked.
        operation: Operation,
        /// What the socket says.
        cause: String,
    },
    /// The kernel did not answer. As with [`IpvsError::Socket`], it is unknown
    /// what happened.
    #[error("cannot {operation}: no answer from the kernel within {within:?}")]
    Silent {
        /// What was asked.
        operation: Operation,
        /// How long was waited.
        within: Duration,
    },
    /// A message cannot be written or understood.
    #[error("cannot {operation}: {cause}")]
    Message {
        /// What was asked.
        operation: Operation,
        /// What is wrong with the message.
        cause: WireError,
    },
}

/// Why the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// EEXIST.
    #[error("it is there already")]
    Exists,
    /// ESRCH of a virtual server.
    #[error("there is no such virtual server")]
    NoVirtual,
    /// ENOENT of a real server.
    #[error("there is no such real server")]
    NoReal,
    /// ENOENT of a scheduler or a persistence engine.
    #[error(
        "the kernel has no scheduler {0} and could not load one (or the persistence engine \
         asked for): run `modprobe ip_vs_{0}` on the host"
    )]
    NoScheduler(KernelName),
    /// EPERM.
    #[error("not permitted: the director needs CAP_NET_ADMIN")]
    NotPermitted,
    /// EINVAL of a real server.
    #[error(
        "the kernel takes no such real server: there is no route to its address, or it is no \
         address of one machine, or of another family without a tunnel"
    )]
    BadReal,
    /// EINVAL elsewhere.
    #[error("the kernel finds a value invalid")]
    Invalid,
    /// ERANGE.
    #[error("weight or thresholds out of range: at most 2147483647, the lower one not the larger")]
    OutOfRange,
    /// EAFNOSUPPORT; some kernels say EAGAIN.
    #[error("this kernel's IPVS was built without IPv6")]
    NoIpv6,
    /// EOPNOTSUPP.
    #[error("this kernel's IPVS does not know the request")]
    NotSupported,
    /// ENODEV.
    #[error("there is no interface {0}, or it is down")]
    NoInterface(KernelName),
    /// EEXIST of a sync daemon.
    #[error("a sync daemon of this role runs already: stop it first")]
    SyncRuns,
    /// ESRCH of a sync daemon.
    #[error("no sync daemon of this role runs")]
    NoSync,
    /// ENOMEM.
    #[error("the kernel has no memory left")]
    NoMemory,
    /// ENOPROTOOPT.
    #[error("the module ip_vs is being unloaded")]
    Unloading,
    /// Any other number.
    #[error("errno {0}")]
    Other(i32),
}

/// Numbers of Linux errors, the same on every architecture Tidegate is built for.
pub(super) mod errno {
    pub(crate) const EPERM: i32 = 1;
    pub(crate) const ENOENT: i32 = 2;
    pub(crate) const ESRCH: i32 = 3;
    pub(crate) const EAGAIN: i32 = 11;
    pub(crate) const ENOMEM: i32 = 12;
    pub(crate) const EEXIST: i32 = 17;
    pub(crate) const ENODEV: i32 = 19;
    pub(crate) const EINVAL: i32 = 22;
    pub(crate) const ERANGE: i32 = 34;
    pub(crate) const ENOPROTOOPT: i32 = 92;
    pub(crate) const EOPNOTSUPP: i32 = 95;
    pub(crate) const EAFNOSUPPORT: i32 = 97;
}

impl Operation {
    /// What an errno means as an answer to this.
    pub(super) fn refusal(&self, number: i32) -> Refusal {
        match number {
            errno::EPERM => Refusal::NotPermitted,
            errno::ENOENT => self.absent(),
            errno::ESRCH => match self {
                Self::StartSync(..) | Self::StopSync(_) => Refusal::NoSync,
                _ => Refusal::NoVirtual,
            },
            errno::EEXIST => match self {
                Self::StartSync(..) => Refusal::SyncRuns,
                _ => Refusal::Exists,
            },
            errno::EINVAL => match self {
                Self::AddReal(..) | Self::SetReal(..) => Refusal::BadReal,
                _ => Refusal::Invalid,
            },
            errno::ENODEV => match self {
                Self::StartSync(_, interface) => Refusal::NoInterface(interface.clone()),
                _ => Refusal::Other(number),
            },
            errno::ERANGE => Refusal::OutOfRange,
            errno::EAFNOSUPPORT => Refusal::NoIpv6,
            errno::EAGAIN if self.is_ipv6() => Refusal::NoIpv6,
            errno::EOPNOTSUPP => Refusal::NotSupported,
            errno::ENOMEM => Refusal::NoMemory,
            errno::ENOPROTOOPT => Refusal::Unloading,
            other => Refusal::Other(other),
        }
    }

    fn is_ipv6(&self) -> bool {
        match self {
            Self::ReadVirtual(address)
            | Self::AddVirtual(address, _)
            | Self::SetVirtual(address, _)
            | Self::RemoveVirtual(address) => address.family() == Family::V6,
            Self::AddReal(_, real) | Self::SetReal(_, real) | Self::RemoveReal(_, real) => {
                real.is_ipv6()
            }
            Self::Read | Self::SetTimeouts | Self::StartSync(..) | Self::StopSync(_) => false,
        }
    }

    fn absent(&self) -> Refusal {
        match self {
            Self::AddVirtual(_, scheduler) | Self::SetVirtual(_, scheduler) => {
                Refusal::NoScheduler(scheduler.clone())
            }
            Self::SetReal(..) | Self::RemoveReal(..) => Refusal::NoReal,
            _ => Refusal::Other(errno::ENOENT),
        }
    }

    /// The error of an errno as an answer to this.
    pub(super) fn refused(self, number: i32) -> IpvsError {
        let refusal = self.refusal(number);
        IpvsError::Refused {
            operation: self,
            refusal,
        }
    }
}

impl Refusal {
    /// Is something missing that was to be changed or removed?
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::NoVirtual | Self::NoReal)
    }
}

impl IpvsError {
    /// Why the kernel refused, if it did.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// Would anything else fail in the same way?
    pub fn is_general(&self) -> bool {
        match self {
            Self::Absent | Self::Socket { .. } | Self::Silent { .. } => true,
            Self::Refused { refusal, .. } => {
                matches!(refusal, Refusal::NotPermitted | Refusal::Unloading)
            }
            Self::Message { .. } => false,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read => f.write_str("read the state of IPVS"),
            Self::ReadVirtual(address) => write!(f, "read virtual server {address}"),
            Self::AddVirtual(address, scheduler) => {
                write!(f, "add virtual server {address} with scheduler {scheduler}")
            }
            Self::SetVirtual(address, scheduler) => {
                write!(f, "change virtual server {address} (scheduler {scheduler})")
            }
            Self::RemoveVirtual(address) => write!(f, "remove virtual server {address}"),
            Self::AddReal(address, real) => write!(f, "add real server {real} to {address}"),
            Self::SetReal(address, real) => write!(f, "change real server {real} of {address}"),
            Self::RemoveReal(address, real) => {
                write!(f, "remove real server {real} from {address}")
            }
            Self::SetTimeouts => f.write_str("set the time-outs of IPVS"),
            Self::StartSync(role, interface) => {
                write!(f, "start the {role} sync daemon on {interface}")
            }
            Self::StopSync(role) => write!(f, "stop the {role} sync daemon"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn an_errno_means_what_it_means_there() {
        let mark = VirtualAddress::FirewallMark(Family::V4, NonZeroU32::MIN);
        let six = VirtualAddress::FirewallMark(Family::V6, NonZeroU32::MIN);
        let mh = KernelName::new("mh").unwrap();
        let eth = KernelName::new("eth9").unwrap();
        let real = ([10, 0, 0, 1], 80).into();
        let rows = [
            (
                Operation::AddVirtual(mark, mh.clone()),
                2,
                Refusal::NoScheduler(mh),
            ),
            (Operation::SetReal(mark, real), 2, Refusal::NoReal),
            (Operation::SetReal(mark, real), 3, Refusal::NoVirtual),
            (Operation::StopSync(SyncRole::Backup), 3, Refusal::NoSync),
            (Operation::AddReal(mark, real), 17, Refusal::Exists),
            (
                Operation::StartSync(SyncRole::Master, eth.clone()),
                17,
                Refusal::SyncRuns,
            ),
            (
                Operation::StartSync(SyncRole::Master, eth.clone()),
                19,
                Refusal::NoInterface(eth),
            ),
            (Operation::AddReal(mark, real), 22, Refusal::BadReal),
            (Operation::SetTimeouts, 22, Refusal::Invalid),
            (Operation::AddReal(mark, real), 34, Refusal::OutOfRange),
            (Operation::Read, 1, Refusal::NotPermitted),
            (Operation::Read, 95, Refusal::NotSupported),
            (Operation::AddReal(mark, real), 97, Refusal::NoIpv6),
            (Operation::AddReal(six, real), 11, Refusal::Other(11)),
            (Operation::RemoveVirtual(six), 11, Refusal::NoIpv6),
            (Operation::Read, 71, Refusal::Other(71)),
        ];
        for (operation, number, meaning) in rows {
            assert_eq!(operation.refusal(number), meaning, "{operation}: {number}");
        }
    }

    #[test]
    fn an_error_is_a_sentence_that_says_what_to_do() {
        let mark = VirtualAddress::FirewallMark(Family::V6, NonZeroU32::MIN);
        let operation = Operation::AddVirtual(mark, KernelName::new("mh").unwrap());
        let text = operation.refused(errno::ENOENT).to_string();
        assert!(text.contains("add virtual server mark 1 (IPv6)"), "{text}");
        assert!(text.contains("modprobe ip_vs_mh"), "{text}");
    }
}
