//! Prometheus metrics: Traefik's names and labels, and Tidegate's own.
//!
//! [`Metrics`] owns the registry and hands out scopes: ready-made handles of one
//! entry point, router or service. A scope is resolved when a configuration is
//! built and shared by name over all configurations, so a change never resets
//! a counter. When nobody uses a scope any more, its series are shown in one
//! more scrape and then removed, as Traefik does.

mod family;
mod live;
mod mesh;
mod sample;
mod scope;
mod service;
mod table;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ::http::HeaderName;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector, proto::MetricFamily,
};
use thiserror::Error;

use self::family::{Families, Level};
pub use self::sample::{
    CertificateSample, ConnectionSample, LiveState, MeshSample, ProviderSample, ResolverSample,
    ServerSample, ServiceSample,
};
pub use self::scope::{Observation, Scope};
use self::service::ServiceFamilies;
pub use self::service::{QueueRejection, ServiceScope};
use super::access_log::AccessLog;
use crate::config::startup::Prometheus;

/// Unused scopes that may pile up before they are removed without a scrape.
const SWEEP_AFTER: usize = 1024;

/// The metrics can't be set up as configured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// A label's or metric's name is not allowed, or appears twice.
    #[error("the metrics' labels or buckets are not usable")]
    Definition(#[from] prometheus::Error),
    /// A header label names no header.
    #[error("label {label:?} names {header:?}, which is not a header name")]
    Header {
        /// The label.
        label: String,
        /// What it names.
        header: String,
    },
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reloads: IntCounter,
    last_reload: Gauge,
    worker_panics: IntCounter,
    open_connections: IntGaugeVec,
    failed_handshakes: IntCounterVec,
    header_labels: Box<[HeaderName]>,
    add_internals: bool,
    entry_point_level: Option<Arc<Families>>,
    router_level: Option<Arc<Families>>,
    service_level: Option<Arc<Families>>,
    service_families: ServiceFamilies,
    scopes: Mutex<Scopes>,
    live: OnceLock<Arc<dyn LiveState>>,
    dropped_lines: OnceLock<Arc<AtomicU64>>,
}

/// Every scope there is, in use or not.
#[derive(Debug)]
struct Scopes {
    entry_points: HashMap<Box<str>, Arc<EntryPointScope>>,
    routers: HashMap<(Box<str>, Box<str>), Arc<Scope>>,
    services: HashMap<Box<str>, Arc<ServiceScope>>,
    sweep_at: usize,
}

/// The handles of one entry point.
#[derive(Debug)]
pub struct EntryPointScope {
    requests: Option<Arc<Scope>>,
    open_connections: IntGauge,
    failed_handshakes: IntCounter,
}

