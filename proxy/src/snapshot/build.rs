//! From the merged dynamic configuration to a snapshot.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::middleware::Middlewares;
use super::router::Routers;
use super::service::Services;
use super::tls::TlsDraft;
use super::{Registry, Report, Snapshot, names};
use crate::config::dynamic::Configuration;
use crate::config::startup::StaticConfig;
use crate::http::SharedService;
use crate::observe::Metrics;
use crate::tls::{Issued, Wanted};

/// Services that are built in, by full name (`ping@internal`).
pub type Internals = BTreeMap<String, SharedService>;

/// Builds one snapshot after the other.
#[derive(Debug)]
pub struct Builder {
    config: Arc<StaticConfig>,
    internals: Internals,
    metrics: Option<Arc<Metrics>>,
    registry: Registry,
    /// The certificates that resolvers have.
    issued: Arc<Issued>,
    /// What the last snapshot asked them for.
    wanted: Arc<Wanted>,
    generation: u64,
}

/// What every part of a build works with.
pub(super) struct Context<'a> {
    pub(super) config: &'a StaticConfig,
    pub(super) configuration: &'a Configuration,
    pub(super) internals: &'a Internals,
    pub(super) metrics: Option<&'a Metrics>,
    pub(super) issued: &'a Issued,
}

impl Builder {
    /// A builder for the life of the process.
    pub fn new(
        config: Arc<StaticConfig>,
        metrics: Option<Arc<Metrics>>,
        registry: Registry,
    ) -> Self {
        Self {
            config,
            internals: Internals::new(),
            metrics,
            registry,
            issued: Arc::default(),
            wanted: Arc::default(),
            generation: 0,
        }
    }

    /// Says which services are built in. They may look at snapshots themselves, so
    /// they come after the first one.
    pub fn set_internals(&mut self, internals: Internals) {
        self.internals = internals;
    }

    /// Says which certificates resolvers have. The next snapshot serves them.
    pub fn set_issued(&mut self, issued: Arc<Issued>) {
        self.issued = issued;
    }

    /// The snapshot before anything is configured: every request is a 404.
    pub fn empty(&mut self) -> Snapshot {
        self.assemble(&Configuration::default())
    }

    /// The snapshot of a configuration.
    ///
    /// Objects that can't be built are left out and stand in the report; the
    /// rest lives. Servers' state is carried over by name.
    pub fn build(&mut self, configuration: &Configuration) -> Snapshot {
        self.generation += 1;
        self.assemble(configuration)
    }

    /// Whether a certificate file changed since the last build.
    pub fn has_stale_certificates(&mut self) -> bool {
        self.registry.certificates.is_stale()
    }

    fn assemble(&mut self, configuration: &Configuration) -> Snapshot {
        let context = Context {
            config: &self.config,
            configuration,
            internals: &self.internals,
            metrics: self.metrics.as_deref(),
            issued: &self.issued,
        };
        let registry = &mut self.registry;
        let mut report = Report {
            problems: configuration.problems.clone(),
            ..Report::default()
        };
        let mut tls = TlsDraft::new(&context, registry, &mut report);
        let services = Services::build(&context, registry, &mut report);
        let middlewares = Middlewares::build(&context, registry, &mut report);
        let entry_points = Routers {
            context: &context,
            services: &services,
            middlewares: &middlewares,
            tls: &mut tls,
            registry: &mut *registry,
            report: &mut report,
            tables: HashMap::new(),
        }
        .build();
        registry.sweep(configuration);
        let checks = registry.checks();
        let (tls, wanted) = tls.finish(&mut report);
        if wanted != *self.wanted {
            self.wanted = Arc::new(wanted);
        }
        Snapshot {
            generation: self.generation,
            entry_points,
            checks,
            tls,
            wanted: Arc::clone(&self.wanted),
            report,
        }
    }
}

impl Context<'_> {
    /// The entry points of routers that name none: those marked as default, or
    /// else all but the internal one.
    pub(super) fn default_entry_points(&self) -> Vec<String> {
        let all = &self.config.entry_points;
        let marked: Vec<String> = all
            .iter()
            .filter(|(_, entry_point)| entry_point.as_default)
            .map(|(name, _)| name.clone())
            .collect();
        if !marked.is_empty() {
            return marked;
        }
        all.keys()
            .filter(|name| name.as_str() != names::INTERNAL_ENTRY_POINT)
            .cloned()
            .collect()
    }
}
