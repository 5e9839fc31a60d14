//! Where the dynamic configuration comes from.
//!
//! A provider watches one source (an engine, a Swarm, files) and sends what
//! that source says as a whole, each time it changes. It never touches a
//! snapshot: `aggregate` merges what all providers say, `app` hands the result on.

pub mod aggregate;
pub mod constraint;
pub mod decode;
pub mod docker;
mod engine;
pub mod file;
pub mod internal;
pub mod relay;
pub mod swarm;
pub mod template;
mod workload;

pub use engine::{ProviderError, ProviderHealth};

use std::sync::Arc;

use crate::config::dynamic::Configuration;

/// What one provider says from now on.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The provider's name, as it stands behind the `@` of its objects.
    pub provider: Arc<str>,
    /// Everything it says; what was said before and is not in here is gone.
    pub configuration: Configuration,
}
