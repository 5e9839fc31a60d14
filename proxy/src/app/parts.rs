//! The parts that live as long as the process, and the entry points made of them.

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::SystemTime;

use ::http::HeaderValue;
use futures_util::future::BoxFuture;
use rustls::ServerConfig;
use rustls::server::ClientHello;

use super::StartError;
use super::acme_http::ChallengeService;
use super::around::Around;
use super::view::Shown;
use crate::acme::challenge::{Board, TlsAlpn};
use crate::acme::resolver::Outlet;
use crate::admin::{
    ApiService, DashboardService, NoopService, PingService, ProcessFacts, PrometheusService,
    Terminating,
};
use crate::config::startup::{self, Acme, StaticConfig};
use crate::entry_point::{ConnectionEvents, Dispatch, EntryPoint};
use crate::http::SharedService;
use crate::observe::{AccessLog, EntryPointScope, Metrics, Recorder};
use crate::provider::internal;
use crate::snapshot::{Builder, Internals, Registry, SnapshotCell};
use crate::tls::tickets::Tickets;
use crate::tls::{SelectedConfig, ServerConfigs};

/// What lives as long as the process.
pub(super) struct App {
    pub(super) config: Arc<StaticConfig>,
    pub(super) snapshot: Arc<SnapshotCell>,
    pub(super) metrics: Option<Arc<Metrics>>,
    pub(super) access_log: Option<Arc<AccessLog>>,
    pub(super) terminating: Terminating,
    /// What authorities can ask this process for.
    pub(super) board: Arc<Board>,
    /// What certificate resolvers have.
    pub(super) outlet: Arc<Outlet>,
    /// Answers their handshakes, if a resolver wants that.
    validations: Option<Arc<TlsAlpn>>,
    pub(super) tickets: Arc<Tickets>,
    /// What is followed and who is talked with, once that has begun.
    pub(super) around: Arc<OnceLock<Around>>,
}

impl App {
    /// Everything but what listens and what is listened to.
    pub(super) fn make(config: Arc<StaticConfig>) -> Result<(Self, Builder), StartError> {
        let metrics = metrics(&config)?;
        let access_log = match &config.access_log {
            Some(settings) => Some(Arc::new(AccessLog::start(settings)?)),
            None => None,
        };
        if let (Some(metrics), Some(log)) = (&metrics, &access_log) {
            metrics.attach_access_log(log);
        }
        let crypto = Arc::new(crate::tls::provider());
        let registry = Registry::new(Arc::clone(&crypto))?;
        let board = Arc::new(Board::default());
        let validations = acme(&config).any(|acme| acme.tls_challenge.is_some());
        let tickets = registry.tickets();
        let mut builder = Builder::new(Arc::clone(&config), metrics.clone(), registry);
        let app = Self {
            snapshot: Arc::new(SnapshotCell::from_pointee(builder.empty())),
            config,
            metrics,
            access_log,
            terminating: Terminating::default(),
            validations: validations.then(|| Arc::new(TlsAlpn::new(Arc::clone(&board), crypto))),
            board,
            outlet: Arc::default(),
            tickets,
            around: Arc::default(),
        };
        builder.set_internals(app.internals());
        Ok((app, builder))
    }

    pub(super) fn worker_count(&self) -> usize {
        match self.config.workers {
            0 => thread::available_parallelism().map_or(1, NonZeroUsize::get),
            count => count,
        }
    }

    /// The services that answer for the proxy itself, as far as they are on.
    fn internals(&self) -> Internals {
        let mut internals = Internals::new();
        let mut add = |name: &str, service: SharedService| {
            internals.insert(format!("{name}@{}", internal::NAME), service);
        };
        add("noop", Arc::new(NoopService));
        if let Some(api) = &self.config.api {
            let facts = ProcessFacts {
                version: env!("CARGO_PKG_VERSION"),
                started: SystemTime::now(),
            };
            let source = Arc::new(Shown {
                snapshot: Arc::clone(&self.snapshot),
                resolvers: self.outlet.states(),
                around: Arc::clone(&self.around),
            });
            add(
                "api",
                Arc::new(ApiService::new(source, &self.config, facts)),
            );
            if api.dashboard {
                add("dashboard", Arc::new(DashboardService));
            }
        }
        if let Some(ping) = &self.config.ping {
            let service = PingService::new(ping, self.terminating.clone());
            add("ping", Arc::new(service));
        }
        if acme(&self.config).any(|acme| acme.http_challenge.is_some()) {
            let service = ChallengeService::new(Arc::clone(&self.board));
            add("acme-http", Arc::new(service));
        }
        if let Some(metrics) = &self.metrics {
            let service = PrometheusService::new(Arc::clone(metrics));
            add("prometheus", Arc::new(service));
        }
        internals
    }

