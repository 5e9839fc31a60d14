//! The one door to the stores: from a location to what keeps something there.

use std::sync::Arc;

use tidegate_shared::docker::Configs;

use super::etcd::EtcdStore;
use super::swarm::SwarmStore;
use super::{Location, Sealer, Store, StoreError, file};

/// What stores need beside their place.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// What this proxy is called, for people who look at locks.
    pub owner: String,
    /// Seals what others could read; nothing without a cluster's secret.
    pub sealer: Option<Arc<dyn Sealer>>,
    /// The Swarm provider's engine; nothing without that provider.
    pub configs: Option<Arc<dyn Configs>>,
}

/// Opens the store at this place and begins to read it. To be called in a runtime,
/// once for each place.
///
/// # Errors
/// When something that the store needs is missing. A place that only can't be reached
/// now is no error: [`Store::observed`] tells its trouble.
pub fn open(location: &Location, parts: &Parts) -> Result<Arc<dyn Store>, StoreError> {
    let sealer = parts.sealer.clone();
    match location {
        Location::File(path) => Ok(file::open(path)),
        Location::Swarm { prefix } => {
            let configs = parts.configs.clone();
            let configs = configs.ok_or_else(|| StoreError::Unusable {
                place: format!("swarm:{prefix}"),
                message: "the Swarm is asked through its provider: set providers.swarm".to_owned(),
            })?;
            let store = SwarmStore::open(prefix, &parts.owner, configs, sealer)?;
            Ok(Arc::new(store))
        }
        Location::Etcd(location) => {
            let store = EtcdStore::open(location, &parts.owner, sealer)?;
            Ok(Arc::new(store))
        }
    }
}
