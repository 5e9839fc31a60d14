//! A snapshot's report as the API shows it.

mod resolver;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::watch;

use super::around::Around;
use super::live::{ejections, is_draining, limit};
use crate::acme::resolver::ResolverStates;
use crate::admin::{
    ApiSource, ApiView, CertificateView, ConnectionsView, MiddlewareView, QueueView, RouterView,
    ServerView, ServiceView, Status,
};
use crate::config::dynamic::Router;
use crate::service::{Server, Servers};
use crate::snapshot::{self, Report, RouterReport, ServiceReport, Snapshot, SnapshotCell};
use crate::tls::Certificate;

/// How long before its end a certificate is worth a warning.
const ENDS_SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// Shows the snapshot in force, how certificate resolvers are, and what is around.
pub(super) struct Shown {
    pub(super) snapshot: Arc<SnapshotCell>,
    pub(super) resolvers: watch::Receiver<Arc<ResolverStates>>,
    pub(super) around: Arc<OnceLock<Around>>,
}

impl ApiSource for Shown {
    fn view(&self) -> Arc<ApiView> {
        let resolvers = Arc::clone(&self.resolvers.borrow());
        let around = self.around.get();
        Arc::new(ApiView {
            providers: around.map(Around::provider_views).unwrap_or_default(),
            cluster: around.and_then(Around::cluster_view),
            ..view(&self.snapshot.load(), &resolvers)
        })
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

fn view(snapshot: &Snapshot, resolvers: &ResolverStates) -> ApiView {
    let Report {
        routers,
        services,
        middlewares,
        problems,
    } = &snapshot.report;
    let middleware = |report: &snapshot::MiddlewareReport| MiddlewareView {
        config: report.config.clone(),
        status: status(report.outcome.status),
        used_by: report.used_by.clone(),
        errors: report.outcome.errors.clone(),
    };
    let store = &snapshot.tls.store;
    ApiView {
        routers: routers
            .iter()
            .map(|(name, report)| (name.clone(), router(report)))
            .collect(),
        services: services
            .iter()
            .map(|(name, report)| (name.clone(), service(report)))
            .collect(),
        middlewares: middlewares
            .iter()
            .map(|(name, report)| (name.clone(), middleware(report)))
            .collect(),
        certificates: store
            .iter()
            .chain([store.default_certificate()])
            .map(|found| certificate(found))
            .collect(),
        resolvers: resolvers
            .by_name
            .iter()
            .map(|(name, state)| resolver::resolver(name, state))
            .collect(),
        problems: problems.iter().map(ToString::to_string).collect(),
        ..ApiView::default()
    }
}

fn router(report: &RouterReport) -> RouterView {
    RouterView {
        config: Router {
            priority: report.priority,
            ..report.config.clone()
        },
        status: status(report.outcome.status),
        using: report.using.clone(),
        errors: report.outcome.errors.clone(),
    }
}

fn service(report: &ServiceReport) -> ServiceView {
    let group: Option<&Arc<Servers>> = report.servers.as_ref();
    let servers = group.map_or_else(Vec::new, |group| group.servers());
    ServiceView {
        config: report.config.clone(),
        status: status(report.outcome.status),
        used_by: report.used_by.clone(),
        errors: report.outcome.errors.clone(),
        servers: servers.iter().map(|it| server(it)).collect(),
        queue: group.map_or_else(QueueView::default, |group| queue(group)),
    }
}

fn server(server: &Server) -> ServerView {
    let limits = server.limits();
    let connections = server.target().upstream.connections();
    ServerView {
        url: Arc::clone(server.id()),
        up: server.is_up(),
        draining: is_draining(server),
        in_flight: server.in_flight(),
        limit: limit(server),
        maxconn: limits.max_in_flight,
        minconn: limits.min_in_flight,
        queue: server.queued(),
        requests: server.served_total(),
        ejections: ejections(server),
        connections: ConnectionsView {
            opened: connections.opened,
            reused: connections.reused,
            failed: connections.failed,
            idle: connections.idle,
            open: connections.open,
        },
    }
}

fn queue(servers: &Servers) -> QueueView {
    QueueView {
        length: u32::try_from(servers.queued()).unwrap_or(u32::MAX),
        handed: servers.handed_total(),
        withdrawn: servers.withdrawn_total(),
        full: servers.overflowed_total(),
    }
}

fn certificate(certificate: &Certificate) -> CertificateView {
    let facts = &certificate.facts;
    let mut sans = facts.names.clone();
    sans.sort_unstable();
    let left = facts.not_after.duration_since(SystemTime::now());
    CertificateView {
        name: facts.fingerprint.clone(),
        common_name: facts.common_name.clone(),
        sans,
        not_before: rfc3339(facts.not_before),
        not_after: rfc3339(facts.not_after),
        serial_number: facts.serial.clone(),
        issuer_org: facts.issuer_organization.clone(),
        issuer_cn: facts.issuer_name.clone(),
        key_type: facts.key_type.to_owned(),
        status: match left {
            Err(_) => "expired",
            Ok(left) if left < ENDS_SOON => "warning",
            Ok(_) => "enabled",
        }
        .to_owned(),
    }
}

fn rfc3339(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| String::new(), |time| time.to_string())
}

fn status(status: snapshot::Status) -> Status {
    match status {
        snapshot::Status::Enabled => Status::Enabled,
        snapshot::Status::Warning => Status::Warning,
        snapshot::Status::Disabled => Status::Disabled,
    }
}
