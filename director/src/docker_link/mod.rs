//! Registers the published ports of this engine's containers, as GORB's
//! docker-link does.
//!
//! A port that is published on the host is a back end of the service
//! `IMAGE-PORT-PROTOCOL`; events of the engine show within a moment, and all is
//! read again from time to time. Everything that is registered this way goes
//! with its container; requests and their services are left alone. What a
//! container says about itself is in `rows`, which is pure.

mod host;
mod rows;

pub use host::Hosts;

use std::sync::Arc;

use tidegate_shared::docker::watch::{self, Freshness, Subject, View};
use tidegate_shared::docker::{Container, Engine};
use tidegate_shared::shutdown::{Shutdown, Stage};
use tokio::sync::{mpsc, watch as channel};
use tokio_util::sync::CancellationToken;

use crate::network::Snapshot;
use crate::registry::Registry;

/// Follows the engine until the end. An engine that goes away changes nothing.
pub async fn run(
    engine: Arc<dyn Engine>,
    hosts: Hosts,
    mut network: channel::Receiver<Arc<Snapshot>>,
    registry: Registry,
    mut shutdown: Shutdown,
) {
    let (sender, mut views) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let _stopped_with_this = stop.clone().drop_guard();
    let resync = watch::Settings::RESYNC;
    let settings = watch::Settings::follow(Subject::Containers, resync);
    let follow = watch::run(engine, settings, sender, Arc::<Freshness>::default(), stop);
    tokio::pin!(follow);
    let mut link = Link::new(hosts, registry);
    loop {
        tokio::select! {
            biased;
            () = shutdown.reached(Stage::Draining) => return,
            view = views.recv() => match view {
                Some(View::Containers(containers)) => link.containers = Some(containers),
                Some(View::Swarm(_)) => {}
                None => return,
            },
            Ok(()) = network.changed() => {}
            () = &mut follow => return,
        }
        let snapshot = Arc::clone(&network.borrow_and_update());
        link.register(&snapshot);
    }
}

struct Link {
    hosts: Hosts,
    registry: Registry,
    containers: Option<Vec<Container>>,
    /// What could not be registered when it was tried last, and why.
    refused: Vec<(String, String)>,
}

impl Link {
    fn new(hosts: Hosts, registry: Registry) -> Self {
        Self {
            hosts,
            registry,
            containers: None,
            refused: Vec::new(),
        }
    }

    fn register(&mut self, snapshot: &Snapshot) {
        let Some(containers) = &self.containers else {
            return;
        };
        let family = |service: &str| self.registry.family(service);
        let host = |family| self.hosts.own(snapshot, family);
        let (rows, mut refused) = rows::rows(containers, family, host);
        let more = self.registry.link(&rows).into_iter();
        refused.extend(more.map(|(backend, refusal)| (backend, refusal.to_string())));
        for (backend, reason) in &refused {
            if !self.refused.contains(&(backend.clone(), reason.clone())) {
                tracing::warn!(backend, reason, "Can't register a port of a container");
            }
        }
        self.refused = refused;
    }
}

#[cfg(test)]
mod tests;
