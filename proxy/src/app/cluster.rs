//! What this process has of the cluster that it is in, if it is in one.

use std::sync::Arc;

use super::StartError;
use super::certificates::Membership;
use super::parts::host_name;
use crate::cluster::Mesh;
use crate::cluster::seal::Seal;
use crate::cluster::secret::Secrets;
use crate::config::startup::StaticConfig;

/// A member, or a proxy alone.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    /// What certificate resolvers get of it.
    pub(super) membership: Membership,
    /// What the members tell each other with.
    pub(super) mesh: Option<Arc<dyn Mesh>>,
}

impl Cluster {
    /// Joins the cluster of the settings.
    pub(super) fn join(config: &StaticConfig) -> Result<Self, StartError> {
        let mut joined = Self::default();
        joined.membership.name = host_name();
        let Some(settings) = &config.cluster else {
            return Ok(joined);
        };
        if !settings.name.is_empty() {
            joined.membership.name.clone_from(&settings.name);
        }
        if let Some(secrets) = Secrets::read(settings)? {
            joined.membership.sealer = Some(Arc::new(Seal::new(&secrets)));
        }
        Ok(joined)
    }
}
