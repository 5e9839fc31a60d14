//! Why the program ends, and the exit code that says so.

use crate::api::ApiError;
use crate::election::ElectionError;
use crate::ipvs::{IpvsError, Refusal};
use crate::network::{ChoiceError, NetworkError};

/// Why a director can't run. The text says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The kernel's IPVS can't be used.
    #[error("{0}")]
    Ipvs(#[source] IpvsError),
    /// The links can't be read or changed.
    #[error("{0}")]
    Network(#[source] NetworkError),
    /// There is no interface for the virtual addresses.
    #[error("{0}")]
    Interface(#[source] ChoiceError),
    /// The API can't be served.
    #[error("{0}")]
    Api(#[source] ApiError),
    /// The registered services can't be read or kept.
    #[error("{0}")]
    Registry(String),
    /// There can be no election.
    #[error("{0}")]
    Election(#[source] ElectionError),
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
            Self::Election(ElectionError::NotPermitted(_)) => 5,
            Self::Interface(_) => 6,
            Self::Api(error) if error.is_in_use() => 7,
            Self::Ipvs(_)
            | Self::Network(_)
            | Self::Api(_)
            | Self::Election(_)
            | Self::Registry(_)
            | Self::Part(_) => 1,
        }
    }
}
