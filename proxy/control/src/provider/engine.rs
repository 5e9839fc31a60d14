//! From an engine's views to updates: what the Docker and Swarm providers share.

use std::sync::Arc;

use tidegate_shared::docker::watch::{self, Freshness, View};
use tidegate_shared::docker::{ClientSettings, ClientTls, DockerEngine, EndpointError, Engine};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Update;
use super::relay::{self, Relay};
use super::workload::{Rules, RulesError};
use crate::config::dynamic::Configuration;
use crate::config::startup;

/// How old a provider's last reading is; shared with metrics and readiness.
pub type ProviderHealth = Freshness;

/// A provider can't work with its static configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// The endpoint or its TLS settings.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The rules for workloads.
    #[error(transparent)]
    Rules(#[from] RulesError),
}

/// A provider that reads an engine, ready to run.
#[derive(Debug)]
pub(super) struct Source {
    /// As it stands behind the `@` of its objects.
    pub(super) name: &'static str,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) watch: watch::Settings,
    pub(super) rules: Rules,
    pub(super) health: Arc<ProviderHealth>,
    /// The other proxies, to tell and to ask.
    pub(super) relay: Option<Relay>,
}

impl Source {
    /// Watches the engine and sends what `convert` makes of each view, until `stop`
    /// is cancelled or nobody takes updates any more. An engine that is away
    /// changes nothing: what was sent last stays.
    pub(super) async fn run<C, F>(
        self,
        updates: mpsc::Sender<Update>,
        stop: CancellationToken,
        mut convert: C,
    ) where
        C: FnMut(View, Arc<Rules>) -> F,
        F: Future<Output = Configuration>,
    {
        let (sender, mut views) = mpsc::channel(1);
        let rules = Arc::new(self.rules);
        let watching = async {
            match self.relay {
                None => watch::run(self.engine, self.watch, sender, self.health, stop).await,
                Some(relay) => {
                    let settings = relay::Settings {
                        engine: self.engine,
                        watch: self.watch,
                        health: self.health,
                    };
                    relay::run(settings, relay, sender, stop).await;
                }
            }
        };
        let converting = async move {
            let mut last = None;
            while let Some(view) = views.recv().await {
                let configuration = convert(view, Arc::clone(&rules)).await;
                if last.as_ref() == Some(&configuration) {
                    continue;
                }
                last = Some(configuration.clone());
                let update = Update {
                    provider: self.name.into(),
                    configuration,
                };
                if updates.send(update).await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(watching, converting);
    }
}

/// An engine's client for these static settings.
pub(super) fn client(
    endpoint: &str,
    tls: Option<&startup::ClientTls>,
    credentials: (&str, &str),
    timeout: std::time::Duration,
) -> Result<Arc<dyn Engine>, EndpointError> {
    Ok(Arc::new(docker(endpoint, tls, credentials, timeout)?))
}

/// The same as what it is.
pub(super) fn docker(
    endpoint: &str,
    tls: Option<&startup::ClientTls>,
    credentials: (&str, &str),
    timeout: std::time::Duration,
) -> Result<DockerEngine, EndpointError> {
    let settings = ClientSettings {
        endpoint: endpoint.to_owned(),
        tls: tls.map(|tls| ClientTls {
            ca: tls.ca.clone(),
            cert: tls.cert.clone(),
            key: tls.key.clone(),
            insecure_skip_verify: tls.insecure_skip_verify,
        }),
        username: credentials.0.to_owned(),
        password: credentials.1.to_owned(),
        timeout,
    };
    DockerEngine::new(&settings)
}