impl Metrics {
    /// Sets the metrics up; `add_internals` counts requests to internal services too.
    ///
    /// # Errors
    /// If a configured label is not usable.
    pub fn new(config: &Prometheus, add_internals: bool) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let (labels, headers) = header_labels(config)?;
        let level = |is_on: bool, level: Level| {
            is_on
                .then(|| Families::new(level, &config.buckets, &labels))
                .transpose()
                .map(|families| families.map(Arc::new))
        };
        Ok(Self {
            reloads: counter(
                &registry,
                "traefik_config_reloads_total",
                "Configurations applied",
            )?,
            last_reload: registered(
                &registry,
                Gauge::new(
                    "traefik_config_last_reload_success",
                    "When a configuration was last applied, in Unix time",
                )?,
            )?,
            worker_panics: counter(
                &registry,
                "tidegate_worker_panics_total",
                "Panics caught in connections and requests",
            )?,
            open_connections: registered(
                &registry,
                IntGaugeVec::new(
                    Opts::new("traefik_open_connections", "Client connections now open"),
                    &["entrypoint", "protocol"],
                )?,
            )?,
            failed_handshakes: registered(
                &registry,
                IntCounterVec::new(
                    Opts::new(
                        "tidegate_entrypoint_tls_handshakes_failed_total",
                        "TLS handshakes that failed or took too long",
                    ),
                    &["entrypoint"],
                )?,
            )?,
            header_labels: headers,
            add_internals,
            entry_point_level: level(config.add_entry_points_labels, Level::EntryPoint)?,
            router_level: level(config.add_routers_labels, Level::Router)?,
            service_level: level(config.add_services_labels, Level::Service)?,
            service_families: ServiceFamilies::new(&registry, config.add_services_labels)?,
            scopes: Mutex::default(),
            live: OnceLock::new(),
            dropped_lines: OnceLock::new(),
            registry,
        })
    }

    /// Says where to ask for live state. Only the first call counts.
    pub fn attach(&self, live: Arc<dyn LiveState>) {
        let _ = self.live.set(live);
    }

    /// Shows the lines that `log` dropped. Only the first call counts.
    pub fn attach_access_log(&self, log: &AccessLog) {
        let _ = self.dropped_lines.set(log.dropped());
    }

    /// Notes that a configuration was applied.
    pub fn config_applied(&self, now: SystemTime) {
        self.reloads.inc();
        self.last_reload.set(unix_seconds(now));
    }

    /// Notes a panic that was caught.
    pub fn worker_panicked(&self) {
        self.worker_panics.inc();
    }

    /// The request headers whose values become labels, in the order of
    /// [`Observation::header_values`].
    pub fn header_labels(&self) -> &[HeaderName] {
        &self.header_labels
    }

    /// Whether requests to internal services are counted.
    pub fn adds_internals(&self) -> bool {
        self.add_internals
    }

    /// The handles of the entry point `name`.
    pub fn entry_point(&self, name: &str) -> Arc<EntryPointScope> {
        let mut scopes = self.scopes();
        if let Some(scope) = scopes.entry_points.get(name) {
            return Arc::clone(scope);
        }
        let scope = Arc::new(EntryPointScope {
            requests: Scope::of(self.entry_point_level.as_ref(), [name]),
            open_connections: self.open_connections.with_label_values(&[name, "TCP"]),
            failed_handshakes: self.failed_handshakes.with_label_values(&[name]),
        });
        scopes.entry_points.insert(name.into(), Arc::clone(&scope));
        scope
    }

    /// The handles of the router `name` to `service`; nothing if routers are not measured.
    pub fn router(&self, name: &str, service: &str) -> Option<Arc<Scope>> {
        let level = self.router_level.as_ref()?;
        let mut scopes = self.scopes();
        let key = (Box::from(name), Box::from(service));
        if let Some(scope) = scopes.routers.get(&key) {
            return Some(Arc::clone(scope));
        }
        scopes.make_room();
        let scope = Arc::new(Scope::new(Arc::clone(level), &[name, service]));
        scopes.routers.insert(key, Arc::clone(&scope));
        Some(scope)
    }

    /// The handles of the service `name`.
    pub fn service(&self, name: &str) -> Arc<ServiceScope> {
        let mut scopes = self.scopes();
        if let Some(scope) = scopes.services.get(name) {
            return Arc::clone(scope);
        }
        scopes.make_room();
        let requests = Scope::of(self.service_level.as_ref(), [name]);
        let scope = Arc::new(self.service_families.scope(name, requests));
        scopes.services.insert(name.into(), Arc::clone(&scope));
        scope
    }

    /// Everything in Prometheus' text format. Takes time in proportion to the
    /// number of series; not for a worker's own thread.
    ///
    /// # Errors
    /// If two metrics contradict each other, which is a mistake in here.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut families = self.registry.gather();
        families.extend(self.requests());
        if let Some(live) = self.live.get() {
            families.extend(live::families(&**live, self.service_level.is_some())?);
        }
        if let Some(dropped) = self.dropped_lines.get() {
            families.extend(live::dropped_lines(dropped)?);
        }
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let text = TextEncoder::new().encode_to_string(&families)?;
        self.scopes().sweep();
        Ok(text)
    }

    /// What the scopes have counted.
    fn requests(&self) -> Vec<MetricFamily> {
        let scopes = self.scopes();
        let entry_points = scopes.entry_points.values();
        let services = scopes.services.values();
        let mut families = Vec::new();
        if let Some(level) = &self.entry_point_level {
            let scopes = entry_points.filter_map(|scope| scope.requests.as_deref());
            families.extend(level.collect(scopes));
        }
        if let Some(level) = &self.router_level {
            families.extend(level.collect(scopes.routers.values().map(AsRef::as_ref)));
        }
        if let Some(level) = &self.service_level {
            families.extend(level.collect(services.filter_map(|scope| scope.requests())));
        }
        families
    }

    fn scopes(&self) -> MutexGuard<'_, Scopes> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Scopes {
    fn default() -> Self {
        Self {
            entry_points: HashMap::new(),
            routers: HashMap::new(),
            services: HashMap::new(),
            sweep_at: SWEEP_AFTER,
        }
    }
}

impl Scopes {
    /// Removes the series of scopes that only this table holds. Scopes are
    /// handed out under the same lock, so none can come into use meanwhile.
    fn sweep(&mut self) {
        self.routers.retain(|_, scope| Arc::strong_count(scope) > 1);
        self.services.retain(|_, scope| {
            let is_used = Arc::strong_count(scope) > 1;
            if !is_used {
                scope.remove();
            }
            is_used
        });
    }

    /// Bounds the table where nobody ever scrapes.
    fn make_room(&mut self) {
        if self.routers.len() + self.services.len() >= self.sweep_at {
            self.sweep();
            self.sweep_at = SWEEP_AFTER + 2 * (self.routers.len() + self.services.len());
        }
    }
}

impl EntryPointScope {
    /// Counts a request.
    pub fn record(&self, observation: &Observation<'_>) {
        if let Some(requests) = &self.requests {
            requests.record(observation);
        }
    }

    /// Counts a connection as open.
    pub fn connection_opened(&self) {
        self.open_connections.inc();
    }

    /// Counts a connection as closed.
    pub fn connection_closed(&self) {
        self.open_connections.dec();
    }

    /// Counts a TLS handshake that failed.
    pub fn handshake_failed(&self) {
        self.failed_handshakes.inc();
    }
}

/// Label names and header names of `headerLabels`, in one order.
fn header_labels(config: &Prometheus) -> Result<(Vec<String>, Box<[HeaderName]>), MetricsError> {
    let mut headers = Vec::new();
    for (label, header) in &config.header_labels {
        let name = header.parse().map_err(|_| MetricsError::Header {
            label: label.clone(),
            header: header.clone(),
        })?;
        headers.push(name);
    }
    let labels = config.header_labels.keys().cloned().collect();
    Ok((labels, headers.into()))
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    registered(registry, IntCounter::new(name, help)?)
}

fn registered<C>(registry: &Registry, collector: C) -> Result<C, prometheus::Error>
where
    C: Collector + Clone + 'static,
{
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// Seconds since 1970, as Prometheus counts time.
fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests;