    /// The entry points, ready to be opened.
    pub(super) fn entry_points(&self) -> Vec<EntryPoint> {
        let server = HeaderValue::try_from(host_name())
            .unwrap_or_else(|_| HeaderValue::from_static("tidegate"));
        self.config
            .entry_points
            .iter()
            .map(|(name, config)| self.entry_point(name, config, &server))
            .collect()
    }

    fn entry_point(
        &self,
        name: &str,
        config: &startup::EntryPoint,
        server: &HeaderValue,
    ) -> EntryPoint {
        let name: Arc<str> = name.into();
        let metrics = self.metrics.as_ref();
        let recorder = Recorder::new(
            &name,
            config.observability.clone(),
            metrics.map(AsRef::as_ref),
            self.access_log.clone(),
        );
        let dispatch = Dispatch::new(
            Arc::clone(&name),
            config,
            server.clone(),
            Arc::clone(&self.snapshot),
            Arc::new(recorder),
        );
        let events: Arc<dyn ConnectionEvents> = match metrics {
            Some(metrics) => Arc::new(Counted {
                scope: metrics.entry_point(&name),
                metrics: Arc::clone(metrics),
            }),
            None => Arc::new(()),
        };
        EntryPoint {
            name: Arc::clone(&name),
            config: config.clone(),
            service: Arc::new(dispatch),
            tls: Some(Arc::new(InForce {
                entry_point: name,
                snapshot: Arc::clone(&self.snapshot),
                validations: (!config.allow_acme_by_pass)
                    .then(|| self.validations.clone())
                    .flatten(),
            })),
            events,
        }
    }
}

fn metrics(config: &StaticConfig) -> Result<Option<Arc<Metrics>>, StartError> {
    let Some(metrics) = &config.metrics else {
        return Ok(None);
    };
    let Some(prometheus) = &metrics.prometheus else {
        return Ok(None);
    };
    let metrics = Metrics::new(prometheus, metrics.add_internals)?;
    Ok(Some(Arc::new(metrics)))
}

/// The name of this machine; in a container, what the stack file calls it.
pub(super) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// The settings of all certificate resolvers that speak ACME.
fn acme(config: &StaticConfig) -> impl Iterator<Item = &Acme> {
    let resolvers = config.certificates_resolvers.values();
    resolvers.filter_map(|resolver| resolver.acme.as_ref())
}

/// The TLS settings of the snapshot that is in force when a client says hello.
#[derive(Debug)]
struct InForce {
    entry_point: Arc<str>,
    snapshot: Arc<SnapshotCell>,
    validations: Option<Arc<TlsAlpn>>,
}

impl ServerConfigs for InForce {
    fn select(&self, hello: &ClientHello<'_>) -> Option<SelectedConfig> {
        self.snapshot.load().tls.select(&self.entry_point, hello)
    }

    fn challenge<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Option<Arc<ServerConfig>>> {
        match &self.validations {
            Some(validations) => Box::pin(validations.config(name)),
            None => Box::pin(std::future::ready(None)),
        }
    }
}

/// Counts an entry point's connections.
#[derive(Debug)]
struct Counted {
    scope: Arc<EntryPointScope>,
    metrics: Arc<Metrics>,
}

impl ConnectionEvents for Counted {
    fn opened(&self) {
        self.scope.connection_opened();
    }

    fn closed(&self) {
        self.scope.connection_closed();
    }

    fn handshake_failed(&self) {
        self.scope.handshake_failed();
    }

    fn panicked(&self) {
        self.metrics.worker_panicked();
    }
}

#[cfg(test)]
mod tests;
