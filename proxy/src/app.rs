//! The composition root: everything is made here, in the order in which it is needed.
//!
//! Providers speak first, then the entry points open, so that a proxy that has
//! just started does not answer 404 for sites that it has not heard of yet. The
//! control plane runs on the runtime that calls [`run`]; the data plane has
//! threads of its own.

mod acme_http;
mod around;
mod certificates;
mod cluster;
mod control;
mod live;
mod parts;
mod slow_start;
mod sources;
mod view;

pub use control::log_problem;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tidegate_shared::docker::EndpointError;
use tidegate_shared::shutdown::{Shutdown, Stage};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::around::Around;
use self::certificates::Certificates;
use self::cluster::Cluster;
use self::control::{CERTIFICATES, Control, Resolvers};
use self::live::Live;
use self::parts::App;
use self::sources::Sources;
use crate::cluster::secret::SecretError;
use crate::cluster::{Mesh, mesh};
use crate::config::startup::StaticConfig;
use crate::entry_point::{self, Workers};
use crate::health::{self, Checks};
use crate::observe::{self, AccessLog};
use crate::provider::{ProviderError, ProviderHealth, aggregate};
use crate::tls::{CertificateError, tickets};

/// How long the entry points wait for every provider to speak. An engine that
/// is away for longer must not keep what other providers know from being served.
const FIRST_CONFIGURATION: Duration = Duration::from_secs(5);

/// How long the access log may take to write its last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The proxy can't start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// A provider's settings can't be obeyed.
    #[error("provider {name} can't start")]
    Provider {
        /// The provider.
        name: &'static str,
        /// Why not.
        source: ProviderError,
    },
    /// No default certificate could be made.
    #[error("no default certificate")]
    Certificate(#[from] CertificateError),
    /// The metrics' settings can't be obeyed.
    #[error("metrics can't start")]
    Metrics(#[from] observe::MetricsError),
    /// The access log can't be written.
    #[error("the access log can't start")]
    AccessLog(#[from] observe::AccessLogError),
    /// The cluster's secret can't be had.
    #[error("the cluster can't be joined")]
    Secret(#[from] SecretError),
    /// The members can't be talked to.
    #[error("the cluster can't be joined")]
    Mesh(#[from] mesh::StartError),
    /// The engine that knows the members can't be asked.
    #[error("cluster.service can't be asked for")]
    Engine(#[from] EndpointError),
    /// A resolver's store can't be opened.
    #[error("certificatesResolvers.{resolver}.acme.storage: {message}")]
    Storage {
        /// The resolver.
        resolver: String,
        /// Why not.
        message: String,
    },
    /// An entry point can't be opened.
    #[error(transparent)]
    EntryPoint(#[from] entry_point::StartError),
}

/// What reaches a running proxy from outside.
#[derive(Debug)]
pub struct Signals {
    /// The end of the process.
    pub shutdown: Shutdown,
    /// Counts requests to read files again.
    pub reload: watch::Receiver<u64>,
    /// Counts requests to open log files again.
    pub reopen: watch::Receiver<u64>,
}

/// Runs the proxy until it is told to stop and has stopped.
///
/// # Errors
/// If it can't start.
pub async fn run(config: StaticConfig, signals: Signals) -> Result<(), StartError> {
    let (app, builder) = App::make(Arc::new(config))?;
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let joined = Cluster::join(&app, &stop, &mut tasks)?;
    let mesh = joined.membership.mesh.as_ref();
    let mut sources = Sources::start(&app.config, &signals.reload, &stop, mesh, &mut tasks)?;
    keep_tickets(&app, mesh, &mut tasks);
    let certificates = Certificates::start(&app, &joined.membership, &mut tasks)?;
    if certificates.count > 0 {
        sources.expected.insert(CERTIFICATES.into());
    }
    show(&app, &joined, sources.health);
    let throttle = app.config.providers.providers_throttle_duration.0;
    let (published, merged) = watch::channel(Arc::default());
    tasks.spawn(aggregate::run(sources.updates, published, throttle));
    let (checks, to_check) = watch::channel(Checks::default());
    let changes = checks.subscribe();
    tasks.spawn(slow_start::carry_on(Arc::clone(&app.snapshot), changes));
    tasks.spawn(health::run(to_check));
    let resolvers = Resolvers {
        issued: app.outlet.issued(),
        wanted: certificates.wanted,
        count: certificates.count,
    };
    let (control, applied) = Control::new(builder, &app, checks, resolvers);
    tasks.spawn(control.run(merged));
    if let Some(log) = app.access_log.clone() {
        tasks.spawn(reopen(signals.reopen, log));
    }
    let mut shutdown = signals.shutdown;
    tokio::select! {
        () = all_have_spoken(applied, sources.expected) => {}
        () = shutdown.reached(Stage::Draining) => {}
    }
    let workers = Workers::start(app.entry_points(), app.worker_count())?;
    certificates.is_ready.send_replace(true);
    shutdown.reached(Stage::Draining).await;
    certificates.is_ready.send_replace(false);
    app.terminating.begin();
    workers.drain(shutdown.reached(Stage::Immediate)).await;
    stop.cancel();
    joined.left().await;
    tasks.shutdown().await;
    if let Some(log) = &app.access_log {
        log.close(LAST_LINES);
    }
    info!("Stopped");
    Ok(())
}

/// Lets metrics and the API have what they ask for.
fn show(app: &App, joined: &Cluster, providers: Vec<(&'static str, Arc<ProviderHealth>)>) {
    app.around.get_or_init(|| Around {
        providers,
        mesh: joined.mesh.clone(),
        tickets: Arc::clone(&app.tickets),
    });
    if let Some(metrics) = &app.metrics {
        metrics.attach(Arc::new(Live {
            snapshot: Arc::clone(&app.snapshot),
            resolvers: app.outlet.states(),
            around: Arc::clone(&app.around),
        }));
    }
}

/// Turns the keys of session tickets, with the other members if there are any.
fn keep_tickets(app: &App, mesh: Option<&Arc<dyn Mesh>>, tasks: &mut JoinSet<()>) {
    let tickets = Arc::clone(&app.tickets);
    match (mesh, &app.config.cluster) {
        (Some(mesh), Some(settings)) => {
            let period = settings.ticket_rotation.0;
            tasks.spawn(crate::cluster::tickets::keep(
                Arc::clone(mesh),
                tickets,
                period,
            ))
        }
        _ => tasks.spawn(tickets::keep_alone(tickets)),
    };
}

/// Resolves when every provider's word is in force, or has had its time.
async fn all_have_spoken(
    mut applied: watch::Receiver<BTreeSet<Arc<str>>>,
    expected: BTreeSet<Arc<str>>,
) {
    let all = applied.wait_for(|applied| expected.is_subset(applied));
    if timeout(FIRST_CONFIGURATION, all).await.is_err() {
        let missing: Vec<Arc<str>> = expected.difference(&applied.borrow()).cloned().collect();
        warn!(providers = ?missing, "Serving without having heard of every provider");
    }
}

/// Opens log files again each time that is asked for.
async fn reopen(mut requests: watch::Receiver<u64>, log: Arc<AccessLog>) {
    while requests.changed().await.is_ok() {
        log.reopen();
    }
}
