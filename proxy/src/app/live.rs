//! What is true right now, for whoever asks: scrapes and the API.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use tokio::time::Instant;

use super::around::Around;
use crate::acme::resolver::{ResolverState, ResolverStates};
use crate::observe::{
    CertificateSample, ConnectionSample, LiveState, MeshSample, ProviderSample, ResolverSample,
    ServerSample, ServiceSample,
};
use crate::service::{Server, Servers};
use crate::snapshot::SnapshotCell;

/// The snapshot in force, and what is behind it.
pub(super) struct Live {
    pub(super) snapshot: Arc<SnapshotCell>,
    pub(super) resolvers: watch::Receiver<Arc<ResolverStates>>,
    pub(super) around: Arc<OnceLock<Around>>,
}

impl Live {
    /// Calls `take` with each balanced service and its full name.
    fn each_service(&self, mut take: impl FnMut(&Arc<str>, &Servers)) {
        let snapshot = self.snapshot.load();
        for (name, service) in &snapshot.report.services {
            if let Some(servers) = &service.servers {
                take(&name.as_str().into(), servers);
            }
        }
    }
}

impl LiveState for Live {
    fn servers(&self) -> Vec<ServerSample> {
        let mut samples = Vec::new();
        self.each_service(|service, servers| {
            let all = servers.servers();
            samples.extend(all.iter().map(|server| sample(service, server)));
        });
        samples
    }

    fn services(&self) -> Vec<ServiceSample> {
        let mut samples = Vec::new();
        self.each_service(|service, servers| {
            samples.push(ServiceSample {
                service: Arc::clone(service),
                queued: u32::try_from(servers.queued()).unwrap_or(u32::MAX),
                handed: servers.handed_total(),
                withdrawn: servers.withdrawn_total(),
            });
        });
        samples
    }

    fn certificates(&self) -> Vec<CertificateSample> {
        let snapshot = self.snapshot.load();
        let store = &snapshot.tls.store;
        let all = store.iter().chain([store.default_certificate()]);
        all.map(|certificate| {
            let facts = &certificate.facts;
            let mut names = facts.names.clone();
            names.sort_unstable();
            CertificateSample {
                cn: facts.common_name.clone(),
                serial: facts.serial.clone(),
                sans: names.join(","),
                not_after: facts.not_after,
            }
        })
        .collect()
    }

    fn providers(&self) -> Vec<ProviderSample> {
        let around = self.around.get();
        around.map(Around::provider_samples).unwrap_or_default()
    }

    fn mesh(&self) -> Option<MeshSample> {
        self.around.get().and_then(Around::mesh_sample)
    }

    fn resolvers(&self) -> Vec<ResolverSample> {
        let states = Arc::clone(&self.resolvers.borrow());
        let all = states.by_name.iter();
        all.map(|(name, state)| resolver(name, state)).collect()
    }
}

fn resolver(name: &str, state: &ResolverState) -> ResolverSample {
    let read_at = state.store.borrow().at;
    let mut sets = BTreeMap::new();
    for set in &state.sets {
        *sets.entry(set.status.as_str()).or_default() += 1;
    }
    ResolverSample {
        resolver: name.into(),
        certificates: state.certificates,
        wanted: sets,
        store_age: read_at.map(|at| Instant::now().saturating_duration_since(at)),
        next_renewal: state.sets.iter().filter_map(|set| set.renew_at).min(),
        orders: state.orders.clone(),
    }
}

fn sample(service: &Arc<str>, server: &Server) -> ServerSample {
    let connections = server.target().upstream.connections();
    ServerSample {
        service: Arc::clone(service),
        url: Arc::clone(server.id()),
        up: server.is_up(),
        draining: is_draining(server),
        in_flight: server.in_flight(),
        limit: limit(server),
        maxconn: server.limits().max_in_flight,
        queued: server.queued(),
        requests: server.served_total(),
        ejections: ejections(server),
        connections: ConnectionSample {
            opened: connections.opened,
            reused: connections.reused,
            failed: connections.failed,
            idle: connections.idle,
            open: connections.open,
        },
    }
}

/// Most requests at a server at once at the moment.
pub(super) fn limit(server: &Server) -> u32 {
    server.limit()
}

/// How often failed requests took a server out, if anybody judges it.
pub(super) fn ejections(server: &Server) -> Option<u64> {
    let target = server.target();
    target.vital.as_ref().map(|vital| vital.ejections_total())
}

/// Whether a server gets no new requests: it is about to stop, or has no weight
/// and only those that belong to it.
pub(super) fn is_draining(server: &Server) -> bool {
    server.is_draining() || server.weight() == 0
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}
