//! Why the program ends, and the exit code that says so.

use crate::api::ApiError;
use crate::election::ElectionError;
use crate::ipvs::{IpvsError, Refusal};
use crate::network::{ChoiceError, NetworkError};
use crate::registry::StoreError;

/// Why a director can't run. The text says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The kernel's IPVS can't be used.
    #[error(transparent)]
    Ipvs(IpvsError),
    /// The links can't be read or changed.
    #[error(transparent)]
    Network(NetworkError),
    /// There is no interface for the virtual addresses.
    #[error(transparent)]
    Interface(ChoiceError),
    /// The API can't be served.
    #[error(transparent)]
    Api(ApiError),
    /// The registered services can't be read or kept.
    #[error(transparent)]
    Registry(StoreError),
    /// The process lacks a capability.
    #[error(
        "this process lacks {0}, and only a dry run goes without: start it as root, or in a container with --cap-add NET_ADMIN --cap-add NET_RAW"
    )]
    Capability(String),
    /// The end was asked for twice, and did not come.
    #[error("the end took too long after the second signal: what is in place stays")]
    Hasty,
    /// There can be no election.
    #[error(transparent)]
    Election(ElectionError),
    /// A part ended although nobody had asked it to.
    #[error("{0}")]
    Part(String),
}

impl Failure {
    /// The exit code, as the help text lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Ipvs(IpvsError::Absent) => 4,
            Self::Ipvs(error) if error.refusal() == Some(&Refusal::NotPermitted) => 5,
            Self::Network(error) if error.is_permission() => 5,
            Self::Election(ElectionError::NotPermitted(_)) | Self::Capability(_) => 5,
            Self::Interface(_) => 6,
            Self::Api(error) if error.is_in_use() => 7,
            Self::Ipvs(_)
            | Self::Network(_)
            | Self::Api(_)
            | Self::Election(_)
            | Self::Registry(_)
            | Self::Hasty
            | Self::Part(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tidegate_shared::report::Chain;

    use super::*;

    #[test]
    fn a_failure_says_once_what_it_is_and_has_its_code() {
        let failures = [
            (Failure::Ipvs(IpvsError::Absent), 4),
            (Failure::Capability("CAP_NET_RAW".to_owned()), 5),
            (
                Failure::Interface(ChoiceError::None(Ipv4Addr::LOCALHOST.into())),
                6,
            ),
            (Failure::Api(ApiError::SocketInUse("/run/d.sock".into())), 7),
            (Failure::Api(ApiError::NotASocket("/run/d.sock".into())), 1),
            (Failure::Hasty, 1),
        ];
        for (failure, code) in failures {
            assert_eq!(failure.exit_code(), code, "{failure}");
            assert_eq!(Chain(&failure).to_string(), failure.to_string());
        }
    }
}
