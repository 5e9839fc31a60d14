//! The providers that the static configuration asks for, as running tasks.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::cluster::{Mesh, relay};
use crate::config::startup::StaticConfig;
use crate::provider::{ProviderError, ProviderHealth, Update, docker, file, internal, swarm};

/// Updates that may wait to be merged.
const BACKLOG: usize = 16;

/// The providers of one process.
#[derive(Debug)]
pub(super) struct Sources {
    /// Where their updates come out.
    pub(super) updates: mpsc::Receiver<Update>,
    /// The names of those that have something to say.
    pub(super) expected: BTreeSet<Arc<str>>,
    /// How old each engine's last answer is, by provider.
    pub(super) health: Vec<(&'static str, Arc<ProviderHealth>)>,
}

impl Sources {
    /// Starts every provider that is configured, as one of `tasks`. They stop when `stop` is cancelled.
    /// With a `mesh`, proxies that can't read the Swarm hear of it from those that can.
    pub(super) fn start(
        config: &StaticConfig,
        reload: &watch::Receiver<u64>,
        stop: &CancellationToken,
        mesh: Option<&Arc<dyn Mesh>>,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, StartError> {
        let (sender, updates) = mpsc::channel(BACKLOG);
        let mut sources = Self {
            updates,
            expected: BTreeSet::new(),
            health: Vec::new(),
        };
        let providers = &config.providers;
        if let Some(config) = &providers.docker {
            let provider = named(docker::NAME, docker::Provider::new(config))?;
            sources.expect(docker::NAME, Some(provider.health()));
            tasks.spawn(provider.run(sender.clone(), stop.clone()));
        }
        if let Some(config) = &providers.swarm {
            let mut provider = named(config.name(), swarm::Provider::new(config))?;
            if let Some(mesh) = mesh {
                let (relay, carrying) = relay::swarm(Arc::clone(mesh));
                provider = provider.relayed(relay);
                tasks.spawn(carrying);
            }
            sources.expect(config.name(), Some(provider.health()));
            tasks.spawn(provider.run(sender.clone(), stop.clone()));
        }
        if let Some(config) = &providers.file {
            sources.expect(file::NAME, None);
            let run = file::run(config.clone(), sender.clone(), reload.clone(), stop.clone());
            tasks.spawn(run);
        }
        sources.expect(internal::NAME, None);
        let implied = internal::update(config);
        tasks.spawn(async move {
            // The receiver outlives this: it is in the same struct.
            let _ = sender.send(implied).await;
        });
        Ok(sources)
    }

    fn expect(&mut self, name: &'static str, health: Option<Arc<ProviderHealth>>) {
        self.expected.insert(name.into());
        self.health.extend(health.map(|health| (name, health)));
    }
}

fn named<T>(name: &'static str, provider: Result<T, ProviderError>) -> Result<T, StartError> {
    provider.map_err(|source| StartError::Provider { name, source })
}
